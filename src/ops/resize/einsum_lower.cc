// Einsum of two f32 operands as a batch of matrix products, with the copies that bring operands and
// result into the order batch, rows, columns.
#include "kernels/copy.h"
#include "kernels/gemm.h"
#include "ops/movement/axes.h"
#include "ops/resize/einsum.h"

namespace dunlin {
namespace {

constexpr int64_t kRowsPerCall = 1024;  // of pointers on the stack of GemmStrided
constexpr int64_t kAlignFloats = 16;    // parts of the scratch begin on cache lines
constexpr int64_t kParallelBytes = 128 << 10;

// What one operand is to the product: batch, its own rows or columns, summed.
struct Order {
  std::vector<size_t> labels;
  void Append(const std::vector<size_t>& more) {
    labels.insert(labels.end(), more.begin(), more.end());
  }
  Dims Of(const Dims& v) const {
    Dims out;
    for (const size_t l : labels) out.push_back(v[l]);
    return out;
  }
};

// A copy into dense memory of the given order, or nothing when the operand lies so already.
struct Arrange {
  std::optional<StridedCopy> copy;
  int64_t scratch_at = 0;

  static bool Dense(const Dims& dims, const Dims& strides) {
    const Dims dense = StridesOf(dims);
    for (size_t i = 0; i < dims.size(); ++i)
      if (dims[i] != 1 && strides[i] != dense[i]) return false;
    return true;
  }
};

void RunCopy(const StridedCopy& copy, const float* x, float* y, RunContext& ctx) {
  if (copy.bytes() < kParallelBytes)
    copy.Run(x, y);
  else
    ctx.ParallelFor(copy.units(), copy.grain(),
                    [&](int64_t b, int64_t e) { copy.Run(x, y, b, e); });
}

class EinsumKernel final : public Kernel {
 public:
  int left = 0, right = 1;  // inputs
  int64_t batch = 1, m = 1, n = 1, k = 1;
  Arrange a, b, c;
  bool b_transposed = false;  // [batch, n, k]
  GemmPanels panels;
  GemmSplit split;
  int64_t packed_at = 0, scratch_floats = 0;

  std::string_view name() const override { return "einsum.gemm"; }
  size_t scratch_bytes() const override { return size_t(scratch_floats) * sizeof(float); }

  Status Run(RunContext& ctx) const override {
    auto* const scratch = static_cast<float*>(ctx.scratch());
    const float* x = Arranged(a, ctx.in(left).as<float>(), scratch, ctx);
    const float* w = Arranged(b, ctx.in(right).as<float>(), scratch, ctx);
    float* const packed = scratch + packed_at;
    const int64_t matrix = panels.packed_floats(k);
    ctx.ParallelFor(batch * panels.count,
                    std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, k * 32)),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        const int64_t at = i / panels.count, panel = i % panels.count;
                        const GemmSource source{w + at * k * n,      1, k, 0, b_transposed ? 1 : n,
                                                b_transposed ? k : 1};
                        PackGemm(panels, source, panel, panel + 1, packed + at * matrix);
                      }
                    });
    float* const y = ctx.out(0).mut<float>();
    float* const result = c.copy ? scratch + c.scratch_at : y;
    const int64_t items = split.items();
    ctx.ParallelFor(batch * items, split.grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = i / items;
        const GemmSplit::Item item = split.item(i % items);
        GemmArgs g;
        g.m = item.m_end - item.m_begin;
        g.k = g.packed_rows = k;
        g.packed = packed + at * matrix;
        g.c = result + (at * m + item.m_begin) * n;
        g.c_stride = n;
        GemmStrided(panels, g, x + (at * m + item.m_begin) * k, k, item.panel_begin,
                    item.panel_end);
      }
    });
    if (c.copy) RunCopy(*c.copy, result, y, ctx);
    return {};
  }

 private:
  static const float* Arranged(const Arrange& p, const float* x, float* scratch, RunContext& ctx) {
    if (!p.copy) return x;
    RunCopy(*p.copy, x, scratch + p.scratch_at, ctx);
    return scratch + p.scratch_at;
  }
};

}  // namespace

Result<KernelPtr> Einsum::Lower(const Attrs& attrs, LowerContext& ctx) {
  const Type& out = ctx.output(0);
  if (ctx.input_count() != 2 || out.dtype != DType::kF32 || CountOf(out.dims) == 0)
    return KernelPtr();
  const EinsumPlan p = TRY(PlanEinsum(attrs.equation, {ctx.input(0).dims, ctx.input(1).dims}));
  for (const int64_t n : p.extents)
    if (n == 0) return KernelPtr();
  auto kernel = std::make_unique<EinsumKernel>();
  EinsumKernel& e = *kernel;
  const auto in = [&](int input, size_t l) { return p.strides[size_t(input)][l] != 0; };
  // The operand that owns the output's last extent is the right one: its columns are contiguous
  // there.
  for (size_t l = p.output_rank; l-- > 0;) {
    if (p.extents[l] == 1 || in(0, l) == in(1, l)) continue;
    if (in(0, l)) std::swap(e.left, e.right);
    break;
  }
  std::vector<size_t> batch, rows, columns, summed;
  for (size_t l = 0; l < p.extents.size(); ++l) {
    if (p.extents[l] == 1) continue;
    const bool x = in(e.left, l), w = in(e.right, l), kept = l < p.output_rank;
    if (!x && !w) return KernelPtr();
    if (!kept && !(x && w)) return KernelPtr();
    (!kept ? summed : x && w ? batch : x ? rows : columns).push_back(l);
    (!kept ? e.k : x && w ? e.batch : x ? e.m : e.n) *= p.extents[l];
  }
  const auto reserve = [&](int64_t floats) {
    const int64_t at = e.scratch_floats;
    e.scratch_floats += (floats + kAlignFloats - 1) / kAlignFloats * kAlignFloats;
    return at;
  };
  const auto order = [&](const std::vector<size_t>& second, const std::vector<size_t>& third) {
    Order o{batch};
    o.Append(second);
    o.Append(third);
    return o;
  };
  // From `strides` into dense memory.
  const auto arrange = [&](const Order& o, const Dims& strides) {
    const Dims dims = o.Of(p.extents), from = o.Of(strides);
    Arrange r;
    if (Arrange::Dense(dims, from)) return r;
    r.copy.emplace(dims, from, StridesOf(dims), int(sizeof(float)));
    r.scratch_at = reserve(CountOf(dims));
    return r;
  };
  e.a = arrange(order(rows, summed), p.strides[size_t(e.left)]);
  const Dims& right = p.strides[size_t(e.right)];
  const Order transposed = order(columns, summed);
  e.b_transposed = Arrange::Dense(transposed.Of(p.extents), transposed.Of(right));
  if (!e.b_transposed) e.b = arrange(order(summed, columns), right);
  // The result: dense batch, rows, columns -> the output's own order.
  const Order result = order(rows, columns);
  Dims y_strides(p.extents.size(), 0);
  const Dims y = StridesOf(out.dims);
  for (size_t l = 0; l < p.output_rank; ++l) y_strides[l] = y[l];
  const Dims dims = result.Of(p.extents), to = result.Of(y_strides);
  if (!Arrange::Dense(dims, to)) {
    e.c.copy.emplace(dims, StridesOf(dims), to, int(sizeof(float)));
    e.c.scratch_at = reserve(CountOf(dims));
  }
  e.panels = MakeGemmPanels(e.n);
  e.split = SplitGemm(e.panels, e.batch, e.m, e.k, kRowsPerCall, ctx.threads());
  e.packed_at = reserve(e.batch * e.panels.packed_floats(e.k));
  return KernelPtr(std::move(kernel));
}

}  // namespace dunlin
