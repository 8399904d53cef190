// Products of codes as exact products of 16-bit integers.
#include <algorithm>

#include "kernels/code_product.h"
#include "ops/elementwise/broadcast.h"
#include "ops/quant/sums.h"

namespace dunlin {
namespace {

// Bit for bit what the reference gives.
class CodeMatMulKernel final : public Kernel {
 public:
  ProductInputs in;
  CodeStoreAttrs store;
  CodeMatMulShape shape;
  BroadcastPlan<2> batch;  // of matrices
  int64_t a_matrices = 1, b_matrices = 1;
  int64_t a_points = 1;  // zero points of a: one, one a row, or one for every row of every matrix
  DType a_type = DType::kU8, b_type = DType::kU8;
  bool one_row_of_b_zeros = true;  // not one row for every matrix
  CodePanels panels;
  Tensor packed;  // of a constant b
  // Scratch, in bytes.
  size_t packed_at = 0, epilogue_at = 0, scratch = 0;

  int64_t pairs() const { return (shape.k + 1) / 2; }
  std::string_view name() const override {
    return packed.defined() ? "codes.packed" : "codes.repacked";
  }
  InputUse uses(int input) const override {
    return packed.defined() && (input == in.b || input == in.b_zero) ? InputUse::kNothing
                                                                     : InputUse::kValues;
  }
  size_t scratch_bytes() const override { return scratch; }

  void Pack(const void* b, const void* zero, DType zero_type, int64_t points, int64_t matrix,
            int64_t begin, int64_t end, int16_t* to) const {
    const int64_t first = matrix * shape.k * shape.n;
    const int64_t k_step = in.trans_b ? 1 : shape.n, n_step = in.trans_b ? shape.k : 1;
    const int64_t zero_first = one_row_of_b_zeros ? 0 : matrix * shape.n;
    PackCodes(
        panels, 1, shape.k, begin, end,
        [&](int64_t, int64_t k, int64_t n) {
          const int32_t z =
              zero == nullptr ? 0 : CodeAt(zero_type, zero, points == 1 ? 0 : zero_first + n);
          return int16_t(CodeAt(b_type, b, first + k * k_step + n * n_step) - z);
        },
        to + matrix * panels.packed_codes(pairs()));
  }

  Result<Tensor> PackConstant(const Tensor& b, const Tensor* zero) const {
    Tensor p = TRY(Tensor::Create(DType::kI16, {b_matrices * panels.packed_codes(pairs())}));
    for (int64_t m = 0; m < b_matrices; ++m)
      Pack(b.raw(), zero ? zero->raw() : nullptr, zero ? zero->dtype() : DType::kU8,
           zero ? zero->count() : 1, m, 0, panels.count, p.mut<int16_t>());
    return p;
  }

  Status Run(RunContext& ctx) const override {
    std::byte* const memory = static_cast<std::byte*>(ctx.scratch());
    auto* const a = reinterpret_cast<int16_t*>(memory);
    Widen(ctx, a);
    const int16_t* b = packed.defined() ? packed.as<int16_t>() : PackB(ctx, memory + packed_at);
    Multiply(ctx, a, b,
             PrepareEpilogue(ctx, in, store, shape.n, ctx.out(0).dtype, memory + epilogue_at));
    return {};
  }

 private:
  void Widen(RunContext& ctx, int16_t* to) const {
    const TensorView& x = ctx.in(in.a);
    const bool has_zero = in.a_zero >= 0 && ctx.has(in.a_zero);
    const int64_t stride = 2 * pairs();
    ctx.ParallelFor(
        a_matrices * shape.m, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, stride)),
        [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const int64_t point = a_points == 1 ? 0 : r % a_points;
            const int32_t zero =
                has_zero ? CodeAt(ctx.in(in.a_zero).dtype, ctx.in(in.a_zero).data, point) : 0;
            const int64_t matrix = r / shape.m, row = r % shape.m;
            int16_t* const y = to + r * stride;
            WidenCodes(x.dtype, x.data,
                       matrix * shape.m * shape.k + row * (in.trans_a ? 1 : shape.k),
                       in.trans_a ? shape.m : 1, zero, shape.k, y);
            if (shape.k % 2) y[shape.k] = 0;
          }
        });
  }

  const int16_t* PackB(RunContext& ctx, std::byte* to) const {
    const bool has_zero = in.b_zero >= 0 && ctx.has(in.b_zero);
    const TensorView* zero = has_zero ? &ctx.in(in.b_zero) : nullptr;
    auto* const packed_b = reinterpret_cast<int16_t*>(to);
    const int64_t grain =
        std::max<int64_t>(1, 65536 / std::max<int64_t>(1, shape.k * panels.width));
    ctx.ParallelFor(b_matrices * panels.count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t panel = i % panels.count, matrix = i / panels.count;
        Pack(ctx.in(in.b).data, zero ? zero->data : nullptr, zero ? zero->dtype : DType::kU8,
             zero ? zero->count() : 1, matrix, panel, panel + 1, packed_b);
      }
    });
    return packed_b;
  }
  void Multiply(RunContext& ctx, const int16_t* a, const int16_t* b,
                const PreparedEpilogue& p) const {
    const Rows y(ctx, in, p, shape.n);
    const int64_t stride = 2 * pairs();
    const int64_t wide = std::max<int64_t>(1, kSumColumns / panels.width);  // panels of an item
    const int64_t row_items = (shape.m + kSumRows - 1) / kSumRows,
                  column_items = (panels.count + wide - 1) / wide;
    const int64_t work = kSumRows * wide * panels.width * shape.k;
    ForEachRow(batch, 0, batch.rows(), [&](int64_t out, const std::array<int64_t, 2>& at) {
      ctx.ParallelFor(batch.cols() * row_items * column_items,
                      std::max<int64_t>(1, kLeastSumWork / std::max<int64_t>(1, work)),
                      [&](int64_t begin, int64_t end) {
                        alignas(64) int32_t sums[kSumRows * kSumColumns + 64];
                        const int16_t* rows[kSumRows];
                        for (int64_t i = begin; i < end; ++i) {
                          const int64_t column = i % column_items * wide,
                                        matrix = i / column_items / row_items,
                                        row = i / column_items % row_items * kSumRows;
                          const int64_t ma = at[0] + matrix * batch.strides[0].back(),
                                        mb = at[1] + matrix * batch.strides[1].back();
                          CodeProductArgs g;
                          g.m = std::min(kSumRows, shape.m - row);
                          for (int64_t r = 0; r < g.m; ++r)
                            rows[r] = a + (ma * shape.m + row + r) * stride;
                          g.rows = rows;
                          g.pairs = g.packed_pairs = pairs();
                          g.packed = b + mb * panels.packed_codes(pairs());
                          g.c = sums;
                          g.c_stride = kSumColumns;
                          CodeProduct(panels, g, column, std::min(column + wide, panels.count));
                          const int64_t first = column * panels.width,
                                        n = std::min(wide * panels.width, shape.n - first);
                          y.Store(sums, kSumColumns, (out + matrix) * shape.m + row, g.m, first, n,
                                  ma * shape.m + row);
                        }
                      });
    });
  }
};

// Zero points are read when the kernel runs, of a constant b when it is packed.
bool ZerosFit(const ProductInputs& in, const LowerContext& ctx, const CodeMatMulShape& s,
              int64_t a_matrices, int64_t b_matrices) {
  const auto count = [&](int i) {
    return i >= 0 && ctx.has(i) ? CountOf(ctx.input(i).dims) : int64_t{1};
  };
  const int64_t az = count(in.a_zero), bz = count(in.b_zero);
  return (az == 1 || az == s.m || az == s.m * a_matrices) &&
         (bz == 1 || bz == s.n || bz == s.n * b_matrices);
}

}  // namespace

Result<KernelPtr> LowerCodeMatMul(const ProductInputs& in, const CodeStoreAttrs& store,
                                  LowerContext& ctx) {
  const Type &a = ctx.input(in.a), &b = ctx.input(in.b);
  const DType to = ctx.output(0).dtype;
  if (!IsByte(a.dtype) || !IsByte(b.dtype) ||
      !(IsByte(to) || to == DType::kI32 || to == DType::kF32))
    return KernelPtr();
  const auto turned = [](Dims d, bool trans) {
    if (trans && d.rank() >= 2) std::swap(d[d.size() - 2], d[d.size() - 1]);
    return d;
  };
  const Dims a_dims = turned(a.dims, in.trans_a), b_dims = turned(b.dims, in.trans_b);
  auto kernel = std::make_unique<CodeMatMulKernel>();
  CodeMatMulKernel& k = *kernel;
  k.in = in;
  k.store = store;
  k.shape = TRY(ResolveCodeMatMul("the product of codes", a_dims, b_dims));
  if (k.shape.k == 0 || CountOf(k.shape.y) == 0) return KernelPtr();
  k.a_matrices = CountOf(a_dims) / (k.shape.m * k.shape.k);
  k.b_matrices = CountOf(b_dims) / (k.shape.n * k.shape.k);
  if (!EpilogueFits(ctx, in, k.shape.n, k.shape.m * k.a_matrices) ||
      !ZerosFit(in, ctx, k.shape, k.a_matrices, k.b_matrices))
    return KernelPtr();
  const auto count = [&](int i) {
    return i >= 0 && ctx.has(i) ? CountOf(ctx.input(i).dims) : int64_t{1};
  };
  k.a_type = a.dtype, k.b_type = b.dtype;
  k.a_points = count(in.a_zero);
  k.one_row_of_b_zeros = count(in.b_zero) <= k.shape.n;
  k.batch = PlanBroadcast<2>(k.shape.batch, {OuterDims(a_dims), OuterDims(b_dims)});
  if (k.b_matrices == 1 && k.a_points == 1 && !in.trans_a && k.a_matrices > 1) {
    // One right operand for all: the batch is only more rows.
    k.shape.m *= k.a_matrices;
    k.a_matrices = 1;
    k.batch = PlanBroadcast<2>({}, {});
  }
  k.panels = MakeCodePanels(k.shape.n);
  const auto aligned = [](int64_t bytes) { return size_t(bytes + 63) / 64 * 64; };
  k.packed_at = aligned(k.a_matrices * k.shape.m * 2 * k.pairs() * 2);
  k.epilogue_at = k.packed_at;
  const int64_t packed_codes = k.b_matrices * k.panels.packed_codes(k.pairs());
  const bool zero_constant =
      in.b_zero < 0 || !ctx.has(in.b_zero) || ctx.value(in.b_zero) != nullptr;
  if (ctx.value(in.b) != nullptr && zero_constant) {
    const Tensor* zero = in.b_zero >= 0 && ctx.has(in.b_zero) ? ctx.value(in.b_zero) : nullptr;
    const std::string recipe =
        fmt::format("codes {} {}x{} matrices {} panels of {} {} zero {}", DTypeName(b.dtype),
                    k.shape.k, k.shape.n, k.b_matrices, k.panels.width, in.trans_b, ZeroText(zero));
    k.packed = TRY(ctx.weights().Get(*ctx.value(in.b), recipe,
                                     [&](const Tensor& t) { return k.PackConstant(t, zero); }));
  } else {
    k.epilogue_at += aligned(packed_codes * 2);
  }
  k.scratch = k.epilogue_at + EpilogueBytes(k.shape.n);
  return KernelPtr(std::move(kernel));
}

}  // namespace dunlin
