#include "kernels/code_depthwise.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/code_depthwise.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/code_pairs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Two inputs of a channel are interleaved and meet a pair of weights: of two kernel rows in the
// same column, which all taps of the rows share; in the last row of an odd number, of a tap and the
// one before it, for every other tap. `Low` and `High` halves of each block of 8 channels have a
// vector of sums each.
using Whole = hn::ScalableTag<int16_t>;
using Eight = hn::CappedTag<int16_t, 8>;

int64_t Width() { return int64_t(hn::Lanes(Whole())); }

int64_t Pairs(const CodeDepthwiseShape& s) {
  return s.rows / 2 * s.taps + s.rows % 2 * (s.taps / 2 + 1);
}

// Calls fn(first channel, channels of the vector, channels that exist). The last vector overlaps
// the one before it where there is one. Before a whole block come as many lanes as channels.
template <class Fn>
void ForEachVector(int64_t begin, int64_t end, const Fn& fn) {
  const int64_t width = Width();
  for (int64_t c = begin; c < end;) {
    const int64_t lanes = end - c > 8 && end >= width ? width : 8;
    fn(std::max<int64_t>(0, std::min(c, end - lanes)), lanes, std::min(end, lanes));
    c += lanes;
  }
}

int64_t PackedCodes(const CodeDepthwiseShape& s) {
  int64_t lanes = 0;
  ForEachVector(0, s.channels, [&](int64_t, int64_t n, int64_t) { lanes += n; });
  return lanes * 2 * Pairs(s);
}

// A vector's pair: low halves of all blocks of 8 channels, then the high ones.
void Pack(const CodeDepthwiseShape& s, const int16_t* w, int16_t* packed) {
  ForEachVector(0, s.channels, [&](int64_t first, int64_t lanes, int64_t count) {
    const auto put = [&](int64_t first_tap, int64_t second_tap) {  // -1: zero
      const auto at = [&](int64_t tap, int64_t i) {
        return i < count && tap >= 0 ? w[tap * s.channels + first + i] : int16_t{0};
      };
      for (const int64_t half : {0, 4})
        for (int64_t i = 0; i < lanes; ++i) {
          if (i % 8 / 4 * 4 != half) continue;
          *packed++ = at(first_tap, i);
          *packed++ = at(second_tap, i);
        }
    };
    for (int64_t r = 0; r + 1 < s.rows; r += 2)
      for (int64_t k = 0; k < s.taps; ++k) put(r * s.taps + k, (r + 1) * s.taps + k);
    if (s.rows % 2 != 0)
      for (int64_t k = 0, row = (s.rows - 1) * s.taps; k <= s.taps; k += 2)
        put(k > 0 ? row + k - 1 : -1, k < s.taps ? row + k : -1);
  });
}

// What a strip needs in one vector of channels; start and sums are those of its first one.
struct StripArgs {
  const void* const* x;
  int64_t x_stride, first, count;
  const int16_t* w;
  const int32_t* start;
  int64_t pixels, columns;
  int32_t* sums;
  int64_t sums_stride;
};

template <class Byte, class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const StripArgs& a, const void* pixel) {
  return LoadCodes(d, static_cast<const Byte*>(pixel) + a.first, a.count);
}

template <class D>
using SumsOf = hn::Vec<hn::RepartitionToWide<D>>;

// Sums in the order of their channels, to one pixel.
template <class D>
HWY_INLINE void StorePixel(D, const StripArgs& a, int64_t pixel, SumsOf<D> low, SumsOf<D> high) {
  const hn::RepartitionToWide<D> d;
  constexpr size_t kLanes = hn::MaxLanes(D());
  auto first = low, second = high;
  if constexpr (kLanes == 16) {
    first = hn::ConcatLowerLower(d, high, low);
    second = hn::ConcatUpperUpper(d, high, low);
  } else if constexpr (kLanes == 32) {
    // Blocks: low 0, high 0, low 2, high 2, and those with 1 and 3.
    const auto even = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(high), low);
    const auto odd = hn::OddEvenBlocks(high, hn::SwapAdjacentBlocks(low));
    first = hn::ConcatLowerLower(d, odd, even);
    second = hn::ConcatUpperUpper(d, odd, even);
  }
  int32_t* const to = a.sums + pixel * a.sums_stride;
  const int32_t* const start = a.start;
  const size_t half = hn::Lanes(d);
  if constexpr (kLanes == 8) {
    if (a.count < 8) {
      HWY_ALIGN int32_t sums[8];
      hn::StoreU(first, d, sums);
      hn::StoreU(second, d, sums + half);
      for (int64_t i = 0; i < a.count; ++i) to[i] = int32_t(uint32_t(sums[i]) + uint32_t(start[i]));
      return;
    }
  }
  hn::StoreU(hn::Add(first, hn::LoadU(d, start)), d, to);
  hn::StoreU(hn::Add(second, hn::LoadU(d, start + half)), d, to + half);
}

// kTaps rows of kTaps neighbouring taps: columns of the input pass by once, and each is added to
// the sums of all outputs it belongs to. Those of kOpen outputs are open at a time; the loop over
// kPeriod columns is unrolled, so that which registers hold them is known to the compiler.
template <int kTaps, int kStride, class Byte, class D>
HWY_NOINLINE void Roll(const StripArgs& args) {
  const StripArgs a = args;  // not to be read again after every store
  constexpr int kOpen = (kTaps + kStride - 1) / kStride, kPeriod = kOpen * kStride;
  const D d;
  const hn::RepartitionToWide<D> d32;
  const size_t lanes = hn::Lanes(d);
  SumsOf<D> low[kOpen], high[kOpen];
#pragma GCC unroll 16
  for (int i = 0; i < kOpen; ++i) low[i] = high[i] = hn::Zero(d32);
  const void* const* row[kTaps];
#pragma GCC unroll 16
  for (int r = 0; r < kTaps; ++r) row[r] = a.x + r * a.x_stride;
  auto before = hn::Zero(d);  // of the last row
  for (int64_t group = 0;; group += kPeriod) {
#pragma GCC unroll 16
    for (int j = 0; j < kPeriod; ++j) {
      const int64_t column = group + j;
      if (column == a.columns) return;
      const int16_t* w = a.w;
#pragma GCC unroll 16
      for (int r = 0; r < kTaps; r += 2) {
        const bool alone = r + 1 == kTaps;
        const auto here = LoadWide<Byte>(d, a, row[r][column]);
        const auto one = alone ? before : here;
        const auto two = alone ? here : LoadWide<Byte>(d, a, row[r + (alone ? 0 : 1)][column]);
        if (alone) before = here;
        const auto pair_low = hn::InterleaveLower(d, one, two);
        const auto pair_high = hn::InterleaveUpper(d, one, two);
#pragma GCC unroll 16
        for (int k = 0; k < kTaps; k += alone ? 2 : 1, w += 2 * lanes) {
          if ((j - k + kPeriod) % kStride != 0) continue;
          const int slot = (j - k + kPeriod) / kStride % kOpen;
          if (r == 0 && k == 0) low[slot] = high[slot] = hn::Zero(d32);
          low[slot] = AddPairs(pair_low, hn::LoadU(d, w), low[slot]);
          high[slot] = AddPairs(pair_high, hn::LoadU(d, w + lanes), high[slot]);
        }
      }
      constexpr int kLast = kTaps - 1;
      if ((j - kLast + kPeriod) % kStride == 0 && column >= kLast) {
        const int slot = (j - kLast + kPeriod) / kStride % kOpen;
        StorePixel(d, a, (column - kLast) / kStride, low[slot], high[slot]);
      }
    }
  }
}

// Any kernel, kPixels outputs at a time.
template <int kPixels, class Byte, class D>
HWY_NOINLINE void AnyStrip(const CodeDepthwiseShape& s, const StripArgs& a, int64_t pixel) {
  const D d;
  const hn::RepartitionToWide<D> d32;
  const size_t lanes = hn::Lanes(d);
  SumsOf<D> low[kPixels], high[kPixels];
#pragma GCC unroll 16
  for (int p = 0; p < kPixels; ++p) low[p] = high[p] = hn::Zero(d32);
  const int16_t* w = a.w;
  const auto add = [&](const void* const* first, const void* const* second) HWY_ATTR {
    const auto w_low = hn::LoadU(d, w), w_high = hn::LoadU(d, w + lanes);
    w += 2 * lanes;
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p) {
      const auto one = LoadWide<Byte>(d, a, first[p * s.stride]);
      const auto two = LoadWide<Byte>(d, a, second[p * s.stride]);
      low[p] = AddPairs(hn::InterleaveLower(d, one, two), w_low, low[p]);
      high[p] = AddPairs(hn::InterleaveUpper(d, one, two), w_high, high[p]);
    }
  };
  const void* const* row = a.x + pixel * s.stride;
  int64_t r = 0;
  for (; r + 1 < s.rows; r += 2, row += 2 * a.x_stride)
    for (int64_t k = 0; k < s.taps; ++k)
      add(row + k * s.dilation, row + a.x_stride + k * s.dilation);
  if (r < s.rows)
    for (int64_t k = 0; k <= s.taps; k += 2)  // what does not exist meets a weight of zero
      add(row + std::max<int64_t>(k - 1, 0) * s.dilation,
          row + std::min(k, s.taps - 1) * s.dilation);
#pragma GCC unroll 16
  for (int p = 0; p < kPixels; ++p) StorePixel(d, a, pixel + p, low[p], high[p]);
}

template <class Byte, class D>
void Strip(const CodeDepthwiseShape& s, const StripArgs& a) {
  if (s.dilation == 1 && s.rows == s.taps) {
    if (s.taps == 3 && s.stride == 1) return Roll<3, 1, Byte, D>(a);
    if (s.taps == 3 && s.stride == 2) return Roll<3, 2, Byte, D>(a);
    if (s.taps == 5 && s.stride == 1) return Roll<5, 1, Byte, D>(a);
    if (s.taps == 5 && s.stride == 2) return Roll<5, 2, Byte, D>(a);
  }
  constexpr int kPixels = 4;  // 8 sums, 2 weights and what a pixel's products need: 16 registers
  int64_t p = 0;
  for (; p + kPixels <= a.pixels; p += kPixels) AnyStrip<kPixels, Byte, D>(s, a, p);
  for (; p < a.pixels; ++p) AnyStrip<1, Byte, D>(s, a, p);
}

template <class Byte>
void Block(const CodeDepthwiseShape& s, const CodeDepthwiseArgs& g, int64_t begin, int64_t end) {
  const int64_t pairs = Pairs(s);
  const int16_t* w = g.packed + begin * 2 * pairs;
  ForEachVector(begin, end, [&](int64_t first, int64_t lanes, int64_t count) {
    for (int64_t i = 0; i < g.strips; ++i) {
      const StripArgs a{g.x + i * g.strip_stride,
                        g.x_stride,
                        first,
                        count,
                        w,
                        g.start + first,
                        g.pixels,
                        s.columns(g.pixels),
                        g.sums + i * g.pixels * g.sums_stride + first - begin,
                        g.sums_stride};
      lanes == 8 ? Strip<Byte, Eight>(s, a) : Strip<Byte, Whole>(s, a);
    }
    w += lanes * 2 * pairs;
  });
}

void Depthwise(const CodeDepthwiseShape& s, const CodeDepthwiseArgs& g, int64_t begin,
               int64_t end) {
  if (g.pixels == 0) return;
  for (int64_t c = begin; c < end; c += kCodeDepthwiseBlock) {
    CodeDepthwiseArgs block = g;
    block.sums += c - begin;
    const int64_t until = std::min(c + kCodeDepthwiseBlock, end);
    g.is_signed ? Block<int8_t>(s, block, c, until) : Block<uint8_t>(s, block, c, until);
  }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(Width);
HWY_EXPORT(PackedCodes);
HWY_EXPORT(Pack);
HWY_EXPORT(Depthwise);

int64_t CodeDepthwiseWidth() { return HWY_DYNAMIC_DISPATCH(Width)(); }
int64_t CodeDepthwisePackedCodes(const CodeDepthwiseShape& shape) {
  return HWY_DYNAMIC_DISPATCH(PackedCodes)(shape);
}
void PackCodeDepthwise(const CodeDepthwiseShape& shape, const int16_t* w, int16_t* packed) {
  HWY_DYNAMIC_DISPATCH(Pack)(shape, w, packed);
}
void CodeDepthwise(const CodeDepthwiseShape& shape, const CodeDepthwiseArgs& args, int64_t begin,
                   int64_t end) {
  HWY_DYNAMIC_DISPATCH(Depthwise)(shape, args, begin, end);
}
}  // namespace dunlin
#endif  // HWY_ONCE
