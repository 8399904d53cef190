// MatMulInteger and QLinearMatMul: products of codes, accumulated exactly.
#include "ops/elementwise/broadcast.h"
#include "ops/quant/quant.h"

namespace dunlin {
namespace {

// y[batch…, m, n] of a[batch…, m, k] and b[batch…, k, n]; vectors are a row on the left, a column
// on the right.
struct Product {
  Dims batch, y;
  int64_t m = 1, k = 1, n = 1;
};
Result<Product> Resolve(std::string_view name, const Dims& a, const Dims& b) {
  if (a.empty() || b.empty()) return Fail(Code::kInvalidArgument, "{}: a factor is a scalar", name);
  Product p;
  const bool row = a.rank() == 1, column = b.rank() == 1;
  p.m = row ? 1 : a[a.size() - 2];
  p.k = a.back();
  p.n = column ? 1 : b.back();
  const int64_t k = column ? b[0] : b[b.size() - 2];
  const auto outer = [](const Dims& d) {
    return std::span<const int64_t>(d).first(d.size() > 2 ? d.size() - 2 : 0);
  };
  const auto batch = Broadcast(outer(a), outer(b));
  if ((IsKnown(k) && IsKnown(p.k) && k != p.k) || !batch)
    return Fail(Code::kInvalidArgument, "{}: extents {} and {} do not multiply", name, ToString(a),
                ToString(b));
  p.y = p.batch = *batch;
  if (!row) p.y.push_back(p.m);
  if (!column) p.y.push_back(p.n);
  return p;
}

Status InferProduct(std::string_view name, InferContext& ctx, int b, DType out) {
  TRY(CheckType<Bytes>(ctx.dtype(0), name));
  TRY(CheckType<Bytes>(ctx.dtype(b), name));
  if (!ctx.input(0).ranked || !ctx.input(b).ranked) {
    ctx.Set(0, Type::Unranked(out));
    return {};
  }
  ctx.Set(0, Type::Of(out, TRY(Resolve(name, ctx.input(0).dims, ctx.input(b).dims)).y));
  return {};
}

// A parameter of one factor: one value for all, or one per row of a (column of b), possibly per
// matrix.
struct Parameter {
  int64_t count, extent;
  int64_t At(int64_t matrix, int64_t i) const {
    if (count == 1) return 0;
    return count == extent ? i : matrix * extent + i;
  }
};
Result<Parameter> ResolveParameter(std::string_view name, size_t count, int64_t extent,
                                   int64_t matrices) {
  const auto n = int64_t(count);
  if (n != 1 && n != extent && n != extent * matrices)
    return Fail(Code::kInvalidArgument, "{}: {} scales or zero points for {} rows or columns", name,
                n, extent);
  return Parameter{n, extent};
}

// Calls store(index of y, sum, index of a's parameter, index of b's) for every element of the
// product.
template <class Store>
Status Multiply(std::string_view name, const TensorView& a, const TensorView& b,
                const std::vector<int32_t>& a_zero, const std::vector<int32_t>& b_zero,
                const Store& store) {
  const Product p = TRY(Resolve(name, a.dims, b.dims));
  const int64_t a_matrices = p.m * p.k == 0 ? 1 : a.count() / (p.m * p.k);
  const int64_t b_matrices = p.n * p.k == 0 ? 1 : b.count() / (p.n * p.k);
  const Parameter az = TRY(ResolveParameter(name, a_zero.size(), p.m, a_matrices));
  const Parameter bz = TRY(ResolveParameter(name, b_zero.size(), p.n, b_matrices));
  const auto outer = [](const Dims& d) {
    return std::span<const int64_t>(d).first(d.size() > 2 ? d.size() - 2 : 0);
  };
  const auto plan = PlanBroadcast<2>(p.batch, {outer(a.dims), outer(b.dims)});
  return VisitTypes<Bytes>(a.dtype, name, [&]<class A>(TypeTag<A>) -> Status {
    return VisitTypes<Bytes>(b.dtype, name, [&]<class B>(TypeTag<B>) -> Status {
      if (CountOf(p.y) == 0) return {};
      ForEachRow(plan, 0, plan.rows(), [&](int64_t out, const std::array<int64_t, 2>& in) {
        for (int64_t i = 0; i < plan.cols(); ++i) {
          const int64_t ma = in[0] + i * plan.strides[0].back(),
                        mb = in[1] + i * plan.strides[1].back();
          const A* pa = a.as<A>() + ma * p.m * p.k;
          const B* pb = b.as<B>() + mb * p.k * p.n;
          for (int64_t r = 0; r < p.m; ++r)
            for (int64_t c = 0; c < p.n; ++c) {
              const int32_t za = a_zero[size_t(az.At(ma, r))], zb = b_zero[size_t(bz.At(mb, c))];
              int64_t sum = 0;
              for (int64_t k = 0; k < p.k; ++k)
                sum += int64_t(int32_t(pa[r * p.k + k]) - za) * (int32_t(pb[k * p.n + c]) - zb);
              store(((out + i) * p.m + r) * p.n + c, sum, ma, r, mb, c);
            }
        }
      });
      return {};
    });
  });
}

struct MatMulInteger {
  static constexpr std::string_view kName = "MatMulInteger";
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    return InferProduct(kName, ctx, 1, DType::kI32);
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    int32_t* y = ctx.out(0).mut<int32_t>();
    return Multiply(
        kName, ctx.in(0), ctx.in(1), TRY(ZeroPoints(kName, ctx, 2)), TRY(ZeroPoints(kName, ctx, 3)),
        [&](int64_t i, int64_t sum, int64_t, int64_t, int64_t, int64_t) { y[i] = int32_t(sum); });
  }
};

// Inputs a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point.
struct QLinearMatMul {
  static constexpr std::string_view kName = "QLinearMatMul";
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    return InferProduct(kName, ctx, 3, ctx.dtype(7));
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    const auto a_scale = TRY(Scales(kName, ctx.in(1))), b_scale = TRY(Scales(kName, ctx.in(4)));
    const auto y_scale = TRY(Scales(kName, ctx.in(6)));
    const auto y_zero = TRY(ZeroPoints(kName, ctx, 7));
    if (y_scale.size() != 1 || y_zero.size() != 1)
      return Fail(Code::kUnimplemented, "{}: one scale and zero point of the result, not {}", kName,
                  y_scale.size());
    const Product p = TRY(Resolve(kName, ctx.in(0).dims, ctx.in(3).dims));
    const Parameter as = TRY(ResolveParameter(
        kName, a_scale.size(), p.m, CountOf(ctx.in(0).dims) / std::max<int64_t>(1, p.m * p.k)));
    const Parameter bs = TRY(ResolveParameter(
        kName, b_scale.size(), p.n, CountOf(ctx.in(3).dims) / std::max<int64_t>(1, p.n * p.k)));
    return VisitTypes<Bytes>(ctx.out(0).dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      Q* y = ctx.out(0).mut<Q>();
      return Multiply(kName, ctx.in(0), ctx.in(3), TRY(ZeroPoints(kName, ctx, 2)),
                      TRY(ZeroPoints(kName, ctx, 5)),
                      [&](int64_t i, int64_t sum, int64_t ma, int64_t r, int64_t mb, int64_t c) {
                        const double scale = a_scale[size_t(as.At(ma, r))] *
                                             b_scale[size_t(bs.At(mb, c))] / y_scale[0];
                        y[i] = Saturate<Q>(std::nearbyint(double(sum) * scale) + y_zero[0]);
                      });
    });
  }
};

}  // namespace

std::vector<OpDef> QuantMatMulOps() {
  return {Declare<MatMulInteger>(MatMulInteger::kName, {.min_inputs = 2, .max_inputs = 4}),
          Declare<QLinearMatMul>(QLinearMatMul::kName, {.min_inputs = 8, .max_inputs = 8})};
}

}  // namespace dunlin
