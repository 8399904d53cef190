// Where and Clip: a choice between values per element.
#include "ops/elementwise/broadcast.h"
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/numeric.h"
#include "ops/op.h"

namespace dunlin {
namespace {

struct Where {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(CheckType<Booleans>(ctx.dtype(0), "Where (condition)"));
    const DType t = TRY(CommonDType(ctx, "Where", 1, 3));
    return InferBroadcast(ctx, "Where", t, 0, 3);
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView &c = ctx.in(0), &a = ctx.in(1), &b = ctx.in(2);
    TensorView& y = ctx.out(0);
    const auto plan = PlanBroadcast<3>(y.dims, {std::span<const int64_t>(c.dims), a.dims, b.dims});
    if (y.count() == 0) return {};
    return VisitDType(y.dtype, "Where", [&]<class T>(TypeTag<T>) -> Status {
      const bool* pc = c.as<bool>();
      const T *pa = a.as<T>(), *pb = b.as<T>();
      T* py = y.mut<T>();
      const int64_t cols = plan.cols(), sc = plan.strides[0].back(), sa = plan.strides[1].back(),
                    sb = plan.strides[2].back();
      ForEachRow(plan, 0, plan.rows(), [&](int64_t out, const std::array<int64_t, 3>& in) {
        for (int64_t i = 0; i < cols; ++i)
          py[out + i] = pc[in[0] + i * sc] ? pa[in[1] + i * sa] : pb[in[2] + i * sb];
      });
      return {};
    });
  }
};

// min(max(x, low), high): where low > high the result is high; NaN stays.
struct Clip {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    const DType t = TRY(CommonDType(ctx, "Clip", 0, ctx.input_count()));
    TRY(CheckType<Numbers>(t, "Clip"));
    for (int i = 1; i < ctx.input_count(); ++i)
      if (ctx.has(i) && ctx.input(i).ranked && ElementCount(ctx.input(i).dims).value_or(1) != 1)
        return Fail(Code::kInvalidArgument, "Clip: {} is not a scalar but has extents {}",
                    i == 1 ? "min" : "max", ToString(ctx.input(i).dims));
    ctx.Set(0, ctx.input(0));
    return {};
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    return VisitTypes<Numbers>(x.dtype, "Clip", [&]<class T>(TypeTag<T>) -> Status {
      using C = ComputeOf<T>;
      using Limits = std::numeric_limits<C>;
      const auto bound = [&](int i, C otherwise) {
        return ctx.has(i) ? Widen(*ctx.in(i).as<T>()) : otherwise;
      };
      const C low = bound(1, Limits::has_infinity ? -Limits::infinity() : Limits::lowest());
      const C high = bound(2, Limits::has_infinity ? Limits::infinity() : Limits::max());
      const T* in = x.as<T>();
      T* out = ctx.out(0).mut<T>();
      const int64_t n = x.count();
      for (int64_t i = 0; i < n; ++i) {
        C v = Widen(in[i]);
        if (v < low) v = low;
        if (v > high) v = high;
        out[i] = Narrow<T>(v);
      }
      return {};
    });
  }
};

}  // namespace

std::vector<OpDef> SelectOps() {
  return {Declare<Where>("Where", {.min_inputs = 3, .max_inputs = 3, .in_place = -2}),
          Declare<Clip>("Clip", {.min_inputs = 1, .max_inputs = 3, .in_place = 0})};
}

}  // namespace dunlin
