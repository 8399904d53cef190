// The f32 matrix product on packed panels.
#include <algorithm>

#include "kernels/bf16_product.h"
#include "kernels/block_gemm.h"
#include "kernels/gemm.h"
#include "ops/matmul/product.h"

namespace dunlin {
namespace {

constexpr int64_t kRowsPerCall = 1024;  // of pointers on the stack of GemmStrided
constexpr int64_t kAlignFloats = 16;    // parts of the scratch begin on cache lines

int64_t Aligned(int64_t floats) {
  return (floats + kAlignFloats - 1) / kAlignFloats * kAlignFloats;
}

// How the right operand is read.
enum class Right {
  kPacked,    // constant, packed when the model was loaded
  kHalves,    // the same in f16 or bf16, of which it was made
  kPairs,     // the same in pairs of bf16; the left operand is rounded, too
  kRepacked,  // packed into scratch at every run
  kDirect,    // as it is, but for a panel that ends in a partial vector
  kDot,       // transposed, as it is
};
// Up to so many rows packing B at every run would cost more than the product gains: it reads and
// writes B once more, and a tile of that height is one pass over B.
constexpr int64_t kDirectRows = 6;
constexpr int64_t kDotRows = 4;

// How input 2 (Gemm's C, FusedMatMul's bias) reaches the epilogue.
enum class Bias {
  kNone,
  kVector,    // n floats as they are
  kExpanded,  // scaled or repeated into n floats of scratch
  kMatrix,    // scaled or repeated into a matrix of the output's extents, in scratch
};

// Within 2 K 2^-24 sum |a||b| of the reference, the bound of any order of summation in f32.
class ProductKernel final : public Kernel {
 public:
  ProductAttrs attrs;
  int64_t m = 0, n = 0, k = 0;
  Dims batch, y_dims, bias_dims;
  std::vector<int64_t> a_strides, b_strides;  // of matrices along the batch axes
  int64_t b_matrices = 1;
  GemmPanels panels;
  GemmSplit split;
  bool trans_a = false, trans_b = false;
  Right right = Right::kPacked;
  Tensor packed;  // of a constant b
  Bias bias = Bias::kNone;
  // Scratch, in floats.
  int64_t packed_at = 0, a_at = 0, bias_at = 0, scratch_floats = 0;

  std::string_view name() const override {
    switch (right) {
      case Right::kPacked:
        return "gemm.packed";
      case Right::kHalves:
        return "gemm.halves";
      case Right::kPairs:
        return "gemm.bf16";
      case Right::kRepacked:
        return "gemm.repacked";
      case Right::kDirect:
        return "gemm.direct";
      case Right::kDot:
        return "gemm.dot";
    }
    return "gemm";
  }
  InputUse uses(int input) const override {
    return input == 1 && packed.defined() ? InputUse::kNothing : InputUse::kValues;
  }
  size_t scratch_bytes() const override { return size_t(scratch_floats) * sizeof(float); }

  Status Run(RunContext& ctx) const override {
    float* const scratch = static_cast<float*>(ctx.scratch());
    const float* a = ctx.in(0).as<float>();
    if (trans_a) a = TransposeA(ctx, a, scratch + a_at);
    const float* const b = packed.defined() ? nullptr : ctx.in(1).as<float>();
    const float* const panels_of_b = right == Right::kPacked ? packed.as<float>()
                                     : packed.defined() || right == Right::kDot
                                         ? nullptr
                                         : PackB(ctx, scratch + packed_at);
    GemmEpilogue epilogue;
    epilogue.alpha = attrs.alpha;
    epilogue.activation = attrs.act;
    if (ctx.has(3)) epilogue.residual = ctx.in(3).as<float>();
    if (bias == Bias::kVector) epilogue.bias = ctx.in(2).as<float>();
    if (bias == Bias::kExpanded) epilogue.bias = ExpandBias(ctx, Dims{n}, scratch + bias_at);
    if (bias == Bias::kMatrix) epilogue.residual = ExpandBias(ctx, y_dims, scratch + bias_at);

    float* const y = ctx.out(0).mut<float>();
    const int64_t matrix = panels.packed_floats(right == Right::kPairs ? PairRows(1, k) : k);
    const int64_t per_batch = split.items();
    ctx.ParallelFor(CountOf(batch) * per_batch, split.grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = i / per_batch;
        const GemmSplit::Item item = split.item(i % per_batch);
        GemmArgs g;
        g.m = item.m_end - item.m_begin;
        g.k = g.packed_rows = k;
        const int64_t b_at = OffsetOf(at, batch, b_strides);
        if (panels_of_b != nullptr) g.packed = panels_of_b + b_at * matrix;
        if (right == Right::kHalves) {
          g.halves = reinterpret_cast<const uint16_t*>(packed.raw()) + b_at * matrix;
          g.half_type = packed.dtype() == DType::kF16 ? HalfType::kF16 : HalfType::kBF16;
        }
        if (right == Right::kPairs) g.pairs = packed.as<uint32_t>() + b_at * matrix;
        if (right == Right::kDirect) g.direct = b + b_at * k * n;
        g.direct_stride = n;
        g.c_stride = n;
        g.epilogue = epilogue;
        const int64_t row = at * m + item.m_begin;
        g.c = y + row * n;
        if (epilogue.residual != nullptr) g.epilogue.residual += row * n;
        g.epilogue.residual_stride = n;
        const float* rows = a + (OffsetOf(at, batch, a_strides) * m + item.m_begin) * k;
        if (right == Right::kDot)
          GemmDot(g, rows, k, b + b_at * k * n, k, Column(item.panel_begin),
                  Column(item.panel_end));
        else
          GemmStrided(panels, g, rows, k, item.panel_begin, item.panel_end);
      }
    });
    return {};
  }

 private:
  // Where a panel begins.
  int64_t Column(int64_t panel) const {
    return panel == panels.count ? n : panels.first_vector(panel) * panels.lanes;
  }

  const float* PackB(RunContext& ctx, float* to) const {
    const float* b = ctx.in(1).as<float>();
    GemmSource source{b, 1, k, 0, trans_b ? 1 : n, trans_b ? k : 1};
    const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, k * 32));
    ctx.ParallelFor(b_matrices * panels.count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t matrix = i / panels.count, panel = i % panels.count;
        if (right == Right::kDirect && !NeedsPacking(panels, panel)) continue;
        GemmSource s = source;
        s.data += matrix * k * n;
        PackGemm(panels, s, panel, panel + 1, to + matrix * panels.packed_floats(k));
      }
    });
    return to;
  }

  // [.., k, m] to [.., m, k].
  const float* TransposeA(RunContext& ctx, const float* a, float* to) const {
    const int64_t matrices = ctx.in(0).count() / std::max<int64_t>(1, m * k);
    ctx.ParallelFor(matrices * m, std::max<int64_t>(1, (1 << 13) / std::max<int64_t>(1, k)),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t i = begin; i < end; ++i) {
                        const float* from = a + i / m * m * k + i % m;
                        for (int64_t j = 0; j < k; ++j) to[i * k + j] = from[j * m];
                      }
                    });
    return to;
  }

  const float* ExpandBias(RunContext& ctx, const Dims& dims, float* to) const {
    const float* from = ctx.in(2).as<float>();
    const float* residual = ctx.has(3) && bias == Bias::kMatrix ? ctx.in(3).as<float>() : nullptr;
    const auto strides = BroadcastStrides(bias_dims, dims);
    for (int64_t i = 0; i < CountOf(dims); ++i)
      to[i] = attrs.beta * from[OffsetOf(i, dims, strides)] +
              (residual != nullptr ? residual[i] : 0.0f);
    return to;
  }
};

GemmSource SourceOf(const ProductKernel& p, const Tensor& b, int64_t matrix) {
  return {b.as<float>() + matrix * p.k * p.n, 1, p.k, 0, p.trans_b ? 1 : p.n, p.trans_b ? p.k : 1};
}

Result<Tensor> PackConstant(const ProductKernel& p, const Tensor& b, WeightCache& cache) {
  const int64_t matrix = p.panels.packed_floats(p.k);
  Tensor packed = TRY(Tensor::Create(DType::kF32, {p.b_matrices * matrix}));
  for (int64_t i = 0; i < p.b_matrices; ++i)
    cache.ParallelFor(p.panels.count, 1, [&](int64_t begin, int64_t end) {
      PackGemm(p.panels, SourceOf(p, b, i), begin, end, packed.mut<float>() + i * matrix);
    });
  return packed;
}

Result<Tensor> PackPairs(const ProductKernel& p, const Tensor& b, WeightCache& cache) {
  const int64_t matrix = p.panels.packed_floats(PairRows(1, p.k));
  Tensor packed = TRY(Tensor::Create(DType::kU32, {p.b_matrices * matrix}));
  for (int64_t i = 0; i < p.b_matrices; ++i)
    cache.ParallelFor(p.panels.count, 1, [&](int64_t begin, int64_t end) {
      PackBf16(p.panels, SourceOf(p, b, i), begin, end, packed.mut<uint32_t>() + i * matrix);
    });
  return packed;
}

Result<Tensor> PackHalves(const ProductKernel& p, const Tensor& b, WeightCache& cache) {
  const int64_t matrix = p.panels.packed_floats(p.k), bytes = 2;
  Tensor packed = TRY(Tensor::Create(b.dtype(), {p.b_matrices * matrix}));
  for (int64_t i = 0; i < p.b_matrices; ++i)
    cache.ParallelFor(p.panels.count, 1, [&](int64_t begin, int64_t end) {
      PackBlockTable(p.panels, p.k, b.raw() + i * p.k * p.n * bytes, (p.trans_b ? p.k : 1) * bytes,
                     (p.trans_b ? 1 : p.n) * bytes, bytes, begin, end,
                     packed.raw() + i * matrix * bytes);
    });
  return packed;
}

}  // namespace

Result<KernelPtr> LowerProduct(const ProductAttrs& attrs, LowerContext& ctx) {
  const Type& a = ctx.input(0);
  const Type& b = ctx.input(1);
  if (a.dtype != DType::kF32) return KernelPtr();
  const ProductShape shape = TRY(ResolveProduct(attrs, a.dims, b.dims));
  auto kernel = std::make_unique<ProductKernel>();
  ProductKernel& p = *kernel;
  p.attrs = attrs;
  p.m = shape.m, p.n = shape.n, p.k = shape.k;
  const bool row = a.dims.rank() == 1, column = b.dims.rank() == 1;
  p.trans_a = attrs.trans_a && !row;
  p.trans_b = attrs.trans_b && !column;
  p.y_dims = ctx.output(0).dims;
  const auto leading = [](const Dims& d, size_t matrix_rank) {
    return Dims(
        std::span<const int64_t>(d).first(d.size() < matrix_rank ? 0 : d.size() - matrix_rank));
  };
  const Dims a_batch = leading(a.dims, 2), b_batch = leading(b.dims, 2);
  p.batch = leading(p.y_dims, 2 - size_t(row) - size_t(column));
  p.b_matrices = CountOf(b_batch);
  if (p.b_matrices == 1 && !p.trans_a && CountOf(a_batch) == CountOf(p.batch)) {
    // One right operand for all: the batch is only more rows.
    p.m *= CountOf(p.batch);
    p.batch = {};
  } else {
    p.a_strides = BroadcastStrides(a_batch, p.batch);
    p.b_strides = BroadcastStrides(b_batch, p.batch);
  }
  p.panels = MakeGemmPanels(p.n);
  p.split = SplitGemm(p.panels, CountOf(p.batch), p.m, p.k, kRowsPerCall, ctx.threads());
  if (const Tensor* constant = ctx.value(1)) {
    const std::string recipe =
        fmt::format("gemm lanes {} panels {} matrices {} k {} n {} transposed {}", p.panels.lanes,
                    p.panels.count, p.b_matrices, p.k, p.n, p.trans_b);
    if (ctx.bf16_products() && Bf16ProductPays(p.k, p.n)) {
      p.right = Right::kPairs;
      p.packed = TRY(ctx.weights().Get(*constant, "bf16 " + recipe, [&](const Tensor& t) {
        return PackPairs(p, t, ctx.weights());
      }));
    } else if (const auto halves = NarrowOf(*constant)) {
      p.right = Right::kHalves;
      p.packed = TRY(ctx.weights().Get(
          *halves, recipe, [&](const Tensor& t) { return PackHalves(p, t, ctx.weights()); }));
    } else {
      p.packed = TRY(ctx.weights().Get(
          *constant, recipe, [&](const Tensor& t) { return PackConstant(p, t, ctx.weights()); }));
    }
  } else if (p.trans_b && p.m <= kDotRows) {
    p.right = Right::kDot;
  } else {
    p.right = !p.trans_b && p.m <= kDirectRows ? Right::kDirect : Right::kRepacked;
    p.packed_at = p.scratch_floats;
    p.scratch_floats += Aligned(p.b_matrices * p.panels.packed_floats(p.k));
  }
  if (p.trans_a) {
    p.a_at = p.scratch_floats;
    p.scratch_floats += Aligned(CountOf(a.dims));
  }
  if (ctx.has(2)) {
    p.bias_dims = ctx.input(2).dims;
    const int64_t count = CountOf(p.bias_dims);
    const bool vector =
        count == p.n && !p.bias_dims.empty() && p.bias_dims.back() == p.n && !column;
    if (vector || count == 1) {
      if (count == 1) p.bias_dims = {1};
      if (count == p.n) p.bias_dims = {p.n};
      p.bias = count == p.n && attrs.beta == 1 ? Bias::kVector : Bias::kExpanded;
    } else {
      p.bias = Bias::kMatrix;
    }
    p.bias_at = p.scratch_floats;
    if (p.bias == Bias::kExpanded) p.scratch_floats += Aligned(p.n);
    if (p.bias == Bias::kMatrix) p.scratch_floats += Aligned(CountOf(p.y_dims));
  }
  return KernelPtr(std::move(kernel));
}

}  // namespace dunlin
