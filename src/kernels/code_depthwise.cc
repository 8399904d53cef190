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

// Two rows of the window are interleaved, so that one instruction multiplies and adds both; an odd
// last row is beside zeros. Interleaving works on blocks of 16 bytes, which are put back in order
// when sums are stored: of vectors of up to two blocks that is one instruction each.
using I16 = hn::CappedTag<int16_t, 16>;
using I32 = hn::Repartition<int32_t, I16>;
using V16 = hn::Vec<I16>;
using V32 = hn::Vec<I32>;

int64_t Lanes() { return int64_t(hn::Lanes(I16())); }

// What interleaving two vectors gives: the lower half of every block, and the upper.
struct Pair {
  V16 low, high;
};
HWY_INLINE Pair Interleave(V16 a, V16 b) {
  return {hn::InterleaveLower(I16(), a, b), hn::InterleaveUpper(I16(), a, b)};
}
// The sums of both halves in the order of the channels.
HWY_INLINE void StoreInOrder(V32 low, V32 high, int32_t* y) {
  const I32 d;
  if constexpr (sizeof(V32) > 16) {
    hn::StoreU(hn::ConcatLowerLower(d, high, low), d, y);
    hn::StoreU(hn::ConcatUpperUpper(d, high, low), d, y + hn::Lanes(d));
  } else {
    hn::StoreU(low, d, y);
    hn::StoreU(high, d, y + hn::Lanes(d));
  }
}

template <class Q>
HWY_INLINE V16 LoadPixel(const uint8_t* x) {
  return hn::PromoteTo(I16(), hn::LoadU(hn::Rebind<Q, I16>(), reinterpret_cast<const Q*>(x)));
}

// kOutputs outputs of one vector of channels, from channel `c` on. Weights: [column][pair][half].
template <class Q, int kKernel, int kStride, int kOutputs>
HWY_INLINE void Block(const uint8_t* const* pixels, int64_t c, const int16_t* w, int32_t* sums,
                      int64_t sums_stride) {
  constexpr int kPairs = (kKernel + 1) / 2, kColumns = (kOutputs - 1) * kStride + kKernel;
  const I16 d;
  const int64_t lanes = Lanes();
  V32 acc[kOutputs][2];
#pragma GCC unroll 16
  for (int o = 0; o < kOutputs; ++o) acc[o][0] = acc[o][1] = hn::Zero(I32());
#pragma GCC unroll 16
  for (int k = 0; k < kColumns; ++k) {
#pragma GCC unroll 16
    for (int p = 0; p < kPairs; ++p) {
      const V16 upper = LoadPixel<Q>(pixels[k * kKernel + 2 * p] + c);
      const V16 lower = 2 * p + 1 < kKernel
                            ? LoadPixel<Q>(pixels[k * kKernel + 2 * p + (2 * p + 1 < kKernel)] + c)
                            : hn::Zero(d);
      const Pair x = Interleave(upper, lower);
#pragma GCC unroll 16
      for (int o = 0; o < kOutputs; ++o) {
        const int at = k - o * kStride;
        if (at < 0 || at >= kKernel) continue;
        const int16_t* const weights = w + (at * kPairs + p) * 2 * lanes;
        acc[o][0] = AddPairs(x.low, hn::LoadU(d, weights), acc[o][0]);
        acc[o][1] = AddPairs(x.high, hn::LoadU(d, weights + lanes), acc[o][1]);
      }
    }
  }
#pragma GCC unroll 16
  for (int o = 0; o < kOutputs; ++o) StoreInOrder(acc[o][0], acc[o][1], sums + o * sums_stride);
}

// More outputs at once share loads and interleaving, as far as registers go: two sums an output,
// two halves of a pair.
template <class Q, int kKernel, int kStride>
HWY_NOINLINE void Row(const CodeDepthwiseArgs& a) {
  constexpr int kAtOnce = 4;
  static_assert(kDepthwiseOutputs % kAtOnce == 0);
  constexpr int kPairs = (kKernel + 1) / 2;
  const int64_t lanes = Lanes(), blocks = (a.channels + lanes - 1) / lanes;
  for (int64_t b = 0; b < blocks; ++b) {
    // The last block ends with the last channel.
    const int64_t c = std::min(b * lanes, a.channels - lanes);
    const int16_t* w = a.packed + b * kKernel * kPairs * 2 * lanes;
    for (int64_t o = 0; o < kDepthwiseOutputs; o += kAtOnce)
      Block<Q, kKernel, kStride, kAtOnce>(a.pixels + o * kStride * kKernel, c, w,
                                          a.sums + o * a.sums_stride + c, a.sums_stride);
  }
}
template <class Q>
void RowOf(const CodeDepthwiseArgs& a) {
  switch (a.kernel * 2 + a.stride) {
    case 3 * 2 + 1:
      return Row<Q, 3, 1>(a);
    case 3 * 2 + 2:
      return Row<Q, 3, 2>(a);
    case 5 * 2 + 1:
      return Row<Q, 5, 1>(a);
    case 5 * 2 + 2:
      return Row<Q, 5, 2>(a);
    default:
      return;  // HasCodeDepthwise says no
  }
}
void DepthwiseRow(const CodeDepthwiseArgs& a) {
  a.type == DType::kU8 ? RowOf<uint8_t>(a) : RowOf<int8_t>(a);
}

void Pack(int64_t kernel, int64_t channels, const int16_t* w, int16_t* packed) {
  const I16 d;
  const int64_t lanes = Lanes(), blocks = (channels + lanes - 1) / lanes;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t c = std::min(b * lanes, channels - lanes);
    for (int64_t k = 0; k < kernel; ++k)
      for (int64_t r = 0; r < kernel; r += 2, packed += 2 * lanes) {
        const auto upper = hn::LoadU(d, w + (r * kernel + k) * channels + c);
        const auto lower =
            r + 1 < kernel ? hn::LoadU(d, w + ((r + 1) * kernel + k) * channels + c) : hn::Zero(d);
        const Pair x = Interleave(upper, lower);
        hn::StoreU(x.low, d, packed);
        hn::StoreU(x.high, d, packed + lanes);
      }
  }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(Lanes);
HWY_EXPORT(DepthwiseRow);
HWY_EXPORT(Pack);

int64_t CodeDepthwiseLanes() { return HWY_DYNAMIC_DISPATCH(Lanes)(); }
bool HasCodeDepthwise(int64_t kernel, int64_t stride, int64_t channels) {
  return (kernel == 3 || kernel == 5) && (stride == 1 || stride == 2) &&
         channels >= CodeDepthwiseLanes() && channels <= kDepthwiseChannels;
}
int64_t CodeDepthwisePacked(int64_t kernel, int64_t channels) {
  const int64_t lanes = CodeDepthwiseLanes();
  return (channels + lanes - 1) / lanes * lanes * kernel * ((kernel + 1) / 2) * 2;
}
void PackCodeDepthwise(int64_t kernel, int64_t channels, const int16_t* w, int16_t* packed) {
  HWY_DYNAMIC_DISPATCH(Pack)(kernel, channels, w, packed);
}
void CodeDepthwiseRow(const CodeDepthwiseArgs& args) { HWY_DYNAMIC_DISPATCH(DepthwiseRow)(args); }
}  // namespace dunlin
#endif  // HWY_ONCE
