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

// What a copy is split by: bytes where both sides are stored alike, else positions.
int64_t Units(const TensorView& x, const TensorView& y) {
  if (x.layout == y.layout || LayoutsCoincide(x.dims)) return x.bytes();
  return x.count() == 0 ? 0 : x.count() / x.dims[1];
}

void CopyUnits(const TensorView& x, TensorView& y, int64_t begin, int64_t end) {
  if (begin >= end) return;
  if (x.layout == y.layout || LayoutsCoincide(x.dims)) {
    std::memcpy(static_cast<std::byte*>(y.data) + begin,
                static_cast<const std::byte*>(x.data) + begin, size_t(end - begin));
    return;
  }
  const int64_t N = x.dims[0], C = x.dims[1], S = x.count() / (N * C);
  const int bytes = DTypeBits(x.dtype) / 8;
  if (y.layout == Layout::kChannelsLast)
    ReorderToChannelsLast(x.data, y.data, bytes, N, C, S, begin, end);
  else
    ReorderToRowMajor(x.data, y.data, bytes, N, C, S, begin, end);
}

class ReorderKernel final : public Kernel {
 public:
  std::string_view name() const override { return "reorder"; }
  Status Run(RunContext& ctx) const override {
    const TensorView& x = ctx.in(0);
    TensorView& y = ctx.out(0);
    if (x.dtype == DType::kString) {
      if (x.layout != y.layout) return Fail(Code::kInternal, "strings have one layout");
      // Strings never lie in the arena: a place for them is made now.
      return ctx.SetOutput(0, TRY(ctx.TakeInput(0)));
    }
    const bool same = x.layout == y.layout || LayoutsCoincide(x.dims);
    // Half a megabyte of plain copying takes some 20 microseconds: worth waking another core. A
    // reorder is split at about 64 KiB, in multiples of 64 positions so that cache lines are read
    // once.
    constexpr int64_t kCopyGrain = int64_t{1} << 19, kReorderBytes = 65536;
    const int64_t row = x.rank() < 2 ? 1 : std::max<int64_t>(1, x.dims[1] * DTypeBits(x.dtype) / 8);
    const int64_t grain = same ? kCopyGrain : std::max<int64_t>(64, kReorderBytes / row / 64 * 64);
    ctx.ParallelFor(Units(x, y), grain, [&](int64_t b, int64_t e) { CopyUnits(x, y, b, e); });
    return {};
  }
};

}  // namespace

KernelPtr MakeReferenceKernel(const Node& node) { return std::make_unique<ReferenceKernel>(node); }
void CopyView(const TensorView& x, TensorView& y) { CopyUnits(x, y, 0, Units(x, y)); }
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
