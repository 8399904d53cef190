// y[i] = f(x[i]): every operator of one input that keeps the extents is a functor in a table.
//
//   struct AbsFn {
//     static constexpr std::string_view kName = "Abs";
//     using Types = Numbers;                            // the element types it takes
//     using Attrs = NoAttrs;
//     template <class C> C operator()(C x) const;        // C: double for floats, else the element
//     type
//   };
// A functor with attributes is constructed from them. One with another output type says
// `using Output = bool`; if it also takes the 8-bit floats, kTakesFloat8. One with a SIMD loop has
// `UnaryParams Fast() const`.
#pragma once

#include "kernels/elementwise.h"
#include "ops/elementwise/lower.h"
#include "ops/elementwise/numeric.h"
#include "ops/op.h"
#include "tensor/narrow.h"

namespace dunlin {

template <class F, class T>
struct UnaryOutput {
  using type = T;
};
template <class F, class T>
requires requires { typename F::Output; }
struct UnaryOutput<F, T> {
  using type = typename F::Output;
};

template <class F>
F MakeFunctor(const typename F::Attrs& attrs) {
  if constexpr (requires { F{attrs}; })
    return F{attrs};
  else
    return F{};
}

// The SIMD loop over f32, or nullptr when the layouts do not go together.
Result<KernelPtr> LowerMap(LowerContext& ctx, const UnaryParams& params);

template <class F>
struct Unary {
  using Attrs = typename F::Attrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    Type t = ctx.input(0);
    if (!TakesAsFloat8(t.dtype)) TRY(CheckType<typename F::Types>(t.dtype, F::kName));
    if constexpr (requires { typename F::Output; }) t.dtype = kDTypeOf<typename F::Output>;
    ctx.Set(0, std::move(t));
    return {};
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    return RunReference<1>(ctx, TRY(Loop(MakeFunctor<F>(attrs), ctx.in(0).dtype)));
  }

  // f32 goes to the SIMD loop where there is one; all else to the reference's loop, on all threads.
  static Result<KernelPtr> Lower(const Attrs& attrs, LowerContext& ctx) {
    const F f = MakeFunctor<F>(attrs);
    const DType dtype = ctx.input(0).dtype;
    if constexpr (requires { f.Fast(); })
      if (dtype == DType::kF32) return LowerMap(ctx, f.Fast());
    return MakeBroadcastKernel<1>("unary.plain", ctx, kCostlyGrain, TRY(Loop(f, dtype)));
  }

  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) {
    return ElementwiseLayouts(query);
  }

 private:
  static bool TakesAsFloat8(DType t) {
    return IsFloat8(t) && requires { F::kTakesFloat8; };
  }

  static Result<BlockFn<1>> Loop(const F& f, DType dtype) {
    if constexpr (requires { F::kTakesFloat8; })
      if (IsFloat8(dtype))
        return BlockFn<1>([f, dtype](const Operands<1>& in, void* out, const Block<1>& b) {
          auto* y = static_cast<typename F::Output*>(out) + b.out;
          for (int64_t i = 0; i < b.cols; ++i) y[i] = f(LoadNarrow(dtype, in[0], b.offset[0] + i));
        });
    return LoopFor<1, typename F::Types>(dtype, F::kName, [&]<class T>(TypeTag<T>) -> BlockFn<1> {
      using Y = typename UnaryOutput<F, T>::type;
      return [f](const Operands<1>& in, void* out, const Block<1>& b) {
        const T* x = static_cast<const T*>(in[0]) + b.offset[0];
        Y* y = static_cast<Y*>(out) + b.out;
        for (int64_t i = 0; i < b.cols; ++i) y[i] = Narrow<Y>(f(Widen(x[i])));
      };
    });
  }
};

}  // namespace dunlin
