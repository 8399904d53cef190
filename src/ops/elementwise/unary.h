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
// `using Output = bool`. One with a kernel defines Kernel(): see kernels/elementwise.h.
#pragma once

#include "ops/elementwise/numeric.h"
#include "ops/op.h"

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

template <class F>
struct Unary {
  using Attrs = typename F::Attrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    Type t = ctx.input(0);
    TRY(CheckType<typename F::Types>(t.dtype, F::kName));
    if constexpr (requires { typename F::Output; }) t.dtype = kDTypeOf<typename F::Output>;
    ctx.Set(0, std::move(t));
    return {};
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    return VisitTypes<typename F::Types>(x.dtype, F::kName, [&]<class T>(TypeTag<T>) -> Status {
      using Y = typename UnaryOutput<F, T>::type;
      const F f = MakeFunctor<F>(attrs);
      const T* in = x.as<T>();
      Y* out = ctx.out(0).mut<Y>();
      const int64_t n = x.count();
      for (int64_t i = 0; i < n; ++i) out[i] = Narrow<Y>(f(Widen(in[i])));
      return {};
    });
  }
};

}  // namespace dunlin
