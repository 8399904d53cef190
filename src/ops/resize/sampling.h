// Reading an image at a point between its pixels. Internal to this folder.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include "ops/resize/resize.h"
#include "tensor/saturate.h"

namespace dunlin {

inline constexpr int kMaxSampledAxes = 3;

enum class SampleMode : uint8_t { kNearest, kLinear, kCubic };
inline Result<SampleMode> ParseSampleMode(const std::string& s) {
  if (s == "nearest") return SampleMode::kNearest;
  if (s == "linear" || s == "bilinear") return SampleMode::kLinear;
  if (s == "cubic" || s == "bicubic") return SampleMode::kCubic;
  return Fail(Code::kInvalidArgument, "the mode '{}' is none of linear, nearest, cubic", s);
}

enum class SamplePadding : uint8_t { kZeros, kBorder, kReflection };
inline Result<SamplePadding> ParseSamplePadding(const std::string& s) {
  if (s == "zeros") return SamplePadding::kZeros;
  if (s == "border") return SamplePadding::kBorder;
  if (s == "reflection") return SamplePadding::kReflection;
  return Fail(Code::kInvalidArgument, "the padding_mode '{}' is none of zeros, border, reflection",
              s);
}

// Folds v into [low, high] as between two mirrors.
inline double Reflect(double v, double low, double high) {
  const double range = high - low;
  if (!(range > 0) || !std::isfinite(v)) return low;
  const double d = std::fabs(v - low);
  const double turns = std::floor(d / range), rest = d - turns * range;
  return std::fmod(turns, 2) == 0 ? low + rest : high - rest;
}

struct Sampler {
  SampleMode mode;
  SamplePadding padding;
  bool align_corners;
  int axes;
  int64_t extent[kMaxSampledAxes];
  int64_t stride[kMaxSampledAxes];

  // A grid coordinate in [-1, 1] as a pixel position.
  double Pixel(double g, int d) const {
    const auto n = double(extent[d]);
    return align_corners ? (g + 1) / 2 * (n - 1) : ((g + 1) * n - 1) / 2;
  }
  double Folded(double p, int d) const {
    const auto n = double(extent[d]);
    if (padding == SamplePadding::kBorder) return std::clamp(std::isnan(p) ? 0.0 : p, 0.0, n - 1);
    if (padding == SamplePadding::kReflection) {
      const double low = align_corners ? 0 : -0.5, high = align_corners ? n - 1 : n - 0.5;
      return std::clamp(Reflect(p, low, high), 0.0, n - 1);
    }
    return p;
  }

  template <class T>
  double At(const T* x, const double* pixel) const {
    int64_t offset = 0;
    for (int d = 0; d < axes; ++d) {
      const double p = Folded(pixel[d], d);
      if (!(p >= 0 && p <= double(extent[d] - 1))) return 0;
      offset += int64_t(p) * stride[d];
    }
    if constexpr (kIsHalf<T>)
      return double(float(x[offset]));
    else
      return double(x[offset]);
  }

  // The interpolation of axis d and those behind it; `pixel` holds what is decided already.
  template <class T>
  double Interpolate(const T* x, const double* source, int d, double* pixel) const {
    if (d == axes || d >= kMaxSampledAxes) return At(x, pixel);
    const double base = std::floor(source[d]), t = source[d] - base;
    if (!std::isfinite(base)) return 0;
    double weights[4], sum = 0;
    const int taps = mode == SampleMode::kCubic ? 4 : 2;
    if (mode == SampleMode::kCubic) {
      constexpr double kA = -0.75;
      const auto near = [](double v) { return ((kA + 2) * v - (kA + 3)) * v * v + 1; };
      const auto far = [](double v) { return ((kA * v - 5 * kA) * v + 8 * kA) * v - 4 * kA; };
      weights[0] = far(t + 1);
      weights[1] = near(t);
      weights[2] = near(1 - t);
      weights[3] = far(2 - t);
    } else {
      weights[0] = 1 - t;
      weights[1] = t;
    }
    for (int k = 0; k < taps; ++k) {
      if (weights[k] == 0) continue;
      pixel[d] = base + k - (taps == 4 ? 1 : 0);
      sum += weights[k] * Interpolate(x, source, d + 1, pixel);
    }
    return sum;
  }

  // grid: the coordinates of the last axis first.
  template <class T>
  double operator()(const T* x, const double* grid) const {
    double source[kMaxSampledAxes + 1] = {}, pixel[kMaxSampledAxes + 1] = {};
    for (int d = 0; d < axes; ++d) {
      source[d] = Pixel(grid[axes - 1 - d], d);
      if (mode == SampleMode::kNearest) pixel[d] = std::nearbyint(source[d]);
      // Border and mirror hold for the point itself, except for cubic, whose taps are folded one by
      // one.
      if (mode == SampleMode::kLinear) source[d] = Folded(source[d], d);
    }
    return mode == SampleMode::kNearest ? At(x, pixel) : Interpolate(x, source, 0, pixel);
  }
};

// Floats of any width as double, and back.
template <class T>
double Number(T v) {
  if constexpr (kIsHalf<T>)
    return double(float(v));
  else
    return double(v);
}
template <class T>
T FromDouble(double v) {
  if constexpr (kIsHalf<T>)
    return T(float(v));
  else if constexpr (std::is_integral_v<T>)
    return SaturateCast<T>(v);
  else
    return static_cast<T>(v);
}

inline Status VisitFloat(DType t, const char* what, auto&& f) {
  return VisitDType(t, what, [&]<class T>(TypeTag<T> tag) -> Status {
    if constexpr (kIsFloat<T>)
      return f(tag);
    else
      return Fail(Code::kUnimplemented, "{} of {}", what, DTypeName(t));
  });
}

}  // namespace dunlin
