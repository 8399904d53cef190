// What the kernels over codes share: widening, and parameters that are read when they run.
#pragma once

#include <cstring>

#include "ops/quant/quant.h"

namespace dunlin {

// Rows and columns of sums that are made at once, on the stack.
inline constexpr int64_t kSumRows = 24, kSumColumns = 256;
// Multiply-adds that are worth another thread.
inline constexpr int64_t kLeastSumWork = 1 << 18;

inline bool IsByte(DType t) { return t == DType::kU8 || t == DType::kI8; }

// to[i * to_step] = from[i * from_step] - zero.
template <class Q>
void WidenCodes(const Q* from, int64_t from_step, int32_t zero, int64_t n, int16_t* to,
                int64_t to_step) {
  if (from_step == 1 && to_step == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = int16_t(int32_t(from[i]) - zero);
    return;
  }
  for (int64_t i = 0; i < n; ++i) to[i * to_step] = int16_t(int32_t(from[i * from_step]) - zero);
}
inline void WidenCodes(DType t, const void* data, int64_t first, int64_t step, int32_t zero,
                       int64_t n, int16_t* to, int64_t to_step = 1) {
  if (t == DType::kU8)
    WidenCodes(static_cast<const uint8_t*>(data) + first, step, zero, n, to, to_step);
  else
    WidenCodes(static_cast<const int8_t*>(data) + first, step, zero, n, to, to_step);
}
inline int32_t CodeAt(DType t, const void* data, int64_t i) {
  return t == DType::kU8 ? static_cast<const uint8_t*>(data)[i]
                         : static_cast<const int8_t*>(data)[i];
}

// The scale of column n: (alpha * a * b[n]) / y in f32, one operation after the other.
inline void ColumnScales(const RunContext& ctx, const ProductInputs& in, int64_t n, float* to) {
  const float a = in.alpha * ctx.in(in.a_scale).as<float>()[0];
  const float* b = ctx.in(in.b_scale).as<float>();
  const bool one = ctx.in(in.b_scale).count() == 1;
  const bool divide = in.y_scale >= 0 && ctx.has(in.y_scale);
  const float y = divide ? ctx.in(in.y_scale).as<float>()[0] : 1;
  for (int64_t i = 0; i < n; ++i) to[i] = a * b[one ? 0 : i] / y;
}

// Zero points as text for the recipe of packed weights, which depend on them.
inline std::string ZeroText(const Tensor* zero) {
  if (zero == nullptr) return "0";
  std::string s;
  for (int64_t i = 0; i < zero->count(); ++i)
    s += fmt::format("{},", CodeAt(zero->dtype(), zero->raw(), i));
  return s;
}

}  // namespace dunlin
