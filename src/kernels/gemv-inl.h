// The packed product of very few rows, for use inside SIMD functions: as fast as B can be read.
#if defined(DUNLIN_KERNELS_GEMV_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef DUNLIN_KERNELS_GEMV_INL_H_
#undef DUNLIN_KERNELS_GEMV_INL_H_
#else
#define DUNLIN_KERNELS_GEMV_INL_H_
#endif

#include <algorithm>

#include "kernels/activation-inl.h"
#include "kernels/gemm-inl.h"
#include "kernels/gemm_partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Every float of B is used once by each row, so what counts is how many cache lines are on their
// way, and one stream of a panel is as far ahead as the hardware's prefetching, which ends with a
// page. So the sum is cut into several streams with accumulators of their own. Rows x streams x
// vectors of the widest panel are three quarters of the registers; more rows leave one stream, and
// the tile of GemmTile is as good for that.
constexpr int kGemvRows = 3;
constexpr int GemvStreams(int rows) { return 6 / rows; }
// Every stream asks for what it needs so much later: six times that on the way is some 300 ns at
// 20 GB/s, the time memory takes to answer.
constexpr size_t kGemvAheadBytes = 1024;

// How the numbers of B are read as f32.
struct FloatNumbers {
  using T = float;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const float* p) {
    return hn::LoadU(d, p);
  }
};
template <class Half>
struct HalfNumbers {
  using T = uint16_t;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const uint16_t* p) {
    const hn::Rebind<Half, D> narrow;
    return hn::PromoteTo(d, hn::LoadU(narrow, reinterpret_cast<const Half*>(p)));
  }
};
using BFloat16Numbers = HalfNumbers<hwy::bfloat16_t>;
using Float16Numbers = HalfNumbers<hwy::float16_t>;

// Sums of `kRows` rows over a panel of `k` rows into `sums`, [kRows][kWidth * lanes]. The panel
// behind this one is asked for towards the end when there is `more`.
template <class Numbers, int kRows, int kWidth>
HWY_NOINLINE void GemvPanel(const float* const* rows, size_t k,
                            const typename Numbers::T* HWY_RESTRICT b, bool more, float* sums) {
  constexpr int kStreams = GemvStreams(kRows);
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d), cols = kWidth * lanes;
  V acc[kStreams][kRows][kWidth];
#pragma GCC unroll 16
  for (int s = 0; s < kStreams; ++s)
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j) acc[s][i][j] = hn::Zero(d);

  // One step of the first kCount streams, `apart` rows from each other.
  const auto step = [&]<int kCount>(size_t at, size_t apart, size_t ahead) HWY_ATTR {
    const auto* from = b + at * cols;
#pragma GCC unroll 16
    for (int s = 0; s < kCount; ++s) {
      const auto* row = from + size_t(s) * apart * cols;
      const size_t k_at = at + size_t(s) * apart;
      V x[kRows];
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) x[i] = hn::Set(d, rows[i][k_at]);
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j) {
        __builtin_prefetch(row + size_t(j) * lanes + ahead);
        const V v = Numbers::Load(d, row + size_t(j) * lanes);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) acc[s][i][j] = hn::MulAdd(x[i], v, acc[s][i][j]);
      }
    }
  };
  const size_t length = k / kStreams, rest = length * kStreams;
  const size_t ahead = std::max<size_t>(1, kGemvAheadBytes / sizeof(*b) / cols);
  const size_t turn = length - std::min(length, ahead);
  size_t at = 0;
  for (; at < turn; ++at) step.template operator()<kStreams>(at, length, ahead * cols);
  // Behind the end of a stream comes the beginning of the next; what is not on its way yet is the
  // same stream of the next panel.
  const size_t next = more ? (ahead + k - length) * cols : 0;
  for (; at < length; ++at) step.template operator()<kStreams>(at, length, next);
  for (at = rest; at < k; ++at) step.template operator()<1>(at, 0, 0);

#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) {
      V sum = acc[0][i][j];
#pragma GCC unroll 16
      for (int s = 1; s < kStreams; ++s) sum = hn::Add(sum, acc[s][i][j]);
      hn::StoreU(sum, d, sums + size_t(i) * cols + size_t(j) * lanes);
    }
}

// [width][rows]
template <class Numbers>
struct GemvTable {
  using Function = void (*)(const float* const*, size_t, const typename Numbers::T*, bool, float*);
  Function at[kMaxPanelWidth + 1][kGemvRows + 1] = {};
  template <int kWidth, int... kRows>
  constexpr void Fill(std::integer_sequence<int, kRows...>) {
    ((at[kWidth][kRows + 1] = &GemvPanel<Numbers, kRows + 1, kWidth>), ...);
  }
  template <int... kWidths>
  constexpr void FillAll(std::integer_sequence<int, kWidths...>) {
    (Fill<kWidths + 1>(std::make_integer_sequence<int, kGemvRows>()), ...);
  }
  constexpr GemvTable() { FillAll(std::make_integer_sequence<int, kMaxPanelWidth>()); }
};
template <class Numbers>
constexpr GemvTable<Numbers> kGemvs;

inline bool IsGemv(const GemmArgs& g) {
  return g.m <= kGemvRows && g.taps == 1 && g.first && g.last && g.direct == nullptr;
}

// What Gemm says, where IsGemv, with a B that is packed in these numbers.
template <class Numbers>
void GemvRange(const GemmPanels& panels, const GemmArgs& g, const typename Numbers::T* packed,
               int64_t begin, int64_t end) {
  const hn::ScalableTag<float> d;
  const GemmEpilogue& e = g.epilogue;
  const Limits limits = LimitsOf(e.activation);
  const auto alpha = hn::Set(d, e.alpha), lo = hn::Set(d, limits.lo), hi = hn::Set(d, limits.hi);
  const size_t lanes = hn::Lanes(d);
  const float* rows[kGemvRows];
  for (int64_t i = 0; i < g.m; ++i) rows[i] = g.rows[i] + g.a_first;
  HWY_ALIGN float sums[kGemvRows * kMaxPanelWidth * HWY_MAX_BYTES / sizeof(float)];
  for (int64_t panel = begin; panel < end; ++panel) {
    const int width = panels.width(panel);
    const size_t first = size_t(panels.first_vector(panel)) * lanes,
                 panel_cols = size_t(width) * lanes;
    const size_t cols = std::min(panel_cols, size_t(panels.n) - first);
    kGemvs<Numbers>.at[width][g.m](
        rows, size_t(g.k),
        packed + first * size_t(g.packed_rows) + size_t(g.first_row) * panel_cols, panel + 1 < end,
        sums);
    for (size_t i = 0; i < size_t(g.m); ++i) {
      float* const c = g.c + i * size_t(g.c_stride) + first;
      const float* const residual =
          e.residual == nullptr ? nullptr : e.residual + i * size_t(e.residual_stride) + first;
      for (size_t j = 0; j < cols; j += lanes) {
        const size_t count = std::min(lanes, cols - j);
        const auto load = [&](const float* p) HWY_ATTR {
          return count == lanes ? hn::LoadU(d, p + j) : LoadPartial(d, p + j, count);
        };
        auto v = hn::Load(d, sums + i * panel_cols + j);
        v = e.bias == nullptr ? hn::Mul(v, alpha) : hn::MulAdd(v, alpha, load(e.bias + first));
        if (residual != nullptr) v = hn::Add(v, load(residual));
        v = Limit(v, lo, hi);
        if (count == lanes)
          hn::StoreU(v, d, c + j);
        else
          StorePartial(d, v, c + j, count);
      }
      if (!limits.complete) ActivateRows(e.activation, c, 1, 0, cols);
    }
  }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // toggle
