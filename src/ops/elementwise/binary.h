// y = f(a, b) with numpy broadcasting: every operator of two inputs is a functor in a table.
//
//   struct AddFn {
//     static constexpr std::string_view kName = "Add";
//     using Types = Numbers;
//     using Attrs = NoAttrs;
//     template <class C> C operator()(C a, C b) const;   // C as in unary.h
//   };
// A comparison says `using Output = bool`. One through which extents flow has
// `static std::optional<int64_t> Extent(int64_t a, int64_t b)` (see ShapeArithmetic).
#pragma once

#include "ops/elementwise/broadcast.h"
#include "ops/elementwise/unary.h"

namespace dunlin {

// The loop over a plan's rows, for one functor and element type.
template <class F, class T, class Y>
void BinaryRows(const F& f, const BroadcastPlan<2>& plan, const T* a, const T* b, Y* y,
                int64_t begin, int64_t end) {
  const int64_t cols = plan.cols(), sa = plan.strides[0].back(), sb = plan.strides[1].back();
  ForEachRow(plan, begin, end, [&](int64_t out, const std::array<int64_t, 2>& in) {
    const T* pa = a + in[0];
    const T* pb = b + in[1];
    Y* py = y + out;
    for (int64_t i = 0; i < cols; ++i) py[i] = Narrow<Y>(f(Widen(pa[i * sa]), Widen(pb[i * sb])));
  });
}

// Propagates a computed shape through integer arithmetic: where both entries are known the result
// is, where one is neutral a symbol survives, else the entry is unknown.
//   combine(a, b) for two known entries; keep(a_known, a, b_known, b) for one known.
using ExtentFn = std::optional<int64_t> (*)(int64_t a, int64_t b);
void PropagateShape(InferContext& ctx, ExtentFn extent);

template <class F>
struct Binary {
  using Attrs = typename F::Attrs;

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    DType t = TRY(CommonDType(ctx, F::kName, 0, 2));
    TRY(CheckType<typename F::Types>(t, F::kName));
    if constexpr (requires { F::Check(attrs, t); }) TRY(F::Check(attrs, t));
    if constexpr (requires { typename F::Output; }) t = kDTypeOf<typename F::Output>;
    TRY(InferBroadcast(ctx, F::kName, t, 0, 2));
    if constexpr (requires { F::Extent; }) PropagateShape(ctx, F::Extent);
    return {};
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    const TensorView &a = ctx.in(0), &b = ctx.in(1);
    TensorView& y = ctx.out(0);
    return VisitTypes<typename F::Types>(a.dtype, F::kName, [&]<class T>(TypeTag<T>) -> Status {
      using Y = typename UnaryOutput<F, T>::type;
      const auto plan = PlanBroadcast<2>(y.dims, {std::span<const int64_t>(a.dims), b.dims});
      if (y.count() > 0)
        BinaryRows(MakeFunctor<F>(attrs), plan, a.as<T>(), b.as<T>(), y.mut<Y>(), 0, plan.rows());
      return {};
    });
  }
};

}  // namespace dunlin
