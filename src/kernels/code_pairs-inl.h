// Steps that the exact kernels over codes are made of: widening loads and products of pairs.
#if defined(DUNLIN_KERNELS_CODE_PAIRS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DUNLIN_KERNELS_CODE_PAIRS_INL_H_
#undef DUNLIN_KERNELS_CODE_PAIRS_INL_H_
#else
#define DUNLIN_KERNELS_CODE_PAIRS_INL_H_
#endif

#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// sum[i] + a[2i] * b[2i] + a[2i + 1] * b[2i + 1], modulo 2^32. Not for two products of
// (-2^15) * (-2^15) in one lane.
template <class V16, class V32>
HWY_INLINE V32 AddPairs(V16 a, V16 b, V32 sum) {
  const hn::DFromV<V32> d;
#if HWY_ARCH_X86
  V32 unused = hn::Zero(d);  // x86 adds neighbours; other machines have another order
  return hn::ReorderWidenMulAccumulate(d, a, b, sum, unused);
#else
  const auto a32 = hn::BitCast(d, a), b32 = hn::BitCast(d, b);
  const auto low = [](auto v) { return hn::ShiftRight<16>(hn::ShiftLeft<16>(v)); };
  return hn::Add(sum, hn::Add(hn::Mul(low(a32), low(b32)),
                              hn::Mul(hn::ShiftRight<16>(a32), hn::ShiftRight<16>(b32))));
#endif
}

// Fewer than 8 bytes, without touching what lies behind them.
HWY_NOINLINE inline uint64_t LoadFewBytes(const void* from, int64_t count) {
  uint64_t v = 0;
  for (int64_t i = 0; i < count; ++i)
    v |= uint64_t(static_cast<const uint8_t*>(from)[i]) << (8 * i);
  return v;
}

// A vector of bytes, widened. Of vectors of 8 only the first `count` are read, others are 0.
template <class D, class Byte>
HWY_INLINE hn::Vec<D> LoadCodes(D d, const Byte* from, int64_t count) {
  const hn::Rebind<Byte, D> bytes;
  if constexpr (hn::MaxLanes(D()) == 8) {
    const hn::Repartition<uint64_t, decltype(bytes)> d64;
    uint64_t v;
    if (count < 8)
      v = LoadFewBytes(from, count);
    else
      std::memcpy(&v, from, 8);
    return hn::PromoteTo(d, hn::BitCast(bytes, hn::Set(d64, v)));
  } else {
    return hn::PromoteTo(d, hn::LoadU(bytes, from));
  }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
