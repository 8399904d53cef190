// Elementary functions on vectors of f32, for use inside SIMD functions: Exp, Log, Tanh, Sigmoid,
// Erf. NaN gives NaN; ±Inf gives the limit. Polynomials and rational functions are our own minimax
// fits (iteratively reweighted least squares, relative weight); the fit's error stands beside each,
// the bound of the whole function, measured in math_test.cc on every target, above it. Not for f64:
// the degrees suit 24-bit mantissas.
#if defined(DUNLIN_KERNELS_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DUNLIN_KERNELS_MATH_INL_H_
#undef DUNLIN_KERNELS_MATH_INL_H_
#else
#define DUNLIN_KERNELS_MATH_INL_H_
#endif

#include <limits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// c0 + c1 x + c2 x^2 + …, by Horner.
template <class D, class V>
HWY_INLINE V Polynomial(D d, V /*x*/, float c) {
  return hn::Set(d, c);
}
template <class D, class V, class... C>
HWY_INLINE V Polynomial(D d, V x, float c, C... rest) {
  return hn::MulAdd(Polynomial(d, x, rest...), x, hn::Set(d, c));
}

#if HWY_TARGET <= HWY_AVX3
// p 2^floor(n) for every n; AVX-512 has an instruction for it, and for y - floor(y).
HWY_INLINE hn::Vec512<float> TimesPowerOf2(hn::Vec512<float> p, hn::Vec512<float> n) {
  return hn::Vec512<float>{_mm512_scalef_ps(p.raw, n.raw)};
}
HWY_INLINE hn::Vec512<float> Fraction(hn::Vec512<float> y) {
  return hn::Vec512<float>{_mm512_reduce_ps(y.raw, 1)};
}
template <class D>
inline constexpr bool kHasPowerOf2 = sizeof(hn::Vec<D>) == 64;
#else
template <class D>
inline constexpr bool kHasPowerOf2 = false;
#endif

// e^x, at most 2 ulp. Results below the least normal number are 0.
template <class D, class V>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V least = hn::Set(d, -87.33654f);  // ln(FLT_MIN)
  // Limited so that n stays finite, the first operand being what is left out for NaN.
  if constexpr (kHasPowerOf2<D>) x = hn::Min(hn::Set(d, 89.0f), x);
  // n = round(x / ln 2) stands in the low mantissa bits of t, for |n| < 2^22.
  const V magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23
  const V t = hn::MulAdd(x, hn::Set(d, 1.44269504f), magic);
  const V n = hn::Sub(t, magic);
  // ln 2 in two parts; n times the first is exact.
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  // e^r = 1 + r + r^2 q(r) on |r| <= ln(2)/2; 3.3e-9.
  const V q = Polynomial(d, r, 4.999999305e-1f, 1.666651479e-1f, 4.166845683e-2f, 8.369419043e-3f,
                         1.381314236e-3f);
  const V p = hn::Add(hn::MulAdd(hn::Mul(r, r), q, r), hn::Set(d, 1.0f));
  if constexpr (kHasPowerOf2<D>) {
    return hn::IfThenZeroElse(hn::Lt(x, least), TimesPowerOf2(p, n));
  } else {
    // Times 2^n: added to the exponent. Good for ln(FLT_MIN) <= x <= ln(FLT_MAX).
    V y = hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, t))));
    y = hn::IfThenZeroElse(hn::Lt(x, least), y);
    // Not "x >": NaN must take the other branch.
    const V inf = hn::Set(d, std::numeric_limits<float>::infinity());
    return hn::IfThenElse(hn::Le(x, hn::Set(d, 88.72283f)), y, hn::Add(x, inf));
  }
}

// 1 + e^(a x), within 2e-7 (1 + |a x|) of it: for x sigmoid(x), whose error that leaves below
// 2e-7 |x|. Half the operations of Exp where there is an instruction for 2^n.
template <class D, class V>
HWY_INLINE V OnePlusExp(D d, V x, float a) {
  const V one = hn::Set(d, 1.0f);
  if constexpr (kHasPowerOf2<D>) {
    const V y = hn::Mul(x, hn::Set(d, a * 1.44269504f));
    // 2^f on [0, 1]; 7.5e-8.
    const V p = Polynomial(d, Fraction(y), 9.999999251e-1f, 6.931530731e-1f, 2.401536174e-1f,
                           5.582631742e-2f, 8.989340471e-3f, 1.877576639e-3f);
    return hn::Add(TimesPowerOf2(p, y), one);
  } else {
    return hn::Add(one, Exp(d, hn::Mul(x, hn::Set(d, a))));
  }
}

// e^x for x <= 0 or NaN, at most 3 ulp; 0 below the least normal number.
template <class D, class V>
HWY_INLINE V ExpNotPositive(D d, V x) {
  const hn::RebindToSigned<D> di;
  // As Exp, with the exponent's bias in the rounding constant: its low bits then are those of 2^n.
  const V lowest = hn::Set(d, -87.33654f);
  const V magic = hn::Set(d, 12583039.0f);  // 1.5 * 2^23 + 127
  const V c = hn::Max(lowest, x);
  const V t = hn::MulAdd(c, hn::Set(d, 1.44269504f), magic);
  const V n = hn::Sub(t, magic);
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), c);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  const V q = Polynomial(d, r, 4.999999305e-1f, 1.666651479e-1f, 4.166845683e-2f, 8.369419043e-3f,
                         1.381314236e-3f);
  const V p = hn::Add(hn::MulAdd(hn::Mul(r, r), q, r), hn::Set(d, 1.0f));
  const V power = hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, t)));
  // A product, so that NaN stays.
  return hn::IfThenZeroElse(hn::Lt(x, lowest), hn::Mul(p, power));
}

// Natural logarithm, at most 2 ulp. 0 gives -Inf, negative numbers NaN.
template <class D, class V>
HWY_INLINE V Log(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V zero = hn::Zero(d);
  const auto tiny = hn::Lt(x, hn::Set(d, std::numeric_limits<float>::min()));
  const V z = hn::IfThenElse(tiny, hn::Mul(x, hn::Set(d, 8388608.0f)), x);  // denormals: times 2^23
  // x = 2^n m, with m in [sqrt(1/2), sqrt(2)): the integer 0x3f3504f3 is sqrt(1/2).
  const auto offset = hn::Set(di, 0x3f3504f3);
  const auto bits = hn::Sub(hn::BitCast(di, z), offset);
  V n = hn::ConvertTo(d, hn::ShiftRight<23>(bits));
  n = hn::Sub(n, hn::IfThenElseZero(tiny, hn::Set(d, 23.0f)));
  const auto mantissa = hn::Add(hn::And(bits, hn::Set(di, 0x007fffff)), offset);
  const V r = hn::Sub(hn::BitCast(d, mantissa), hn::Set(d, 1.0f));
  // log(1 + r) = r - r^2/2 + r^3 q(r); 5.9e-9.
  const V q = Polynomial(d, r, 3.333333171e-1f, -2.500082106e-1f, 2.000122667e-1f, -1.662335648e-1f,
                         1.420176247e-1f, -1.316019505e-1f, 1.276155036e-1f, -7.634429906e-2f);
  const V r2 = hn::Mul(r, r);
  V y = hn::MulAdd(hn::Mul(r2, r), q, hn::Mul(n, hn::Set(d, -2.12194440e-4f)));
  y = hn::Add(hn::NegMulAdd(r2, hn::Set(d, 0.5f), y), r);
  y = hn::MulAdd(n, hn::Set(d, 0.693359375f), y);
  const V inf = hn::Set(d, std::numeric_limits<float>::infinity());
  y = hn::IfThenElse(hn::Lt(x, inf), y, hn::Add(x, inf));  // Inf and NaN
  y = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(inf), y);
  return hn::IfThenElse(hn::Lt(x, zero), hn::Set(d, std::numeric_limits<float>::quiet_NaN()), y);
}

// 1 / (1 + e^-x), at most 4 ulp; 0 where the result is below the least normal number.
template <class D, class V>
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, Exp(d, hn::Neg(x))));
}

// x limited to [lo, hi]. NaN stays NaN, because x86 gives the second operand when one is NaN.
template <class V>
HWY_INLINE V Limit(V x, V lo, V hi) {
  return hn::Min(hi, hn::Max(lo, x));
}
template <class D, class V>
HWY_INLINE V LimitMagnitude(D d, V x, float limit) {
  return Limit(x, hn::Set(d, -limit), hn::Set(d, limit));
}

// a / b within 2 ulp, for |b| in [1, 1e30] or NaN. Dividing 16 lanes takes an AVX-512 core as long
// as 32 multiply-adds.
template <class D, class V>
HWY_INLINE V Quotient(D d, V a, V b) {
#if HWY_TARGET <= HWY_AVX3
  const V estimate = hn::ApproximateReciprocal(b);  // 14 bits
  const V rest = hn::NegMulAdd(estimate, b, hn::Set(d, 1.0f));
  return hn::Mul(a, hn::MulAdd(estimate, rest, estimate));
#else
  (void)d;
  return hn::Div(a, b);
#endif
}

// At most 6 ulp (7.2e-7 relative).
template <class D, class V>
HWY_INLINE V Tanh(D d, V x) {
  const V c = LimitMagnitude(d, x, 9.02f);  // tanh(9.02) rounds to 1
  const V t = hn::Mul(c, c);
  // tanh(x) / x as a rational function of x^2; 1.4e-9.
  const V p = Polynomial(d, t, 9.999999987e-1f, 1.367991460e-1f, 3.868327185e-3f, 2.800744875e-5f,
                         3.058500197e-8f, -1.220345365e-11f);
  const V q =
      Polynomial(d, t, 1.0f, 4.701324666e-1f, 2.724583669e-2f, 3.938630171e-4f, 1.287365947e-6f);
  return LimitMagnitude(d, Quotient(d, hn::Mul(c, p), q), 1.0f);
}

// At most 6 ulp (7.2e-7 relative).
template <class D, class V>
HWY_INLINE V Erf(D d, V x) {
  const V c = LimitMagnitude(d, x, 3.95f);  // erf(3.95) rounds to 1
  const V t = hn::Mul(c, c);
  // erf(x) / x as a rational function of x^2; 2.1e-8.
  const V p = Polynomial(d, t, 1.128379144f, 1.915505706e-1f, 5.287548542e-2f, 3.808174278e-3f,
                         2.846882968e-4f, 2.025909615e-6f);
  const V q = Polynomial(d, t, 1.0f, 5.030899488e-1f, 1.145597354e-1f, 1.505511455e-2f,
                         1.170729392e-3f, 3.783184741e-5f);
  return LimitMagnitude(d, Quotient(d, hn::Mul(c, p), q), 1.0f);
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
