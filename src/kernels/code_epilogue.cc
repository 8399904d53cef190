#include "kernels/code_epilogue.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/code_epilogue.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/activation-inl.h"
#include "kernels/codes.h"
#include "kernels/nearest-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using I32 = hn::RebindToSigned<F32>;
using FV = hn::Vec<F32>;
using IV = hn::Vec<I32>;

// NaN gives `low`.
HWY_INLINE FV Limit(FV v, FV low, FV high) { return hn::Min(hn::Max(v, low), high); }
HWY_INLINE FV Rounded(FV v) { return hn::ConvertTo(F32(), NearestSmall(v)); }

bool IsComparison(Activation a) { return a <= Activation::kLeakyRelu; }

// Which steps there are is decided per block, so that inner loops do not ask.
enum Steps : int {
  kBiasCodes = 1,  // integers are added to the sums
  kMore = 2,       // row scales, bias, rounding in the middle, residual, leaky: as they come
};

template <int kSteps>
struct Row {
  const CodeEpilogue e;  // a copy: its fields stay in registers while bytes are written
  FV row_scale = hn::Set(F32(), 1.0f);
  const uint8_t* residual = nullptr;

  HWY_INLINE FV Residual(int64_t i) const {
    const F32 d;
    const I32 di;
    const IV zero = hn::Set(di, e.residual_zero);
    if (e.residual == DType::kF32)
      return hn::LoadU(d, reinterpret_cast<const float*>(residual) + i);
    if (e.residual == DType::kU8)
      return hn::ConvertTo(
          d, hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, I32>(), residual + i)) - zero);
    return hn::ConvertTo(
        d, hn::PromoteTo(di, hn::LoadU(hn::Rebind<int8_t, I32>(),
                                       reinterpret_cast<const int8_t*>(residual) + i)) -
               zero);
  }

  // Column `column` and those beside it; `i`: the same among the residual's.
  HWY_INLINE FV Value(const int32_t* sums, int64_t column, int64_t i) const {
    const F32 d;
    const I32 di;
    IV sum = hn::LoadU(di, sums);
    if constexpr ((kSteps & kBiasCodes) != 0) sum = sum + hn::LoadU(di, e.bias_codes + column);
    FV v = hn::ConvertTo(d, sum) * hn::LoadU(d, e.scale + column);
    if constexpr ((kSteps & kMore) != 0) {
      v = v * row_scale;
      if (e.bias != nullptr) v = v + hn::LoadU(d, e.bias + column);
      if (e.mid)
        v = Rounded(Limit(v, hn::Set(d, e.mid_range.low), hn::Set(d, e.mid_range.high))) *
            hn::Set(d, e.mid_factor);
      if (e.residual != DType::kUndefined) v = v + Residual(i) * hn::Set(d, e.residual_factor);
      if (e.activation.kind == Activation::kLeakyRelu)
        v = hn::IfThenElse(v < hn::Zero(d), v * hn::Set(d, e.activation.a), v);
    }
    return v;
  }
};

// Rounded and limited; without the zero point.
HWY_INLINE IV Near(FV v, FV low, FV high) { return NearestSmall(Limit(v, low, high)); }

// Four vectors of codes without their zero point as bytes in order.
template <class Q>
HWY_INLINE void StoreFour(IV a, IV b, IV c, IV d, int32_t zero, Q* y) {
  const I32 di;
#if HWY_TARGET == HWY_AVX2
  const __m256i z = _mm256_set1_epi16(int16_t(zero));
  const __m256i ab = _mm256_add_epi16(_mm256_packs_epi32(a.raw, b.raw), z);
  const __m256i cd = _mm256_add_epi16(_mm256_packs_epi32(c.raw, d.raw), z);
  const __m256i bytes =
      std::is_same_v<Q, uint8_t> ? _mm256_packus_epi16(ab, cd) : _mm256_packs_epi16(ab, cd);
  // Packing works on halves: put the fours of each back in order.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm256_permutevar8x32_epi32(bytes, order));
  (void)di;
#else
  const hn::Rebind<Q, I32> dq;
  const IV z = hn::Set(di, zero);
  const size_t lanes = hn::Lanes(di);
  hn::StoreU(hn::DemoteTo(dq, a + z), dq, y);
  hn::StoreU(hn::DemoteTo(dq, b + z), dq, y + lanes);
  hn::StoreU(hn::DemoteTo(dq, c + z), dq, y + 2 * lanes);
  hn::StoreU(hn::DemoteTo(dq, d + z), dq, y + 3 * lanes);
#endif
}

// Where the sums of a vector of results are, its first column, and its place among the residual's.
struct Place {
  const int32_t* sums;
  int64_t column, i;
};
template <int kSteps>
HWY_INLINE IV NearAt(const Row<kSteps>& row, FV inverse, FV low, FV high, const Place& p) {
  FV v = row.Value(p.sums, p.column, p.i);
  if constexpr ((kSteps & kMore) != 0) v = v * inverse;
  return Near(v, low, high);
}
// Four vectors, the k-th at place(k).
template <int kSteps, class Q, class Places>
HWY_INLINE void StoreCodes(const Row<kSteps>& row, FV low, FV high, const Places& place, Q* y) {
  const FV inverse = hn::Set(F32(), row.e.inverse);
  const IV a = NearAt(row, inverse, low, high, place(0));
  const IV b = NearAt(row, inverse, low, high, place(1));
  const IV c = NearAt(row, inverse, low, high, place(2));
  const IV d = NearAt(row, inverse, low, high, place(3));
  StoreFour<Q>(a, b, c, d, row.e.range.zero, y);
}
// The first `vectors` of four, one to four.
template <int kSteps, class Q, class Places>
HWY_INLINE void StoreFewCodes(const Row<kSteps>& row, FV low, FV high, int64_t vectors,
                              const Places& place, Q* y) {
  const FV inverse = hn::Set(F32(), row.e.inverse);
  IV b = hn::Zero(I32()), c = b, d = b;
  const IV a = NearAt(row, inverse, low, high, place(0));
  if (vectors > 1) b = NearAt(row, inverse, low, high, place(1));
  if (vectors > 2) c = NearAt(row, inverse, low, high, place(2));
  if (vectors > 3) d = NearAt(row, inverse, low, high, place(3));
  StoreFour<Q>(a, b, c, d, row.e.range.zero, y);
}

// Fewer than 64 bytes: a call of memcpy takes as long as the columns of a narrow row.
HWY_INLINE void CopyFew(const uint8_t* from, size_t n, uint8_t* to) {
  const auto copy = [&](auto size) {
    if ((n & size) == 0) return;
    std::memcpy(to, from, size);
    from += size;
    to += size;
  };
  copy(std::integral_constant<size_t, 32>());
  copy(std::integral_constant<size_t, 16>());
  copy(std::integral_constant<size_t, 8>());
  copy(std::integral_constant<size_t, 4>());
  copy(std::integral_constant<size_t, 2>());
  copy(std::integral_constant<size_t, 1>());
}

// Rows too narrow for whole steps go by way of copies that may be read and written to the end.
template <class T>
struct Copies {
  static constexpr int64_t kMost = 4 * HWY_MAX_BYTES / 4;  // columns at once
  uint8_t residual[kMost * 4];
  T y[kMost];
};
inline size_t SizeOf(DType t) { return t == DType::kF32 ? 4 : 1; }

template <int kSteps, class Q>
void CodesBlock(const CodeEpilogue& e, const SumBlock& b) {
  const F32 d;
  const int64_t step = 4 * int64_t(hn::Lanes(d));
  // Limits in the unit of the codes are limits of the codes.
  float least = e.range.low, most = e.range.high;
  const auto within = [&](float v) { return v > least ? (v < most ? v : most) : least; };
  if (e.activation.kind == Activation::kRelu) least = within(0);
  if (e.activation.kind == Activation::kClip) {
    const float low = within(e.activation.a);
    most = within(e.activation.b);
    least = low < most ? low : most;
  }
  const FV low = hn::Set(d, least), high = hn::Set(d, most);
  Row<kSteps> row{e};
  Copies<Q> rest;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const auto size = int64_t(SizeOf(e.residual));
  if (b.n % step != 0 && b.n % lanes == 0 && b.y_stride == b.n && b.row_scales == nullptr &&
      (e.residual == DType::kUndefined || b.residual_stride == b.n * size)) {
    // Rows that follow each other as one.
    row.residual = static_cast<const uint8_t*>(b.residual);
    Place next{b.sums, b.first, 0};
    const auto place = [&](int64_t) HWY_ATTR {
      const Place p = next;
      next.sums += lanes, next.column += lanes, next.i += lanes;
      if (next.column == b.first + b.n) next.column = b.first, next.sums += b.stride - b.n;
      return p;
    };
    Q* const y = static_cast<Q*>(b.y);
    const int64_t all = b.rows * b.n;
    int64_t i = 0;
    for (; i + step <= all; i += step) StoreCodes(row, low, high, place, y + i);
    if (i == all) return;
    StoreFewCodes(row, low, high, (all - i) / lanes, place, rest.y);
    return CopyFew(reinterpret_cast<const uint8_t*>(rest.y), size_t(all - i),
                   reinterpret_cast<uint8_t*>(y + i));
  }
  for (int64_t r = 0; r < b.rows; ++r) {
    const auto* const residual = static_cast<const uint8_t*>(b.residual) + r * b.residual_stride;
    row.residual = residual;
    if (b.row_scales != nullptr) row.row_scale = hn::Set(d, b.row_scales[r]);
    const int32_t* const sums = b.sums + r * b.stride;
    Q* const y = reinterpret_cast<Q*>(static_cast<uint8_t*>(b.y) + r * b.y_stride);
    int64_t i = 0;
    for (; i + step <= b.n; i += step)
      StoreCodes(
          row, low, high,
          [&](int64_t k) HWY_ATTR {
            const int64_t at = i + k * lanes;
            return Place{sums + at, b.first + at, at};
          },
          y + i);
    if (i == b.n) continue;
    const int64_t left = b.n - i;
    if (e.residual != DType::kUndefined) {
      std::memcpy(rest.residual, residual + i * size, size_t(left * size));
      row.residual = rest.residual;
    }
    StoreFewCodes(
        row, low, high, (left + lanes - 1) / lanes,
        [&](int64_t k) HWY_ATTR {
          return Place{sums + i + k * lanes, b.first + i + k * lanes, k * lanes};
        },
        rest.y);
    CopyFew(reinterpret_cast<const uint8_t*>(rest.y), size_t(left),
            reinterpret_cast<uint8_t*>(y + i));
  }
}

template <int kSteps>
void FloatsBlock(const CodeEpilogue& e, const SumBlock& b) {
  const F32 d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const bool relu = e.activation.kind == Activation::kRelu,
             clip = e.activation.kind == Activation::kClip;
  const FV low = hn::Set(d, clip   ? e.activation.a
                            : relu ? 0.0f
                                   : -INFINITY),
           high = hn::Set(d, clip ? e.activation.b : INFINITY);
  Row<kSteps> row{e};
  Copies<float> rest;
  for (int64_t r = 0; r < b.rows; ++r) {
    const auto* residual = static_cast<const uint8_t*>(b.residual) + r * b.residual_stride;
    row.residual = residual;
    if (b.row_scales != nullptr) row.row_scale = hn::Set(d, b.row_scales[r]);
    const int32_t* sums = b.sums + r * b.stride;
    auto* const y = reinterpret_cast<float*>(static_cast<uint8_t*>(b.y) + r * b.y_stride);
    const auto value = [&](int64_t i, int64_t of_residual) HWY_ATTR {
      const FV v = row.Value(sums + i, b.first + i, of_residual);
      return relu || clip ? Limit(v, low, high) : v;
    };
    int64_t i = 0;
    for (; i + lanes <= b.n; i += lanes) hn::StoreU(value(i, i), d, y + i);
    if (i == b.n) continue;
    const auto left = size_t(b.n - i);
    if (e.residual != DType::kUndefined) {
      std::memcpy(rest.residual, residual + size_t(i) * SizeOf(e.residual),
                  left * SizeOf(e.residual));
      row.residual = rest.residual;
    }
    hn::StoreU(value(i, 0), d, rest.y);
    std::memcpy(y + i, rest.y, left * sizeof(float));
  }
}

template <int kSteps>
void StoreBlock(const CodeEpilogue& e, const SumBlock& b) {
  if (e.to == DType::kF32) return FloatsBlock<kSteps>(e, b);
  if (e.to == DType::kU8) return CodesBlock<kSteps, uint8_t>(e, b);
  CodesBlock<kSteps, int8_t>(e, b);
}
void StoreCompared(const CodeEpilogue& e, const SumBlock& b) {
  const bool more = b.row_scales != nullptr || e.bias != nullptr || e.mid ||
                    e.residual != DType::kUndefined || e.inverse != 1 ||
                    e.activation.kind == Activation::kLeakyRelu;
  const bool bias_codes = e.bias_codes != nullptr;
  if (more) return bias_codes ? StoreBlock<kMore | kBiasCodes>(e, b) : StoreBlock<kMore>(e, b);
  bias_codes ? StoreBlock<kBiasCodes>(e, b) : StoreBlock<0>(e, b);
}

// By way of floats, for which the activations are written.
void StoreActivated(const CodeEpilogue& e, const SumBlock& b) {
  constexpr int64_t kBlock = 256;
  alignas(64) float v[kBlock];
  alignas(64) int32_t codes[kBlock];
  const F32 d;
  const I32 di;
  const int64_t lanes = int64_t(hn::Lanes(d));
  CodeEpilogue linear = e;
  linear.activation = {};
  linear.to = DType::kF32;
  for (int64_t r = 0; r < b.rows; ++r)
    for (int64_t at = 0; at < b.n; at += kBlock) {
      SumBlock one = b;
      one.rows = 1;
      one.n = std::min(kBlock, b.n - at);
      one.first = b.first + at;
      one.sums = b.sums + r * b.stride + at;
      if (b.row_scales != nullptr) one.row_scales = b.row_scales + r;
      one.residual = static_cast<const uint8_t*>(b.residual) + r * b.residual_stride +
                     at * int64_t(SizeOf(e.residual));
      auto* const y = static_cast<uint8_t*>(b.y) + r * b.y_stride + at * int64_t(SizeOf(e.to));
      one.y = e.to == DType::kF32 ? static_cast<void*>(y) : v;
      StoreCompared(linear, one);
      ActivateRows(e.activation, static_cast<float*>(one.y), 1, 0, size_t(one.n));
      if (e.to == DType::kF32) continue;
      const FV inverse = hn::Set(d, e.inverse), low = hn::Set(d, e.range.low),
               high = hn::Set(d, e.range.high);
      for (int64_t i = 0; i < one.n; i += lanes)
        hn::Store(Near(hn::Load(d, v + i) * inverse, low, high) + hn::Set(di, e.range.zero), di,
                  codes + i);
      for (int64_t i = 0; i < one.n; ++i) y[i] = uint8_t(codes[i]);
    }
}

void Store(const CodeEpilogue& e, const SumBlock& b) {
  IsComparison(e.activation.kind) ? StoreCompared(e, b) : StoreActivated(e, b);
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(Store);

void StoreSums(const CodeEpilogue& e, const SumBlock& b) {
  if (e.to == DType::kI32) {
    for (int64_t r = 0; r < b.rows; ++r) {
      auto* const y = reinterpret_cast<int32_t*>(static_cast<uint8_t*>(b.y) + r * b.y_stride);
      const int32_t* sums = b.sums + r * b.stride;
      for (int64_t i = 0; i < b.n; ++i)
        y[i] = e.bias_codes == nullptr
                   ? sums[i]
                   : int32_t(uint32_t(sums[i]) + uint32_t(e.bias_codes[b.first + i]));
    }
    return;
  }
  HWY_DYNAMIC_DISPATCH(Store)(e, b);
  auto* const codes = static_cast<uint8_t*>(b.y);
  if (e.table == nullptr) return;
  if (b.y_stride == b.n) return MapCodes(e.table, codes, 0, codes, 0, 1, b.rows * b.n);
  MapCodes(e.table, codes, b.y_stride, codes, b.y_stride, b.rows, b.n);
}

namespace {
float Limited(float v, float low, float high) {
  v = v > low ? v : low;
  return v < high ? v : high;
}
}  // namespace

float EpilogueValue(const CodeEpilogue& e, int32_t sum, float row_scale, int64_t column,
                    double residual) {
  if (e.bias_codes != nullptr) sum = int32_t(uint32_t(sum) + uint32_t(e.bias_codes[column]));
  float v = float(sum) * e.scale[column];
  v = v * row_scale;
  if (e.bias != nullptr) v = v + e.bias[column];
  if (e.mid) v = std::nearbyint(Limited(v, e.mid_range.low, e.mid_range.high)) * e.mid_factor;
  if (e.residual != DType::kUndefined) {
    const float r =
        e.residual == DType::kF32 ? float(residual) : float(int32_t(residual) - e.residual_zero);
    const float part = r * e.residual_factor;
    v = v + part;
  }
  if (e.activation.kind == Activation::kLeakyRelu) return v < 0 ? v * e.activation.a : v;
  return float(ActivateReference(e.activation, double(v)));
}

int32_t EpilogueCode(const CodeEpilogue& e, float v) {
  const float scaled = v * e.inverse;
  return int32_t(std::nearbyint(Limited(scaled, e.range.low, e.range.high))) + e.range.zero;
}

}  // namespace dunlin
#endif  // HWY_ONCE
