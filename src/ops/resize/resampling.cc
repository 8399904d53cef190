#include "ops/resize/resampling.h"

#include <algorithm>
#include <cmath>

#include "ops/movement/axes.h"

namespace dunlin {
namespace {

constexpr const char* kCoordinateModes[] = {
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",  "align_corners",
    "asymmetric", "tf_crop_and_resize",   "tf_half_pixel_for_nn"};
constexpr const char* kNearestModes[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                         "ceil"};
constexpr const char* kPolicies[] = {"stretch", "not_larger", "not_smaller"};
// A filter wider than this is a mistake in the scale.
constexpr double kMaxShrink = 1 << 14;

template <size_t N>
Status OneOf(const char* const (&names)[N], const std::string& s, const char* what) {
  for (const char* n : names)
    if (s == n) return {};
  return Fail(Code::kInvalidArgument, "{} is '{}', which ONNX does not define", what, s);
}

// Where output position o lies in the input.
double Source(const std::string& mode, const AxisResize& a, int64_t o) {
  const double x = double(o), in = double(a.in);
  if (mode == "align_corners") return a.resized == 1 ? 0 : x * (in - 1) / (a.resized - 1);
  if (mode == "asymmetric") return x / a.scale;
  if (mode == "tf_crop_and_resize") {
    if (a.resized == 1) return 0.5 * (a.roi_begin + a.roi_end) * (in - 1);
    return a.roi_begin * (in - 1) + x * (a.roi_end - a.roi_begin) * (in - 1) / (a.resized - 1);
  }
  if (mode == "pytorch_half_pixel") return a.out > 1 ? (x + 0.5) / a.scale - 0.5 : 0;
  if (mode == "tf_half_pixel_for_nn") return (x + 0.5) / a.scale;
  const double half_pixel = (x + 0.5) / a.scale - 0.5;
  if (mode == "half_pixel_symmetric") return in / 2 * (1 - double(a.out) / a.resized) + half_pixel;
  return half_pixel;
}

int64_t Nearest(const std::string& mode, double x) {
  // Quotients that are whole in exact arithmetic must not fall to the other side.
  x = double(float(x));
  if (mode == "floor") return int64_t(std::floor(x));
  if (mode == "ceil") return int64_t(std::ceil(x));
  if (mode == "round_prefer_ceil") return int64_t(std::floor(x + 0.5));
  return int64_t(std::ceil(x - 0.5));
}

double LinearWeight(double distance) { return std::max(0.0, 1 - std::fabs(distance)); }

double CubicWeight(double distance, double a) {
  const double d = std::fabs(distance), d2 = d * d, d3 = d2 * d;
  if (d <= 1) return (a + 2) * d3 - (a + 3) * d2 + 1;
  if (d < 2) return a * d3 - 5 * a * d2 + 8 * a * d - 4 * a;
  return 0;
}

void SetTaps(const Resize::Attrs& a, const AxisResize& axis, bool cubic, double source,
             AxisTaps& t) {
  // The filter is as wide as an output pixel when it averages several input pixels.
  const double shrink = a.antialias ? std::min(axis.scale, 1.0) : 1;
  const int radius = cubic ? 2 : 1;
  // First tap relative to the pixel left of, or at, the source.
  const auto start = int64_t(std::floor(-radius / shrink)) + 1;
  const double base = std::floor(source);
  double sum = 0;
  const size_t at = t.weight.size();
  for (int k = 0; k < t.taps; ++k) {
    const double position = base + double(start + k);
    const double distance = (position - source) * shrink;
    double w = cubic ? CubicWeight(distance, a.cubic_coeff_a) : LinearWeight(distance);
    if (a.exclude_outside && (position < 0 || position > double(axis.in - 1))) w = 0;
    t.weight.push_back(w);
    t.index.push_back(int64_t(std::clamp(position, 0.0, double(axis.in - 1))));
    sum += w;
  }
  if ((a.exclude_outside || a.antialias) && sum != 0)
    for (size_t i = at; i < t.weight.size(); ++i) t.weight[i] /= sum;
}

}  // namespace

Result<ResizeMode> ParseResizeMode(const std::string& mode) {
  if (mode == "nearest") return ResizeMode::kNearest;
  if (mode == "linear") return ResizeMode::kLinear;
  if (mode == "cubic") return ResizeMode::kCubic;
  return Fail(Code::kInvalidArgument, "the mode is '{}', which is none of nearest, linear, cubic",
              mode);
}

AxisTaps TapsOf(const Resize::Attrs& a, const AxisResize& axis) {
  AxisTaps t;
  const auto outputs = size_t(axis.out);
  if (axis.Same()) {
    t.index.resize(outputs);
    for (size_t o = 0; o < outputs; ++o) t.index[o] = int64_t(o);
    t.weight.assign(outputs, 1.0);
    t.outside.assign(outputs, false);
    if (a.coordinate_transformation_mode != "tf_crop_and_resize") return t;
    t.index.clear();
    t.weight.clear();
    t.outside.clear();
  }
  const bool nearest = a.mode == "nearest", cubic = a.mode == "cubic";
  if (!nearest) {
    const double shrink = a.antialias ? std::min(axis.scale, 1.0) : 1;
    const auto start = int64_t(std::floor(-(cubic ? 2 : 1) / shrink)) + 1;
    t.taps = int(2 - 2 * start);
  }
  for (int64_t o = 0; o < axis.out; ++o) {
    const double source = Source(a.coordinate_transformation_mode, axis, o);
    t.outside.push_back(a.coordinate_transformation_mode == "tf_crop_and_resize" &&
                        (source < 0 || source > double(axis.in - 1)));
    if (nearest) {
      t.index.push_back(std::clamp<int64_t>(
          Nearest(a.nearest_mode, std::clamp(source, -1.0, double(axis.in))), 0, axis.in - 1));
      t.weight.push_back(1);
    } else {
      SetTaps(a, axis, cubic, source, t);
    }
  }
  return t;
}

Result<std::vector<AxisResize>> ResizeAxes(const Resize::Attrs& a, const Dims& x,
                                           const std::vector<double>& roi,
                                           const std::vector<float>& scales,
                                           const std::vector<int64_t>& sizes) {
  TRY(ParseResizeMode(a.mode));
  TRY(OneOf(kCoordinateModes, a.coordinate_transformation_mode, "coordinate_transformation_mode"));
  TRY(OneOf(kNearestModes, a.nearest_mode, "nearest_mode"));
  TRY(OneOf(kPolicies, a.keep_aspect_ratio_policy, "keep_aspect_ratio_policy"));
  if (scales.empty() == sizes.empty() && !(x.empty() && scales.empty()))
    return Fail(Code::kInvalidArgument, "exactly one of scales and sizes must be given");
  std::vector<int> axes = TRY(NormalizeAxes(a.axes, x.rank()));
  if (axes.empty())
    for (int i = 0; i < x.rank(); ++i) axes.push_back(i);
  const size_t given = scales.empty() ? sizes.size() : scales.size();
  if (given != axes.size())
    return Fail(Code::kInvalidArgument, "scales or sizes has {} entries for {} axes", given,
                axes.size());
  const bool crop = a.coordinate_transformation_mode == "tf_crop_and_resize";
  if (crop && roi.size() != 2 * axes.size())
    return Fail(Code::kInvalidArgument, "roi has {} entries for {} axes", roi.size(), axes.size());
  if (const auto odd = std::ranges::find_if(roi, [](double r) { return !(std::fabs(r) < 0x1p56); });
      crop && odd != roi.end())
    return Fail(Code::kInvalidArgument, "roi holds {}, which is no part of an extent", *odd);
  std::vector<AxisResize> out(x.size());
  for (size_t i = 0; i < x.size(); ++i) out[i] = {x[i], x[i], 1, double(x[i])};
  // With a policy, one scale for all axes.
  const bool keep = !sizes.empty() && a.keep_aspect_ratio_policy != "stretch";
  double common = a.keep_aspect_ratio_policy == "not_larger" ? INFINITY : 0;
  for (size_t i = 0; keep && i < axes.size(); ++i) {
    const double s = double(sizes[i]) / double(std::max<int64_t>(1, x[size_t(axes[i])]));
    common = a.keep_aspect_ratio_policy == "not_larger" ? std::min(common, s) : std::max(common, s);
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    AxisResize& r = out[size_t(axes[i])];
    if (crop) {
      r.roi_begin = roi[i];
      r.roi_end = roi[i + axes.size()];
    }
    double length = 0;
    if (!scales.empty()) {
      r.scale = double(scales[i]);
      // In f32, as exporters compute it: 10 * 0.7 is 7.
      length = std::floor(double(scales[i] * float(r.in)));
      r.resized = r.scale * double(r.in);
    } else if (keep) {
      r.scale = common;
      length = std::floor(common * double(r.in) + 0.5);
      r.resized = r.scale * double(r.in);
    } else {
      length = double(sizes[i]);
      r.scale = r.in > 0 ? length / double(r.in) : 1;
      r.resized = length;
    }
    const bool usable = std::isfinite(r.scale) && (r.scale > 0 || (scales.empty() && length == 0));
    if (!usable || !(length >= 0 && length < 0x1p56))
      return Fail(Code::kInvalidArgument, "an extent of {} cannot be resized to {} (scale {})",
                  r.in, length, r.scale);
    r.out = int64_t(length);
    if (r.in == 0 && r.out > 0)
      return Fail(Code::kInvalidArgument, "an empty extent cannot be resized to {}", r.out);
    if (a.antialias && r.scale < 1 / kMaxShrink)
      return Fail(Code::kInvalidArgument, "a scale of {} is too small for a filter", r.scale);
  }
  return out;
}

}  // namespace dunlin
