// Activation functions on vectors of f32, for use inside SIMD functions.
#if defined(DUNLIN_KERNELS_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DUNLIN_KERNELS_ACTIVATION_INL_H_
#undef DUNLIN_KERNELS_ACTIVATION_INL_H_
#else
#define DUNLIN_KERNELS_ACTIVATION_INL_H_
#endif

#include <limits>

#include "kernels/activation.h"
#include "kernels/gemm_partial-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// What a kernel applies to its sums itself, for activations that are only limits.
struct Limits {
  float lo = -std::numeric_limits<float>::infinity();
  float hi = std::numeric_limits<float>::infinity();
  bool complete = true;  // false: the activation follows as a second pass over stored results
};
HWY_INLINE Limits LimitsOf(const ActivationParams& p) {
  Limits l;
  if (p.kind == Activation::kRelu)
    l.lo = 0;
  else if (p.kind == Activation::kClip)
    l.lo = p.a, l.hi = p.b;
  else
    l.complete = p.kind == Activation::kNone;
  return l;
}

template <Activation kKind, class D, class V>
HWY_INLINE V Activate(D d, V x, float a, float b) {
  const V zero = hn::Zero(d);
  const V one = hn::Set(d, 1.0f);
  if constexpr (kKind == Activation::kNone) {
    return x;
  } else if constexpr (kKind == Activation::kRelu) {
    return hn::Max(zero, x);
  } else if constexpr (kKind == Activation::kClip) {
    return Limit(x, hn::Set(d, a), hn::Set(d, b));
  } else if constexpr (kKind == Activation::kLeakyRelu) {
    return hn::IfThenElse(hn::Lt(x, zero), hn::Mul(x, hn::Set(d, a)), x);
  } else if constexpr (kKind == Activation::kSigmoid) {
    return Sigmoid(d, x);
  } else if constexpr (kKind == Activation::kTanh) {
    return Tanh(d, x);
  } else if constexpr (kKind == Activation::kSilu) {
    return hn::Div(x, OnePlusExp(d, x, -1.0f));
  } else if constexpr (kKind == Activation::kHardSigmoid) {
    return Limit(hn::MulAdd(x, hn::Set(d, a), hn::Set(d, b)), zero, one);
  } else if constexpr (kKind == Activation::kHardSwish) {
    return hn::Mul(x, Limit(hn::MulAdd(x, hn::Set(d, 1.0f / 6), hn::Set(d, 0.5f)), zero, one));
  } else if constexpr (kKind == Activation::kGelu) {
    const V half = hn::Mul(x, hn::Set(d, 0.5f));
    return hn::MulAdd(half, Erf(d, hn::Mul(x, hn::Set(d, 0.70710678f))), half);
  } else {
    static_assert(kKind == Activation::kGeluTanh);
    const V half = hn::Mul(x, hn::Set(d, 0.5f));
    const V inner = hn::Mul(
        x, hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.79788456f * 0.044715f), hn::Set(d, 0.79788456f)));
    return hn::MulAdd(half, Tanh(d, inner), half);
  }
}

// Calls f.template operator()<kind>() for the kind chosen at run time.
template <class F>
HWY_INLINE void VisitActivation(Activation kind, F&& f) {
  switch (kind) {
    case Activation::kNone:
      return f.template operator()<Activation::kNone>();
    case Activation::kRelu:
      return f.template operator()<Activation::kRelu>();
    case Activation::kClip:
      return f.template operator()<Activation::kClip>();
    case Activation::kLeakyRelu:
      return f.template operator()<Activation::kLeakyRelu>();
    case Activation::kSigmoid:
      return f.template operator()<Activation::kSigmoid>();
    case Activation::kTanh:
      return f.template operator()<Activation::kTanh>();
    case Activation::kSilu:
      return f.template operator()<Activation::kSilu>();
    case Activation::kHardSigmoid:
      return f.template operator()<Activation::kHardSigmoid>();
    case Activation::kHardSwish:
      return f.template operator()<Activation::kHardSwish>();
    case Activation::kGelu:
      return f.template operator()<Activation::kGelu>();
    case Activation::kGeluTanh:
      return f.template operator()<Activation::kGeluTanh>();
  }
}

// Applies the activation to rows of `cols` floats that lie `stride` apart.
inline void ActivateRows(const ActivationParams& p, float* rows, size_t count, size_t stride,
                         size_t cols) {
  VisitActivation(p.kind, [&]<Activation kKind>() {
    const hn::ScalableTag<float> d;
    const size_t lanes = hn::Lanes(d);
    for (size_t r = 0; r < count; ++r) {
      float* x = rows + r * stride;
      size_t i = 0;
      for (; i + lanes <= cols; i += lanes)
        hn::StoreU(Activate<kKind>(d, hn::LoadU(d, x + i), p.a, p.b), d, x + i);
      if (const size_t rest = cols - i; rest != 0)
        StorePartial(d, Activate<kKind>(d, LoadPartial(d, x + i, rest), p.a, p.b), x + i, rest);
    }
  });
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
