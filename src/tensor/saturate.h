// From floating point to integers without undefined behaviour.
#pragma once

#include <cmath>
#include <concepts>
#include <limits>

namespace dunlin {

// `v` without its fraction; the nearest number T has where that is out of range, 0 for NaN.
template <std::integral T>
T SaturateCast(double v) {
  // 2^digits is exact in double, the largest T need not be.
  const double end = std::ldexp(1.0, std::numeric_limits<T>::digits);
  if (v >= end) return std::numeric_limits<T>::max();
  if (v <= double(std::numeric_limits<T>::lowest())) return std::numeric_limits<T>::lowest();
  return v == v ? static_cast<T>(v) : T(0);
}

}  // namespace dunlin
