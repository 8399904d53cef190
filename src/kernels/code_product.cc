#include "kernels/code_product.h"

#include <algorithm>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/code_product.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/code_pairs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A tile of kMaxRows rows and two vectors, or of twice as many rows and one: its accumulators, the
// vectors of B and one of A fit 32 registers with AVX-512, 16 below.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMaxRows = 12;
#else
constexpr int kMaxRows = 6;
#endif

using I32 = hn::ScalableTag<int32_t>;
using I16 = hn::Repartition<int16_t, I32>;

// Two vectors, unless one wastes much less: of 24 columns a quarter.
int64_t PanelWidth(int64_t n) {
  const auto lanes = int64_t(hn::Lanes(I32()));
  const int64_t vectors = (n + lanes - 1) / lanes;
  return vectors % 2 == 1 && vectors <= 3 ? lanes : 2 * lanes;
}

template <int kRows, int kVectors>
HWY_NOINLINE void Tile(const CodeProductArgs& g, int64_t row, const int16_t* b, int32_t* c) {
  const I32 d;
  const I16 d16;
  const size_t lanes = hn::Lanes(d);
  hn::Vec<I32> acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; ++v)
      acc[i][v] = g.accumulate ? hn::LoadU(d, c + i * g.c_stride + v * lanes) : hn::Zero(d);
  for (int64_t t = 0; t < g.taps; ++t) {
    const int16_t* a[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) a[i] = g.rows[t * g.row_stride + row + i];
    for (int64_t k = 0; k < g.pairs; ++k, b += 2 * kVectors * lanes) {
      hn::Vec<I16> bv[kVectors];
#pragma GCC unroll 2
      for (size_t v = 0; v < kVectors; ++v) bv[v] = hn::LoadU(d16, b + 2 * v * lanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        int32_t pair;
        __builtin_memcpy(&pair, a[i] + 2 * k, sizeof pair);
        const auto av = hn::BitCast(d16, hn::Set(d, pair));
#pragma GCC unroll 2
        for (size_t v = 0; v < kVectors; ++v) acc[i][v] = AddPairs(av, bv[v], acc[i][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; ++v) hn::StoreU(acc[i][v], d, c + i * g.c_stride + v * lanes);
}

using TileFunction = void (*)(const CodeProductArgs&, int64_t, const int16_t*, int32_t*);
template <int kVectors>
struct Tiles {
  static constexpr int kMost = kMaxRows * 2 / kVectors;
  TileFunction at[kMost + 1] = {};
  constexpr Tiles() { Fill(std::make_integer_sequence<int, kMost>()); }
  template <int... kRows>
  constexpr void Fill(std::integer_sequence<int, kRows...>) {
    ((at[kRows + 1] = &Tile<kRows + 1, kVectors>), ...);
  }
};

template <int kVectors>
void PanelsOf(const CodePanels& panels, const CodeProductArgs& g, int64_t begin, int64_t end) {
  static constexpr Tiles<kVectors> tiles;
  for (int64_t p = begin; p < end; ++p) {
    const int16_t* b = g.packed + (p * g.packed_pairs + g.first_pair) * panels.width * 2;
    int32_t* c = g.c + (p - begin) * panels.width;
    for (int64_t m = 0; m < g.m; m += tiles.kMost)
      tiles.at[std::min<int64_t>(g.m - m, tiles.kMost)](g, m, b, c + m * g.c_stride);
  }
}
void Product(const CodePanels& panels, const CodeProductArgs& g, int64_t begin, int64_t end) {
  panels.width == int64_t(hn::Lanes(I32())) ? PanelsOf<1>(panels, g, begin, end)
                                            : PanelsOf<2>(panels, g, begin, end);
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(PanelWidth);
HWY_EXPORT(Product);

CodePanels MakeCodePanels(int64_t n) {
  CodePanels p;
  p.n = n;
  p.width = HWY_DYNAMIC_DISPATCH(PanelWidth)(n);
  p.count = (n + p.width - 1) / p.width;
  return p;
}
void CodeProduct(const CodePanels& panels, const CodeProductArgs& args, int64_t begin,
                 int64_t end) {
  HWY_DYNAMIC_DISPATCH(Product)(panels, args, begin, end);
}
}  // namespace dunlin
#endif  // HWY_ONCE
