#include "kernels/interleave.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/interleave.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <int kImages>
void InterleavePixels(const InterleaveArgs& a, int64_t begin, int64_t end) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  for (int64_t p = begin; p < end; ++p) {
    const float* x[kImages];
    for (int i = 0; i < kImages; ++i) x[i] = a.x[i] + p * a.x_stride[i];
    float* const y = a.y + p * a.y_stride;
    for (int64_t c = 0; c < a.channels; c += lanes) {
      // The last vector overlaps the one before it.
      const int64_t at = c + lanes <= a.channels ? c : a.channels - lanes;
      const auto v0 = hn::LoadU(d, x[0] + at), v1 = hn::LoadU(d, x[1] + at);
      if constexpr (kImages == 2)
        hn::StoreInterleaved2(v0, v1, d, y + at * 2);
      else if constexpr (kImages == 3)
        hn::StoreInterleaved3(v0, v1, hn::LoadU(d, x[2] + at), d, y + at * 3);
      else
        hn::StoreInterleaved4(v0, v1, hn::LoadU(d, x[2] + at), hn::LoadU(d, x[3] + at), d,
                              y + at * 4);
    }
  }
}

void InterleaveRange(const InterleaveArgs& a, int64_t begin, int64_t end) {
  if (a.channels >= int64_t(hn::Lanes(hn::ScalableTag<float>()))) {
    if (a.images == 2) return InterleavePixels<2>(a, begin, end);
    if (a.images == 3) return InterleavePixels<3>(a, begin, end);
    if (a.images == 4) return InterleavePixels<4>(a, begin, end);
  }
  for (int64_t p = begin; p < end; ++p)
    for (int i = 0; i < a.images; ++i) {
      const float* const x = a.x[i] + p * a.x_stride[i];
      float* const y = a.y + p * a.y_stride + i;
      for (int64_t c = 0; c < a.channels; ++c) y[c * a.images] = x[c];
    }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(InterleaveRange);

void InterleaveChannels(const InterleaveArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(InterleaveRange)(args, begin, end);
}

}  // namespace dunlin
#endif  // HWY_ONCE
