// The two kernels the runtime itself brings: an operator's reference, and copying between layouts.
#include <cstring>

#include "kernels/transpose.h"
#include "runtime/plan.h"

namespace dunlin {
namespace {

class ReferenceKernel final : public Kernel {
 public:
  explicit ReferenceKernel(const Node& n) : op_(n.op), attrs_(n.attrs) {}
  Status Run(RunContext& ctx) const override { return op_->impl->reference(*attrs_, ctx); }
  std::string_view name() const override { return "reference"; }

 private:
  const OpDef* op_;
  std::shared_ptr<const Attrs> attrs_;
};

class ReorderKernel final : public Kernel {
 public:
  std::string_view name() const override { return "reorder"; }
  Status Run(RunContext& ctx) const override {
    const TensorView& x = ctx.in(0);
    TensorView& y = ctx.out(0);
    if (x.dtype == DType::kString) {
      if (x.layout != y.layout) return Fail(Code::kInternal, "strings have one layout");
      const auto* from = x.as<std::string>();
      std::copy(from, from + x.count(), y.mut<std::string>());
      return {};
    }
    if (x.layout == y.layout || LayoutsCoincide(x.dims)) {
      // Large enough to be worth waking another core: half a megabyte takes some 20 microseconds.
      constexpr int64_t kGrain = int64_t{1} << 19;
      ctx.ParallelFor(x.bytes(), kGrain, [&](int64_t b, int64_t e) {
        std::memcpy(static_cast<std::byte*>(y.data) + b, static_cast<const std::byte*>(x.data) + b,
                    size_t(e - b));
      });
      return {};
    }
    const int64_t N = x.dims[0], C = x.dims[1];
    const int64_t S = CountOf(x.dims) == 0 ? 0 : x.count() / (N * C);
    if (S == 0) return {};
    const int bytes = DTypeBits(x.dtype) / 8;
    // About 64 KiB a chunk, in multiples of 64 positions so that cache lines are read once.
    const int64_t grain =
        std::max<int64_t>(64, (65536 / std::max<int64_t>(1, C * bytes)) / 64 * 64);
    ctx.ParallelFor(N * S, grain, [&](int64_t b, int64_t e) {
      if (y.layout == Layout::kChannelsLast)
        ReorderToChannelsLast(x.data, y.data, bytes, N, C, S, b, e);
      else
        ReorderToRowMajor(x.data, y.data, bytes, N, C, S, b, e);
    });
    return {};
  }
};

}  // namespace

KernelPtr MakeReferenceKernel(const Node& node) { return std::make_unique<ReferenceKernel>(node); }
KernelPtr MakeReorderKernel() { return std::make_unique<ReorderKernel>(); }

Dims PhysicalDims(const Dims& dims, Layout layout) {
  if (layout == Layout::kRowMajor || dims.rank() < 3) return dims;
  Dims p = dims;
  for (int i = 1; i + 1 < dims.rank(); ++i) p[size_t(i)] = dims[size_t(i) + 1];
  p.back() = dims[1];
  return p;
}

bool LayoutsCoincide(const Dims& dims) {
  if (dims.rank() < 3 || dims[1] == 1) return true;
  for (int i = 2; i < dims.rank(); ++i)
    if (dims[size_t(i)] != 1) return false;
  return true;
}

}  // namespace dunlin
