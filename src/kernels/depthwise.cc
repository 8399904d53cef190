#include "kernels/depthwise.h"

#include <algorithm>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/depthwise.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/activation-inl.h"
#include "kernels/gemm_partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Output pixels computed together. 8 accumulators cover latency x throughput of the multiply-add
// (4 x 2) and leave room for a kernel row of 7 and an input in 16 registers.
constexpr int kMaxPixels = 8;

// A strip of output pixels of one row, in one vector of channels. The strip is `count` floats of
// every pixel: a whole vector, unless the image has fewer channels than that.
struct StripArgs {
  const float* const* pixels;  // input pixels, one list per kernel row (or tap)
  size_t list_stride;          // pointers per list
  size_t lists;
  size_t channel;  // first one
  size_t count;
  const float* const* weights;  // of each list's first tap, channel 0
  size_t channels;  // floats between the weights of neighbouring taps, and output pixels
  const float* bias;
  float* y;
  const float* residual;
  float lo, hi;
  Activation activation;  // of those that InRegisters; else kNone
  bool complete;          // false: the activation follows as a second pass over stored results
  // Of LongStrip: taps of a kernel row, and how far neighbouring outputs and taps lie apart.
  size_t taps = 0, stride = 1, dilation = 1;
};

// Applied to the sums before they are stored, so that divisions run beside the next strip's
// products.
constexpr bool InRegisters(Activation kind) {
  return kind == Activation::kSilu || kind == Activation::kHardSwish;
}

template <bool kPartial, class D>
HWY_INLINE hn::Vec<D> LoadLanes(D d, const float* p, size_t count) {
  if constexpr (kPartial)
    return LoadPartial(d, p, count);
  else
    return hn::LoadU(d, p);
}

template <int kPixels, bool kPartial, class D, class V>
HWY_INLINE void FinishStrip(D d, const StripArgs& s, V (&acc)[kPixels]) {
  if (s.residual != nullptr) {
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p)
      acc[p] = hn::Add(
          acc[p], LoadLanes<kPartial>(d, s.residual + size_t(p) * s.channels + s.channel, s.count));
  }
  const auto activate = [&]<Activation kKind>() HWY_ATTR {
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p) acc[p] = Activate<kKind>(d, acc[p], 0.0f, 0.0f);
  };
  if (s.activation == Activation::kSilu)
    activate.template operator()<Activation::kSilu>();
  else if (s.activation == Activation::kHardSwish)
    activate.template operator()<Activation::kHardSwish>();
  const V lo = hn::Set(d, s.lo), hi = hn::Set(d, s.hi);
#pragma GCC unroll 16
  for (int p = 0; p < kPixels; ++p) {
    float* y = s.y + size_t(p) * s.channels + s.channel;
    const V v = Limit(acc[p], lo, hi);
    if constexpr (kPartial)
      StorePartial(d, v, y, s.count);
    else
      hn::StoreU(v, d, y);
  }
}

// Kernel rows of kKernel neighbouring elements: an input vector is loaded once for all outputs of
// the strip that it belongs to. A list holds (kPixels - 1) * kStride + kKernel pixels.
template <int kPixels, int kKernel, int kStride, bool kPartial>
HWY_NOINLINE void RowStrip(const StripArgs& s) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  V acc[kPixels];
  const V bias = LoadLanes<kPartial>(d, s.bias + s.channel, s.count);
#pragma GCC unroll 16
  for (int p = 0; p < kPixels; ++p) acc[p] = bias;
  const float* const* pixels = s.pixels;
  for (size_t list = 0; list < s.lists; ++list, pixels += s.list_stride) {
    const float* weights = s.weights[list] + s.channel;
    V w[kKernel];
#pragma GCC unroll 16
    for (int k = 0; k < kKernel; ++k, weights += s.channels)
      w[k] = LoadLanes<kPartial>(d, weights, s.count);
#pragma GCC unroll 32
    for (int j = 0; j < (kPixels - 1) * kStride + kKernel; ++j) {
      const V in = LoadLanes<kPartial>(d, pixels[j] + s.channel, s.count);
#pragma GCC unroll 16
      for (int k = 0; k < kKernel; ++k)
        if (j >= k && (j - k) % kStride == 0 && (j - k) / kStride < kPixels)
          acc[(j - k) / kStride] = hn::MulAdd(in, w[k], acc[(j - k) / kStride]);
    }
  }
  FinishStrip<kPixels, kPartial>(d, s, acc);
}

// Any kernel: one list per tap, one pixel per output.
template <int kPixels, bool kPartial>
HWY_NOINLINE void TapStrip(const StripArgs& s) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  V acc[kPixels];
  const V bias = LoadLanes<kPartial>(d, s.bias + s.channel, s.count);
#pragma GCC unroll 16
  for (int p = 0; p < kPixels; ++p) acc[p] = bias;
  const float* const* pixels = s.pixels;
  for (size_t list = 0; list < s.lists; ++list, pixels += s.list_stride) {
    const V w = LoadLanes<kPartial>(d, s.weights[list] + s.channel, s.count);
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p)
      acc[p] = hn::MulAdd(LoadLanes<kPartial>(d, pixels[p] + s.channel, s.count), w, acc[p]);
  }
  FinishStrip<kPixels, kPartial>(d, s, acc);
}

// Kernel rows of any length, one list for each: seven taps at a time share their inputs as in
// RowStrip, the rest tap by tap. A list holds (kPixels - 1) * stride + (taps - 1) * dilation + 1
// pixels.
template <int kPixels, bool kPartial>
HWY_NOINLINE void LongStrip(const StripArgs& s) {
  constexpr int kTogether = 7;
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  V acc[kPixels];
  const V bias = LoadLanes<kPartial>(d, s.bias + s.channel, s.count);
#pragma GCC unroll 16
  for (int p = 0; p < kPixels; ++p) acc[p] = bias;
  const bool dense = s.stride == 1 && s.dilation == 1;
  for (size_t list = 0; list < s.lists; ++list) {
    const float* const* pixels = s.pixels + list * s.list_stride;
    const float* weights = s.weights[list] + s.channel;
    size_t tap = 0;
    for (; dense && tap + kTogether <= s.taps; tap += kTogether, pixels += kTogether) {
      V w[kTogether];
#pragma GCC unroll 16
      for (int k = 0; k < kTogether; ++k, weights += s.channels)
        w[k] = LoadLanes<kPartial>(d, weights, s.count);
#pragma GCC unroll 32
      for (int j = 0; j < kPixels - 1 + kTogether; ++j) {
        const V in = LoadLanes<kPartial>(d, pixels[j] + s.channel, s.count);
#pragma GCC unroll 16
        for (int k = 0; k < kTogether; ++k)
          if (j >= k && j - k < kPixels) acc[j - k] = hn::MulAdd(in, w[k], acc[j - k]);
      }
    }
    for (; tap < s.taps; ++tap, pixels += s.dilation, weights += s.channels) {
      const V w = LoadLanes<kPartial>(d, weights, s.count);
#pragma GCC unroll 16
      for (int p = 0; p < kPixels; ++p)
        acc[p] = hn::MulAdd(
            LoadLanes<kPartial>(d, pixels[size_t(p) * s.stride] + s.channel, s.count), w, acc[p]);
    }
  }
  FinishStrip<kPixels, kPartial>(d, s, acc);
}

using StripFunction = void (*)(const StripArgs&);
struct StripTable {
  StripFunction at[kMaxPixels + 1] = {};
};
template <int kKernel, int kStride, bool kPartial, int... kPixels>
constexpr StripTable RowStrips(std::integer_sequence<int, kPixels...>) {
  return {{nullptr, &RowStrip<kPixels + 1, kKernel, kStride, kPartial>...}};
}
template <bool kPartial, int... kPixels>
constexpr StripTable TapStrips(std::integer_sequence<int, kPixels...>) {
  return {{nullptr, &TapStrip<kPixels + 1, kPartial>...}};
}
template <bool kPartial, int... kPixels>
constexpr StripTable LongStrips(std::integer_sequence<int, kPixels...>) {
  return {{nullptr, &LongStrip<kPixels + 1, kPartial>...}};
}
using AllPixels = std::make_integer_sequence<int, kMaxPixels>;

// nullptr when there is no strip for whole kernel rows.
template <bool kPartial>
const StripTable* FindRowStrips(const ConvAxis& w) {
  static constexpr StripTable k31 = RowStrips<3, 1, kPartial>(AllPixels());
  static constexpr StripTable k32 = RowStrips<3, 2, kPartial>(AllPixels());
  static constexpr StripTable k51 = RowStrips<5, 1, kPartial>(AllPixels());
  static constexpr StripTable k52 = RowStrips<5, 2, kPartial>(AllPixels());
  static constexpr StripTable k71 = RowStrips<7, 1, kPartial>(AllPixels());
  if (w.dilation != 1) return nullptr;
  if (w.kernel == 3) return w.stride == 1 ? &k31 : w.stride == 2 ? &k32 : nullptr;
  if (w.kernel == 5) return w.stride == 1 ? &k51 : w.stride == 2 ? &k52 : nullptr;
  if (w.kernel == 7 && w.stride == 1) return &k71;
  return nullptr;
}

// Pointers to input pixels of all kernel rows under a strip: 64 KiB of a thread's stack.
constexpr int64_t kMaxLongPixels = 8192;
int64_t LongListPixels(const ConvAxis& w) {
  return (kMaxPixels - 1) * w.stride + (w.kernel - 1) * w.dilation + 1;
}
// Rows long enough for LongStrip to share inputs, and kernels of more taps than there are lists.
bool IsLong(const ConvGeometry& g) {
  const ConvAxis& w = g.axis[2];
  return g.taps() > kMaxDepthwiseLists || (w.kernel > 7 && w.stride == 1 && w.dilation == 1);
}
bool Fits(const ConvGeometry& g) {
  const ConvAxis& w = g.axis[2];
  if (!IsLong(g)) return true;
  // No product of extents that may be huge.
  const int64_t rows = kMaxLongPixels / g.axis[0].kernel / g.axis[1].kernel;
  return w.stride <= rows && w.dilation <= rows && w.kernel <= rows && LongListPixels(w) <= rows;
}

// The widest list: (8 - 1) * 2 + 5 pixels.
constexpr int64_t kListStride = 20;
// Output rows that pass over the same vectors of channels, so that the input rows they share come
// from the first-level cache for all but the first of them.
constexpr int64_t kBandRows = 8;
// Vectors of channels that do so together: their pixels under a strip, 7 rows of 14 at most, are 25
// KiB of a 32 or 48 KiB cache.
constexpr int64_t kBlockVectors = 4;
constexpr int64_t kBandImageFloats = 256 * 1024;

// The lists of one strip in each row of a band: those of row r are [first[r], first[r + 1]).
struct Lists {
  const float* pixels[kListStride * kMaxDepthwiseLists];
  const float* weights[kMaxDepthwiseLists];
  size_t first[kBandRows + 1];
  size_t count;
};

// Where an output row lies.
struct RowAt {
  int64_t image, depth, height;
};
RowAt RowAtOf(const ConvGeometry& g, int64_t row) {
  const int64_t plane = row / g.axis[1].out;
  return {plane / g.axis[0].out, plane % g.axis[0].out, row % g.axis[1].out};
}

// Input pixels under outputs [w0, w1) of one output row: by whole kernel rows, or tap by tap. Rows
// of the kernel outside the image are left out.
void AddLists(const DepthwiseArgs& a, bool by_row, const RowAt& row, int64_t w0, int64_t w1,
              Lists& l) {
  const ConvAxis& dep = a.geometry.axis[0];
  const ConvAxis& h = a.geometry.axis[1];
  const ConvAxis& w = a.geometry.axis[2];
  const auto [n, od, oh] = row;
  for (int64_t kd = 0; kd < dep.kernel; ++kd) {
    const int64_t id = od * dep.stride - dep.pad + kd * dep.dilation;
    if (id < 0 || id >= dep.in) continue;
    for (int64_t kh = 0; kh < h.kernel; ++kh) {
      const int64_t ih = oh * h.stride - h.pad + kh * h.dilation;
      if (ih < 0 || ih >= h.in) continue;
      const float* line = a.x + ((n * dep.in + id) * h.in + ih) * w.in * a.channels;
      const float* weights = a.weights + (kd * h.kernel + kh) * w.kernel * a.channels;
      const auto add_list = [&](int64_t tap, int64_t first, int64_t step, int64_t pixels) {
        const float** out = l.pixels + l.count * kListStride;
        if (first >= 0 && first + (pixels - 1) * step < w.in) {
          const float* const begin = line + first * a.channels;
          for (int64_t j = 0; j < pixels; ++j) out[j] = begin + j * step * a.channels;
        } else {
          for (int64_t j = 0; j < pixels; ++j) {
            const int64_t iw = first + j * step;
            out[j] = iw >= 0 && iw < w.in ? line + iw * a.channels : a.zeros;
          }
        }
        l.weights[l.count++] = weights + tap * a.channels;
      };
      const int64_t first = w0 * w.stride - w.pad;
      if (by_row)
        add_list(0, first, 1, (w1 - w0 - 1) * w.stride + w.kernel);
      else
        for (int64_t kw = 0; kw < w.kernel; ++kw)
          add_list(kw, first + kw * w.dilation, w.stride, w1 - w0);
    }
  }
}

// A strip in channels [begin, end).
template <bool kPartial>
void StripBlock(const DepthwiseArgs& a, const StripTable& strips, int64_t pixels, int64_t begin,
                int64_t end, StripArgs& s) {
  const int64_t lanes = int64_t(hn::Lanes(hn::ScalableTag<float>()));
  // The last vector overlaps the one before it.
  const auto first = [&](int64_t c) { return kPartial ? 0 : std::min(c, a.channels - lanes); };
  for (int64_t c = begin; c < end; c += lanes) {
    s.channel = size_t(first(c));
    strips.at[pixels](s);
  }
  if (!s.complete)
    ActivateRows(a.activation, s.y + first(begin), size_t(pixels), s.channels,
                 size_t(end - first(begin)));
}

StripArgs CommonArgs(const DepthwiseArgs& a) {
  const Limits limits = LimitsOf(a.activation);
  StripArgs s{};
  s.channels = size_t(a.channels);
  s.count = size_t(std::min(a.channels, int64_t(hn::Lanes(hn::ScalableTag<float>()))));
  s.bias = a.bias;
  s.lo = limits.lo;
  s.hi = limits.hi;
  s.activation = InRegisters(a.activation.kind) ? a.activation.kind : Activation::kNone;
  s.complete = limits.complete || InRegisters(a.activation.kind);
  return s;
}

// Kernels whose rows have no strip of their own, by LongStrip.
template <bool kPartial>
void LongRows(const DepthwiseArgs& a, int64_t begin, int64_t end) {
  static constexpr StripTable strips = LongStrips<kPartial>(AllPixels());
  const ConvAxis &dep = a.geometry.axis[0], &h = a.geometry.axis[1], &w = a.geometry.axis[2];
  StripArgs s = CommonArgs(a);
  s.list_stride = size_t(LongListPixels(w));
  s.taps = size_t(w.kernel);
  s.stride = size_t(w.stride);
  s.dilation = size_t(w.dilation);
  const float* pixels[kMaxLongPixels];
  const float* weights[kMaxLongPixels];
  s.pixels = pixels;
  s.weights = weights;
  const int64_t strip_count = (w.out + kMaxPixels - 1) / kMaxPixels;
  for (int64_t i = begin * strip_count; i < end * strip_count; ++i) {
    const int64_t row = i / strip_count, strip = i % strip_count;
    const int64_t w0 = w.out * strip / strip_count, w1 = w.out * (strip + 1) / strip_count;
    const int64_t oh = row % h.out, od = row / h.out % dep.out, n = row / h.out / dep.out;
    const int64_t used = (w1 - w0 - 1) * w.stride + (w.kernel - 1) * w.dilation + 1;
    s.lists = 0;
    for (int64_t k = 0; k < dep.kernel * h.kernel; ++k) {
      const int64_t id = od * dep.stride - dep.pad + k / h.kernel * dep.dilation;
      const int64_t ih = oh * h.stride - h.pad + k % h.kernel * h.dilation;
      if (id < 0 || id >= dep.in || ih < 0 || ih >= h.in) continue;
      const float* const line = a.x + ((n * dep.in + id) * h.in + ih) * w.in * a.channels;
      const float** const list = pixels + s.lists * s.list_stride;
      for (int64_t j = 0; j < used; ++j) {
        const int64_t iw = w0 * w.stride - w.pad + j;
        list[j] = iw >= 0 && iw < w.in ? line + iw * a.channels : a.zeros;
      }
      weights[s.lists++] = a.weights + k * w.kernel * a.channels;
    }
    const int64_t at = (row * w.out + w0) * a.channels;
    s.y = a.y + at;
    s.residual = a.residual != nullptr ? a.residual + at : nullptr;
    StripBlock<kPartial>(a, strips, w1 - w0, 0, a.channels, s);
  }
}

template <bool kPartial>
void DepthwiseRowsOf(const DepthwiseArgs& a, int64_t begin, int64_t end) {
  static constexpr StripTable tap_strips = TapStrips<kPartial>(AllPixels());
  const ConvAxis& w = a.geometry.axis[2];
  const int64_t lanes = int64_t(hn::Lanes(hn::ScalableTag<float>()));
  const StripTable* strips = FindRowStrips<kPartial>(w);
  const bool by_row = strips != nullptr;
  if (!by_row) strips = &tap_strips;
  Lists lists;
  StripArgs s = CommonArgs(a);
  s.list_stride = size_t(kListStride);
  // Rows that share less than half of what they read, and images that come from behind the second
  // level (1 MiB), are better off in the order of memory.
  const ConvAxis& h = a.geometry.axis[1];
  const bool bands = by_row && 2 * h.stride <= h.kernel && h.dilation == 1 &&
                     a.geometry.in_pixels() * a.channels <= kBandImageFloats;
  const int64_t block = bands ? kBlockVectors * lanes : a.channels;
  const int64_t row_lists = a.geometry.axis[0].kernel * h.kernel;
  const int64_t most_rows =
      bands ? std::clamp<int64_t>(kMaxDepthwiseLists / row_lists, 1, kBandRows) : 1;
  const int64_t strip_count = (w.out + kMaxPixels - 1) / kMaxPixels;
  for (int64_t row = begin; row < end;) {
    const int64_t rows = std::min(most_rows, end - row);
    RowAt at_row[kBandRows];
    for (int64_t r = 0; r < rows; ++r) at_row[r] = RowAtOf(a.geometry, row + r);
    for (int64_t strip = 0; strip < strip_count; ++strip) {
      // Strips of equal length, not full ones and a short rest.
      const int64_t w0 = w.out * strip / strip_count, w1 = w.out * (strip + 1) / strip_count;
      lists.count = 0;
      for (int64_t r = 0; r < rows; ++r) {
        lists.first[r] = lists.count;
        AddLists(a, by_row, at_row[r], w0, w1, lists);
      }
      lists.first[rows] = lists.count;
      for (int64_t c = 0; c < a.channels; c += block)
        for (int64_t r = 0; r < rows; ++r) {
          const int64_t at = ((row + r) * w.out + w0) * a.channels;
          s.pixels = lists.pixels + lists.first[r] * kListStride;
          s.weights = lists.weights + lists.first[r];
          s.lists = lists.first[r + 1] - lists.first[r];
          s.y = a.y + at;
          if (a.residual != nullptr) s.residual = a.residual + at;
          StripBlock<kPartial>(a, *strips, w1 - w0, c, std::min(c + block, a.channels), s);
        }
    }
    row += rows;
  }
}

void DepthwiseRows(const DepthwiseArgs& a, int64_t begin, int64_t end) {
  const bool partial = a.channels < int64_t(hn::Lanes(hn::ScalableTag<float>()));
  if (IsLong(a.geometry))
    partial ? LongRows<true>(a, begin, end) : LongRows<false>(a, begin, end);
  else
    partial ? DepthwiseRowsOf<true>(a, begin, end) : DepthwiseRowsOf<false>(a, begin, end);
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(DepthwiseRows);

HWY_EXPORT(Fits);

bool DepthwiseFits(const ConvGeometry& g) { return HWY_DYNAMIC_DISPATCH(Fits)(g); }

void Depthwise(const DepthwiseArgs& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(DepthwiseRows)(args, begin, end);
}

}  // namespace dunlin
#endif  // HWY_ONCE
