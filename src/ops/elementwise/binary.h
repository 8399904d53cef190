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

#include "ops/elementwise/unary.h"

namespace dunlin {

// Rows of two operands, for one functor and element type.
template <class F, class T, class Y>
BlockFn<2> CombineLoop(const F& f) {
  return [f](const Operands<2>& in, void* out, const Block<2>& at) {
    const auto [sa, sb] = at.col;
    for (int64_t r = 0; r < at.rows; ++r) {
      const T* a = static_cast<const T*>(in[0]) + at.offset[0] + r * at.row[0];
      const T* b = static_cast<const T*>(in[1]) + at.offset[1] + r * at.row[1];
      Y* y = static_cast<Y*>(out) + at.out + r * at.cols;
      for (int64_t i = 0; i < at.cols; ++i) y[i] = Narrow<Y>(f(Widen(a[i * sa]), Widen(b[i * sb])));
    }
  };
}

// The SIMD loops over f32 rows.
Result<KernelPtr> LowerCombine(LowerContext& ctx, BinaryOp op);
Result<KernelPtr> LowerCompare(LowerContext& ctx, CompareOp op);

// Propagates a computed shape through integer arithmetic: where both entries are known the result
// is, where one is neutral a symbol survives, else the entry is unknown.
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
    return RunReference<2>(ctx, TRY(Loop(attrs, ctx.in(0).dtype)));
  }

  // f32 goes to the SIMD loop where there is one; all else to the reference's loop, on all threads.
  static Result<KernelPtr> Lower(const Attrs& attrs, LowerContext& ctx) {
    const DType dtype = ctx.input(0).dtype;
    if constexpr (requires { F::kFast; }) {
      if (dtype == DType::kF32) {
        if constexpr (requires { typename F::Output; })
          return LowerCompare(ctx, F::kFast);
        else
          return LowerCombine(ctx, F::kFast);
      }
    }
    return MakeBroadcastKernel<2>("binary.plain", ctx, kCostlyGrain, TRY(Loop(attrs, dtype)));
  }

  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) {
    return ElementwiseLayouts(query);
  }

 private:
  static Result<BlockFn<2>> Loop(const Attrs& attrs, DType dtype) {
    const F f = MakeFunctor<F>(attrs);
    return LoopFor<2, typename F::Types>(dtype, F::kName, [&]<class T>(TypeTag<T>) {
      return CombineLoop<F, T, typename UnaryOutput<F, T>::type>(f);
    });
  }
};

}  // namespace dunlin
