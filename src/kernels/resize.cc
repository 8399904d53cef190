#include "kernels/resize.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/resize.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// to[i] = sum over k of weight[k] * from[index[k] * stride + i].
HWY_INLINE void WeightedRow(const float* HWY_RESTRICT from, int64_t stride, const int32_t* index,
                            const float* weight, int taps, float* HWY_RESTRICT to, int64_t n) {
  const hn::ScalableTag<float> d;
  const auto lanes = int64_t(hn::Lanes(d));
  int64_t i = 0;
  if (taps == 2) {
    const float* a = from + index[0] * stride;
    const float* b = from + index[1] * stride;
    const auto wa = hn::Set(d, weight[0]), wb = hn::Set(d, weight[1]);
    for (; i + lanes <= n; i += lanes)
      hn::StoreU(hn::MulAdd(hn::LoadU(d, b + i), wb, hn::Mul(hn::LoadU(d, a + i), wa)), d, to + i);
  } else {
    for (; i + lanes <= n; i += lanes) {
      auto sum = hn::Zero(d);
      for (int k = 0; k < taps; ++k)
        sum = hn::MulAdd(hn::LoadU(d, from + index[k] * stride + i), hn::Set(d, weight[k]), sum);
      hn::StoreU(sum, d, to + i);
    }
  }
  for (; i < n; ++i) {
    float sum = 0;
    for (int k = 0; k < taps; ++k) sum += from[index[k] * stride + i] * weight[k];
    to[i] = sum;
  }
}

void Rows(const float* HWY_RESTRICT x, float* HWY_RESTRICT y, const ResampleAxis& h,
          const ResampleAxis& w, int64_t begin, int64_t end) {
  const hn::ScalableTag<float> d;
  const hn::RebindToSigned<decltype(d)> di;
  const auto lanes = int64_t(hn::Lanes(d));
  HWY_ALIGN float row[kMaxResampleWidth];
  for (int64_t r = begin; r < end; ++r) {
    const int64_t plane = r / h.out, o = r % h.out;
    WeightedRow(x + plane * h.in * w.in, w.in, h.index + o * h.taps, h.weight + o * h.taps, h.taps,
                row, w.in);
    float* to = y + r * w.out;
    int64_t i = 0;
    for (; i + lanes <= w.out; i += lanes) {
      auto sum = hn::Zero(d);
      for (int k = 0; k < w.taps; ++k) {
        const auto at = hn::LoadU(di, w.index + k * w.out + i);
        sum = hn::MulAdd(hn::GatherIndex(d, row, at), hn::LoadU(d, w.weight + k * w.out + i), sum);
      }
      hn::StoreU(sum, d, to + i);
    }
    for (; i < w.out; ++i) {
      float sum = 0;
      for (int k = 0; k < w.taps; ++k) sum += row[w.index[k * w.out + i]] * w.weight[k * w.out + i];
      to[i] = sum;
    }
  }
}

// One pixel of the usual case, two taps each way.
HWY_INLINE void BilinearPixel(const float* const (&p)[4], const float (&w)[4],
                              float* HWY_RESTRICT to, int64_t channels) {
  const hn::ScalableTag<float> d;
  const auto lanes = int64_t(hn::Lanes(d));
  const auto w0 = hn::Set(d, w[0]), w1 = hn::Set(d, w[1]), w2 = hn::Set(d, w[2]),
             w3 = hn::Set(d, w[3]);
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    const auto above = hn::MulAdd(hn::LoadU(d, p[1] + c), w1, hn::Mul(hn::LoadU(d, p[0] + c), w0));
    const auto below = hn::MulAdd(hn::LoadU(d, p[3] + c), w3, hn::Mul(hn::LoadU(d, p[2] + c), w2));
    hn::StoreU(hn::Add(above, below), d, to + c);
  }
  for (; c < channels; ++c)
    to[c] = p[0][c] * w[0] + p[1][c] * w[1] + (p[2][c] * w[2] + p[3][c] * w[3]);
}

void RowsChannelsLast(const float* HWY_RESTRICT x, float* HWY_RESTRICT y, const ResampleAxis& h,
                      const ResampleAxis& w, int64_t channels, int64_t begin, int64_t end) {
  const hn::ScalableTag<float> d;
  const auto lanes = int64_t(hn::Lanes(d));
  for (int64_t r = begin; r < end; ++r) {
    const int64_t plane = r / h.out, o = r % h.out;
    const float* image = x + plane * h.in * w.in * channels;
    for (int64_t p = 0; p < w.out; ++p) {
      float* to = y + (r * w.out + p) * channels;
      if (h.taps == 2 && w.taps == 2) {
        const int32_t *ih = h.index + 2 * o, *iw = w.index + 2 * p;
        const float *vh = h.weight + 2 * o, *vw = w.weight + 2 * p;
        const auto at = [&](int j, int k) { return image + (ih[j] * w.in + iw[k]) * channels; };
        BilinearPixel({at(0, 0), at(0, 1), at(1, 0), at(1, 1)},
                      {vh[0] * vw[0], vh[0] * vw[1], vh[1] * vw[0], vh[1] * vw[1]}, to, channels);
        continue;
      }
      int64_t c = 0;
      for (; c < channels; c += lanes) {
        // The last vector of a pixel overlaps the one before, or is done lane by lane.
        if (c + lanes > channels) {
          if (channels < lanes) break;
          c = channels - lanes;
        }
        auto sum = hn::Zero(d);
        for (int j = 0; j < h.taps; ++j) {
          const float* line = image + h.index[o * h.taps + j] * w.in * channels + c;
          auto part = hn::Zero(d);
          for (int k = 0; k < w.taps; ++k)
            part = hn::MulAdd(hn::LoadU(d, line + w.index[p * w.taps + k] * channels),
                              hn::Set(d, w.weight[p * w.taps + k]), part);
          sum = hn::MulAdd(part, hn::Set(d, h.weight[o * h.taps + j]), sum);
        }
        hn::StoreU(sum, d, to + c);
      }
      for (; c < channels; ++c) {
        float sum = 0;
        for (int j = 0; j < h.taps; ++j) {
          const float* line = image + h.index[o * h.taps + j] * w.in * channels + c;
          float part = 0;
          for (int k = 0; k < w.taps; ++k)
            part += line[w.index[p * w.taps + k] * channels] * w.weight[p * w.taps + k];
          sum += part * h.weight[o * h.taps + j];
        }
        to[c] = sum;
      }
    }
  }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
namespace {
HWY_EXPORT(Rows);
HWY_EXPORT(RowsChannelsLast);

template <class T>
void PickRow(const uint8_t* x, uint8_t* y, const int32_t* index, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(y + i * int64_t(sizeof(T)), x + index[i] * int64_t(sizeof(T)), sizeof(T));
}
}  // namespace

void ResampleRows(const float* x, float* y, const ResampleAxis& h, const ResampleAxis& w,
                  int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Rows)(x, y, h, w, begin, end);
}

void ResampleRowsChannelsLast(const float* x, float* y, const ResampleAxis& h,
                              const ResampleAxis& w, int64_t channels, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(RowsChannelsLast)(x, y, h, w, channels, begin, end);
}

void PickRows(const void* x, void* y, const ResampleAxis& h, const ResampleAxis& w,
              int64_t pixel_bytes, int64_t begin, int64_t end) {
  const auto* xb = static_cast<const uint8_t*>(x);
  auto* yb = static_cast<uint8_t*>(y);
  const int64_t row_bytes = w.out * pixel_bytes;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t plane = r / h.out, o = r % h.out;
    uint8_t* to = yb + r * row_bytes;
    // Enlarged rows repeat: the one above holds the same pixels.
    if (r > begin && o > 0 && h.index[o] == h.index[o - 1]) {
      std::memcpy(to, to - row_bytes, size_t(row_bytes));
      continue;
    }
    const uint8_t* from = xb + (plane * h.in + h.index[o]) * w.in * pixel_bytes;
    switch (pixel_bytes) {
      case 1:
        PickRow<uint8_t>(from, to, w.index, w.out);
        break;
      case 2:
        PickRow<uint16_t>(from, to, w.index, w.out);
        break;
      case 4:
        PickRow<uint32_t>(from, to, w.index, w.out);
        break;
      case 8:
        PickRow<uint64_t>(from, to, w.index, w.out);
        break;
      default:
        for (int64_t i = 0; i < w.out; ++i)
          std::memcpy(to + i * pixel_bytes, from + w.index[i] * pixel_bytes, size_t(pixel_bytes));
    }
  }
}

}  // namespace dunlin
#endif
