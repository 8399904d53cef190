// LpNormalization and MeanVarianceNormalization: no parameters, only statistics of the input.
#include "ops/norm/norm.h"

namespace dunlin {
namespace {

// x divided by its 1- or 2-norm along an axis; a zero vector stays zero.
struct LpNormalization {
  static constexpr std::string_view kName = "LpNormalization";
  struct Attrs {
    int64_t axis = -1, p = 2;
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("p", p);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, kName));
    if (a.p != 1 && a.p != 2)
      return Fail(Code::kInvalidArgument, "{}: p is {}, not 1 or 2", kName, a.p);
    if (x.ranked) TRY(ResolveAxis(kName, a.axis, x.dims.rank()));
    ctx.Set(0, x);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const AxisSplit s = SplitAt(x.dims, TRY(ResolveAxis(kName, a.axis, x.rank())));
    return VisitTypes<Floats>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      for (int64_t o = 0; o < s.outer; ++o)
        for (int64_t i = 0; i < s.inner; ++i) {
          const int64_t base = o * s.axis * s.inner + i;
          const T* in = x.as<T>() + base;
          T* out = ctx.out(0).mut<T>() + base;
          double norm = 0;
          for (int64_t k = 0; k < s.axis; ++k) {
            const double v = Widen(in[k * s.inner]);
            norm += a.p == 1 ? std::fabs(v) : v * v;
          }
          if (a.p == 2) norm = std::sqrt(norm);
          for (int64_t k = 0; k < s.axis; ++k)
            out[k * s.inner] = Narrow<T>(norm == 0 ? 0.0 : Widen(in[k * s.inner]) / norm);
        }
      return {};
    });
  }
};

// (x - mean) / (deviation + 1e-9) over `axes`.
struct MeanVarianceNormalization {
  static constexpr std::string_view kName = "MeanVarianceNormalization";
  struct Attrs {
    std::vector<int64_t> axes = {0, 2, 3};
    template <class V>
    void Visit(V& v) {
      v("axes", axes);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, kName));
    if (x.ranked) TRY(AxisMask(kName, a.axes, x.dims.rank()));
    ctx.Set(0, x);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    constexpr double kEpsilon = 1e-9;  // of the function body in the specification
    const TensorView& x = ctx.in(0);
    const ReducePlan plan = PlanReduce(x.dims, TRY(AxisMask(kName, a.axes, x.rank())));
    const double n = double(plan.reduced.count());
    return VisitTypes<Floats>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      const T* in = x.as<T>();
      T* out = ctx.out(0).mut<T>();
      ForEachOffset(plan.kept, 0, [&](int64_t base) {
        Moments m;
        ForEachOffset(plan.reduced, base, [&](int64_t i) { m.mean += Widen(in[i]) / n; });
        ForEachOffset(plan.reduced, base, [&](int64_t i) {
          m.variance += (Widen(in[i]) - m.mean) * (Widen(in[i]) - m.mean) / n;
        });
        const double inverse = 1 / (std::sqrt(m.variance) + kEpsilon);
        ForEachOffset(plan.reduced, base,
                      [&](int64_t i) { out[i] = Narrow<T>((Widen(in[i]) - m.mean) * inverse); });
      });
      return {};
    });
  }
};

}  // namespace

std::vector<OpDef> VectorNormOps() {
  return {Declare<LpNormalization>(LpNormalization::kName, {.in_place = 0}),
          Declare<MeanVarianceNormalization>(MeanVarianceNormalization::kName, {.in_place = 0})};
}

}  // namespace dunlin
