#include "kernels/gemm.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/bf16_product.h"
#include "kernels/gemm-inl.h"
#include "kernels/gemv-inl.h"
#include "kernels/transpose.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {

GemmPanels MakePanels(int64_t n) {
  GemmPanels p;
  p.n = n;
  p.lanes = int(hn::Lanes(hn::ScalableTag<float>()));
  p.vectors = (n + p.lanes - 1) / p.lanes;
  p.count = (p.vectors + kMaxPanelWidth - 1) / kMaxPanelWidth;
  return p;
}

// Walks the blocks of (tap, k) space: f(first tap, taps, first k, k count).
template <class F>
HWY_INLINE void ForEachBlock(const GemmArgs& g, int64_t block_rows, F&& f) {
  if (g.k <= block_rows || g.taps * g.k <= block_rows) {  // whole taps
    const int64_t per_block = std::max<int64_t>(1, g.k == 0 ? g.taps : block_rows / g.k);
    // At least one, so that a product of nothing gives the epilogue of zero.
    const int64_t blocks = std::max<int64_t>(1, (g.taps + per_block - 1) / per_block);
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t t0 = g.taps * i / blocks, t1 = g.taps * (i + 1) / blocks;
      f(t0, t1 - t0, int64_t{0}, g.k);
    }
    return;
  }
  const int64_t blocks = (g.k + block_rows - 1) / block_rows;
  for (int64_t t = 0; t < g.taps; ++t)
    for (int64_t i = 0; i < blocks; ++i) {
      const int64_t k0 = g.k * i / blocks, k1 = g.k * (i + 1) / blocks;
      f(t, int64_t{1}, k0, k1 - k0);
    }
}

void GemmRange(const GemmPanels& panels, const GemmArgs& g, int64_t block_floats, int64_t begin,
               int64_t end);

template <class Numbers>
void Decode(const uint16_t* from, int64_t count, float* to) {
  const hn::ScalableTag<float> d;
  const auto lanes = int64_t(hn::Lanes(d));
  for (int64_t i = 0; i < count; i += lanes) hn::Store(Numbers::Load(d, from + i), d, to + i);
}

// Rows pass over the part of a panel that is decoded while it lies in the first-level cache.
template <class Numbers>
void HalvesRange(const GemmPanels& panels, const GemmArgs& g, int64_t block_floats, int64_t begin,
                 int64_t end) {
  if (IsGemv(g)) return GemvRange<Numbers>(panels, g, g.halves, begin, end);
  constexpr int64_t kFloats = 1 << 12;  // 16 KiB: half of that cache
  HWY_ALIGN float floats[kFloats];
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panels.first_vector(panel) * panels.lanes;
    GemmPanels one = panels;
    one.vectors = panels.width(panel);
    one.n = std::min(one.vectors * panels.lanes, panels.n - first);
    one.count = 1;
    const int64_t cols = one.vectors * panels.lanes;
    const uint16_t* const b = g.halves + first * g.packed_rows + g.first_row * cols;
    const int64_t parts = std::max<int64_t>(1, (g.k * cols + kFloats - 1) / kFloats);
    for (int64_t i = 0; i < parts; ++i) {
      const int64_t k0 = g.k * i / parts, k1 = g.k * (i + 1) / parts;
      Decode<Numbers>(b + k0 * cols, (k1 - k0) * cols, floats);
      GemmArgs part = g;
      part.halves = nullptr;
      part.packed = floats;
      part.k = part.packed_rows = k1 - k0;
      part.first_row = 0;
      part.a_first += k0;
      part.c += first;
      if (g.epilogue.bias != nullptr) part.epilogue.bias += first;
      if (g.epilogue.residual != nullptr) part.epilogue.residual += first;
      part.first = g.first && i == 0;
      part.last = g.last && i + 1 == parts;
      GemmRange(one, part, block_floats, 0, 1);
    }
  }
}

// A block of a panel, `block_floats`, is what all rows pass over before the next one.
void GemmRange(const GemmPanels& panels, const GemmArgs& g, int64_t block_floats, int64_t begin,
               int64_t end) {
  if (g.halves != nullptr)
    return g.half_type == HalfType::kBF16
               ? HalvesRange<BFloat16Numbers>(panels, g, block_floats, begin, end)
               : HalvesRange<Float16Numbers>(panels, g, block_floats, begin, end);
  if (IsGemv(g)) return GemvRange<FloatNumbers>(panels, g, g.packed, begin, end);
  const Limits limits = LimitsOf(g.epilogue.activation);
  const int64_t lanes = panels.lanes;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int width = panels.width(panel);
    const int64_t first = panels.first_vector(panel) * lanes;
    const int64_t panel_cols = width * lanes, cols = std::min(panel_cols, panels.n - first);
    HWY_ALIGN float bias[kMaxPanelWidth * HWY_MAX_BYTES / sizeof(float)] = {};
    if (g.epilogue.bias != nullptr) std::copy_n(g.epilogue.bias + first, cols, bias);
    // Tiles of equal height, not full ones and a low rest.
    const int64_t tiles = (g.m + kTileRows[width] - 1) / kTileRows[width];
    const int64_t tile_rows = g.m / tiles, taller = g.m % tiles;  // so many have a row more
    // With a tile or two no block would be used again, and for a sum that is hardly longer than a
    // block a second pass over C costs more than what falls out of the cache.
    const int64_t sum_rows = g.taps * g.k, rows = block_floats / panel_cols;
    const int64_t block_rows = tiles <= 2 || sum_rows <= rows + rows / 8 ? sum_rows + 1 : rows;
    const int64_t parts = std::min(tiles, std::max<int64_t>(1, panel_cols / kLineFloats));
    const int64_t pages = parts * (width == kMaxPanelWidth ? 2 : 1);
    const size_t part_step = size_t((panel_cols + pages - 1) / pages);
    const bool direct = g.direct != nullptr && !NeedsPacking(panels, panel);
    const int64_t b_stride = direct ? g.direct_stride : panel_cols;
    const float* b = direct ? g.direct + first + g.first_row * b_stride
                            : g.packed + first * g.packed_rows + g.first_row * b_stride;

    TileArgs t;
    t.row_stride = size_t(g.row_stride);
    t.b_stride = size_t(b_stride);
    t.c_stride = size_t(g.c_stride);
    t.cols = size_t(cols);
    t.alpha = g.epilogue.alpha;
    t.bias = bias;
    t.residual = nullptr;
    t.residual_stride = size_t(g.epilogue.residual_stride);
    t.lo = limits.lo;
    t.hi = limits.hi;
    t.hard_swish = g.epilogue.activation.kind == Activation::kHardSwish;
    const bool complete = limits.complete || t.hard_swish;
    bool first_block = g.first;
    ForEachBlock(g, block_rows, [&](int64_t tap, int64_t taps, int64_t k0, int64_t k) {
      const bool last_block = g.last && tap + taps == g.taps && k0 + k == g.k;
      t.taps = size_t(taps);
      t.k_begin = size_t(g.a_first + k0);
      t.k = size_t(k);
      t.b = b + (tap * g.k + k0) * b_stride;
      t.accumulate = !first_block;
      t.last = last_block;
      // The next block, or panel, follows this one in memory. The first tiles ask for a part each,
      // wide ones for both halves of it at a time.
      const int64_t part_floats = taps * k * panel_cols / parts;
      for (int64_t i = 0, m0 = 0, m1 = 0; i < tiles; ++i, m0 = m1) {
        m1 = m0 + tile_rows + (i < taller);
        t.rows = g.rows + tap * g.row_stride + m0;
        t.c = g.c + m0 * g.c_stride + first;
        if (g.epilogue.residual != nullptr)
          t.residual = g.epilogue.residual + m0 * g.epilogue.residual_stride + first;
        const bool fetch = !direct && i < parts;
        t.ahead = fetch ? t.b + taps * k * panel_cols + i * part_floats : t.b;
        t.ahead_step = fetch ? part_step : 0;
        t.ahead_other = pages > parts ? t.ahead_step * size_t(taps * k) : 0;
        kTiles.at[width][m1 - m0](t);
        if (last_block && !complete)
          ActivateRows(g.epilogue.activation, t.c, size_t(m1 - m0), t.c_stride, t.cols);
      }
      first_block = false;
    });
  }
}

void PackPanels(const GemmPanels& panels, const GemmSource& s, int64_t begin, int64_t end,
                float* packed) {
  const int64_t lanes = panels.lanes;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panels.first_vector(panel) * lanes;
    const int64_t panel_cols = panels.width(panel) * lanes;
    const int64_t cols = std::min(panel_cols, panels.n - first);
    float* out = packed + first * s.taps * s.k;
    if (s.k_stride == 1 && s.n_stride > 1) {
      if (cols < panel_cols) std::fill_n(out, s.taps * s.k * panel_cols, 0.0f);
      for (int64_t t = 0; t < s.taps; ++t)
        Transpose2D(s.data + t * s.tap_stride + first * s.n_stride, s.n_stride * 4,
                    out + t * s.k * panel_cols, panel_cols * 4, cols, s.k, 4);
      continue;
    }
    for (int64_t t = 0; t < s.taps; ++t)
      for (int64_t k = 0; k < s.k; ++k, out += panel_cols) {
        const float* in = s.data + t * s.tap_stride + k * s.k_stride + first * s.n_stride;
        if (s.n_stride == 1)
          std::copy_n(in, cols, out);
        else
          for (int64_t j = 0; j < cols; ++j) out[j] = in[j * s.n_stride];
        std::fill(out + cols, out + panel_cols, 0.0f);
      }
  }
}

// Four rows of B at a time, so that every load of A serves four products.
void DotRange(const GemmArgs& g, const float* a, int64_t a_stride, const float* b, int64_t b_stride,
              int64_t begin, int64_t end) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kTogether = 4;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const GemmEpilogue& e = g.epilogue;
  const Limits limits = LimitsOf(e.activation);
  for (int64_t n = begin; n < end; n += kTogether) {
    const int64_t count = std::min(kTogether, end - n);
    const float* row[kTogether];
    for (int64_t j = 0; j < kTogether; ++j) row[j] = b + (n + std::min(j, count - 1)) * b_stride;
    for (int64_t m = 0; m < g.m; ++m) {
      const float* x = a + m * a_stride;
      V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
      int64_t k = 0;
      for (; k + lanes <= g.k; k += lanes) {
        const V v = hn::LoadU(d, x + k);
        s0 = hn::MulAdd(v, hn::LoadU(d, row[0] + k), s0);
        s1 = hn::MulAdd(v, hn::LoadU(d, row[1] + k), s1);
        s2 = hn::MulAdd(v, hn::LoadU(d, row[2] + k), s2);
        s3 = hn::MulAdd(v, hn::LoadU(d, row[3] + k), s3);
      }
      if (const size_t rest = size_t(g.k - k); rest != 0) {
        const V v = LoadPartial(d, x + k, rest);
        s0 = hn::MulAdd(v, LoadPartial(d, row[0] + k, rest), s0);
        s1 = hn::MulAdd(v, LoadPartial(d, row[1] + k, rest), s1);
        s2 = hn::MulAdd(v, LoadPartial(d, row[2] + k, rest), s2);
        s3 = hn::MulAdd(v, LoadPartial(d, row[3] + k, rest), s3);
      }
      const float sums[kTogether] = {
          hn::GetLane(hn::SumOfLanes(d, s0)), hn::GetLane(hn::SumOfLanes(d, s1)),
          hn::GetLane(hn::SumOfLanes(d, s2)), hn::GetLane(hn::SumOfLanes(d, s3))};
      for (int64_t j = 0; j < count; ++j) {
        float v = sums[j] * e.alpha;
        if (e.bias != nullptr) v += e.bias[n + j];
        if (e.residual != nullptr) v += e.residual[m * e.residual_stride + n + j];
        // Written so that NaN stays.
        v = v < limits.lo ? limits.lo : v > limits.hi ? limits.hi : v;
        g.c[m * g.c_stride + n + j] = v;
      }
    }
  }
  if (!limits.complete)
    ActivateRows(e.activation, g.c + begin, size_t(g.m), size_t(g.c_stride), size_t(end - begin));
}

int64_t PureFma(int64_t rounds) {
  const hn::ScalableTag<float> d;
  constexpr int kChains = 12;
  hn::Vec<decltype(d)> acc[kChains];
  const auto x = hn::Set(d, 0.5f), y = hn::Set(d, 0.25f);
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) acc[i] = hn::Set(d, float(i));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) acc[i] = hn::MulAdd(acc[i], x, y);
  }
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) acc[0] = hn::Add(acc[0], acc[i]);
  // The sum is used, so that the loop stays; it never is -1.
  return hn::GetLane(acc[0]) == -1 ? 0 : rounds * kChains * int64_t(hn::Lanes(d));
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(MakePanels);
HWY_EXPORT(GemmRange);
HWY_EXPORT(PackPanels);
HWY_EXPORT(PureFma);
HWY_EXPORT(DotRange);

GemmPanels MakeGemmPanels(int64_t n) { return HWY_DYNAMIC_DISPATCH(MakePanels)(n); }

void PackGemm(const GemmPanels& panels, const GemmSource& source, int64_t begin, int64_t end,
              float* packed) {
  HWY_DYNAMIC_DISPATCH(PackPanels)(panels, source, begin, end, packed);
}

// Three quarters of the first-level cache: longer blocks go over C less often, and the rest is
// enough for A, C and the next block. Sizes that no core has are not believed: a virtual machine
// may report none.
int64_t GemmBlockFloats() {
  static const int64_t floats = [] {
    int64_t cache = 0;
#ifdef _SC_LEVEL1_DCACHE_SIZE
    cache = sysconf(_SC_LEVEL1_DCACHE_SIZE);
#endif
    return std::clamp<int64_t>(cache, 32 << 10, 64 << 10) / 4 * 3 / int64_t(sizeof(float));
  }();
  return floats;
}

void Gemm(const GemmPanels& panels, const GemmArgs& args, int64_t begin, int64_t end) {
  if (args.m <= 0) return;
  if (args.pairs != nullptr) return Bf16Product(panels, args, begin, end);
  HWY_DYNAMIC_DISPATCH(GemmRange)(panels, args, GemmBlockFloats(), begin, end);
}

void GemmDot(const GemmArgs& args, const float* a, int64_t a_stride, const float* b,
             int64_t b_stride, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(DotRange)(args, a, a_stride, b, b_stride, begin, end);
}

void GemmStrided(const GemmPanels& panels, GemmArgs args, const float* a, int64_t a_stride,
                 int64_t begin, int64_t end) {
  constexpr int64_t kRows = 1024;
  const float* rows[kRows];
  const int64_t m = args.m;
  float* const c = args.c;
  const float* const residual = args.epilogue.residual;
  args.rows = rows;
  args.row_stride = kRows;
  args.taps = 1;
  for (int64_t m0 = 0; m0 < m; m0 += kRows) {
    args.m = std::min(kRows, m - m0);
    for (int64_t i = 0; i < args.m; ++i) rows[i] = a + (m0 + i) * a_stride;
    args.c = c + m0 * args.c_stride;
    if (residual != nullptr) args.epilogue.residual = residual + m0 * args.epilogue.residual_stride;
    Gemm(panels, args, begin, end);
  }
}

GemmSplit SplitGemm(const GemmPanels& panels, int64_t batch, int64_t m, int64_t k, int64_t max_rows,
                    int threads) {
  // An item's rows of A stay in half of a 1 MiB second-level cache while all its panels pass.
  constexpr int64_t kItemFloats = 128 * 1024;
  // Fewer rows make poor use of a panel brought in from memory; two tiles of 12 or four of 6.
  constexpr int64_t kLeastRows = 24;
  // Three microseconds of a core at its peak: three times what it costs to bring in a thread.
  constexpr int64_t kLeastWork = 1 << 18;
  const auto up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  batch = std::max<int64_t>(1, batch);
  k = std::max<int64_t>(1, k);
  const int64_t cache_rows =
      std::clamp(kItemFloats / k, kLeastRows, std::max(kLeastRows, max_rows));
  int64_t m_items = std::max<int64_t>(1, up(m, std::min(cache_rows, max_rows)));
  int64_t panel_items = 1;
  const int64_t work = batch * m * k * panels.vectors * panels.lanes;
  // Four items a thread even out what a disturbed core loses.
  int64_t wanted = threads <= 1 ? 1 : std::min<int64_t>(threads * 4, work / kLeastWork);
  if (wanted > threads) wanted -= wanted % threads;
  const auto split_rows = [&] {
    m_items = std::max(m_items, std::min(up(wanted, batch * panel_items), m / kLeastRows));
  };
  const auto split_panels = [&] {
    panel_items =
        std::clamp<int64_t>(up(wanted, batch * m_items), 1, std::max<int64_t>(1, panels.count));
  };
  // The larger operand is the one to read only once; the left one counts twice, because a thread
  // that keeps its rows finds them in its own cache, and so does the next step.
  if (panels.n < 2 * m)
    split_rows(), split_panels();
  else
    split_panels(), split_rows();
  GemmSplit s;
  s.m = m;
  s.panels = panels.count;
  s.m_step = std::max<int64_t>(1, up(m, m_items));
  s.panel_step = std::max<int64_t>(1, up(panels.count, panel_items));
  s.m_items = std::max<int64_t>(1, up(m, s.m_step));
  s.panel_items = std::max<int64_t>(1, up(panels.count, s.panel_step));
  const int64_t item_work = work / (batch * s.items());
  s.grain = std::max<int64_t>(1, kLeastWork / std::max<int64_t>(1, item_work));
  return s;
}

int64_t RunPureFma(int64_t rounds) { return HWY_DYNAMIC_DISPATCH(PureFma)(rounds); }

}  // namespace dunlin
#endif  // HWY_ONCE
