#include "kernels/codes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codes.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "kernels/nearest-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using DF = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<DF>;
using DU8 = hn::Repartition<uint8_t, DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;
using VU8 = hn::Vec<DU8>;
constexpr DF df;
constexpr DI di;
constexpr DU8 du8;

// What loops make at once is one vector of codes, from four of numbers.
constexpr size_t kMostCodes = HWY_MAX_BYTES;
// Which of the four.
template <int k>
constexpr std::integral_constant<int, k> kPart;

// Of lambdas inside loops.
#undef DUNLIN_INLINE
#define DUNLIN_INLINE HWY_ATTR __attribute__((always_inline))

template <class T>
HWY_INLINE VI LoadCodes(const T* p) {
  return hn::PromoteTo(di, hn::LoadU(hn::Rebind<T, DF>(), p));
}

// x86 packs integers with saturation.
constexpr bool kPackingLimits = HWY_ARCH_X86;

// Codes of numbers as codes.h says, still as 32 bits. x86 gives the second operand when one is NaN:
// the lowest code. Not kLimits: |v| < 2^22, and what StoreCodes is given is limited by packing.
template <class T, bool kLimits = true>
struct Coder {
  VF lowest, highest;
  VI zero;
  explicit Coder(VI z)
      : lowest(hn::ConvertTo(df, hn::Sub(hn::Set(di, std::numeric_limits<T>::lowest()), z))),
        highest(hn::ConvertTo(df, hn::Sub(hn::Set(di, std::numeric_limits<T>::max()), z))),
        zero(z) {}
  HWY_INLINE VI operator()(VF v) const {
    if constexpr (kLimits) v = hn::Min(hn::Max(v, lowest), highest);
    return hn::Add(NearestSmall(v), zero);
  }
};

// Which codes of a vector are in which of four vectors of numbers.
enum class Order : uint8_t {
  kStraight,
  kBlocks,  // of every block of 16 codes, vector k has 4k to 4k + 3: what x86 packs
};

// Four vectors of integers within T, or any that packing limits.
template <Order kOrder, class T>
HWY_INLINE void StoreCodes(VI a, VI b, VI c, VI d, T* y) {
  auto* const bytes = reinterpret_cast<uint8_t*>(y);
#if HWY_ARCH_X86
  constexpr bool kSigned = std::numeric_limits<T>::is_signed;
#if HWY_CAP_GE512
  const __m512i ab = _mm512_packs_epi32(a.raw, b.raw), cd = _mm512_packs_epi32(c.raw, d.raw);
  __m512i v = kSigned ? _mm512_packs_epi16(ab, cd) : _mm512_packus_epi16(ab, cd);
  if constexpr (kOrder == Order::kStraight)
    v = _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
#elif HWY_CAP_GE256
  const __m256i ab = _mm256_packs_epi32(a.raw, b.raw), cd = _mm256_packs_epi32(c.raw, d.raw);
  __m256i v = kSigned ? _mm256_packs_epi16(ab, cd) : _mm256_packus_epi16(ab, cd);
  if constexpr (kOrder == Order::kStraight)
    v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
#else
  const __m128i ab = _mm_packs_epi32(a.raw, b.raw), cd = _mm_packs_epi32(c.raw, d.raw);
  const __m128i v = kSigned ? _mm_packs_epi16(ab, cd) : _mm_packus_epi16(ab, cd);
#endif
  hn::StoreU(VU8{v}, du8, bytes);
#else
  const hn::Repartition<uint16_t, DF> du16;
  const auto ab = hn::ConcatEven(du16, hn::BitCast(du16, b), hn::BitCast(du16, a));
  const auto cd = hn::ConcatEven(du16, hn::BitCast(du16, d), hn::BitCast(du16, c));
  hn::StoreU(hn::ConcatEven(du8, hn::BitCast(du8, cd), hn::BitCast(du8, ab)), du8, bytes);
#endif
}

// Vector k of a vector of codes, in Order::kBlocks; straight where StoreCodes knows no other order.
template <int k, class T>
HWY_INLINE VI LoadBlocks(const T* p) {
#if HWY_ARCH_X86
  constexpr bool kSigned = std::numeric_limits<T>::is_signed;
  constexpr int kByte = kSigned ? 3 : 0;  // of 32 bits: the top one, to be shifted with its sign
  HWY_ALIGN static constexpr auto kPlaces = [] {
    std::array<uint8_t, 16> places{};
    for (size_t i = 0; i < 16; ++i)
      places[i] = i % 4 == kByte ? uint8_t(4 * k + int(i) / 4) : uint8_t{0x80};
    return places;
  }();
  const VU8 v = hn::LoadU(du8, reinterpret_cast<const uint8_t*>(p));
  const VI code = hn::BitCast(di, hn::TableLookupBytesOr0(v, hn::LoadDup128(du8, kPlaces.data())));
  if constexpr (kSigned)
    return hn::ShiftRight<24>(code);
  else
    return code;
#else
  return LoadCodes(p + k * hn::Lanes(df));
#endif
}

// Neighbours, or one number that fills the memory it is read from.
template <class T>
struct Operand {
  const T* data;
  size_t step = 1;
};
template <class T>
Operand(const T*) -> Operand<T>;
// The last elements of an operand, readable as a whole block.
template <class T>
struct Padded {
  HWY_ALIGN T data[kMostCodes] = {};
  Padded(const T* p, size_t n) { std::memcpy(data, p, n * sizeof(T)); }
};

// block(y, in…) makes a vector of codes' worth of elements; it is called for all of n, for the last
// ones on copies.
template <class Out, class F, class... In>
HWY_INLINE void ForBlocks(size_t n, Out* y, const F& block, Operand<In>... in) {
  const size_t width = hn::Lanes(du8);
  size_t i = 0;
  for (; i + width <= n; i += width) block(y + i, in.data + i * in.step...);
  if (i == n) return;
  HWY_ALIGN Out last[kMostCodes];
  block(last, Padded<In>(in.data + i * in.step, n - i).data...);
  std::memcpy(y + i, last, (n - i) * sizeof(Out));
}

template <class T>
void QuantizeOf(const float* x, int64_t count, const float* scale, const int32_t* zero,
                int64_t step, T* y) {
  const auto n = static_cast<size_t>(count);
  const size_t lanes = hn::Lanes(df);
  if (step == 0) {
    const VF s = hn::Set(df, *scale);
    const Coder<T> code(hn::Set(di, *zero));
    ForBlocks(
        n, y,
        [&](T* out, const float* p) DUNLIN_INLINE {
          StoreCodes<Order::kStraight>(code(hn::Div(hn::LoadU(df, p), s)),
                                       code(hn::Div(hn::LoadU(df, p + lanes), s)),
                                       code(hn::Div(hn::LoadU(df, p + 2 * lanes), s)),
                                       code(hn::Div(hn::LoadU(df, p + 3 * lanes), s)), out);
        },
        Operand{x});
    return;
  }
  ForBlocks(
      n, y,
      [&](T* out, const float* p, const float* s, const int32_t* z) DUNLIN_INLINE {
        const auto at = [&](size_t i) DUNLIN_INLINE {
          return Coder<T>(hn::LoadU(di, z + i))(
              hn::Div(hn::LoadU(df, p + i), hn::LoadU(df, s + i)));
        };
        StoreCodes<Order::kStraight>(at(0), at(lanes), at(2 * lanes), at(3 * lanes), out);
      },
      Operand{x}, Operand{scale}, Operand{zero});
}

template <class T>
void DequantizeOf(const T* x, int64_t count, const float* scale, const int32_t* zero, int64_t step,
                  float* y) {
  const auto n = static_cast<size_t>(count);
  const size_t lanes = hn::Lanes(df);
  if (step == 0) {
    const VF s = hn::Set(df, *scale);
    const VI z = hn::Set(di, *zero);
    ForBlocks(
        n, y,
        [&](float* out, const T* p) DUNLIN_INLINE {
#pragma GCC unroll 4
          for (size_t i = 0; i < 4; ++i)
            hn::StoreU(hn::Mul(hn::ConvertTo(df, hn::Sub(LoadCodes(p + i * lanes), z)), s), df,
                       out + i * lanes);
        },
        Operand{x});
    return;
  }
  ForBlocks(
      n, y,
      [&](float* out, const T* p, const float* s, const int32_t* z) DUNLIN_INLINE {
#pragma GCC unroll 4
        for (size_t i = 0; i < 4 * lanes; i += lanes) {
          const VI distance = hn::Sub(LoadCodes(p + i), hn::LoadU(di, z + i));
          hn::StoreU(hn::Mul(hn::ConvertTo(df, distance), hn::LoadU(df, s + i)), df, out + i);
        }
      },
      Operand{x}, Operand{scale}, Operand{zero});
}

RangeOfF32 RangeOf(const float* x, int64_t count) {
  const auto n = static_cast<size_t>(count);
  const size_t lanes = hn::Lanes(df);
  VF lo0 = hn::Zero(df), lo1 = lo0, hi0 = lo0, hi1 = lo0;
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const VF a = hn::LoadU(df, x + i), b = hn::LoadU(df, x + i + lanes);
    lo0 = hn::Min(a, lo0);  // the second operand is what NaN gives
    hi0 = hn::Max(a, hi0);
    lo1 = hn::Min(b, lo1);
    hi1 = hn::Max(b, hi1);
  }
  RangeOfF32 r = {hn::GetLane(hn::MinOfLanes(df, hn::Min(lo0, lo1))),
                  hn::GetLane(hn::MaxOfLanes(df, hn::Max(hi0, hi1)))};
  for (; i < n; ++i) {
    r.lowest = std::min(r.lowest, x[i]);
    r.highest = std::max(r.highest, x[i]);
  }
  return r;
}

// a * b + c, rounded once. The product of a code and an f32 is exact in f64.
HWY_INLINE VF Fused(VF a, VF b, VF c) {
#if HWY_NATIVE_FMA
  return hn::MulAdd(a, b, c);
#else
  const hn::Repartition<double, DF> dd;
  const hn::Half<DF> half;
  const auto fused = [&](auto p, auto q, auto r) DUNLIN_INLINE {
    return hn::DemoteTo(
        half, hn::Add(hn::Mul(hn::PromoteTo(dd, p), hn::PromoteTo(dd, q)), hn::PromoteTo(dd, r)));
  };
  return hn::Combine(df,
                     fused(hn::UpperHalf(half, a), hn::UpperHalf(half, b), hn::UpperHalf(half, c)),
                     fused(hn::LowerHalf(half, a), hn::LowerHalf(half, b), hn::LowerHalf(half, c)));
#endif
}

// combine(a, b) gives the codes, as 32 bits, of two vectors of numbers.
template <class T, class F>
HWY_INLINE void ForPairs(StridedCodes<T> a, StridedCodes<T> b, T* y, int64_t rows, int64_t cols,
                         const F& combine) {
  const auto n = static_cast<size_t>(cols);
  const auto block = [&](T* out, const T* pa, const T* pb) DUNLIN_INLINE {
    const auto at = [&](auto k) DUNLIN_INLINE {
      return combine(hn::ConvertTo(df, LoadBlocks<k()>(pa)),
                     hn::ConvertTo(df, LoadBlocks<k()>(pb)));
    };
    StoreCodes<Order::kBlocks>(at(kPart<0>), at(kPart<1>), at(kPart<2>), at(kPart<3>), out);
  };
  HWY_ALIGN T same[2][kMostCodes];  // operands that are constant along the row
  const auto row = [&](const StridedCodes<T>& x, int64_t r, T* fill) {
    const T* const p = x.data + r * x.row;
    if (x.col) return Operand<T>{p, 1};
    std::memset(fill, static_cast<uint8_t>(*p), kMostCodes);
    return Operand<T>{fill, 0};
  };
  for (int64_t r = 0; r < rows; ++r)
    ForBlocks(n, y + r * cols, block, row(a, r, same[0]), row(b, r, same[1]));
}

// Calls run(coder) with one that need not limit results that are below `most`.
template <class T, class F>
HWY_INLINE void WithCoder(double most, const F& run) {
  if (kPackingLimits && most < (1 << 22))
    run(Coder<T, !kPackingLimits>(hn::Zero(di)));
  else
    run(Coder<T>(hn::Zero(di)));
}

template <class T>
void AddOf(const CodeSum& p, StridedCodes<T> a, StridedCodes<T> b, T* y, int64_t rows,
           int64_t cols) {
  const VF ra = hn::Set(df, p.a_ratio), rb = hn::Set(df, p.b_ratio), fixed = hn::Set(df, p.fixed);
  const double most = 256 * (std::fabs(double(p.a_ratio)) + std::fabs(double(p.b_ratio))) +
                      std::fabs(double(p.fixed));
  WithCoder<T>(most, [&](const auto& code) DUNLIN_INLINE {
    ForPairs(a, b, y, rows, cols,
             [&](VF u, VF v) DUNLIN_INLINE { return code(Fused(u, ra, Fused(v, rb, fixed))); });
  });
}

// The product of two differences of codes, at most 255 * 255, is exact in f32.
template <class T>
void MulOf(const CodeProductOf& p, StridedCodes<T> a, StridedCodes<T> b, T* y, int64_t rows,
           int64_t cols) {
  const VF za = hn::Set(df, float(p.a_zero)), zb = hn::Set(df, float(p.b_zero)),
           ratio = hn::Set(df, p.ratio), fixed = hn::Set(df, p.fixed);
  const double most = 65536 * std::fabs(double(p.ratio)) + std::fabs(double(p.fixed));
  WithCoder<T>(most, [&](const auto& code) DUNLIN_INLINE {
    ForPairs(a, b, y, rows, cols, [&](VF u, VF v) DUNLIN_INLINE {
      return code(hn::Add(hn::Mul(hn::Mul(hn::Sub(u, za), hn::Sub(v, zb)), ratio), fixed));
    });
  });
}

// ---- tables ------------------------------------------------------------------------------------

#if HWY_TARGET <= HWY_AVX3_DL && HWY_ARCH_X86
// 128 entries an instruction, chosen by the low 7 bits.
struct Lookup {
  __m512i part[4];
  explicit Lookup(const uint8_t* table) {
    for (int k = 0; k < 4; ++k) part[k] = _mm512_loadu_si512(table + 64 * k);
  }
  template <int kVectors>
  HWY_INLINE void operator()(const uint8_t* x, uint8_t* y) const {
#pragma GCC unroll 4
    for (size_t i = 0; i < kVectors * 64; i += 64) {
      const __m512i v = _mm512_loadu_si512(x + i);
      const __m512i low = _mm512_permutex2var_epi8(part[0], v, part[1]);
      const __m512i high = _mm512_permutex2var_epi8(part[2], v, part[3]);
      _mm512_storeu_si512(y + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high));
    }
  }
};
#elif HWY_ARCH_X86
// 16 entries an instruction, chosen by the low 4 bits; 0 where the top bit is set. Counting the
// code down by 16 for every 16 entries, it chooses among all of them up to its own, whose
// differences (by XOR) from the ones before add up to its own. The other half is looked up
// likewise, with the top bit turned over.
struct Lookup {
  alignas(16) uint8_t steps[256];
  explicit Lookup(const uint8_t* table) {
    const hn::Full128<uint8_t> d16;
    for (int half = 0; half < 256; half += 128) {
      auto before = hn::Zero(d16);
      for (int k = half; k < half + 128; k += 16) {
        const auto entries = hn::LoadU(d16, table + k);
        hn::Store(hn::Xor(entries, before), d16, steps + k);
        before = entries;
      }
    }
  }
  template <int kVectors>
  HWY_INLINE void operator()(const uint8_t* x, uint8_t* y) const {
    const hn::RebindToSigned<DU8> ds8;
    const size_t lanes = hn::Lanes(du8);
    VU8 sum[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) sum[i] = hn::Zero(du8);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      VU8 code[kVectors];
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i)
        code[i] = hn::Xor(hn::LoadU(du8, x + size_t(i) * lanes), hn::Set(du8, uint8_t(half * 128)));
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) {
        const VU8 step = hn::LoadDup128(du8, steps + half * 128 + k * 16);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i) {
          sum[i] = hn::Xor(sum[i], hn::TableLookupBytesOr0(step, code[i]));
          code[i] = hn::BitCast(
              du8, hn::SaturatedSub(hn::BitCast(ds8, code[i]), hn::Set(ds8, int8_t{16})));
        }
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) hn::StoreU(sum[i], du8, y + size_t(i) * lanes);
  }
};
#else
struct Lookup {
  const uint8_t* table;
  explicit Lookup(const uint8_t* t) : table(t) {}
  template <int kVectors>
  HWY_INLINE void operator()(const uint8_t* x, uint8_t* y) const {
    const size_t lanes = hn::Lanes(du8);
    for (size_t v = 0; v < kVectors * lanes; v += lanes) {
      const VU8 code = hn::LoadU(du8, x + v), low = hn::And(code, hn::Set(du8, 15)),
                high = hn::AndNot(hn::Set(du8, 15), code);
      VU8 sum = hn::Zero(du8);
      for (int k = 0; k < 16; ++k) {
        const VU8 entry = hn::TableLookupBytes(hn::LoadDup128(du8, table + 16 * k), low);
        sum = hn::Or(sum, hn::IfThenElseZero(hn::Eq(high, hn::Set(du8, uint8_t(16 * k))), entry));
      }
      hn::StoreU(sum, du8, y + v);
    }
  }
};
#endif

void MapOf(const uint8_t* table, const uint8_t* x, int64_t x_stride, uint8_t* y, int64_t y_stride,
           int64_t rows, int64_t cols) {
  const Lookup lookup(table);
  const auto lanes = int64_t(hn::Lanes(du8));
  for (int64_t r = 0; r < rows; ++r, x += x_stride, y += y_stride) {
    int64_t i = 0;
    for (; i + 4 * lanes <= cols; i += 4 * lanes) lookup.operator()<4>(x + i, y + i);
    for (; i + lanes <= cols; i += lanes) lookup.operator()<1>(x + i, y + i);
    for (; i < cols; ++i) y[i] = table[x[i]];
  }
}

// ---- pools -------------------------------------------------------------------------------------

template <class T>
void MaxOf(const T* const* pixels, int64_t count, int64_t channels, T* y) {
  const hn::Repartition<T, DF> d;
  const auto lanes = int64_t(hn::Lanes(d));
  const auto lowest = hn::Set(d, std::numeric_limits<T>::lowest());
  int64_t c = 0;
  for (; c + 2 * lanes <= channels; c += 2 * lanes) {
    auto a = lowest, b = lowest;
    for (int64_t t = 0; t < count; ++t) {
      a = hn::Max(a, hn::LoadU(d, pixels[t] + c));
      b = hn::Max(b, hn::LoadU(d, pixels[t] + c + lanes));
    }
    hn::StoreU(a, d, y + c);
    hn::StoreU(b, d, y + c + lanes);
  }
  for (; c + lanes <= channels; c += lanes) {
    auto a = lowest;
    for (int64_t t = 0; t < count; ++t) a = hn::Max(a, hn::LoadU(d, pixels[t] + c));
    hn::StoreU(a, d, y + c);
  }
  const hn::CappedTag<T, 8> d8;
  const auto few = int64_t(hn::Lanes(d8));
  for (; c + few <= channels; c += few) {
    auto a = hn::Set(d8, std::numeric_limits<T>::lowest());
    for (int64_t t = 0; t < count; ++t) a = hn::Max(a, hn::LoadU(d8, pixels[t] + c));
    hn::StoreU(a, d8, y + c);
  }
  for (; c < channels; ++c) {
    T best = std::numeric_limits<T>::lowest();
    for (int64_t t = 0; t < count; ++t) best = std::max(best, pixels[t][c]);
    y[c] = best;
  }
}

template <class T>
void AverageOf(const CodeAverage& p, const T* const* pixels, int64_t count, int64_t channels,
               T* y) {
  const size_t step = hn::Lanes(du8);
  const VI zero = hn::Set(di, p.x_zero);
  const VF scale = hn::Set(df, p.x_scale), divisor = hn::Set(df, p.divisor),
           y_scale = hn::Set(df, p.y_scale), y_zero = hn::Set(df, float(p.y_zero));
  const Coder<T> code(hn::Zero(di));
  const auto n = static_cast<size_t>(channels);
  for (size_t c = 0; c < n; c += step) {
    VF sum[4];
#pragma GCC unroll 4
    for (VF& s : sum) s = hn::Zero(df);
    const auto add_part = [&](const T* x, auto k) DUNLIN_INLINE {
      const VI distance = hn::Sub(LoadBlocks<k()>(x), zero);
      sum[k()] = hn::Add(sum[k()], hn::Mul(scale, hn::ConvertTo(df, distance)));
    };
    const auto add = [&](const T* x) DUNLIN_INLINE {
      add_part(x, kPart<0>);
      add_part(x, kPart<1>);
      add_part(x, kPart<2>);
      add_part(x, kPart<3>);
    };
    const bool whole = c + step <= n;
    for (int64_t t = 0; t < count; ++t)
      whole ? add(pixels[t] + c) : add(Padded<T>(pixels[t] + c, n - c).data);
    const auto finish = [&](VF s) DUNLIN_INLINE {
      return code(hn::Add(hn::Div(hn::Div(s, divisor), y_scale), y_zero));
    };
    HWY_ALIGN T last[kMostCodes];
    StoreCodes<Order::kBlocks>(finish(sum[0]), finish(sum[1]), finish(sum[2]), finish(sum[3]),
                               whole ? y + c : last);
    if (!whole) std::memcpy(y + c, last, n - c);
  }
}

// kVectors neighbouring vectors of 16-bit sums over rows few enough not to overflow them.
constexpr int64_t kRowsOfSums16 = 128;  // * 255 < 2^15

template <int kVectors, class T>
HWY_INLINE void SumSome(const T* x, int64_t stride, int64_t rows, int32_t* sums) {
  const hn::Repartition<int16_t, DF> d16;
  const hn::Rebind<T, decltype(d16)> d8;
  const hn::Half<decltype(d16)> half;
  const size_t lanes = hn::Lanes(d16);
  hn::Vec<decltype(d16)> sum[kVectors];
#pragma GCC unroll 4
  for (auto& s : sum) s = hn::Zero(d16);
  for (int64_t r = 0; r < rows; ++r, x += stride) {
#pragma GCC unroll 4
    for (size_t i = 0; i < kVectors; ++i)
      sum[i] = hn::Add(sum[i], hn::PromoteTo(d16, hn::LoadU(d8, x + i * lanes)));
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < kVectors; ++i) {
    int32_t* const to = sums + i * lanes;
    const VI low = hn::PromoteTo(di, hn::LowerHalf(half, sum[i])),
             high = hn::PromoteTo(di, hn::UpperHalf(half, sum[i]));
    hn::StoreU(hn::Add(hn::LoadU(di, to), low), di, to);
    hn::StoreU(hn::Add(hn::LoadU(di, to + lanes / 2), high), di, to + lanes / 2);
  }
}

template <class T>
void SumColumnsOf(const T* x, int64_t stride, int64_t rows, int64_t cols, int32_t* sums) {
  const auto lanes = int64_t(hn::Lanes(hn::Repartition<int16_t, DF>()));
  std::fill_n(sums, cols, 0);
  for (int64_t r = 0; r < rows; r += kRowsOfSums16) {
    const T* const some = x + r * stride;
    const int64_t n = std::min(kRowsOfSums16, rows - r);
    int64_t c = 0;
    for (; c + 4 * lanes <= cols; c += 4 * lanes) SumSome<4>(some + c, stride, n, sums + c);
    for (; c + lanes <= cols; c += lanes) SumSome<1>(some + c, stride, n, sums + c);
    for (; c < cols; ++c)
      for (int64_t i = 0; i < n; ++i) sums[c] += some[i * stride + c];
  }
}

template <class T>
int64_t SumOf(const T* x, int64_t count) {
  const hn::Repartition<uint64_t, DF> d64;
  const auto lanes = int64_t(hn::Lanes(du8));
  constexpr int kShift = std::numeric_limits<T>::is_signed ? 128 : 0;  // of codes to 0..255
  const auto* const bytes = reinterpret_cast<const uint8_t*>(x);
  auto sum = hn::Zero(d64);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    sum = hn::Add(sum,
                  hn::SumsOf8(hn::Xor(hn::LoadU(du8, bytes + i), hn::Set(du8, uint8_t(kShift)))));
  auto total = int64_t(hn::GetLane(hn::SumOfLanes(d64, sum))) - i * kShift;
  for (; i < count; ++i) total += x[i];
  return total;
}

// Functions by type have names of their own, for the dispatch.
#define DUNLIN_BOTH(NAME)                       \
  constexpr auto& NAME##U8 = NAME##Of<uint8_t>; \
  constexpr auto& NAME##S8 = NAME##Of<int8_t>
DUNLIN_BOTH(Quantize);
DUNLIN_BOTH(Dequantize);
DUNLIN_BOTH(Add);
DUNLIN_BOTH(Mul);
DUNLIN_BOTH(Max);
DUNLIN_BOTH(Average);
DUNLIN_BOTH(SumColumns);
DUNLIN_BOTH(Sum);
#undef DUNLIN_BOTH

}  // namespace
}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {

HWY_EXPORT(RangeOf);
HWY_EXPORT(MapOf);
RangeOfF32 RangeF32(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(RangeOf)(x, n); }
void MapCodes(const uint8_t* table, const uint8_t* x, int64_t x_stride, uint8_t* y,
              int64_t y_stride, int64_t rows, int64_t cols) {
  HWY_DYNAMIC_DISPATCH(MapOf)(table, x, x_stride, y, y_stride, rows, cols);
}

// T's functions are those that were named with SUFFIX.
#define DUNLIN_CODES(T, SUFFIX)                                                                    \
  HWY_EXPORT(Quantize##SUFFIX);                                                                    \
  HWY_EXPORT(Dequantize##SUFFIX);                                                                  \
  HWY_EXPORT(Add##SUFFIX);                                                                         \
  HWY_EXPORT(Mul##SUFFIX);                                                                         \
  HWY_EXPORT(Max##SUFFIX);                                                                         \
  HWY_EXPORT(Average##SUFFIX);                                                                     \
  HWY_EXPORT(SumColumns##SUFFIX);                                                                  \
  HWY_EXPORT(Sum##SUFFIX);                                                                         \
  void QuantizeF32(const float* x, int64_t n, const float* scale, const int32_t* zero,             \
                   int64_t step, T* y) {                                                           \
    HWY_DYNAMIC_DISPATCH(Quantize##SUFFIX)(x, n, scale, zero, step, y);                            \
  }                                                                                                \
  void DequantizeF32(const T* x, int64_t n, const float* scale, const int32_t* zero, int64_t step, \
                     float* y) {                                                                   \
    HWY_DYNAMIC_DISPATCH(Dequantize##SUFFIX)(x, n, scale, zero, step, y);                          \
  }                                                                                                \
  void AddCodes(const CodeSum& p, StridedCodes<T> a, StridedCodes<T> b, T* y, int64_t rows,        \
                int64_t cols) {                                                                    \
    HWY_DYNAMIC_DISPATCH(Add##SUFFIX)(p, a, b, y, rows, cols);                                     \
  }                                                                                                \
  void MulCodes(const CodeProductOf& p, StridedCodes<T> a, StridedCodes<T> b, T* y, int64_t rows,  \
                int64_t cols) {                                                                    \
    HWY_DYNAMIC_DISPATCH(Mul##SUFFIX)(p, a, b, y, rows, cols);                                     \
  }                                                                                                \
  void MaxCodes(const T* const* pixels, int64_t count, int64_t channels, T* y) {                   \
    HWY_DYNAMIC_DISPATCH(Max##SUFFIX)(pixels, count, channels, y);                                 \
  }                                                                                                \
  void AverageCodes(const CodeAverage& p, const T* const* pixels, int64_t count, int64_t channels, \
                    T* y) {                                                                        \
    HWY_DYNAMIC_DISPATCH(Average##SUFFIX)(p, pixels, count, channels, y);                          \
  }                                                                                                \
  void SumCodeColumns(const T* x, int64_t stride, int64_t rows, int64_t cols, int32_t* sums) {     \
    HWY_DYNAMIC_DISPATCH(SumColumns##SUFFIX)(x, stride, rows, cols, sums);                         \
  }                                                                                                \
  int64_t SumCodes(const T* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(Sum##SUFFIX)(x, n); }
DUNLIN_CODES(uint8_t, U8)
DUNLIN_CODES(int8_t, S8)
#undef DUNLIN_CODES

}  // namespace dunlin
#endif  // HWY_ONCE
