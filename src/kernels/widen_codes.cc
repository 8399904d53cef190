#include "kernels/widen_codes.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/widen_codes.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class Q>
HWY_INLINE void WidenRow(const Q* x, int32_t zero, int64_t n, int16_t* to) {
  const hn::ScalableTag<int16_t> d;
  const hn::Rebind<Q, decltype(d)> bytes;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto z = hn::Set(d, int16_t(zero));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(bytes, x + i)) - z, d, to + i);
  for (; i < n; ++i) to[i] = int16_t(int32_t(x[i]) - zero);
}
void Widen(DType t, const void* x, int32_t zero, int64_t n, int16_t* to) {
  t == DType::kU8 ? WidenRow(static_cast<const uint8_t*>(x), zero, n, to)
                  : WidenRow(static_cast<const int8_t*>(x), zero, n, to);
}

// Eight channels of eight codes at once would shuffle more than it saves for the few channels that
// images have; so one code at a time, channels inside.
template <class Q>
HWY_INLINE void Planes(const Q* x, int64_t plane, int64_t channels, int32_t zero, int64_t n,
                       int16_t* to, int64_t stride) {
  int64_t c = 0;
  for (; c + 4 <= channels; c += 4)
    for (int64_t i = 0; i < n; ++i)
      for (int k = 0; k < 4; ++k)
        to[i * stride + c + k] = int16_t(int32_t(x[(c + k) * plane + i]) - zero);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = c; k < channels; ++k)
      to[i * stride + k] = int16_t(int32_t(x[k * plane + i]) - zero);
}
void WidenChannels(DType t, const void* x, int64_t plane, int64_t channels, int32_t zero, int64_t n,
                   int16_t* to, int64_t stride) {
  t == DType::kU8 ? Planes(static_cast<const uint8_t*>(x), plane, channels, zero, n, to, stride)
                  : Planes(static_cast<const int8_t*>(x), plane, channels, zero, n, to, stride);
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(Widen);
HWY_EXPORT(WidenChannels);

void WidenCodes(DType t, const void* x, int32_t zero, int64_t n, int16_t* to) {
  HWY_DYNAMIC_DISPATCH(Widen)(t, x, zero, n, to);
}
void WidenPlanes(DType t, const void* x, int64_t plane, int64_t channels, int32_t zero, int64_t n,
                 int16_t* to, int64_t stride) {
  HWY_DYNAMIC_DISPATCH(WidenChannels)(t, x, plane, channels, zero, n, to, stride);
}
}  // namespace dunlin
#endif  // HWY_ONCE
