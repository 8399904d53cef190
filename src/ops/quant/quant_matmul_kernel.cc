// Products of codes as exact products of integers.
#include <algorithm>

#include "ops/elementwise/broadcast.h"
#include "ops/quant/code_weights.h"

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
  CodeWeights weights;             // a part for every matrix of b; packed, if b is constant
  // Scratch, in bytes.
  size_t packed_at = 0, epilogue_at = 0, scratch = 0;

  std::string_view name() const override {
    return weights.bytes ? "bytes.packed" : is_packed() ? "codes.packed" : "codes.repacked";
  }
  InputUse uses(int input) const override {
    return is_packed() && (input == in.b || input == in.b_zero) ? InputUse::kNothing
                                                                : InputUse::kValues;
  }
  size_t scratch_bytes() const override { return scratch; }

  bool is_packed() const { return weights.packed.defined(); }
  // Rows of a that are read where the tensor has them.
  bool in_place() const { return weights.bytes && !in.trans_a; }
  // Codes between rows of a.
  int64_t stride() const { return weights.bytes ? shape.k : (shape.k + 1) / 2 * 2; }

  // A weight with its zero point subtracted.
  // One matrix of b, its zero points subtracted.
  struct Factor {
    const uint8_t* codes;
    int64_t k_step, n_step;
    uint8_t flip;      // of codes with a sign: makes them ones without, 128 more
    int32_t subtract;  // that, and the zero point if there is one for all
    DType zero_type;
    const uint8_t* zeros;  // of every column, or nullptr
    int16_t operator()(int64_t k, int64_t n) const {
      const int32_t v = int32_t(codes[k * k_step + n * n_step] ^ flip) - subtract;
      return int16_t(zeros == nullptr ? v : v - CodeAt(zero_type, zeros, n));
    }
  };
  Factor FactorOf(const void* b, const void* zero, DType zero_type, int64_t points,
                  int64_t matrix) const {
    const bool is_signed = b_type == DType::kI8;
    Factor f{static_cast<const uint8_t*>(b) + matrix * shape.k * shape.n,
             in.trans_b ? 1 : shape.n,
             in.trans_b ? shape.k : 1,
             uint8_t(is_signed ? 0x80 : 0),
             is_signed ? 128 : 0,
             zero_type,
             nullptr};
    if (zero != nullptr && points == 1) f.subtract += CodeAt(zero_type, zero, 0);
    if (zero != nullptr && points > 1)
      f.zeros = static_cast<const uint8_t*>(zero) + (one_row_of_b_zeros ? 0 : matrix * shape.n);
    return f;
  }
  Result<Tensor> PackConstant(const Tensor& b, const Tensor* zero) const {
    std::vector<Factor> factors;
    for (int64_t m = 0; m < b_matrices; ++m)
      factors.push_back(FactorOf(b.raw(), zero ? zero->raw() : nullptr,
                                 zero ? zero->dtype() : DType::kU8, zero ? zero->count() : 1, m));
    return weights.Pack([&](int64_t matrix, int64_t, int64_t k, int64_t n) {
      return factors[size_t(matrix)](k, n);
    });
  }

  Status Run(RunContext& ctx) const override {
    weights.bytes ? RunOn<uint8_t>(ctx) : RunOn<int16_t>(ctx);
    return {};
  }

 private:
  template <class Code>
  void RunOn(RunContext& ctx) const {
    std::byte* const memory = static_cast<std::byte*>(ctx.scratch());
    PreparedEpilogue p =
        PrepareEpilogue(ctx, in, store, shape.n, ctx.out(0).dtype, memory + epilogue_at);
    const TensorView& a = ctx.in(in.a);
    if (weights.bytes)
      SubtractZero(p, memory + epilogue_at, shape.n, weights.totals(),
                   ByteZero(a.dtype, ZeroOfRow(ctx, 0)));
    const Code* rows = static_cast<const Code*>(a.data);
    if (!in_place()) rows = Read(ctx, reinterpret_cast<Code*>(memory));
    Multiply(ctx, rows, is_packed() ? weights.packed.raw() : PackB(ctx, memory + packed_at), p);
  }

  int32_t ZeroOfRow(const RunContext& ctx, int64_t row) const {
    if (in.a_zero < 0 || !ctx.has(in.a_zero)) return 0;
    const TensorView& zero = ctx.in(in.a_zero);
    return CodeAt(zero.dtype, zero.data, a_points == 1 ? 0 : row % a_points);
  }

  template <class Code>
  const Code* Read(RunContext& ctx, Code* to) const {
    const TensorView& x = ctx.in(in.a);
    ctx.ParallelFor(a_matrices * shape.m,
                    std::max<int64_t>(1, 65536 / std::max<int64_t>(1, stride())),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t r = begin; r < end; ++r) {
                        const int64_t matrix = r / shape.m, row = r % shape.m;
                        Code* const y = to + r * stride();
                        ReadCodes(x.dtype, x.data,
                                  matrix * shape.m * shape.k + row * (in.trans_a ? 1 : shape.k),
                                  in.trans_a ? shape.m : 1, ZeroOfRow(ctx, r), shape.k, y);
                        std::fill(y + shape.k, y + stride(), Code{0});
                      }
                    });
    return to;
  }

  const std::byte* PackB(RunContext& ctx, std::byte* to) const {
    const bool has_zero = in.b_zero >= 0 && ctx.has(in.b_zero);
    const TensorView* zero = has_zero ? &ctx.in(in.b_zero) : nullptr;
    const void* const b = ctx.in(in.b).data;
    const CodePanels& panels = weights.panels;
    const int64_t grain =
        std::max<int64_t>(1, 65536 / std::max<int64_t>(1, shape.k * panels.width));
    ctx.ParallelFor(b_matrices * panels.count, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t panel = i % panels.count, matrix = i / panels.count;
        const Factor factor =
            FactorOf(b, zero ? zero->data : nullptr, zero ? zero->dtype : DType::kU8,
                     zero ? zero->count() : 1, matrix);
        weights.PackPart(
            panel, panel + 1, [&](int64_t, int64_t k, int64_t n) { return factor(k, n); },
            to + matrix * weights.part_bytes(), nullptr);
      }
    });
    return to;
  }
  template <class Code>
  void Multiply(RunContext& ctx, const Code* a, const std::byte* b,
                const PreparedEpilogue& p) const {
    const Rows y(ctx, in, p, shape.n);
    const CodePanels& panels = weights.panels;
    const int64_t wide = std::max<int64_t>(1, kSumColumns / panels.width);  // panels of an item
    const int64_t row_items = (shape.m + kSumRows - 1) / kSumRows,
                  column_items = (panels.count + wide - 1) / wide;
    const int64_t work = kSumRows * wide * panels.width * shape.k;
    ForEachRow(batch, 0, batch.rows(), [&](int64_t out, const std::array<int64_t, 2>& at) {
      ctx.ParallelFor(batch.cols() * row_items * column_items,
                      std::max<int64_t>(1, kLeastSumWork / std::max<int64_t>(1, work)),
                      [&](int64_t begin, int64_t end) {
                        alignas(64) int32_t sums[kSumRows * kSumColumns + 64];
                        const Code* rows[kSumRows];
                        for (int64_t i = begin; i < end; ++i) {
                          // Columns of b stay in the second-level cache while all rows meet them.
                          const int64_t row = i % row_items * kSumRows,
                                        column = i / row_items % column_items * wide,
                                        matrix = i / column_items / row_items;
                          const int64_t ma = at[0] + matrix * batch.strides[0].back(),
                                        mb = at[1] + matrix * batch.strides[1].back();
                          CodeRows<Code> some;
                          some.at = rows;
                          some.m = std::min(kSumRows, shape.m - row);
                          some.is_signed = a_type == DType::kI8;
                          for (int64_t r = 0; r < some.m; ++r)
                            rows[r] = a + (ma * shape.m + row + r) * stride();
                          weights.Multiply(b + mb * weights.part_bytes(), some, column,
                                           std::min(column + wide, panels.count), sums,
                                           kSumColumns);
                          const int64_t first = column * panels.width,
                                        n = std::min(wide * panels.width, shape.n - first);
                          y.Store(sums, kSumColumns, (out + matrix) * shape.m + row, some.m, first,
                                  n, ma * shape.m + row);
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
  const Tensor* zero = in.b_zero >= 0 && ctx.has(in.b_zero) ? ctx.value(in.b_zero) : nullptr;
  const Tensor* const constant =
      in.b_zero < 0 || !ctx.has(in.b_zero) || zero != nullptr ? ctx.value(in.b) : nullptr;
  // Sums of bytes have one zero point to subtract, and one total a column.
  const bool bytes = constant != nullptr && k.b_matrices == 1 && k.a_points == 1 &&
                     MultiplyAsBytes(*constant, zero, k.shape.n, in.trans_b ? k.shape.k : 1);
  k.weights = {bytes, MakeCodePanels(k.shape.n), 1, k.shape.k, k.b_matrices, {}};
  const auto aligned = [](int64_t size) { return size_t(size + 63) / 64 * 64; };
  if (!k.in_place()) k.packed_at = aligned(k.a_matrices * k.shape.m * k.stride() * (bytes ? 1 : 2));
  k.epilogue_at = k.packed_at;
  if (constant != nullptr) {
    const std::string recipe =
        fmt::format("codes {} {} {}x{} matrices {} panels of {} {} zero {}",
                    bytes ? "bytes" : "pairs", DTypeName(b.dtype), k.shape.k, k.shape.n,
                    k.b_matrices, k.weights.panels.width, in.trans_b, ZeroText(zero));
    k.weights.packed = TRY(ctx.weights().Get(
        *constant, recipe, [&](const Tensor& t) { return k.PackConstant(t, zero); }));
  } else {
    k.epilogue_at += aligned(k.b_matrices * k.weights.part_bytes());
  }
  k.scratch = k.epilogue_at + EpilogueBytes(k.shape.n);
  return KernelPtr(std::move(kernel));
}

}  // namespace dunlin
