// What the register tiles of the packed products have in common: their heights, and what becomes of
// their sums. For use inside SIMD functions.
#if defined(DUNLIN_KERNELS_GEMM_END_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DUNLIN_KERNELS_GEMM_END_INL_H_
#undef DUNLIN_KERNELS_GEMM_END_INL_H_
#else
#define DUNLIN_KERNELS_GEMM_END_INL_H_
#endif

#include "kernels/activation-inl.h"
#include "kernels/gemm_partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rows of the largest tile for panels of 1, 2, … vectors. Per step of k a tile does rows * width
// multiply-adds on rows + width loads, with rows * width accumulators that must cover latency x
// throughput of the multiply-add (4 x 2) and fit the registers beside `width` vectors of B and one
// broadcast: 32 registers with AVX-512, 16 below. More rows than there are address registers cost a
// load of the row's pointer per step; a width of 1 has no loads to spare for that, so it takes
// several steps (kNarrowUnroll) with one.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMaxPanelWidth = 4;
constexpr int kTileRows[kMaxPanelWidth + 1] = {0, 14, 12, 9, 6};
constexpr size_t kNarrowUnroll = 4;
#else
constexpr int kMaxPanelWidth = 2;
constexpr int kTileRows[kMaxPanelWidth + 1] = {0, 12, 6};
constexpr size_t kNarrowUnroll = 2;
#endif
constexpr int kMaxTileRows = 14;

struct TileEnd {
  float* c;
  size_t c_stride;
  size_t cols;  // <= width * lanes; only the last vector may be partial
  bool accumulate, last;
  // The rest is read when `last`.
  float alpha;
  const float* bias;  // width * lanes floats
  const float* residual;
  size_t residual_stride;
  float lo, hi;
  bool hard_swish;  // in place of the limits: too short for a second pass over C
};

// What is added in the end lies behind the first-level cache: asked for before the sum, it has the
// whole sum to arrive.
template <int kRows, int kWidth>
HWY_INLINE void AskForEnd(const TileEnd& t) {
  const size_t lanes = hn::Lanes(hn::ScalableTag<float>());
  const auto ask = [&](const float* p, size_t stride) HWY_ATTR {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, p += stride)
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j) __builtin_prefetch(p + size_t(j) * lanes);
  };
  if (t.accumulate) ask(t.c, t.c_stride);
  if (t.last && t.residual != nullptr) ask(t.residual, t.residual_stride);
}

// Adds C, applies the epilogue, stores.
template <int kRows, int kWidth, class V = hn::Vec<hn::ScalableTag<float>>>
HWY_INLINE void EndTile(V (&acc)[kRows][kWidth], const TileEnd& t) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t tail_at = (kWidth - 1) * lanes;
  const size_t tail = t.cols - tail_at;  // floats in the last vector
  const bool partial = tail != lanes;
  // acc += rows of p.
  const auto add = [&](const float* p, size_t stride) HWY_ATTR {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, p += stride) {
#pragma GCC unroll 16
      for (int j = 0; j + 1 < kWidth; ++j)
        acc[i][j] = hn::Add(acc[i][j], hn::LoadU(d, p + size_t(j) * lanes));
      V& end = acc[i][kWidth - 1];
      end = hn::Add(end, partial ? LoadPartial(d, p + tail_at, tail) : hn::LoadU(d, p + tail_at));
    }
  };
  if (t.accumulate) add(t.c, t.c_stride);
  if (t.last) {
    const V alpha = hn::Set(d, t.alpha);
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) {
      const V bias = hn::LoadU(d, t.bias + size_t(j) * lanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) acc[i][j] = hn::MulAdd(acc[i][j], alpha, bias);
    }
    if (t.residual != nullptr) add(t.residual, t.residual_stride);
    const auto each = [&](auto f) HWY_ATTR {
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
        for (int j = 0; j < kWidth; ++j) acc[i][j] = f(acc[i][j]);
    };
    const V lo = hn::Set(d, t.lo), hi = hn::Set(d, t.hi);
    if (t.hard_swish)
      each([&](V x) HWY_ATTR { return Activate<Activation::kHardSwish>(d, x, 0.0f, 0.0f); });
    else
      each([&](V x) HWY_ATTR { return Limit(x, lo, hi); });
  }
  float* c = t.c;
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i, c += t.c_stride) {
#pragma GCC unroll 16
    for (int j = 0; j + 1 < kWidth; ++j) hn::StoreU(acc[i][j], d, c + size_t(j) * lanes);
    if (partial)
      StorePartial(d, acc[i][kWidth - 1], c + tail_at, tail);
    else
      hn::StoreU(acc[i][kWidth - 1], d, c + tail_at);
  }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
