// How one axis of a Resize is resampled: for every output position the input positions it is made
// of.
#pragma once

#include <vector>

#include "ops/resize/resize.h"

namespace dunlin {

enum class ResizeMode : uint8_t { kNearest, kLinear, kCubic };

// What Resize's attributes and inputs say about one axis.
struct AxisResize {
  int64_t in = 0, out = 0;
  double scale = 1;    // out / in, as given or computed
  double resized = 0;  // the length the coordinate formulas call length_resized
  double roi_begin = 0, roi_end = 1;
  bool Same() const { return in == out && scale == 1; }
};

// Output position o is the sum over k of weight[o * taps + k] * x[index[o * taps + k]]; indices are
// inside.
struct AxisTaps {
  int taps = 1;
  std::vector<int64_t> index;
  std::vector<double> weight;
  std::vector<bool>
      outside;  // of each output position: take the extrapolation value (crop and resize only)
};

Result<ResizeMode> ParseResizeMode(const std::string& mode);
AxisTaps TapsOf(const Resize::Attrs& a, const AxisResize& axis);

// Every axis of x; roi, scales and sizes as given (empty: absent).
Result<std::vector<AxisResize>> ResizeAxes(const Resize::Attrs& a, const Dims& x,
                                           const std::vector<double>& roi,
                                           const std::vector<float>& scales,
                                           const std::vector<int64_t>& sizes);

}  // namespace dunlin
