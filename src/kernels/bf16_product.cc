#include "kernels/bf16_product.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include "tensor/dtype.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bf16_product.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gemm_end-inl.h"

#if HWY_ARCH_X86
#include <cpuid.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// No target of this version of Highway implies the instruction: whether the machine has it is asked
// at run time.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
#define DUNLIN_DOT_PAIR 1
#else
#define DUNLIN_DOT_PAIR 0
#endif

bool HasDotBf16() {
#if DUNLIN_DOT_PAIR
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 5 & 1) != 0;
#else
  return false;
#endif
}

using F32 = hn::ScalableTag<float>;
using U32 = hn::RebindToUnsigned<F32>;
using U16 = hn::Rebind<uint16_t, F32>;

// sum[i] + the two products of the i-th pairs of a and b.
template <bool kInstruction>
HWY_INLINE hn::Vec<F32> DotPair(hn::Vec<U32> a, hn::Vec<U32> b, hn::Vec<F32> sum) {
#if DUNLIN_DOT_PAIR
  if constexpr (kInstruction) {
    // Assembly, because a function that names it by an intrinsic must be compiled for machines that
    // have it, and what is inlined into it, too.
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
    return sum;
  }
#endif
  const F32 d;
  const auto odd = hn::Set(U32(), 0xFFFF0000u);
  sum = hn::MulAdd(hn::BitCast(d, hn::And(a, odd)), hn::BitCast(d, hn::And(b, odd)), sum);
  return hn::MulAdd(hn::BitCast(d, hn::ShiftLeft<16>(a)), hn::BitCast(d, hn::ShiftLeft<16>(b)),
                    sum);
}

// The nearest bf16 of each, ties to even; NaN stays one.
template <bool kInstruction>
HWY_INLINE hn::Vec<U16> Rounded(hn::Vec<F32> x) {
#if DUNLIN_DOT_PAIR
  if constexpr (kInstruction) {
    hn::Vec<U16> y;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(y.raw) : "v"(x.raw));
    return y;
  }
#endif
  const U32 d;
  const auto bits = hn::BitCast(d, x), high = hn::ShiftRight<16>(bits);
  const auto tie = hn::Add(hn::And(high, hn::Set(d, 1)), hn::Set(d, 0x7FFF));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, tie));
  const auto quiet = hn::Or(high, hn::Set(d, 0x40));
  const auto nan = hn::RebindMask(d, hn::IsNaN(x));
  return hn::DemoteTo(U16(),
                      hn::BitCast(hn::RebindToSigned<U32>(), hn::IfThenElse(nan, quiet, rounded)));
}

// Pairs [begin, end) of a row, counted through all taps, to `to`; up to a vector behind them is
// overwritten.
template <bool kInstruction>
void GatherRow(const GemmArgs& g, int64_t row, int64_t begin, int64_t end, uint32_t* to) {
  const F32 d;
  const auto lanes = int64_t(hn::Lanes(d));
  const int64_t tap_pairs = PairRows(1, g.k);
  while (begin < end) {
    const int64_t tap = begin / tap_pairs, first = begin % tap_pairs;
    const int64_t pairs = std::min(tap_pairs - first, end - begin);
    const float* const from = g.rows[tap * g.row_stride + row] + g.a_first + 2 * first;
    const int64_t count = std::min(2 * pairs, g.k - 2 * first);
    auto* const halves = reinterpret_cast<uint16_t*>(to);
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes)
      hn::StoreU(Rounded<kInstruction>(hn::LoadU(d, from + i)), U16(), halves + i);
    if (i < 2 * pairs)  // with a zero behind an odd one
      hn::StoreU(Rounded<kInstruction>(LoadPartial(d, from + i, size_t(count - i))), U16(),
                 halves + i);
    begin += pairs;
    to += pairs;
  }
}

struct PairTile : TileEnd {
  const uint32_t* a;  // `pairs` of every row
  size_t a_stride;
  const uint32_t* b;  // `pairs` rows of the panel
  size_t pairs;
};

// B comes in one stream of memory; so far ahead of its use it is asked for, in pairs.
constexpr size_t kAhead = 512;
constexpr size_t kLinePairs = 16;

template <int kRows, int kWidth, bool kInstruction>
HWY_NOINLINE void Tile(const PairTile& t) {
  const F32 d;
  const U32 du;
  const size_t lanes = hn::Lanes(d);
  AskForEnd<kRows, kWidth>(t);
  hn::Vec<F32> acc[kRows][kWidth];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) acc[i][j] = hn::Zero(d);
  const uint32_t* HWY_RESTRICT b = t.b;
  const uint32_t* a[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) a[i] = t.a + size_t(i) * t.a_stride;
  for (size_t p = 0; p < t.pairs; ++p, b += size_t(kWidth) * lanes) {
    hn::Vec<U32> bv[kWidth];
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) bv[j] = hn::LoadU(du, b + size_t(j) * lanes);
    if constexpr (kRows <= 2)  // reading B is what takes the time
#pragma GCC unroll 16
      for (size_t line = 0; line < size_t(kWidth) * HWY_MAX_BYTES / 4; line += kLinePairs)
        __builtin_prefetch(b + kAhead + line);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const auto av = hn::Set(du, a[i][p]);
#pragma GCC unroll 16
      for (int j = 0; j < kWidth; ++j) acc[i][j] = DotPair<kInstruction>(av, bv[j], acc[i][j]);
    }
  }
  EndTile(acc, t);
}

using TileFunction = void (*)(const PairTile&);
struct TileTable {
  TileFunction at[kMaxPanelWidth + 1][kMaxTileRows + 1] = {};
};
template <int kWidth, bool kInstruction, int... kRows>
constexpr void FillTiles(TileFunction* row, std::integer_sequence<int, kRows...>) {
  ((row[kRows + 1] = &Tile<kRows + 1, kWidth, kInstruction>), ...);
}
template <bool kInstruction, int... kWidths>
constexpr TileTable Tiles(std::integer_sequence<int, kWidths...>) {
  TileTable t;
  (FillTiles<kWidths + 1, kInstruction>(t.at[kWidths + 1],
                                        std::make_integer_sequence<int, kTileRows[kWidths + 1]>()),
   ...);
  return t;
}
template <bool kInstruction>
constexpr TileTable kTiles = Tiles<kInstruction>(std::make_integer_sequence<int, kMaxPanelWidth>());

// A block of A: `rows` rows from `m` on, `pairs` pairs from `p` on.
struct Block {
  const uint32_t* a;
  int64_t m, rows, p, pairs;
  bool first, last;  // of the sum
};

template <bool kInstruction>
void MultiplyPanel(const GemmPanels& panels, const GemmArgs& g, const Limits& limits,
                   const Block& block, int64_t panel) {
  const int width = panels.width(panel);
  const int64_t first = panels.first_vector(panel) * panels.lanes;
  const int64_t panel_cols = int64_t(width) * panels.lanes;
  const int64_t taps_before = g.k == 0 ? 0 : g.first_row / g.k;
  const int64_t packed_pairs = g.k == 0 ? 0 : PairRows(g.packed_rows / g.k, g.k);
  HWY_ALIGN float bias[kMaxPanelWidth * HWY_MAX_BYTES / sizeof(float)] = {};
  PairTile t;
  t.cols = size_t(std::min(panel_cols, panels.n - first));
  if (g.epilogue.bias != nullptr) std::copy_n(g.epilogue.bias + first, t.cols, bias);
  t.c_stride = size_t(g.c_stride);
  t.accumulate = !block.first;
  t.last = block.last;
  t.alpha = g.epilogue.alpha;
  t.bias = bias;
  t.residual = nullptr;
  t.residual_stride = size_t(g.epilogue.residual_stride);
  t.lo = limits.lo;
  t.hi = limits.hi;
  t.hard_swish = g.epilogue.activation.kind == Activation::kHardSwish;
  t.a_stride = t.pairs = size_t(block.pairs);
  t.b = g.pairs + first * packed_pairs + (PairRows(taps_before, g.k) + block.p) * panel_cols;
  // Tiles of equal height, not full ones and a low rest.
  const int64_t tiles = (block.rows + kTileRows[width] - 1) / kTileRows[width];
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t m0 = block.rows * i / tiles, rows = block.rows * (i + 1) / tiles - m0;
    t.a = block.a + m0 * block.pairs;
    t.c = g.c + (block.m + m0) * g.c_stride + first;
    if (g.epilogue.residual != nullptr)
      t.residual = g.epilogue.residual + (block.m + m0) * g.epilogue.residual_stride + first;
    kTiles<kInstruction>.at[width][rows](t);
    if (block.last && !limits.complete && !t.hard_swish)
      ActivateRows(g.epilogue.activation, t.c, size_t(rows), t.c_stride, t.cols);
  }
}

// Rows go in blocks that are gathered once for all panels; a sum is as long as a block of B that
// stays in the first-level cache while the rows pass over it.
template <bool kInstruction>
void ProductOf(const GemmPanels& panels, const GemmArgs& g, int64_t block_pairs, int64_t begin,
               int64_t end) {
  constexpr int64_t kBufferPairs = 1 << 14;  // 64 KiB
  HWY_ALIGN uint32_t a[kBufferPairs + HWY_MAX_BYTES / 4];
  const int width = panels.width(begin);  // the widest
  const Limits limits = LimitsOf(g.epilogue.activation);
  const int64_t sum = PairRows(g.taps, g.k);
  // For a tile or two no block of B would be used again.
  const int64_t longest =
      g.m <= 2 * kTileRows[width] ? kBufferPairs / g.m : block_pairs / (width * panels.lanes);
  // At least one, so that a product of nothing gives the epilogue of zero.
  const int64_t sums = std::max<int64_t>(1, (sum + longest - 1) / longest);
  const int64_t most_rows = kBufferPairs / std::max<int64_t>(1, (sum + sums - 1) / sums);
  const int64_t parts = (g.m + most_rows - 1) / most_rows;
  for (int64_t i = 0; i < parts; ++i)
    for (int64_t j = 0; j < sums; ++j) {
      Block block;
      block.a = a;
      block.m = g.m * i / parts;
      block.rows = g.m * (i + 1) / parts - block.m;
      block.p = sum * j / sums;
      block.pairs = sum * (j + 1) / sums - block.p;
      block.first = g.first && j == 0;
      block.last = g.last && j + 1 == sums;
      for (int64_t r = 0; r < block.rows; ++r)
        GatherRow<kInstruction>(g, block.m + r, block.p, block.p + block.pairs,
                                a + r * block.pairs);
      for (int64_t panel = begin; panel < end; ++panel)
        MultiplyPanel<kInstruction>(panels, g, limits, block, panel);
    }
}

void Product(const GemmPanels& panels, const GemmArgs& g, int64_t block_pairs, int64_t begin,
             int64_t end) {
#if DUNLIN_DOT_PAIR
  static const bool has_instruction = HasDotBf16();
  if (has_instruction) return ProductOf<true>(panels, g, block_pairs, begin, end);
#endif
  ProductOf<false>(panels, g, block_pairs, begin, end);
}

#undef DUNLIN_DOT_PAIR

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(HasDotBf16);
HWY_EXPORT(Product);

bool Bf16ProductIsFast() { return HWY_DYNAMIC_DISPATCH(HasDotBf16)(); }
bool WantsBf16Products() {
  const char* const wish = std::getenv("DUNLIN_BF16");
  return Bf16ProductIsFast() || (wish != nullptr && std::string_view(wish) == "emulated");
}

bool Bf16ProductPays(int64_t terms, int64_t columns) {
  constexpr int64_t kLeastTerms = 128, kLeastColumns = 32;
  return terms >= kLeastTerms && columns >= kLeastColumns;
}

void PackBf16(const GemmPanels& panels, const GemmSource& source, int64_t begin, int64_t end,
              uint32_t* packed) {
  const int64_t tap_pairs = PairRows(1, source.k);
  std::vector<float> floats;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panels.first_vector(panel) * panels.lanes;
    GemmPanels one = panels;
    one.vectors = panels.width(panel);
    one.n = std::min(one.vectors * panels.lanes, panels.n - first);
    one.count = 1;
    GemmSource part = source;
    part.data += first * source.n_stride;
    floats.resize(size_t(one.packed_floats(source.taps * source.k)));
    PackGemm(one, part, 0, 1, floats.data());
    const int64_t cols = one.vectors * panels.lanes;
    const auto bits = [&](int64_t t, int64_t k, int64_t c) -> uint32_t {
      return k < source.k
                 ? std::bit_cast<uint16_t>(BFloat16(floats[size_t((t * source.k + k) * cols + c)]))
                 : 0;
    };
    uint32_t* to = packed + first * source.taps * tap_pairs;
    for (int64_t t = 0; t < source.taps; ++t)
      for (int64_t p = 0; p < tap_pairs; ++p)
        for (int64_t c = 0; c < cols; ++c) *to++ = bits(t, 2 * p, c) | bits(t, 2 * p + 1, c) << 16;
  }
}

void Bf16Product(const GemmPanels& panels, const GemmArgs& args, int64_t begin, int64_t end) {
  if (begin < end && args.m > 0)
    HWY_DYNAMIC_DISPATCH(Product)(panels, args, GemmBlockFloats(), begin, end);
}
}  // namespace dunlin
#endif  // HWY_ONCE
