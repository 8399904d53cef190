// MatMul, Gemm, FusedMatMul: inference, reference and the family's table.
#include <algorithm>
#include <cmath>

#include "ops/matmul/product.h"

namespace dunlin {
namespace {

// Sums of integers wrap (they are added as unsigned numbers), all others are double.
template <class T>
using Sum = std::conditional_t<kIsFloat<T>, double, uint64_t>;
template <class T>
Sum<T> Load(const T* p, int64_t i) {
  if constexpr (kIsHalf<T>)
    return double(float(p[i]));
  else
    return Sum<T>(p[i]);
}

// `factor` for integers is its integer part.
template <class T>
Sum<T> Scale(Sum<T> v, float factor) {
  if constexpr (kIsFloat<T>) {
    return v * double(factor);
  } else {
    const double limited = std::isnan(factor) ? 0 : std::clamp(double(factor), -9e18, 9e18);
    return v * Sum<T>(int64_t(limited));
  }
}

template <class T>
Status Product(const ProductAttrs& p, RunContext& ctx) {
  const TensorView& a = ctx.in(0);
  const TensorView& b = ctx.in(1);
  const ProductShape s = TRY(ResolveProduct(p, a.dims, b.dims));
  T* y = ctx.out(0).mut<T>();
  const Dims& yd = ctx.out(0).dims;
  const bool row = a.rank() == 1, column = b.rank() == 1;
  const Dims batch(
      std::span<const int64_t>(yd).first(yd.size() - (row ? 0 : 1) - (column ? 0 : 1)));
  const auto batch_strides = [&](const Dims& d) {
    return BroadcastStrides(std::span<const int64_t>(d).first(d.size() < 2 ? 0 : d.size() - 2),
                            batch);
  };
  const auto a_strides = batch_strides(a.dims), b_strides = batch_strides(b.dims);
  const bool ta = p.trans_a && !row, tb = p.trans_b && !column;
  const bool has_bias = ctx.has(2), has_residual = ctx.has(3);
  const auto bias_strides =
      has_bias ? BroadcastStrides(ctx.in(2).dims, yd) : std::vector<int64_t>{};
  int64_t at = 0;
  for (int64_t i = 0; i < CountOf(batch); ++i) {
    const T* pa = a.as<T>() + OffsetOf(i, batch, a_strides) * s.m * s.k;
    const T* pb = b.as<T>() + OffsetOf(i, batch, b_strides) * s.k * s.n;
    for (int64_t m = 0; m < s.m; ++m)
      for (int64_t n = 0; n < s.n; ++n, ++at) {
        Sum<T> sum = 0;
        for (int64_t k = 0; k < s.k; ++k)
          sum +=
              Load(pa, ta ? k * s.m + m : m * s.k + k) * Load(pb, tb ? n * s.k + k : k * s.n + n);
        if (p.alpha != 1) sum = Scale<T>(sum, p.alpha);
        if (has_bias) {
          Sum<T> c = Load(ctx.in(2).as<T>(), OffsetOf(at, yd, bias_strides));
          sum += p.beta == 1 ? c : Scale<T>(c, p.beta);
        }
        if (has_residual) sum += Load(ctx.in(3).as<T>(), at);
        if constexpr (kIsFloat<T>) {
          sum = ActivateReference(p.act, sum);
          y[at] = T(float(sum));
          if constexpr (std::is_same_v<T, double>) y[at] = sum;
        } else {
          y[at] = T(sum);
        }
      }
  }
  return {};
}

template <class A>
struct MatMulOp {
  using Attrs = A;
  static constexpr bool kGemm = std::is_same_v<A, GemmAttrs>;

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    const ProductAttrs p = TRY(ReadProduct(attrs));
    DType dtype = DType::kUndefined;
    for (int i = 0; i < ctx.input_count(); ++i) {
      if (!ctx.has(i) || ctx.dtype(i) == DType::kUndefined) continue;
      if (dtype == DType::kUndefined) dtype = ctx.dtype(i);
      if (dtype != ctx.dtype(i))
        return Fail(Code::kInvalidArgument, "inputs of the types {} and {}: they must be equal",
                    DTypeName(dtype), DTypeName(ctx.dtype(i)));
    }
    if (dtype == DType::kBool || dtype == DType::kString)
      return Fail(Code::kInvalidArgument, "a product of {}: a number type is needed",
                  DTypeName(dtype));
    const Type& a = ctx.input(0);
    const Type& b = ctx.input(1);
    if (kGemm)
      for (const int i : {0, 1})
        if (ctx.input(i).ranked && ctx.input(i).dims.rank() != 2)
          return Fail(Code::kInvalidArgument, "input {} has the extents {}, a matrix is needed", i,
                      ToString(ctx.input(i).dims));
    if (!kGemm && (!a.ranked || !b.ranked)) {
      ctx.Set(0, Type::Unranked(dtype));
      return {};
    }
    const Dims unknown(2, kUnknownDim);
    const ProductShape s =
        TRY(ResolveProduct(p, a.ranked ? a.dims : unknown, b.ranked ? b.dims : unknown));
    // The bias is broadcast to the product's extents and may not enlarge them.
    if (ctx.has(2) && ctx.input(2).ranked) {
      const Dims& c = ctx.input(2).dims;
      bool fits = c.size() <= s.y.size();
      for (size_t i = 0; fits && i < c.size(); ++i) {
        const int64_t extent = s.y[s.y.size() - 1 - i], own = c[c.size() - 1 - i];
        fits = !IsKnown(own) || !IsKnown(extent) || own == 1 || own == extent;
      }
      if (!fits)
        return Fail(Code::kInvalidArgument, "input 2 of extents {} cannot be broadcast to {}",
                    ToString(c), ToString(s.y));
    }
    if (ctx.has(3) && ctx.input(3).ranked && AllKnown(ctx.input(3).dims) && AllKnown(s.y) &&
        !(ctx.input(3).dims == s.y))
      return Fail(Code::kInvalidArgument, "the residual has the extents {}, the output {}",
                  ToString(ctx.input(3).dims), ToString(s.y));
    ctx.Set(0, Type::Of(dtype, s.y));
    return {};
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    const ProductAttrs p = TRY(ReadProduct(attrs));
    return VisitDType(ctx.in(0).dtype, "matrix product", [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (kIsNumber<T>) return Product<T>(p, ctx);
      return Fail(Code::kUnimplemented, "a matrix product of {}", DTypeName(ctx.in(0).dtype));
    });
  }

  static Result<KernelPtr> Lower(const Attrs& attrs, LowerContext& ctx) {
    return LowerProduct(TRY(ReadProduct(attrs)), ctx);
  }

  static int64_t Macs(const Attrs& attrs, std::span<const Type> in, std::span<const Type> out) {
    const Dims& a = in[0].dims;
    bool trans_a = false;
    if (const auto p = ReadProduct(attrs)) trans_a = p->trans_a;
    const int64_t k = a.rank() == 1 || !trans_a ? a.back() : a[a.size() - 2];
    return CountOf(out[0].dims) * k;
  }
};

}  // namespace

std::span<const OpDef> MatMulOps() {
  static const OpDef ops[] = {
      Declare<MatMulOp<MatMulAttrs>>("MatMul", {.min_inputs = 2, .max_inputs = 2}),
      Declare<MatMulOp<GemmAttrs>>("Gemm", {.min_inputs = 2, .max_inputs = 3}),
      Declare<MatMulOp<FusedMatMulAttrs>>(kFusedMatMulName,
                                          {.domain = "dunlin", .min_inputs = 2, .max_inputs = 4}),
  };
  return ops;
}

}  // namespace dunlin
