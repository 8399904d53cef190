#include "kernels/block_gemm.h"

#include <algorithm>
#include <cstring>

#define HWY_WANT_AVX3_DL 1  // for its dot products of bytes
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/block_gemm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gemm-inl.h"
#include "kernels/transpose.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using U32 = hn::ScalableTag<uint32_t>;
using VF = hn::Vec<F32>;

// Code i of every word, times 2^(i * bits): one operation on the word, one to make it a float. The
// topmost code is shifted down, since it could be taken for a sign.
template <int kBits, int kCode>
HWY_INLINE VF CodeInPlace(hn::Vec<U32> word) {
  const hn::RebindToSigned<U32> i32;
  constexpr uint32_t kMask = (1u << kBits) - 1;
  const auto code = (kCode + 1) * kBits == 32
                        ? hn::ShiftRight<kCode * kBits>(word)
                        : hn::And(word, hn::Set(U32(), kMask << (kCode * kBits)));
  return hn::ConvertTo(F32(), hn::BitCast(i32, code));
}
// What the product with the code in place must be divided by.
template <int kBits>
constexpr float PlaceOf(int code) {
  return (code + 1) * kBits == 32 ? 1.0f : 1.0f / float(1u << (code * kBits));
}

// Numbers [at, at + lanes) of a table.
HWY_INLINE VF LoadNumbers(BlockNumbers type, const void* table, size_t at) {
  const F32 d;
  switch (type) {
    case BlockNumbers::kU8: {
      const hn::Rebind<uint8_t, F32> narrow;
      const hn::RebindToSigned<U32> i32;
      return hn::ConvertTo(
          d, hn::PromoteTo(i32, hn::LoadU(narrow, static_cast<const uint8_t*>(table) + at)));
    }
    case BlockNumbers::kF16: {
      const hn::Rebind<hwy::float16_t, F32> narrow;
      return hn::PromoteTo(d, hn::LoadU(narrow, static_cast<const hwy::float16_t*>(table) + at));
    }
    default:
      return hn::LoadU(d, static_cast<const float*>(table) + at);
  }
}

// A panel's share of a table.
HWY_INLINE const void* PanelOf(BlockNumbers type, const void* table, size_t at) {
  const size_t bytes = type == BlockNumbers::kU8 ? 1 : type == BlockNumbers::kF16 ? 2 : 4;
  return static_cast<const uint8_t*>(table) + at * bytes;
}

// Every 32 codes of a block, or what is left of it, have sums of their own.
constexpr int64_t kChunk = 32;
HWY_INLINE int64_t ChunksOf(const BlockWeights& w) { return (w.words + w.bits - 1) / w.bits; }

// A prepared row: numbers of every chunk (of every block with floats), then x.
struct Factor {
  float scale, sum;  // of x in units of scale
};
HWY_INLINE size_t FactorBytes(const BlockWeights& w) {
  return (size_t(w.blocks * ChunksOf(w)) * sizeof(Factor) + 63) / 64 * 64;
}
// Digits of four numbers that meet the bytes of a word, most significant first; three of them and
// an unused one.
constexpr size_t QuadBytes(int digits) { return digits == 1 ? 4 : 16; }

struct DotArgs {
  const BlockWeights* w;
  // Of a panel of `cols` columns, of which the tile begins at `column`.
  const uint32_t* codes;
  const void* scales;
  const void* zeros;
  size_t cols, column;
  const uint8_t* rows;
  size_t row_bytes;
  float* out;  // the panel's, row after row
};

// Memory takes some 300 ns to answer; at 20 GB/s six kilobytes must be on their way, a part of
// which the hardware asks for by itself.
constexpr size_t kAheadBytes = 2048;

template <int kWidth>
HWY_INLINE void LoadWords(const uint32_t* from, hn::Vec<U32>* words) {
  const U32 d;
#pragma GCC unroll 16
  for (int v = 0; v < kWidth; ++v) {
    __builtin_prefetch(from + size_t(v) * hn::Lanes(d) + kAheadBytes / sizeof(uint32_t));
    words[v] = hn::LoadU(d, from + size_t(v) * hn::Lanes(d));
  }
}
HWY_INLINE VF ZerosAt(const BlockWeights& w, const void* zeros, size_t at) {
  return w.zero_type == BlockNumbers::kNone ? hn::Set(F32(), float(1 << (w.bits - 1)))
                                            : LoadNumbers(w.zero_type, zeros, at);
}
template <int kRows, int kWidth>
HWY_INLINE void StoreTile(const DotArgs& t, const VF (&total)[kRows][kWidth]) {
  const F32 d;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kWidth; ++v)
      hn::StoreU(total[r][v], d, t.out + size_t(r) * t.cols + t.column + size_t(v) * hn::Lanes(d));
}

// Floats. Each word is loaded once and serves all its codes and rows.
template <int kBits, int kRows, int kWidth>
HWY_NOINLINE void FloatTile(const DotArgs& t) {
  // Accumulators of a column that hide the latency of the multiply-add.
  constexpr int kSets = kRows * kWidth >= 8 ? 1 : kRows * kWidth >= 4 ? 2 : 4;
  constexpr int kPerWord = 32 / kBits;
  const F32 d;
  const BlockWeights& w = *t.w;
  const size_t lanes = hn::Lanes(d), words = size_t(w.words);
  const uint32_t* codes = t.codes + t.column;
  const uint8_t* x = t.rows + FactorBytes(w);
  VF total[kRows][kWidth];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kWidth; ++v) total[r][v] = hn::Zero(d);

  for (size_t block = 0; block < size_t(w.blocks); ++block) {
    VF acc[kSets][kRows][kWidth];
#pragma GCC unroll 16
    for (int s = 0; s < kSets; ++s)
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
        for (int v = 0; v < kWidth; ++v) acc[s][r][v] = hn::Zero(d);
    for (size_t word = 0; word < words; ++word, codes += t.cols, x += kPerWord * sizeof(float)) {
      hn::Vec<U32> packed[kWidth];
      LoadWords<kWidth>(codes, packed);
      const auto code = [&]<int kCode>() HWY_ATTR {
        VF value[kWidth];
#pragma GCC unroll 16
        for (int v = 0; v < kWidth; ++v) value[v] = CodeInPlace<kBits, kCode>(packed[v]);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          const auto* row = reinterpret_cast<const float*>(x + size_t(r) * t.row_bytes);
          const VF xr = hn::Set(d, row[kCode]);
#pragma GCC unroll 16
          for (int v = 0; v < kWidth; ++v)
            acc[kCode % kSets][r][v] = hn::MulAdd(xr, value[v], acc[kCode % kSets][r][v]);
        }
      };
      [&]<int... kCodes>(std::integer_sequence<int, kCodes...>) HWY_ATTR {
        (code.template operator()<kCodes>(), ...);
      }
      (std::make_integer_sequence<int, kPerWord>());
    }
#pragma GCC unroll 16
    for (int v = 0; v < kWidth; ++v) {
      const size_t at = block * t.cols + t.column + size_t(v) * lanes;
      const VF scale = LoadNumbers(w.scale_type, t.scales, at), zero = ZerosAt(w, t.zeros, at);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        VF sum = acc[0][r][v];
#pragma GCC unroll 16
        for (int s = 1; s < kSets; ++s) sum = hn::Add(sum, acc[s][r][v]);
        const auto* row = reinterpret_cast<const float*>(t.rows + size_t(r) * t.row_bytes);
        sum = hn::NegMulAdd(hn::Set(d, row[block]), zero, sum);
        total[r][v] = hn::MulAdd(sum, scale, total[r][v]);
      }
    }
  }
  StoreTile(t, total);
}

// Sums of products of codes, unsigned bytes, with signed bytes of x: four of each in a lane of 32
// bits. Until SumsToFloat, 16-bit sums of pairs do: 32 codes of four bits with bytes give at most
// 16 * 15 * 128. That is one multiplication and one addition for as many products as there are
// bytes; AVX3_DL adds all four to 32 bits in one.
using I32 = hn::ScalableTag<int32_t>;
using I16 = hn::Repartition<int16_t, I32>;
using U8 = hn::Repartition<uint8_t, I32>;
using I8 = hn::Repartition<int8_t, I32>;

#if HWY_TARGET == HWY_AVX3_DL
// The target's own list lacks these dot products; HasByteDots() asks for them.
#undef DUNLIN_QUAD_ATTR
#define DUNLIN_QUAD_ATTR __attribute__((target(HWY_TARGET_STR ",avx512vnni")))
using Sums = hn::Vec<I32>;
HWY_INLINE Sums ZeroSums() { return hn::Zero(I32()); }
HWY_INLINE DUNLIN_QUAD_ATTR Sums AddQuads(Sums sums, hn::Vec<U8> codes, hn::Vec<I8> x) {
  return Sums{_mm512_dpbusd_epi32(sums.raw, codes.raw, x.raw)};
}
HWY_INLINE VF SumsToFloat(Sums sums) { return hn::ConvertTo(F32(), sums); }
#else
#undef DUNLIN_QUAD_ATTR
#define DUNLIN_QUAD_ATTR
using Sums = hn::Vec<I16>;
HWY_INLINE Sums ZeroSums() { return hn::Zero(I16()); }
HWY_INLINE Sums AddQuads(Sums sums, hn::Vec<U8> codes, hn::Vec<I8> x) {
#if HWY_TARGET <= HWY_AVX3
  return hn::Add(sums, Sums{_mm512_maddubs_epi16(codes.raw, x.raw)});
#elif HWY_TARGET <= HWY_AVX2
  return hn::Add(sums, Sums{_mm256_maddubs_epi16(codes.raw, x.raw)});
#elif HWY_ARCH_X86
  return hn::Add(sums, Sums{_mm_maddubs_epi16(codes.raw, x.raw)});
#else
  const I16 d;
  const auto codes16 = hn::BitCast(d, codes), x16 = hn::BitCast(d, x);
  const auto low =
      hn::Mul(hn::And(codes16, hn::Set(d, 255)), hn::ShiftRight<8>(hn::ShiftLeft<8>(x16)));
  const auto high =
      hn::Mul(hn::BitCast(d, hn::ShiftRight<8>(hn::BitCast(hn::RebindToUnsigned<I16>(), codes16))),
              hn::ShiftRight<8>(x16));
  return hn::Add(sums, hn::Add(low, high));
#endif
}
HWY_INLINE VF SumsToFloat(Sums sums) {
  const I32 d;
#if HWY_ARCH_X86
  hn::Vec<I32> unused = hn::Zero(d);  // x86 adds neighbours; other machines have another order
  const auto four = hn::ReorderWidenMulAccumulate(d, sums, hn::Set(I16(), 1), hn::Zero(d), unused);
#else
  const auto pairs = hn::BitCast(d, sums);
  const auto four =
      hn::Add(hn::ShiftRight<16>(hn::ShiftLeft<16>(pairs)), hn::ShiftRight<16>(pairs));
#endif
  return hn::ConvertTo(F32(), four);
}
#endif

// x as kDigits signed bytes each.
template <int kBits, int kDigits, int kRows, int kWidth>
DUNLIN_QUAD_ATTR HWY_NOINLINE void QuadTile(const DotArgs& t) {
  constexpr int kPerByte = 8 / kBits;
  const F32 d;
  const U8 d8;
  const hn::ScalableTag<uint32_t> du;
  const BlockWeights& w = *t.w;
  const size_t lanes = hn::Lanes(d), row_bytes = t.row_bytes;
  const uint32_t* codes = t.codes + t.column;
  const auto* factors = reinterpret_cast<const Factor*>(t.rows);
  const uint8_t* x = t.rows + FactorBytes(w);
  const auto mask = hn::Set(d8, uint8_t((1 << kBits) - 1));
  VF total[kRows][kWidth];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kWidth; ++v) total[r][v] = hn::Zero(d);

  for (size_t block = 0; block < size_t(w.blocks); ++block)
    for (size_t left = size_t(w.words); left > 0; ++factors) {
      size_t words = left < size_t(kBits) ? left : size_t(kBits);
      left -= words;
      Sums acc[kRows][kDigits][kWidth];
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
        for (int i = 0; i < kDigits; ++i)
#pragma GCC unroll 16
          for (int v = 0; v < kWidth; ++v) acc[r][i][v] = ZeroSums();
#pragma GCC unroll 1  // the accumulators are all the registers there are
      for (; words > 0; --words, codes += t.cols) {
        hn::Vec<U32> packed[kWidth];
        LoadWords<kWidth>(codes, packed);
#pragma GCC unroll 16
        for (int part = 0; part < kPerByte; ++part, x += QuadBytes(kDigits)) {
          hn::Vec<U8> code[kWidth];
#pragma GCC unroll 16
          for (int v = 0; v < kWidth; ++v) {
            code[v] = hn::And(hn::BitCast(d8, packed[v]), mask);
            if (part + 1 < kPerByte) packed[v] = hn::ShiftRight<kBits>(packed[v]);
          }
#pragma GCC unroll 16
          for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
            for (int i = 0; i < kDigits; ++i) {
              uint32_t quad;
              __builtin_memcpy(&quad, x + size_t(r) * row_bytes + size_t(i) * 4, sizeof quad);
              const auto digits = hn::BitCast(I8(), hn::Set(du, quad));
#pragma GCC unroll 16
              for (int v = 0; v < kWidth; ++v)
                acc[r][i][v] = AddQuads(acc[r][i][v], code[v], digits);
            }
        }
      }
#pragma GCC unroll 16
      for (int v = 0; v < kWidth; ++v) {
        const size_t at = block * t.cols + t.column + size_t(v) * lanes;
        const VF scale = LoadNumbers(w.scale_type, t.scales, at), zero = ZerosAt(w, t.zeros, at);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) {
          VF sum = SumsToFloat(acc[r][0][v]);
#pragma GCC unroll 16
          for (int i = 1; i < kDigits; ++i)
            sum = hn::MulAdd(sum, hn::Set(d, 256.0f), SumsToFloat(acc[r][i][v]));
          const auto& f = *reinterpret_cast<const Factor*>(
              reinterpret_cast<const uint8_t*>(factors) + size_t(r) * row_bytes);
          sum = hn::NegMulAdd(hn::Set(d, f.sum), zero, sum);
          total[r][v] = hn::MulAdd(sum, hn::Mul(hn::Set(d, f.scale), scale), total[r][v]);
        }
      }
    }
  StoreTile(t, total);
}

// What a tile's accumulators must leave of the registers: 3 of 16, more of 32.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMostSums = 24;
#else
constexpr int kMostSums = 12;
#endif
constexpr int kDotRows = 4;
// Vectors of a tile with so many sums a vector and row.
constexpr int TileWidth(int sums, int rows) {
  int width = kMaxPanelWidth;
  while (width > 1 && width * sums * rows > kMostSums) --width;
  return width;
}

// kRows rows against a panel. kDigits is 0 for floats.
template <int kBits, int kDigits, int kRows>
void PanelTiles(DotArgs t) {
  const auto tile = [&]<int kWidth>() {
    if constexpr (kDigits == 0)
      FloatTile<kBits, kRows, kWidth>(t);
    else
      QuadTile<kBits, kDigits, kRows, kWidth>(t);
    t.column += kWidth * hn::Lanes(F32());
  };
  constexpr int kWidth = TileWidth(kDigits == 0 ? 1 : kDigits, kRows);
  while (t.column + kWidth * hn::Lanes(F32()) <= t.cols) tile.template operator()<kWidth>();
  while (t.column < t.cols) tile.template operator()<1>();
}

using PanelFunction = void (*)(DotArgs);
template <int kBits, int kDigits>
PanelFunction OfRows(int64_t rows) {
  static constexpr PanelFunction kAt[kDotRows] = {
      &PanelTiles<kBits, kDigits, 1>, &PanelTiles<kBits, kDigits, 2>,
      &PanelTiles<kBits, kDigits, 3>, &PanelTiles<kBits, kDigits, 4>};
  return kAt[rows - 1];
}
PanelFunction FunctionOf(const BlockWeights& w, BlockRow kind, int64_t rows) {
  if (kind == BlockRow::kFloats)
    return w.bits == 2 ? OfRows<2, 0>(rows) : w.bits == 4 ? OfRows<4, 0>(rows) : OfRows<8, 0>(rows);
  if (kind == BlockRow::kWide) return w.bits == 2 ? OfRows<2, 3>(rows) : OfRows<4, 3>(rows);
  return w.bits == 2 ? OfRows<2, 1>(rows) : OfRows<4, 1>(rows);
}

// Rows up to which three digits cost less than floats. A product of a code costs three sixteenths
// (AVX3_DL: three sixty-fourths) of an operation and as many additions, with floats an eighth
// (a sixteenth) and, once for all rows, two to make the code a float.
int64_t WideRows() { return HWY_TARGET == HWY_AVX3_DL ? 1 << 30 : 1; }

size_t RowBytes(const BlockWeights& w, BlockRow kind) {
  const size_t k = size_t(w.k());
  const size_t x =
      kind == BlockRow::kFloats ? k * 4 : k / 4 * QuadBytes(kind == BlockRow::kWide ? 3 : 1);
  return FactorBytes(w) + (x + 63) / 64 * 64;
}

void Dot(const BlockWeights& w, BlockRow kind, const void* rows, int64_t m, const float* bias,
         float* c, int64_t c_stride, int64_t begin, int64_t end) {
  const int64_t lanes = int64_t(hn::Lanes(F32()));
  HWY_ALIGN float sums[kDotRows * kMaxPanelWidth * HWY_MAX_BYTES / 4];
  DotArgs t;
  t.w = &w;
  t.row_bytes = RowBytes(w, kind);
  t.column = 0;
  t.out = sums;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = w.panels.first_vector(panel) * lanes,
                  cols = w.panels.width(panel) * lanes, count = std::min(cols, w.panels.n - first);
    t.cols = size_t(cols);
    t.codes = w.codes + first * w.blocks * w.words;
    t.scales = PanelOf(w.scale_type, w.scales, size_t(first * w.blocks));
    t.zeros = PanelOf(w.zero_type, w.zeros, size_t(first * w.blocks));
    // More rows are several passes over the panel, which then lies in the cache.
    for (int64_t row = 0; row < m; row += kDotRows) {
      const int64_t together = std::min<int64_t>(m - row, kDotRows);
      t.rows = static_cast<const uint8_t*>(rows) + size_t(row) * t.row_bytes;
      FunctionOf(w, kind, together)(t);
      for (int64_t r = 0; r < together; ++r) {
        float* const to = c + (row + r) * c_stride + first;
        const float* const from = sums + r * cols;
        for (int64_t j = 0; j < count; ++j)
          to[j] = bias == nullptr ? from[j] : from[j] + bias[first + j];
      }
    }
  }
}

// Factors of a block are {sum} alone.
void PrepareFloats(const BlockWeights& w, const float* x, void* row) {
  const F32 d;
  const size_t lanes = hn::Lanes(d), per_word = size_t(w.per_word());
  const size_t block = size_t(w.block()), k = size_t(w.k());
  auto* const sums = static_cast<float*>(row);
  auto* const scaled = reinterpret_cast<float*>(static_cast<uint8_t*>(row) + FactorBytes(w));
  // The factors repeat with the words, of which a vector may hold several or a part of one.
  float places[16 + HWY_MAX_BYTES / sizeof(float)];
  for (size_t i = 0; i < 16 + lanes; ++i) {
    const int code = int(i % per_word);
    places[i] = w.bits == 2 ? PlaceOf<2>(code) : w.bits == 4 ? PlaceOf<4>(code) : PlaceOf<8>(code);
  }
  size_t i = 0;
  for (; i + lanes <= k; i += lanes)
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::LoadU(d, places + i % per_word)), d, scaled + i);
  for (; i < k; ++i) scaled[i] = x[i] * places[i % per_word];
  for (size_t b = 0; b < size_t(w.blocks); ++b, x += block) {
    VF sum = hn::Zero(d);
    size_t j = 0;
    for (; j + lanes <= block; j += lanes) sum = hn::Add(sum, hn::LoadU(d, x + j));
    float s = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; j < block; ++j) s += x[j];
    sums[b] = s;
  }
}

// The largest integers leave the top digit room for what rounding and the lower digits, which are
// -128 to 127, may carry into it.
constexpr float MostOf(int digits) { return digits == 1 ? 127.0f : float(127 << 16); }

template <int kBits, int kDigits>
void PrepareQuads(const BlockWeights& w, const float* x, void* row) {
  constexpr size_t kPerByte = 8 / kBits, kPerWord = 32 / kBits;
  const hn::CappedTag<float, 8> d;  // of which a word has one or two
  const hn::RebindToSigned<decltype(d)> di;
  const hn::CappedTag<int32_t, 4> d4;
  const hn::Repartition<uint8_t, decltype(d4)> d16;
  using V4 = hn::Vec<decltype(d4)>;
  const size_t lanes = hn::Lanes(d);
  auto* factors = static_cast<Factor*>(row);
  auto* to = static_cast<uint8_t*>(row) + FactorBytes(w);
  HWY_ALIGN static constexpr uint8_t kDigitsOrder[16] = {2, 6, 10, 14, 1, 5, 9,  13,
                                                         0, 4, 8,  12, 3, 7, 11, 15};
  const auto order = hn::Load(d16, kDigitsOrder);
  const auto most = hn::Set(d, MostOf(kDigits));
  const auto half = hn::Set(di, kDigits == 1 ? 0 : 0x808080);
  HWY_ALIGN int32_t q[kChunk];
  const auto put = [&](V4 v) HWY_ATTR {
    const auto bytes = hn::TableLookupBytes(hn::BitCast(d16, v), order);
    if constexpr (kDigits == 1) {
      const uint32_t low = hn::GetLane(hn::BitCast(hn::RebindToUnsigned<decltype(d4)>(),
                                                   hn::Shuffle1032(hn::BitCast(d4, bytes))));
      __builtin_memcpy(to, &low, sizeof low);
    } else {
      hn::StoreU(bytes, d16, to);
    }
    to += QuadBytes(kDigits);
  };
  for (size_t block = 0; block < size_t(w.blocks); ++block)
    for (size_t left = size_t(w.block()); left > 0; ++factors) {
      const size_t n = std::min(left, size_t(kChunk));
      left -= n;
      auto largest = hn::Zero(d), not_finite = hn::Zero(d);
      for (size_t i = 0; i < n; i += lanes) {
        const auto v = hn::LoadU(d, x + i);
        largest = hn::Max(largest, hn::Abs(v));
        not_finite = hn::Add(not_finite, hn::Sub(v, v));
      }
      largest = hn::MaxOfLanes(d, largest);
      const auto inverse = hn::Div(most, largest);
      auto sum = hn::Zero(di);
      for (size_t i = 0; i < n; i += lanes) {
        const auto code = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), inverse));
        sum = hn::Add(sum, code);
        // Adding half a digit everywhere and taking it away from every byte leaves signed ones.
        hn::StoreU(hn::Xor(hn::Add(code, half), half), di, q + i);
      }
      factors->scale =
          hn::GetLane(hn::Div(largest, most)) + hn::GetLane(hn::SumOfLanes(d, not_finite));
      factors->sum = float(hn::GetLane(hn::SumOfLanes(di, sum)));
      for (size_t i = 0; i < n; i += kPerWord) {
        V4 v0, v1, v2, v3;
        if constexpr (kPerByte == 2) {
          hn::LoadInterleaved2(d4, q + i, v0, v1);
          put(v0), put(v1);
        } else {
          hn::LoadInterleaved4(d4, q + i, v0, v1, v2, v3);
          put(v0), put(v1), put(v2), put(v3);
        }
      }
      x += n;
    }
}

void PrepareRow(const BlockWeights& w, BlockRow kind, const float* x, void* row) {
  if (kind == BlockRow::kFloats) return PrepareFloats(w, x, row);
  if (kind == BlockRow::kWide)
    return w.bits == 2 ? PrepareQuads<2, 3>(w, x, row) : PrepareQuads<4, 3>(w, x, row);
  return w.bits == 2 ? PrepareQuads<2, 1>(w, x, row) : PrepareQuads<4, 1>(w, x, row);
}

template <int kBits>
void DecodePanel(const BlockWeights& w, int64_t panel, int64_t first, int64_t count, float* to) {
  constexpr int kPerWord = 32 / kBits;
  const F32 d;
  const U32 du;
  const hn::RebindToSigned<U32> i32;
  const auto mask = hn::Set(du, (1u << kBits) - 1);
  const size_t lanes = hn::Lanes(d), cols = size_t(w.panels.width(panel)) * lanes;
  const size_t column = size_t(w.panels.first_vector(panel)) * lanes;
  const uint32_t* codes = w.codes + column * size_t(w.blocks * w.words);
  const void* scales = PanelOf(w.scale_type, w.scales, column * size_t(w.blocks));
  const void* zeros = PanelOf(w.zero_type, w.zeros, column * size_t(w.blocks));
  const size_t words = size_t(w.words);
  for (size_t b = size_t(first); b < size_t(first + count); ++b) {
    for (size_t c = 0; c < cols; c += lanes) {
      const VF scale = LoadNumbers(w.scale_type, scales, b * cols + c);
      const VF zero = w.zero_type == BlockNumbers::kNone
                          ? hn::Set(d, float(1 << (kBits - 1)))
                          : LoadNumbers(w.zero_type, zeros, b * cols + c);
      float* out = to + c;
      for (size_t word = 0; word < words; ++word) {
        auto packed = hn::LoadU(du, codes + (b * words + word) * cols + c);
#pragma GCC unroll 16
        for (int i = 0; i < kPerWord; ++i, out += cols) {
          const VF code = hn::ConvertTo(d, hn::BitCast(i32, hn::And(packed, mask)));
          packed = hn::ShiftRight<kBits>(packed);
          hn::StoreU(hn::Mul(hn::Sub(code, zero), scale), d, out);
        }
      }
    }
    to += size_t(w.block()) * cols;
  }
}

void Decode(const BlockWeights& w, int64_t panel, int64_t first, int64_t count, float* to) {
  if (w.bits == 2) return DecodePanel<2>(w, panel, first, count, to);
  if (w.bits == 4) return DecodePanel<4>(w, panel, first, count, to);
  DecodePanel<8>(w, panel, first, count, to);
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(Dot);
HWY_EXPORT(PrepareRow);
HWY_EXPORT(RowBytes);
HWY_EXPORT(WideRows);
HWY_EXPORT(Decode);

void PackBlockTable(const GemmPanels& panels, int64_t rows, const void* from, int64_t n_stride,
                    int64_t r_stride, int bytes, int64_t begin, int64_t end, void* packed) {
  const auto* const source = static_cast<const uint8_t*>(from);
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first = panels.first_vector(panel) * panels.lanes;
    const int64_t cols = panels.width(panel) * panels.lanes;
    const int64_t used = std::min(cols, panels.n - first);
    uint8_t* to = static_cast<uint8_t*>(packed) + first * rows * bytes;
    if (used < cols) std::memset(to, 0, size_t(rows * cols * bytes));
    if (n_stride == bytes) {
      for (int64_t r = 0; r < rows; ++r)
        std::memcpy(to + r * cols * bytes, source + first * n_stride + r * r_stride,
                    size_t(used * bytes));
    } else {
      Transpose2D(source + first * n_stride, n_stride, to, cols * bytes, used, rows, bytes);
    }
  }
}

// Bytes of eight bits and others without fast products of bytes have floats.
static bool HasQuads(const BlockWeights& w) { return HWY_ARCH_X86 && w.bits < 8; }
BlockRow ExactBlockRow(const BlockWeights& w, int64_t m) {
  return HasQuads(w) && m <= HWY_DYNAMIC_DISPATCH(WideRows)() ? BlockRow::kWide : BlockRow::kFloats;
}
BlockRow FastestBlockRow(const BlockWeights& w) {
  return HasQuads(w) ? BlockRow::kBytes : BlockRow::kFloats;
}

size_t BlockRowBytes(const BlockWeights& w, BlockRow kind) {
  return HWY_DYNAMIC_DISPATCH(RowBytes)(w, kind);
}
void PrepareBlockRow(const BlockWeights& w, BlockRow kind, const float* x, void* row) {
  HWY_DYNAMIC_DISPATCH(PrepareRow)(w, kind, x, row);
}
void BlockDot(const BlockWeights& w, BlockRow kind, const void* rows, int64_t m, const float* bias,
              float* c, int64_t c_stride, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(Dot)(w, kind, rows, m, bias, c, c_stride, begin, end);
}
void DecodeBlocks(const BlockWeights& w, int64_t panel, int64_t first, int64_t count, float* to) {
  HWY_DYNAMIC_DISPATCH(Decode)(w, panel, first, count, to);
}
}  // namespace dunlin
#endif  // HWY_ONCE
