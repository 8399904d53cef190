// The parts of the quantisation family's table, and the arithmetic they share:
// real = (code - zero_point) * scale.
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

#include "ops/elementwise/numeric.h"
#include "ops/op.h"

namespace dunlin {

std::vector<OpDef> QuantizeOps();     // QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear
std::vector<OpDef> QuantMatMulOps();  // MatMulInteger, QLinearMatMul
std::vector<OpDef> QuantConvOps();    // ConvInteger, QLinearConv

// Codes: integers of up to 32 bits.
struct Codes {
  template <class T>
  static constexpr bool kHas = Integers::kHas<T> && sizeof(T) <= 4;
};
struct Bytes {
  template <class T>
  static constexpr bool kHas = Integers::kHas<T> && sizeof(T) == 1;
};

// The nearest code (half to even), limited to Q's range. NaN gives the lowest code.
template <class Q>
Q Saturate(double v) {
  const double lowest = double(std::numeric_limits<Q>::lowest()),
               highest = double(std::numeric_limits<Q>::max());
  const double r = std::nearbyint(v);
  return !(r > lowest) ? std::numeric_limits<Q>::lowest()
         : r > highest ? std::numeric_limits<Q>::max()
                       : static_cast<Q>(r);
}

// The elements of a scale tensor as doubles.
Result<std::vector<double>> Scales(std::string_view name, const TensorView& t);
// Input i as int32, `otherwise` when it is absent.
Result<std::vector<int32_t>> ZeroPoints(std::string_view name, const RunContext& ctx, int i);

// v[i], or v[0] of a parameter that holds for all.
template <class V>
auto PerChannel(const V& v, int64_t i) {
  return v[v.size() == 1 ? 0 : size_t(i)];
}

}  // namespace dunlin
