// The register tile of the packed matrix product, for use inside SIMD functions.
#if defined(DUNLIN_KERNELS_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DUNLIN_KERNELS_GEMM_INL_H_
#undef DUNLIN_KERNELS_GEMM_INL_H_
#else
#define DUNLIN_KERNELS_GEMM_INL_H_
#endif

#include <limits>

#include "kernels/activation-inl.h"
#include "kernels/gemm.h"
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
constexpr int64_t kLineFloats = 16;  // of a cache line

struct TileArgs {
  const float* const* rows;  // rows[t * row_stride + i]
  size_t row_stride;
  size_t taps;
  size_t k_begin, k;  // the part of every row that is used
  const float* b;     // taps * k rows of the panel
  size_t b_stride;    // floats between them
  // What will be needed next is asked for, a cache line per row of b: the memory behind the second
  // level cannot be waited for. A step of 0 asks for the same line again, which costs nothing. The
  // widest panels ask for another line `ahead_other` floats further: in two pages at once the
  // hardware's own prefetching, which ends with a page, keeps up.
  const float* ahead;
  size_t ahead_step, ahead_other;
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

template <int kRows, int kWidth>
HWY_NOINLINE void GemmTile(const TileArgs& t) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  // What is added in the end lies behind the first-level cache: asked for now, it has the whole sum
  // to arrive.
  const auto ask = [&](const float* p, size_t stride) HWY_ATTR {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, p += stride)
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j) __builtin_prefetch(p + size_t(j) * lanes);
  };
  if (t.accumulate) ask(t.c, t.c_stride);
  if (t.last && t.residual != nullptr) ask(t.residual, t.residual_stride);
  V acc[kRows][kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) acc[i][j] = hn::Zero(d);

  const float* HWY_RESTRICT b = t.b;
  const float* ahead = t.ahead;
  const size_t ahead_step = t.ahead_step, b_stride = t.b_stride;
  // The widest panels have the fewest rows, and so address registers to spare.
  constexpr bool kFewRows = kWidth == kMaxPanelWidth;
  const size_t ahead_other = t.ahead_other;
  const float* const* tap_rows = t.rows;
  for (size_t tap = 0; tap < t.taps; ++tap, tap_rows += t.row_stride) {
    const float* a[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) a[i] = tap_rows[i] + t.k_begin;
    // kSteps rows of b at once.
    const auto steps = [&]<size_t kSteps>(size_t k) HWY_ATTR {
      V bv[kSteps][kWidth];
#pragma GCC unroll 16
      for (size_t u = 0; u < kSteps; ++u) {
#pragma GCC unroll 16
        for (int j = 0; j < kWidth; ++j) bv[u][j] = hn::LoadU(d, b + size_t(j) * lanes);
        b += b_stride;
        __builtin_prefetch(ahead, 0, 2);  // to the second level
        if constexpr (kFewRows) __builtin_prefetch(ahead + ahead_other, 0, 2);
        ahead += ahead_step;
      }
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
        for (size_t u = 0; u < kSteps; ++u) {
          const V av = hn::Set(d, a[i][k + u]);
#pragma GCC unroll 16
          for (int j = 0; j < kWidth; ++j) acc[i][j] = hn::MulAdd(av, bv[u][j], acc[i][j]);
        }
      }
    };
    size_t k = 0;
    constexpr size_t kUnroll = kWidth == 1 ? kNarrowUnroll : 1;
    for (; k + kUnroll <= t.k; k += kUnroll) steps.template operator()<kUnroll>(k);
    if constexpr (kUnroll > 1)
      for (; k < t.k; ++k) steps.template operator()<1>(k);
  }

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

using TileFunction = void (*)(const TileArgs&);

template <int kWidth, int... kRows>
constexpr void FillTiles(TileFunction* row, std::integer_sequence<int, kRows...>) {
  ((row[kRows + 1] = &GemmTile<kRows + 1, kWidth>), ...);
}

// [width][rows]; nullptr where there is none.
struct TileTable {
  TileFunction at[kMaxPanelWidth + 1][kMaxTileRows + 1] = {};
  constexpr TileTable() {
    FillTiles<1>(at[1], std::make_integer_sequence<int, kTileRows[1]>());
    FillTiles<2>(at[2], std::make_integer_sequence<int, kTileRows[2]>());
#if HWY_TARGET <= HWY_AVX3
    FillTiles<3>(at[3], std::make_integer_sequence<int, kTileRows[3]>());
    FillTiles<4>(at[4], std::make_integer_sequence<int, kTileRows[4]>());
#endif
  }
};
constexpr TileTable kTiles;

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
