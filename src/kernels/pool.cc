#include "kernels/pool.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/pool.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gemm_partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// x86 gives the second operand when one is NaN: the maximum so far, which never is.
template <Pool kPool, class V>
HWY_INLINE V Combine(V x, V acc) {
  if constexpr (kPool == Pool::kMax)
    return hn::Max(x, acc);
  else
    return hn::Add(x, acc);
}

template <Pool kPool, class D>
HWY_INLINE hn::Vec<D> Start(D d) {
  return hn::Set(d, kPool == Pool::kMax ? -std::numeric_limits<float>::infinity() : 0.0f);
}

// One output pixel from the pixels under its window.
template <Pool kPool>
HWY_INLINE void PoolPixel(const float* const* taps, size_t stride, size_t count, size_t channels,
                          float scale, float* y) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  const V factor = hn::Set(d, scale);
  const auto finish = [&](V v) HWY_ATTR { return kPool == Pool::kMax ? v : hn::Mul(v, factor); };
  size_t c = 0;
  for (; c + 4 * lanes <= channels; c += 4 * lanes) {
    V a0 = Start<kPool>(d), a1 = a0, a2 = a0, a3 = a0;
    for (size_t t = 0; t < count; ++t) {
      const float* x = taps[t * stride] + c;
      a0 = Combine<kPool>(hn::LoadU(d, x), a0);
      a1 = Combine<kPool>(hn::LoadU(d, x + lanes), a1);
      a2 = Combine<kPool>(hn::LoadU(d, x + 2 * lanes), a2);
      a3 = Combine<kPool>(hn::LoadU(d, x + 3 * lanes), a3);
    }
    hn::StoreU(finish(a0), d, y + c);
    hn::StoreU(finish(a1), d, y + c + lanes);
    hn::StoreU(finish(a2), d, y + c + 2 * lanes);
    hn::StoreU(finish(a3), d, y + c + 3 * lanes);
  }
  for (; c < channels; c += lanes) {
    const size_t n = std::min(lanes, channels - c);
    V acc = Start<kPool>(d);
    if (n == lanes) {
      for (size_t t = 0; t < count; ++t)
        acc = Combine<kPool>(hn::LoadU(d, taps[t * stride] + c), acc);
      hn::StoreU(finish(acc), d, y + c);
    } else {
      for (size_t t = 0; t < count; ++t)
        acc = Combine<kPool>(LoadPartial(d, taps[t * stride] + c, n), acc);
      StorePartial(d, finish(acc), y + c, n);
    }
  }
}

template <Pool kPool>
void PoolRowsOf(const PoolArgs& a, int64_t begin, int64_t end) {
  // Pixels whose windows are looked up together; their pointers are 32 KiB at most.
  constexpr int64_t kPointers = 4096;
  const float* taps[kPointers];
  const int64_t count = a.geometry.taps(), width = a.geometry.axis[2].out;
  const int64_t strip = std::max<int64_t>(1, kPointers / count);
  const int64_t pixels = a.geometry.out_pixels();
  for (int64_t m = begin * width; m < end * width; m += strip) {
    const int64_t m1 = std::min(m + strip, end * width);
    FillConvRows(a.geometry, a.x, a.outside, m, m1, 0, count, taps, strip);
    for (int64_t i = m; i < m1; ++i)
      PoolPixel<kPool>(taps + (i - m), size_t(strip), size_t(count), size_t(a.channels),
                       kPool == Pool::kMax ? 1.0f : a.scales[i % pixels], a.y + i * a.y_stride);
  }
}

void PoolWindows(const PoolArgs& a, int64_t begin, int64_t end) {
  a.pool == Pool::kMax ? PoolRowsOf<Pool::kMax>(a, begin, end)
                       : PoolRowsOf<Pool::kAverage>(a, begin, end);
}

// kVectors neighbouring vectors of channels of one image, the last of `count` floats. The partial
// sums also keep rounding errors of long sums small.
template <Pool kPool, int kVectors>
HWY_INLINE void GlobalColumns(const float* x, int64_t pixels, int64_t channels, size_t count,
                              float* y) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  constexpr int kRows = 4;  // pixels side by side
  const bool whole = count == lanes;
  V acc[kRows][kVectors];
  for (auto& row : acc)
    for (V& v : row) v = Start<kPool>(d);
  const auto add = [&](const float* p, V(&row)[kVectors]) HWY_ATTR {
#pragma GCC unroll 16
    for (int j = 0; j + 1 < kVectors; ++j)
      row[j] = Combine<kPool>(hn::LoadU(d, p + size_t(j) * lanes), row[j]);
    p += size_t(kVectors - 1) * lanes;
    V& end = row[kVectors - 1];
    end = Combine<kPool>(whole ? hn::LoadU(d, p) : LoadPartial(d, p, count), end);
  };
  int64_t i = 0;
  for (; i + kRows <= pixels; i += kRows) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) add(x + (i + r) * channels, acc[r]);
  }
  for (; i < pixels; ++i) add(x + i * channels, acc[0]);
  const V scale = hn::Set(d, 1.0f / float(pixels));
#pragma GCC unroll 16
  for (int j = 0; j < kVectors; ++j) {
    V v = acc[0][j];
#pragma GCC unroll 16
    for (int r = 1; r < kRows; ++r) v = Combine<kPool>(acc[r][j], v);
    if (kPool == Pool::kAverage) v = hn::Mul(v, scale);
    StorePartial(d, v, y + size_t(j) * lanes, j + 1 < kVectors ? lanes : count);
  }
}

template <Pool kPool>
void GlobalImages(const float* x, int64_t pixels, int64_t channels, float* y, int64_t begin,
                  int64_t end) {
  constexpr int kWide = 2;
  const int64_t lanes = int64_t(hn::Lanes(hn::ScalableTag<float>()));
  int64_t c = begin;
  for (; c + kWide * lanes <= end; c += kWide * lanes)
    GlobalColumns<kPool, kWide>(x + c, pixels, channels, size_t(lanes), y + c);
  for (; c < end; c += lanes)
    GlobalColumns<kPool, 1>(x + c, pixels, channels, size_t(std::min(lanes, end - c)), y + c);
}

template <Pool kPool>
void GlobalPlanes(const float* x, int64_t pixels, float* y, int64_t begin, int64_t end) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = int64_t(hn::Lanes(d));
  for (int64_t plane = begin; plane < end; ++plane) {
    const float* p = x + plane * pixels;
    V a0 = Start<kPool>(d), a1 = a0, a2 = a0, a3 = a0;
    int64_t i = 0;
    for (; i + 4 * lanes <= pixels; i += 4 * lanes) {
      a0 = Combine<kPool>(hn::LoadU(d, p + i), a0);
      a1 = Combine<kPool>(hn::LoadU(d, p + i + lanes), a1);
      a2 = Combine<kPool>(hn::LoadU(d, p + i + 2 * lanes), a2);
      a3 = Combine<kPool>(hn::LoadU(d, p + i + 3 * lanes), a3);
    }
    for (; i + lanes <= pixels; i += lanes) a0 = Combine<kPool>(hn::LoadU(d, p + i), a0);
    const V v = Combine<kPool>(Combine<kPool>(a0, a1), Combine<kPool>(a2, a3));
    float r = hn::GetLane(kPool == Pool::kMax ? hn::MaxOfLanes(d, v) : hn::SumOfLanes(d, v));
    for (; i < pixels; ++i) r = kPool == Pool::kMax ? (p[i] > r ? p[i] : r) : r + p[i];
    y[plane] = kPool == Pool::kMax ? r : r / float(pixels);
  }
}

void GlobalImagesOf(Pool pool, const float* x, int64_t pixels, int64_t channels, float* y,
                    int64_t begin, int64_t end) {
  (pool == Pool::kMax ? GlobalImages<Pool::kMax>
                      : GlobalImages<Pool::kAverage>)(x, pixels, channels, y, begin, end);
}

void GlobalPlanesOf(Pool pool, const float* x, int64_t pixels, float* y, int64_t begin,
                    int64_t end) {
  (pool == Pool::kMax ? GlobalPlanes<Pool::kMax> : GlobalPlanes<Pool::kAverage>)(x, pixels, y,
                                                                                 begin, end);
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(PoolWindows);
HWY_EXPORT(GlobalImagesOf);
HWY_EXPORT(GlobalPlanesOf);

void PoolRows(const PoolArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(PoolWindows)(args, begin, end);
}

void GlobalPoolChannelsLast(Pool pool, const float* x, int64_t pixels, int64_t channels, float* y,
                            int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(GlobalImagesOf)(pool, x, pixels, channels, y, begin, end);
}

void GlobalPoolPlanes(Pool pool, const float* x, int64_t pixels, float* y, int64_t begin,
                      int64_t end) {
  HWY_DYNAMIC_DISPATCH(GlobalPlanesOf)(pool, x, pixels, y, begin, end);
}

}  // namespace dunlin
#endif  // HWY_ONCE
