// Rounding of small floats.
#if defined(DUNLIN_KERNELS_NEAREST_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DUNLIN_KERNELS_NEAREST_INL_H_
#undef DUNLIN_KERNELS_NEAREST_INL_H_
#else
#define DUNLIN_KERNELS_NEAREST_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// To the nearest integer, ties to even, of |v| < 2^22. (Highway's NearestInt is right beyond, which
// takes x86 four instructions more.)
template <class VF, class VI = hn::Vec<hn::RebindToSigned<hn::DFromV<VF>>>>
HWY_INLINE VI NearestSmall(VF v) {
#if HWY_TARGET == HWY_AVX2
  if constexpr (sizeof(v.raw) == 32) return VI{_mm256_cvtps_epi32(v.raw)};
#elif HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
  if constexpr (sizeof(v.raw) == 64) return VI{_mm512_cvtps_epi32(v.raw)};
#endif
  // The sum's low mantissa bits are the integer.
  const hn::DFromV<VF> d;
  const hn::RebindToSigned<decltype(d)> di;
  return hn::Sub(hn::BitCast(di, hn::Add(v, hn::Set(d, 12582912.0f))), hn::Set(di, 0x4B400000));
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
