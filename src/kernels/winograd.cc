#include "kernels/winograd.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/winograd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/activation-inl.h"
#include "kernels/gemm_partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The transforms along one axis are those of the interpolation points 0, 1, -1 (m = 2) and
// 0, 1, -1, 2, -2 (m = 4) besides infinity.

// r = B^T x.
template <int kM, class D, class V = hn::Vec<D>>
HWY_INLINE void InputAxis(D d, const V* x, V* r) {
  if constexpr (kM == 2) {
    r[0] = hn::Sub(x[0], x[2]);
    r[1] = hn::Add(x[1], x[2]);
    r[2] = hn::Sub(x[2], x[1]);
    r[3] = hn::Sub(x[1], x[3]);
  } else {
    const V two = hn::Set(d, 2.0f), four = hn::Set(d, 4.0f), five = hn::Set(d, 5.0f);
    const V even = hn::NegMulAdd(four, x[2], x[4]), odd = hn::NegMulAdd(four, x[1], x[3]);
    const V outer = hn::Sub(x[4], x[2]), inner = hn::Mul(two, hn::Sub(x[3], x[1]));
    r[0] = hn::MulAdd(four, x[0], hn::NegMulAdd(five, x[2], x[4]));
    r[1] = hn::Add(even, odd);
    r[2] = hn::Sub(even, odd);
    r[3] = hn::Add(outer, inner);
    r[4] = hn::Sub(outer, inner);
    r[5] = hn::MulAdd(four, x[1], hn::NegMulAdd(five, x[3], x[5]));
  }
}

// r = A^T s.
template <int kM, class D, class V = hn::Vec<D>>
HWY_INLINE void OutputAxis(D d, const V* s, V* r) {
  const V sum1 = hn::Add(s[1], s[2]), difference1 = hn::Sub(s[1], s[2]);
  if constexpr (kM == 2) {
    r[0] = hn::Add(s[0], sum1);
    r[1] = hn::Sub(difference1, s[3]);
  } else {
    const V sum2 = hn::Add(s[3], s[4]), difference2 = hn::Sub(s[3], s[4]);
    r[0] = hn::Add(hn::Add(s[0], sum1), sum2);
    r[1] = hn::MulAdd(hn::Set(d, 2.0f), difference2, difference1);
    r[2] = hn::MulAdd(hn::Set(d, 4.0f), sum2, sum1);
    r[3] = hn::Add(hn::MulAdd(hn::Set(d, 8.0f), difference2, difference1), s[5]);
  }
}

struct TilePlace {
  int64_t image, row, col;  // of its first output pixel
};
HWY_INLINE TilePlace PlaceOf(const WinogradGeometry& g, int64_t tile) {
  const int64_t cols = g.tile_cols(), per_image = g.tile_rows() * cols;
  const int64_t rest = tile % per_image;
  return {tile / per_image, rest / cols * g.m, rest % cols * g.m};
}

template <int kM>
void InputTiles(const WinogradGeometry& g, const float* x, const float* zeros, int64_t begin,
                int64_t end, float* v, int64_t v_stride) {
  constexpr int kSize = kM + 2;
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = int64_t(hn::Lanes(d)), channels = g.channels;
  const ConvAxis &h = g.conv.axis[1], &w = g.conv.axis[2];
  const float* pixels[kSize * kSize];
  HWY_ALIGN float columns[kSize * kSize * HWY_MAX_BYTES / sizeof(float)];
  for (int64_t tile = begin; tile < end; ++tile, v += channels) {
    const TilePlace at = PlaceOf(g, tile);
    const float* image = x + at.image * h.in * w.in * g.conv.pixel_stride;
    for (int i = 0; i < kSize; ++i)
      for (int j = 0; j < kSize; ++j) {
        const int64_t row = at.row + i - h.pad, col = at.col + j - w.pad;
        const bool inside = row >= 0 && row < h.in && col >= 0 && col < w.in;
        pixels[i * kSize + j] = inside ? image + (row * w.in + col) * g.conv.pixel_stride : zeros;
      }
    for (int64_t c = 0; c < channels; c += lanes) {
      const size_t count = size_t(std::min(lanes, channels - c));
      const bool partial = count < size_t(lanes);
      const auto load = [&](const float* p) HWY_ATTR {
        return partial ? LoadPartial(d, p, count) : hn::LoadU(d, p);
      };
      for (int j = 0; j < kSize; ++j) {
        V in[kSize], out[kSize];
#pragma GCC unroll 16
        for (int i = 0; i < kSize; ++i) in[i] = load(pixels[i * kSize + j] + c);
        InputAxis<kM>(d, in, out);
#pragma GCC unroll 16
        for (int i = 0; i < kSize; ++i) hn::Store(out[i], d, columns + (i * kSize + j) * lanes);
      }
      for (int i = 0; i < kSize; ++i) {
        V in[kSize], out[kSize];
#pragma GCC unroll 16
        for (int j = 0; j < kSize; ++j) in[j] = hn::Load(d, columns + (i * kSize + j) * lanes);
        InputAxis<kM>(d, in, out);
        float* to = v + i * kSize * v_stride + c;
#pragma GCC unroll 16
        for (int j = 0; j < kSize; ++j, to += v_stride)
          partial ? StorePartial(d, out[j], to, count) : hn::StoreU(out[j], d, to);
      }
    }
  }
}

template <int kM>
void OutputTiles(const WinogradGeometry& g, const float* s, int64_t s_stride, int64_t begin,
                 int64_t end, const GemmEpilogue& e, float* y) {
  constexpr int kSize = kM + 2;
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = int64_t(hn::Lanes(d)), outputs = g.outputs;
  const ConvAxis &h = g.conv.axis[1], &w = g.conv.axis[2];
  const Limits limits = LimitsOf(e.activation);
  const V lo = hn::Set(d, limits.lo), hi = hn::Set(d, limits.hi);
  HWY_ALIGN float columns[kM * kSize * HWY_MAX_BYTES / sizeof(float)];
  for (int64_t tile = begin; tile < end; ++tile, s += outputs) {
    const TilePlace at = PlaceOf(g, tile);
    const int rows = int(std::min<int64_t>(kM, h.out - at.row));
    const int cols = int(std::min<int64_t>(kM, w.out - at.col));
    const int64_t first = (at.image * h.out + at.row) * w.out + at.col;
    for (int64_t c = 0; c < outputs; c += lanes) {
      const size_t count = size_t(std::min(lanes, outputs - c));
      const bool partial = count < size_t(lanes);
      const auto load = [&](const float* p) HWY_ATTR {
        return partial ? LoadPartial(d, p, count) : hn::LoadU(d, p);
      };
      for (int j = 0; j < kSize; ++j) {
        V in[kSize], out[kM];
        const float* from = s + j * s_stride + c;
#pragma GCC unroll 16
        for (int i = 0; i < kSize; ++i) in[i] = load(from + i * kSize * s_stride);
        OutputAxis<kM>(d, in, out);
#pragma GCC unroll 16
        for (int i = 0; i < kM; ++i) hn::Store(out[i], d, columns + (i * kSize + j) * lanes);
      }
      const V bias = e.bias != nullptr ? load(e.bias + c) : hn::Zero(d);
      for (int i = 0; i < rows; ++i) {
        V in[kSize], out[kM];
#pragma GCC unroll 16
        for (int j = 0; j < kSize; ++j) in[j] = hn::Load(d, columns + (i * kSize + j) * lanes);
        OutputAxis<kM>(d, in, out);
        const int64_t pixel = first + i * w.out;
#pragma GCC unroll 16
        for (int j = 0; j < kM; ++j) {
          if (j >= cols) break;
          V r = hn::Add(out[j], bias);
          if (e.residual != nullptr)
            r = hn::Add(r, load(e.residual + (pixel + j) * e.residual_stride + c));
          // The operand order keeps NaN.
          r = hn::Min(hi, hn::Max(lo, r));
          float* const to = y + (pixel + j) * g.out_stride + c;
          partial ? StorePartial(d, r, to, count) : hn::StoreU(r, d, to);
        }
      }
    }
    if (!limits.complete)
      for (int i = 0; i < rows; ++i)
        ActivateRows(e.activation, y + (first + i * w.out) * g.out_stride, size_t(cols),
                     size_t(g.out_stride), size_t(outputs));
  }
}

void InputRange(const WinogradGeometry& g, const float* x, const float* zeros, int64_t begin,
                int64_t end, float* v, int64_t v_stride) {
  (g.m == 2 ? InputTiles<2> : InputTiles<4>)(g, x, zeros, begin, end, v, v_stride);
}
void OutputRange(const WinogradGeometry& g, const float* s, int64_t s_stride, int64_t begin,
                 int64_t end, const GemmEpilogue& e, float* y) {
  (g.m == 2 ? OutputTiles<2> : OutputTiles<4>)(g, s, s_stride, begin, end, e, y);
}

// u = G k G^T in double, for a panel's outputs side by side: packing happens once, and the error of
// the method should not begin here.
template <int kM>
void PackPanels(const WinogradGeometry& g, const GemmPanels& panels, const float* w, int64_t begin,
                int64_t end, float* packed) {
  static constexpr double kTwo[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
  static constexpr double kFour[6][3] = {{1. / 4, 0, 0},
                                         {-1. / 6, -1. / 6, -1. / 6},
                                         {-1. / 6, 1. / 6, -1. / 6},
                                         {1. / 24, 1. / 12, 1. / 6},
                                         {1. / 24, -1. / 12, 1. / 6},
                                         {0, 0, 1}};
  constexpr const auto& kPoints = [&]() -> const auto& {
    if constexpr (kM == 2)
      return kTwo;
    else
      return kFour;
  }
  ();
  constexpr int kSize = kM + 2;
  constexpr int64_t kMost = 4 * HWY_MAX_BYTES / sizeof(float);  // columns of a panel
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> narrow;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto dot = [&](const double* f, V a, V b, V c) HWY_ATTR {
    return hn::MulAdd(hn::Set(d, f[0]), a,
                      hn::MulAdd(hn::Set(d, f[1]), b, hn::Mul(hn::Set(d, f[2]), c)));
  };
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panels.first_vector(panel) * panels.lanes;
    const int64_t width = panels.width(panel) * panels.lanes;
    const int64_t cols = std::min(width, g.outputs - first);
    HWY_ALIGN float k[9][kMost] = {};  // columns without an output stay zero
    for (int64_t c = 0; c < g.channels; ++c) {
      for (int64_t o = 0; o < cols; ++o) {
        const float* from = w + ((first + o) * g.channels + c) * 9;
        for (int t = 0; t < 9; ++t) k[t][o] = from[t];
      }
      float* const to = packed + first * g.channels + c * width;
      for (int64_t o = 0; o < width; o += lanes) {
        V in[9];
        for (int t = 0; t < 9; ++t) in[t] = hn::PromoteTo(d, hn::LoadU(narrow, &k[t][o]));
        for (int i = 0; i < kSize; ++i) {
          const double* const f = kPoints[i];
          const V r0 = dot(f, in[0], in[3], in[6]), r1 = dot(f, in[1], in[4], in[7]),
                  r2 = dot(f, in[2], in[5], in[8]);
          for (int j = 0; j < kSize; ++j)
            hn::StoreU(hn::DemoteTo(narrow, dot(kPoints[j], r0, r1, r2)), narrow,
                       to + (i * kSize + j) * panels.packed_floats(g.channels) + o);
        }
      }
    }
  }
}
void PackWeights(const WinogradGeometry& g, const GemmPanels& panels, const float* w, int64_t begin,
                 int64_t end, float* packed) {
  (g.m == 2 ? PackPanels<2> : PackPanels<4>)(g, panels, w, begin, end, packed);
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(InputRange);
HWY_EXPORT(PackWeights);
HWY_EXPORT(OutputRange);

void WinogradWeights(const WinogradGeometry& g, const GemmPanels& panels, const float* w,
                     int64_t begin, int64_t end, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackWeights)(g, panels, w, begin, end, packed);
}

void WinogradInput(const WinogradGeometry& g, const float* x, const float* zeros, int64_t begin,
                   int64_t end, float* v, int64_t v_stride) {
  HWY_DYNAMIC_DISPATCH(InputRange)(g, x, zeros, begin, end, v, v_stride);
}
void WinogradOutput(const WinogradGeometry& g, const float* s, int64_t s_stride, int64_t begin,
                    int64_t end, const GemmEpilogue& epilogue, float* y) {
  HWY_DYNAMIC_DISPATCH(OutputRange)(g, s, s_stride, begin, end, epilogue, y);
}

}  // namespace dunlin
#endif  // HWY_ONCE
