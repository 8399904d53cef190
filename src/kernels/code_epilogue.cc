#include "kernels/code_epilogue.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/code_epilogue.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using I32 = hn::RebindToSigned<F32>;
using FV = hn::Vec<F32>;
using IV = hn::Vec<I32>;

// NaN gives `low`.
HWY_INLINE FV Limit(FV v, FV low, FV high) { return hn::Min(hn::Max(v, low), high); }
HWY_INLINE FV Rounded(FV v) { return hn::ConvertTo(F32(), hn::NearestInt(v)); }

// Comparisons and the leaky product keep their meaning in any unit; others see real numbers.
HWY_INLINE FV Compare(const ActivationParams& p, FV v) {
  const F32 d;
  switch (p.kind) {
    case Activation::kRelu:
      return hn::Max(v, hn::Zero(d));
    case Activation::kClip:
      return Limit(v, hn::Set(d, p.a), hn::Set(d, p.b));
    case Activation::kLeakyRelu:
      return hn::IfThenElse(v < hn::Zero(d), v * hn::Set(d, p.a), v);
    default:
      return v;
  }
}
bool IsComparison(Activation a) { return a <= Activation::kLeakyRelu; }

HWY_INLINE FV LoadResidual(const CodeEpilogue& e, const void* residual, int64_t i) {
  const F32 d;
  const I32 di;
  const IV zero = hn::Set(di, e.residual_zero);
  if (e.residual == DType::kF32) return hn::LoadU(d, static_cast<const float*>(residual) + i);
  if (e.residual == DType::kU8)
    return hn::ConvertTo(
        d, hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, I32>(),
                                       static_cast<const uint8_t*>(residual) + i)) -
               zero);
  return hn::ConvertTo(
      d, hn::PromoteTo(di, hn::LoadU(hn::Rebind<int8_t, I32>(),
                                     static_cast<const int8_t*>(residual) + i)) -
             zero);
}

// Elements i … i + Lanes of the chunk that starts at column `first`, before the activation.
template <bool kMore>  // than scale and bias codes
HWY_INLINE FV Value(const CodeEpilogue& e, const int32_t* sums, FV row_scale, int64_t first,
                    int64_t i, const void* residual) {
  const F32 d;
  const I32 di;
  IV sum = hn::LoadU(di, sums + i);
  if (e.bias_codes != nullptr) sum = sum + hn::LoadU(di, e.bias_codes + first + i);
  FV v = hn::ConvertTo(d, sum) * hn::LoadU(d, e.scale + first + i);
  if constexpr (kMore) {
    v = v * row_scale;
    if (e.bias != nullptr) v = v + hn::LoadU(d, e.bias + first + i);
    if (e.mid)
      v = Rounded(Limit(v, hn::Set(d, e.mid_range.low), hn::Set(d, e.mid_range.high))) *
          hn::Set(d, e.mid_factor);
    if (e.residual != DType::kUndefined)
      v = v + LoadResidual(e, residual, i) * hn::Set(d, e.residual_factor);
  }
  return v;
}

HWY_INLINE IV Code(const CodeEpilogue& e, FV v) {
  const F32 d;
  const I32 di;
  v = Limit(v * hn::Set(d, e.inverse), hn::Set(d, e.range.low), hn::Set(d, e.range.high));
  return hn::NearestInt(v) + hn::Set(di, e.range.zero);
}

template <class T>
HWY_INLINE void StoreCodes(IV code, int64_t n, T* y) {
  const hn::Rebind<T, I32> d;
  const auto bytes = hn::DemoteTo(d, code);
  if (n >= int64_t(hn::Lanes(d))) {
    hn::StoreU(bytes, d, y);
    return;
  }
  T some[HWY_MAX_BYTES / sizeof(int32_t)];
  hn::StoreU(bytes, d, some);
  std::memcpy(y, some, size_t(n) * sizeof(T));
}
HWY_INLINE void StoreFloats(FV v, int64_t n, float* y) {
  const F32 d;
  if (n >= int64_t(hn::Lanes(d))) {
    hn::StoreU(v, d, y);
    return;
  }
  float some[HWY_MAX_BYTES / sizeof(float)];
  hn::StoreU(v, d, some);
  std::memcpy(y, some, size_t(n) * sizeof(float));
}

HWY_INLINE void Store(const CodeEpilogue& e, FV v, int64_t n, int64_t i, void* y) {
  if (e.to == DType::kF32)
    StoreFloats(v, n, static_cast<float*>(y) + i);
  else if (e.to == DType::kU8)
    StoreCodes(Code(e, v), n, static_cast<uint8_t*>(y) + i);
  else
    StoreCodes(Code(e, v), n, static_cast<int8_t*>(y) + i);
}

// The residual's next vector, of which only n may be read.
struct SomeResidual {
  float bytes[HWY_MAX_BYTES / sizeof(float)];
  const void* Of(const CodeEpilogue& e, const void* residual, int64_t i, int64_t n) {
    const size_t size = e.residual == DType::kF32 ? 4 : 1;
    std::memcpy(bytes, static_cast<const uint8_t*>(residual) + size_t(i) * size, size_t(n) * size);
    return bytes;
  }
};

template <bool kMore>
void StoreCompared(const CodeEpilogue& e, const int32_t* sums, float row_scale, int64_t first,
                   int64_t n, const void* residual, void* y) {
  const F32 d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const FV row = hn::Set(d, row_scale);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    Store(e, Compare(e.activation, Value<kMore>(e, sums, row, first, i, residual)), lanes, i, y);
  if (i == n) return;
  SomeResidual some;
  const void* const left =
      e.residual == DType::kUndefined ? nullptr : some.Of(e, residual, i, n - i);
  Store(e, Compare(e.activation, Value<kMore>(e, sums + i, row, first + i, 0, left)), n - i, i,
        y);
}

// By way of a buffer of floats, for which the activations are written.
void StoreActivated(const CodeEpilogue& e, const int32_t* sums, float row_scale, int64_t first,
                    int64_t n, const void* residual, void* y) {
  constexpr int64_t kBlock = 256;
  const F32 d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  alignas(64) float v[kBlock];
  CodeEpilogue linear = e;
  linear.activation = {};
  linear.to = DType::kF32;
  const int64_t size = e.residual == DType::kF32 ? 4 : 1;
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t count = std::min(kBlock, n - at);
    StoreCompared<true>(linear, sums + at, row_scale, first + at, count,
                        static_cast<const uint8_t*>(residual) + at * size, v);
    for (int64_t i = count; i % lanes != 0; ++i) v[i] = 0;
    ActivateRows(e.activation, v, 1, 0, size_t(count));
    for (int64_t i = 0; i < count; i += lanes)
      Store(e, hn::Load(d, v + i), std::min(lanes, count - i), at + i, y);
  }
}

void StoreRow(const CodeEpilogue& e, const int32_t* sums, float row_scale, int64_t first, int64_t n,
              const void* residual, void* y) {
  if (!IsComparison(e.activation.kind))
    return StoreActivated(e, sums, row_scale, first, n, residual, y);
  if (row_scale != 1 || e.bias != nullptr || e.mid || e.residual != DType::kUndefined)
    return StoreCompared<true>(e, sums, row_scale, first, n, residual, y);
  StoreCompared<false>(e, sums, row_scale, first, n, residual, y);
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(StoreRow);

void StoreSums(const CodeEpilogue& e, const int32_t* sums, float row_scale, int64_t first,
               int64_t n, const void* residual, void* y) {
  if (e.to == DType::kI32) {
    auto* const to = static_cast<int32_t*>(y);
    for (int64_t i = 0; i < n; ++i)
      to[i] = e.bias_codes == nullptr
                  ? sums[i]
                  : int32_t(uint32_t(sums[i]) + uint32_t(e.bias_codes[first + i]));
    return;
  }
  HWY_DYNAMIC_DISPATCH(StoreRow)(e, sums, row_scale, first, n, residual, y);
  if (e.table == nullptr) return;
  auto* const codes = static_cast<uint8_t*>(y);
  for (int64_t i = 0; i < n; ++i) codes[i] = e.table[codes[i]];
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
  if (e.mid)
    v = std::nearbyint(Limited(v, e.mid_range.low, e.mid_range.high)) * e.mid_factor;
  if (e.residual != DType::kUndefined) {
    const float r = e.residual == DType::kF32 ? float(residual)
                                              : float(int32_t(residual) - e.residual_zero);
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
