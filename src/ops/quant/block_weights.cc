// Weights of a few bits with a scale for every block, as language models have them: MatMulNBits,
// MatMulBnb4 and GatherBlockQuantized of com.microsoft. They stay packed; rows are decoded as they
// are needed.
#include "ops/quant/block_weights.h"
#include "kernels/gemm.h"
#include "ops/reduce/axes.h"

namespace dunlin {
namespace {

int64_t Blocks(int64_t count, int64_t block) { return (count + block - 1) / block; }

struct FloatsButDouble {
  template <class T>
  static constexpr bool kHas = kIsFloat<T> && !std::is_same_v<T, double>;
};
// ---- y = a wᵀ with decoded rows of w
// -------------------------------------------------------------

// What both operators share. `Weights` decodes: Decode(n, row) writes the K numbers of row n.
// C1: a [..., K] of f32, f16 or bf16. C2: K, N and block_size are positive.
template <class A>
Status InferRows(std::string_view name, const A& a, InferContext& ctx) {
  TRY(CheckType<FloatsButDouble>(ctx.dtype(0), name));
  constexpr int64_t kMost = int64_t{1} << 30;  // so that no product of them overflows
  for (const int64_t v : {a.K, a.N, a.block_size})
    if (v <= 0 || v > kMost)
      return Fail(Code::kInvalidArgument, "{}: K {}, N {} and block_size {} must be 1 to 2^30",
                  name, a.K, a.N, a.block_size);
  Type y = ctx.input(0);
  if (y.ranked) {
    if (y.dims.empty() || (IsKnown(y.dims.back()) && y.dims.back() != a.K))
      return Fail(Code::kInvalidArgument, "{}: a of {} has not K = {} columns", name,
                  ToString(y.dims), a.K);
    y.dims.back() = a.N;
  }
  ctx.Set(0, std::move(y));
  return {};
}
Status CheckCount(std::string_view name, std::string_view what, const Dims& dims, int64_t wanted) {
  const auto count = ElementCount(dims);
  if (count && *count != wanted)
    return Fail(Code::kInvalidArgument, "{}: {} has {} elements, not {}", name, what, *count,
                wanted);
  return {};
}

// The inputs' extents once more, now that they are there.
template <class Op>
Status CheckAtRun(const typename Op::Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  if (x.dims.empty() || x.dims.back() != a.K)
    return Fail(Code::kInvalidArgument, "{}: a of {} has not K = {} columns", Op::kName,
                ToString(x.dims), a.K);
  return Op::CheckWeights(
      a, [&](int i) -> const Dims* { return ctx.has(i) ? &ctx.in(i).dims : nullptr; });
}

template <class Op>
Status ReferenceRows(const typename Op::Attrs& a, RunContext& ctx) {
  TRY(CheckAtRun<Op>(a, ctx));
  const auto weights = TRY(Op::Read(a, ctx));
  const TensorView& x = ctx.in(0);
  const int64_t rows = x.count() / a.K;
  std::vector<float> w(static_cast<size_t>(a.K));
  return VisitTypes<FloatsButDouble>(x.dtype, Op::kName, [&]<class T>(TypeTag<T>) -> Status {
    for (int64_t n = 0; rows > 0 && n < a.N; ++n) {
      weights.Decode(n, w.data());
      for (int64_t m = 0; m < rows; ++m) {
        double sum = Op::Bias(ctx, n);
        for (int64_t k = 0; k < a.K; ++k)
          sum += double(float(x.as<T>()[m * a.K + k])) * double(w[size_t(k)]);
        ctx.out(0).mut<T>()[m * a.N + n] = Narrow<T>(sum);
      }
    }
    return {};
  });
}

// Within 2 K 2^-24 sum |a||w| of the reference.
template <class Op>
class DecodedRowsKernel final : public Kernel {
 public:
  DecodedRowsKernel(const typename Op::Attrs& a, int64_t rows, int threads)
      : a_(a), rows_(rows), shares_(std::min<int64_t>(threads, Blocks(a.N, kRowsAtOnce))) {}
  std::string_view name() const override { return "gemm.block_weights"; }
  size_t scratch_bytes() const override {
    return size_t(shares_ * kRowsAtOnce * a_.K) * sizeof(float);
  }
  Status Run(RunContext& ctx) const override {
    TRY(CheckAtRun<Op>(a_, ctx));
    const auto weights = TRY(Op::Read(a_, ctx));
    const float* x = ctx.in(0).as<float>();
    float* y = ctx.out(0).mut<float>();
    auto* const scratch = static_cast<float*>(ctx.scratch());
    const int64_t blocks = Blocks(a_.N, kRowsAtOnce);
    ctx.ParallelFor(shares_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t share = begin; share < end; ++share) {
        float* const w = scratch + share * kRowsAtOnce * a_.K;
        for (int64_t b = blocks * share / shares_; b < blocks * (share + 1) / shares_; ++b) {
          const int64_t first = b * kRowsAtOnce, n = std::min(kRowsAtOnce, a_.N - first);
          for (int64_t i = 0; i < n; ++i) weights.Decode(first + i, w + i * a_.K);
          GemmArgs g;
          g.m = rows_;
          g.k = a_.K;
          g.c = y + first;
          g.c_stride = a_.N;
          float bias[kRowsAtOnce];
          for (int64_t i = 0; i < n; ++i) bias[i] = Op::Bias(ctx, first + i);
          g.epilogue.bias = bias;
          GemmDot(g, x, a_.K, w, a_.K, 0, n);
        }
      }
    });
    return {};
  }

 private:
  static constexpr int64_t kRowsAtOnce = 16;
  typename Op::Attrs a_;
  int64_t rows_, shares_;
};

template <class Op>
Result<KernelPtr> LowerRows(const typename Op::Attrs& a, LowerContext& ctx) {
  const Type& x = ctx.input(0);
  if (x.dtype != DType::kF32 || CountOf(ctx.output(0).dims) == 0) return KernelPtr();
  return KernelPtr(
      std::make_unique<DecodedRowsKernel<Op>>(a, CountOf(x.dims) / a.K, ctx.threads()));
}

struct MatMulNBits {
  static constexpr std::string_view kName = "MatMulNBits";
  using Attrs = MatMulNBitsAttrs;
  // `dims` gives an input's extents, nullptr where they are not known or it is absent.
  template <class D>
  static Status CheckWeights(const Attrs& a, const D& dims) {
    const auto check = [&](int i, std::string_view what, int64_t wanted) -> Status {
      return dims(i) != nullptr ? CheckCount(kName, what, *dims(i), wanted) : Status();
    };
    TRY(check(1, "b", a.N * a.blocks() * a.block_bytes()));
    TRY(check(2, "scales", a.N * a.blocks()));
    TRY(check(5, "bias", a.N));
    if (const Dims* g = dims(4))
      if (const auto n = ElementCount(*g); n && *n != a.K && *n != a.blocks() * a.block_size)
        return Fail(Code::kInvalidArgument, "{}: g_idx has {} elements, not {}", kName, *n, a.K);
    return {};
  }
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.bits != 2 && a.bits != 4 && a.bits != 8)
      return Fail(Code::kUnimplemented, "{}: bits must be 2, 4 or 8, not {}", kName, a.bits);
    TRY(InferRows(kName, a, ctx));
    return CheckWeights(a, [&](int i) -> const Dims* {
      return ctx.has(i) && ctx.input(i).ranked ? &ctx.input(i).dims : nullptr;
    });
  }

  struct Weights {
    Attrs a;
    const uint8_t* codes;
    TensorView scales, zeros;        // zeros without data: the middle code
    const int32_t* group = nullptr;  // of every column
    float Zero(int64_t n, int64_t block) const {
      if (zeros.data == nullptr) return float(1 << (a.bits - 1));
      if (zeros.dtype == DType::kU8)
        return float(PackedCode(zeros.as<uint8_t>() + n * a.zero_bytes(), block, int(a.bits)));
      return FloatAt(zeros, n * a.blocks() + block);
    }
    void Decode(int64_t n, float* row) const {
      for (int64_t b = 0; b < a.blocks(); ++b) {
        const uint8_t* from = codes + (n * a.blocks() + b) * a.block_bytes();
        const int64_t first = b * a.block_size, count = std::min(a.block_size, a.K - first);
        if (group != nullptr) {
          for (int64_t i = 0; i < count; ++i) {
            const int32_t g = group[first + i];
            row[first + i] = (float(PackedCode(from, i, int(a.bits))) - Zero(n, g)) *
                             FloatAt(scales, n * a.blocks() + g);
          }
          continue;
        }
        const float scale = FloatAt(scales, n * a.blocks() + b), zero = Zero(n, b);
        if (a.bits == 4) {  // the common case, two by two
          for (int64_t i = 0; i + 1 < count; i += 2) {
            row[first + i] = (float(from[i / 2] & 15) - zero) * scale;
            row[first + i + 1] = (float(from[i / 2] >> 4) - zero) * scale;
          }
          if (count % 2) row[first + count - 1] = (float(from[count / 2] & 15) - zero) * scale;
        } else {
          for (int64_t i = 0; i < count; ++i)
            row[first + i] = (float(PackedCode(from, i, int(a.bits))) - zero) * scale;
        }
      }
    }
  };
  static Result<Weights> Read(const Attrs& a, const RunContext& ctx) {
    if (ctx.in(1).dtype != DType::kU8)
      return Fail(Code::kInvalidArgument, "{}: b holds {}, not u8", kName,
                  DTypeName(ctx.in(1).dtype));
    TRY(CheckType<FloatsButDouble>(ctx.in(2).dtype, kName));
    Weights w{a, ctx.in(1).as<uint8_t>(), ctx.in(2), {}, nullptr};
    if (ctx.has(3)) {
      w.zeros = ctx.in(3);
      const bool packed = w.zeros.dtype == DType::kU8;
      if (!packed) TRY(CheckType<FloatsButDouble>(w.zeros.dtype, kName));
      TRY(CheckCount(kName, "zero_points", w.zeros.dims,
                     a.N * (packed ? a.zero_bytes() : a.blocks())));
    }
    if (ctx.has(4)) {
      const TensorView& g = ctx.in(4);
      if (g.dtype != DType::kI32)
        return Fail(Code::kInvalidArgument, "{}: g_idx holds {}, not i32", kName,
                    DTypeName(g.dtype));
      w.group = g.as<int32_t>();
      for (int64_t i = 0; i < a.K; ++i)
        if (w.group[i] < 0 || w.group[i] >= a.blocks())
          return Fail(Code::kInvalidArgument, "{}: g_idx {} of {} blocks", kName, w.group[i],
                      a.blocks());
    }
    if (ctx.has(5)) TRY(CheckType<FloatsButDouble>(ctx.in(5).dtype, kName));
    return w;
  }
  static float Bias(const RunContext& ctx, int64_t n) {
    return ctx.has(5) ? FloatAt(ctx.in(5), n) : 0.0f;
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    return ReferenceRows<MatMulNBits>(a, ctx);
  }
  static int64_t Macs(const Attrs& a, std::span<const Type>, std::span<const Type> out) {
    return CountOf(out[0].dims) * a.K;
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    KernelPtr packed = TRY(LowerPackedBlocks(a, ctx));
    return packed != nullptr ? Result<KernelPtr>(std::move(packed))
                             : LowerRows<MatMulNBits>(a, ctx);
  }
};

// Inputs a, b (u8, two codes a byte, the first in the high bits), absmax (of every block of the
// N * K numbers, row after row).
struct MatMulBnb4 {
  static constexpr std::string_view kName = "MatMulBnb4";
  struct Attrs {
    int64_t K = 0, N = 0, block_size = 0, quant_type = 0;  // NOLINT: ONNX's names
    int64_t training_mode = 0, transB = 1;                 // NOLINT
    template <class V>
    void Visit(V& v) {
      v("K", K);
      v("N", N);
      v("block_size", block_size);
      v("quant_type", quant_type);
      v("training_mode", training_mode);
      v("transB", transB);
    }
  };
  template <class D>
  static Status CheckWeights(const Attrs& a, const D& dims) {
    if (const Dims* b = dims(1)) TRY(CheckCount(kName, "b", *b, Blocks(a.N * a.K, 2)));
    if (const Dims* m = dims(2))
      TRY(CheckCount(kName, "absmax", *m, Blocks(a.N * a.K, a.block_size)));
    return {};
  }
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.training_mode != 0 || a.transB != 1 || a.quant_type < 0 || a.quant_type > 1)
      return Fail(Code::kUnimplemented,
                  "{}: quant_type must be 0 (fp4) or 1 (nf4), training_mode 0 and transB 1", kName);
    TRY(InferRows(kName, a, ctx));
    return CheckWeights(a, [&](int i) -> const Dims* {
      return ctx.has(i) && ctx.input(i).ranked ? &ctx.input(i).dims : nullptr;
    });
  }
  struct Weights {
    Attrs a;
    const uint8_t* codes;
    TensorView scales;
    void Decode(int64_t n, float* row) const {
      // Quantiles of a normal distribution, and floats of one sign, two exponent and one mantissa
      // bit in units of the largest (QLoRA, appendix; bitsandbytes).
      static constexpr float kNormal[16] = {-1.0f,
                                            -0.6961928009986877f,
                                            -0.5250730514526367f,
                                            -0.39491748809814453f,
                                            -0.28444138169288635f,
                                            -0.18477343022823334f,
                                            -0.09105003625154495f,
                                            0.0f,
                                            0.07958029955625534f,
                                            0.16093020141124725f,
                                            0.24611230194568634f,
                                            0.33791524171829224f,
                                            0.44070982933044434f,
                                            0.5626170039176941f,
                                            0.7229568362236023f,
                                            1.0f};
      static constexpr float kFloat[16] = {
          0.0f,  0.005208333333f,  0.66666667f,  1.0f,  0.33333333f,  0.5f,  0.16666667f,  0.25f,
          -0.0f, -0.005208333333f, -0.66666667f, -1.0f, -0.33333333f, -0.5f, -0.16666667f, -0.25f};
      const float* table = a.quant_type == 1 ? kNormal : kFloat;
      for (int64_t k = 0; k < a.K; ++k) {
        const int64_t i = n * a.K + k;
        const int code = i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15;
        row[k] = table[code] * FloatAt(scales, i / a.block_size);
      }
    }
  };
  static Result<Weights> Read(const Attrs& a, const RunContext& ctx) {
    if (ctx.in(1).dtype != DType::kU8)
      return Fail(Code::kInvalidArgument, "{}: b holds {}, not u8", kName,
                  DTypeName(ctx.in(1).dtype));
    TRY(CheckType<FloatsButDouble>(ctx.in(2).dtype, kName));
    return Weights{a, ctx.in(1).as<uint8_t>(), ctx.in(2)};
  }
  static float Bias(const RunContext&, int64_t) { return 0; }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    return ReferenceRows<MatMulBnb4>(a, ctx);
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerRows<MatMulBnb4>(a, ctx);
  }
};

}  // namespace

std::vector<OpDef> BlockWeightOps() {
  return {Declare<MatMulNBits>(MatMulNBits::kName,
                               {.domain = "com.microsoft", .min_inputs = 3, .max_inputs = 6}),
          Declare<MatMulBnb4>(MatMulBnb4::kName,
                              {.domain = "com.microsoft", .min_inputs = 3, .max_inputs = 3})};
}

}  // namespace dunlin
