#include "kernels/code_grouped.h"

#include <algorithm>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/code_grouped.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/code_pairs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using I32 = hn::ScalableTag<int32_t>;
using I16 = hn::Repartition<int16_t, I32>;

// Accumulators, one vector of weights, one of pairs and the lanes' places fit 16 registers.
constexpr int kMaxRows = 12;

int64_t Lanes() { return int64_t(hn::Lanes(I32())); }

// Where a vector's lanes find their pairs: from pair `first` of a pixel on.
struct Reach {
  int64_t first = 0;
  bool one_group = true;
  alignas(64) int32_t lane[HWY_MAX_BYTES / 4] = {};
};
Reach ReachOf(const CodeGroups& g, int64_t v) {
  Reach r;
  const int64_t group = v * g.lanes / g.outputs;
  r.first = group * g.pairs();
  for (int64_t i = 0; i < g.lanes; ++i) {
    const int64_t n = std::min(v * g.lanes + i, g.columns() - 1);
    r.lane[i] = int32_t((n / g.outputs - group) * g.pairs());
    r.one_group &= r.lane[i] == 0;
  }
  return r;
}

template <int kRows, bool kOneGroup>
HWY_NOINLINE void Tile(const CodeGroups& groups, const CodeGroupArgs& g, const Reach& reach,
                       int64_t row, const int16_t* b, int32_t* c) {
  const I32 d;
  const I16 d16;
  const int64_t lanes = int64_t(hn::Lanes(d)), pairs = groups.pairs();
  const auto places = hn::SetTableIndices(d, reach.lane);
  hn::Vec<I32> acc[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
    acc[i] = g.accumulate ? hn::LoadU(d, c + i * g.c_stride) : hn::Zero(d);
  for (int64_t t = 0; t < g.taps; ++t) {
    const int16_t* const* const rows = g.rows + t * g.row_stride + row;
    for (int64_t k = 0; k < pairs; ++k, b += 2 * lanes) {
      const auto w = hn::LoadU(d16, b);
      const int64_t at = 2 * (reach.first + k);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        hn::Vec<I16> a;
        if constexpr (kOneGroup) {
          int32_t pair;
          __builtin_memcpy(&pair, rows[i] + at, sizeof pair);
          a = hn::BitCast(d16, hn::Set(d, pair));
        } else {
          a = hn::BitCast(
              d16, hn::TableLookupLanes(hn::BitCast(d, hn::LoadU(d16, rows[i] + at)), places));
        }
        acc[i] = AddPairs(a, w, acc[i]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) hn::StoreU(acc[i], d, c + i * g.c_stride);
}

using TileFunction = void (*)(const CodeGroups&, const CodeGroupArgs&, const Reach&, int64_t,
                              const int16_t*, int32_t*);
struct TileTable {
  TileFunction at[2][kMaxRows + 1] = {};
  template <int... kRows>
  constexpr void Fill(std::integer_sequence<int, kRows...>) {
    ((at[0][kRows + 1] = &Tile<kRows + 1, false>, at[1][kRows + 1] = &Tile<kRows + 1, true>), ...);
  }
  constexpr TileTable() { Fill(std::make_integer_sequence<int, kMaxRows>()); }
};
constexpr TileTable kTiles;

void Product(const CodeGroups& groups, const CodeGroupArgs& g, int64_t begin, int64_t end) {
  const int64_t step = groups.pairs() * groups.lanes * 2;  // packed codes of a tap
  for (int64_t v = begin; v < end; ++v) {
    const Reach reach = ReachOf(groups, v);
    const int16_t* b = g.packed + (v * g.packed_taps + g.first_tap) * step;
    int32_t* c = g.c + (v - begin) * groups.lanes;
    for (int64_t m = 0; m < g.m; m += kMaxRows) {
      const int64_t rows = std::min<int64_t>(kMaxRows, g.m - m);
      kTiles.at[reach.one_group][rows](groups, g, reach, m, b, c + m * g.c_stride);
    }
  }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(Lanes);
HWY_EXPORT(Product);

std::optional<CodeGroups> MakeCodeGroups(int64_t groups, int64_t channels, int64_t outputs) {
  const CodeGroups g{groups, channels, outputs, HWY_DYNAMIC_DISPATCH(Lanes)()};
  for (int64_t v = 0; v < g.vectors(); ++v) {
    const int64_t last = std::min((v + 1) * g.lanes, g.columns()) - 1;
    if ((last / outputs - v * g.lanes / outputs) * g.pairs() >= g.lanes) return std::nullopt;
  }
  return g;
}
void CodeGroupProduct(const CodeGroups& groups, const CodeGroupArgs& args, int64_t begin,
                      int64_t end) {
  HWY_DYNAMIC_DISPATCH(Product)(groups, args, begin, end);
}
}  // namespace dunlin
#endif  // HWY_ONCE
