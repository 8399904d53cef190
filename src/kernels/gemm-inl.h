// The register tile of the packed matrix product, for use inside SIMD functions.
#if defined(DUNLIN_KERNELS_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DUNLIN_KERNELS_GEMM_INL_H_
#undef DUNLIN_KERNELS_GEMM_INL_H_
#else
#define DUNLIN_KERNELS_GEMM_INL_H_
#endif

#include "kernels/gemm.h"
#include "kernels/gemm_end-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kLineFloats = 16;  // of a cache line

struct TileArgs : TileEnd {
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
};

template <int kRows, int kWidth>
HWY_NOINLINE void GemmTile(const TileArgs& t) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  AskForEnd<kRows, kWidth>(t);
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

  EndTile(acc, t);
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
