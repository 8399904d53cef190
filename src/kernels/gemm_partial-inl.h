// The first few lanes of a vector to and from memory, without touching what lies behind them.
#if defined(DUNLIN_KERNELS_GEMM_PARTIAL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DUNLIN_KERNELS_GEMM_PARTIAL_INL_H_
#undef DUNLIN_KERNELS_GEMM_PARTIAL_INL_H_
#else
#define DUNLIN_KERNELS_GEMM_PARTIAL_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Lanes from `count` on are zero.
template <class D>
HWY_INLINE hn::Vec<D> LoadPartial(D d, const float* p, size_t count) {
#if HWY_TARGET <= HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, count), d, p);
#else  // masked access is emulated by whole vectors there
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)] = {};
  for (size_t i = 0; i < count; ++i) buffer[i] = p[i];
  return hn::Load(d, buffer);
#endif
}

template <class D>
HWY_INLINE void StorePartial(D d, hn::Vec<D> v, float* p, size_t count) {
#if HWY_TARGET <= HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, count), d, p);
#else
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, buffer);
  for (size_t i = 0; i < count; ++i) p[i] = buffer[i];
#endif
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
