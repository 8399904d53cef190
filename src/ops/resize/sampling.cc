// GridSample, AffineGrid, RoiAlign: reading images between their pixels.
#include <algorithm>
#include <cmath>

#include "ops/movement/axes.h"
#include "ops/resize/resize.h"

namespace dunlin {
namespace {

constexpr int kMaxAxes = 3;

enum class Mode { kNearest, kLinear, kCubic };
Result<Mode> ParseMode(const std::string& s) {
  if (s == "nearest") return Mode::kNearest;
  if (s == "linear" || s == "bilinear") return Mode::kLinear;
  if (s == "cubic" || s == "bicubic") return Mode::kCubic;
  return Fail(Code::kInvalidArgument, "the mode '{}' is none of linear, nearest, cubic", s);
}

enum class Padding { kZeros, kBorder, kReflection };
Result<Padding> ParsePadding(const std::string& s) {
  if (s == "zeros") return Padding::kZeros;
  if (s == "border") return Padding::kBorder;
  if (s == "reflection") return Padding::kReflection;
  return Fail(Code::kInvalidArgument, "the padding_mode '{}' is none of zeros, border, reflection",
              s);
}

// Folds v into [low, high] as between two mirrors.
double Reflect(double v, double low, double high) {
  const double range = high - low;
  if (!(range > 0) || !std::isfinite(v)) return low;
  const double d = std::fabs(v - low);
  const double turns = std::floor(d / range), rest = d - turns * range;
  return std::fmod(turns, 2) == 0 ? low + rest : high - rest;
}

struct Sampler {
  Mode mode;
  Padding padding;
  bool align_corners;
  int axes;
  int64_t extent[kMaxAxes];
  int64_t stride[kMaxAxes];

  // A grid coordinate in [-1, 1] as a pixel position.
  double Pixel(double g, int d) const {
    const auto n = double(extent[d]);
    return align_corners ? (g + 1) / 2 * (n - 1) : ((g + 1) * n - 1) / 2;
  }
  double Folded(double p, int d) const {
    const auto n = double(extent[d]);
    if (padding == Padding::kBorder) return std::clamp(std::isnan(p) ? 0.0 : p, 0.0, n - 1);
    if (padding == Padding::kReflection) {
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
    if (d == axes || d >= kMaxAxes) return At(x, pixel);
    const double base = std::floor(source[d]), t = source[d] - base;
    if (!std::isfinite(base)) return 0;
    double weights[4], sum = 0;
    const int taps = mode == Mode::kCubic ? 4 : 2;
    if (mode == Mode::kCubic) {
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
    double source[kMaxAxes + 1] = {}, pixel[kMaxAxes + 1] = {};
    for (int d = 0; d < axes; ++d) {
      source[d] = Pixel(grid[axes - 1 - d], d);
      if (mode == Mode::kNearest) pixel[d] = std::nearbyint(source[d]);
      // Border and mirror hold for the point itself, except for cubic, whose taps are folded one by
      // one.
      if (mode == Mode::kLinear) source[d] = Folded(source[d], d);
    }
    return mode == Mode::kNearest ? At(x, pixel) : Interpolate(x, source, 0, pixel);
  }
};

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
  else
    return static_cast<T>(v);
}

Status VisitFloat(DType t, const char* what, auto&& f) {
  return VisitDType(t, what, [&]<class T>(TypeTag<T> tag) -> Status {
    if constexpr (kIsFloat<T>)
      return f(tag);
    else
      return Fail(Code::kUnimplemented, "{} of {}", what, DTypeName(t));
  });
}

// One bin of RoiAlign.
struct Bin {
  double y, x, height, width;
  int64_t rows, columns;
};

template <class T>
double Bilinear(const T* x, int64_t height, int64_t width, double py, double px) {
  if (!(py >= -1 && py <= double(height) && px >= -1 && px <= double(width))) return 0;
  py = std::max(py, 0.0);
  px = std::max(px, 0.0);
  const auto y0 = std::min(int64_t(py), height - 1), x0 = std::min(int64_t(px), width - 1);
  const int64_t y1 = std::min(y0 + 1, height - 1), x1 = std::min(x0 + 1, width - 1);
  const double fy = y0 == height - 1 ? 0 : py - double(y0),
               fx = x0 == width - 1 ? 0 : px - double(x0);
  return (1 - fy) * ((1 - fx) * Number(x[y0 * width + x0]) + fx * Number(x[y0 * width + x1])) +
         fy * ((1 - fx) * Number(x[y1 * width + x0]) + fx * Number(x[y1 * width + x1]));
}

// As the framework that defined it does: the maximum is over the weighted corners of each sample.
template <class T>
double BilinearMax(const T* x, int64_t height, int64_t width, double py, double px) {
  if (!(py >= -1 && py <= double(height) && px >= -1 && px <= double(width))) return 0;
  py = std::max(py, 0.0);
  px = std::max(px, 0.0);
  const auto y0 = std::min(int64_t(py), height - 1), x0 = std::min(int64_t(px), width - 1);
  const int64_t y1 = std::min(y0 + 1, height - 1), x1 = std::min(x0 + 1, width - 1);
  const double fy = y0 == height - 1 ? 0 : py - double(y0),
               fx = x0 == width - 1 ? 0 : px - double(x0);
  return std::max(
      {(1 - fy) * (1 - fx) * Number(x[y0 * width + x0]), (1 - fy) * fx * Number(x[y0 * width + x1]),
       fy * (1 - fx) * Number(x[y1 * width + x0]), fy * fx * Number(x[y1 * width + x1])});
}

template <class T>
double PoolBin(const T* x, int64_t height, int64_t width, const Bin& b, bool max) {
  double sum = 0, best = -INFINITY;
  for (int64_t r = 0; r < b.rows; ++r)
    for (int64_t c = 0; c < b.columns; ++c) {
      const double py = b.y + (double(r) + 0.5) * b.height / double(b.rows);
      const double px = b.x + (double(c) + 0.5) * b.width / double(b.columns);
      if (max)
        best = std::max(best, BilinearMax(x, height, width, py, px));
      else
        sum += Bilinear(x, height, width, py, px);
    }
  return max ? (std::isinf(best) ? 0 : best)
             : sum / double(std::max<int64_t>(1, b.rows * b.columns));
}

}  // namespace

Status GridSample::Infer(const Attrs& a, InferContext& ctx) {
  const Mode mode = TRY(ParseMode(a.mode));
  TRY(ParsePadding(a.padding_mode));
  const Type &x = ctx.input(0), &grid = ctx.input(1);
  if (!x.ranked && !grid.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const int rank = x.ranked ? x.dims.rank() : grid.dims.rank();
  if (rank != 4 && rank != 5)
    return Fail(Code::kInvalidArgument, "GridSample takes two or three spatial axes, not {}",
                rank - 2);
  if (rank == 5 && mode == Mode::kCubic)
    return Fail(Code::kInvalidArgument, "cubic sampling is defined for two spatial axes only");
  const Dims xd = x.ranked ? x.dims : UnknownDims(size_t(rank));
  const Dims gd = grid.ranked ? grid.dims : UnknownDims(size_t(rank));
  if (gd.rank() != rank || (IsKnown(gd.back()) && gd.back() != rank - 2))
    return Fail(Code::kInvalidArgument, "a grid {} for an input of rank {}",
                ToString(std::span<const int64_t>(gd)), rank);
  const auto batch = MergeDim(xd[0], gd[0]);
  if (!batch) return Fail(Code::kInvalidArgument, "batches of {} and {}", xd[0], gd[0]);
  Dims out{*batch, xd[1]};
  for (int i = 1; i < rank - 1; ++i) {
    out.push_back(gd[size_t(i)]);
    if (xd[size_t(i) + 1] == 0) return Fail(Code::kInvalidArgument, "the input has no pixels");
  }
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status GridSample::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView &x = ctx.in(0), &grid = ctx.in(1);
  TensorView& y = ctx.out(0);
  const int axes = x.rank() - 2;
  Sampler s{
      TRY(ParseMode(a.mode)), TRY(ParsePadding(a.padding_mode)), a.align_corners, axes, {}, {}};
  const Dims strides = StridesOf(x.dims);
  for (int d = 0; d < axes; ++d) {
    s.extent[d] = x.dims[size_t(d) + 2];
    s.stride[d] = strides[size_t(d) + 2];
  }
  const int64_t batch = y.dims[0], channels = y.dims[1];
  const int64_t pixels = y.count() == 0 ? 0 : y.count() / (batch * channels);
  return VisitFloat(grid.dtype, "GridSample", [&]<class G>(TypeTag<G>) -> Status {
    return VisitDType(x.dtype, "GridSample", [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (kIsNumber<T>) {
        for (int64_t n = 0; n < batch; ++n)
          for (int64_t p = 0; p < pixels; ++p) {
            double at[kMaxAxes];
            for (int d = 0; d < axes; ++d)
              at[d] = Number(grid.as<G>()[(n * pixels + p) * axes + d]);
            for (int64_t c = 0; c < channels; ++c)
              y.mut<T>()[(n * channels + c) * pixels + p] =
                  FromDouble<T>(s(x.as<T>() + (n * channels + c) * strides[1], at));
          }
        return {};
      } else {
        return Fail(Code::kUnimplemented, "GridSample of {}", DTypeName(x.dtype));
      }
    });
  });
}

Status AffineGrid::Infer(const Attrs&, InferContext& ctx) {
  const Type& theta = ctx.input(0);
  const auto size = TRY(IntList(ctx, 1));
  int axes = 0;
  if (size) {
    axes = int(size->size()) - 2;
  } else if (theta.ranked && theta.dims.rank() == 3 && IsKnown(theta.dims[1])) {
    axes = int(std::min<int64_t>(theta.dims[1], kMaxAxes + 1));
  } else {
    ctx.Set(0, Type::Unranked(theta.dtype));
    return {};
  }
  if (axes != 2 && axes != 3)
    return Fail(Code::kInvalidArgument, "{} spatial axes instead of two or three", axes);
  if (theta.ranked) {
    const bool fits = theta.dims.rank() == 3 && MergeDim(theta.dims[1], axes) &&
                      MergeDim(theta.dims[2], axes + 1) &&
                      (!size || MergeDim(theta.dims[0], (*size)[0]));
    if (!fits)
      return Fail(Code::kInvalidArgument, "theta has extents {} for {} spatial axes",
                  ToString(std::span<const int64_t>(theta.dims)), axes);
  }
  Dims out{size ? (*size)[0] : kUnknownDim};
  for (int d = 0; d < axes; ++d) out.push_back(size ? (*size)[size_t(d) + 2] : kUnknownDim);
  for (const int64_t d : out)
    if (size && d < 0) return Fail(Code::kInvalidArgument, "size has the entry {}", d);
  out.push_back(axes);
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(theta.dtype, std::move(out)));
  return {};
}

Status AffineGrid::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& theta = ctx.in(0);
  TensorView& y = ctx.out(0);
  const int axes = y.rank() - 2;
  const int64_t batch = y.dims[0], points = y.count() == 0 ? 0 : y.count() / (batch * axes);
  return VisitFloat(y.dtype, "AffineGrid", [&]<class T>(TypeTag<T>) -> Status {
    for (int64_t n = 0; n < batch; ++n)
      for (int64_t p = 0; p < points; ++p) {
        // The point's coordinates, last axis first, then 1.
        double at[kMaxAxes + 1];
        int64_t rest = p;
        for (int d = axes - 1; d >= 0; --d) {
          const int64_t extent = y.dims[size_t(d) + 1], i = rest % extent;
          rest /= extent;
          const auto steps = double(extent);
          at[axes - 1 - d] = !a.align_corners ? (2 * double(i) + 1) / steps - 1
                             : extent == 1    ? 0
                                              : 2 * double(i) / (steps - 1) - 1;
        }
        at[axes] = 1;
        for (int d = 0; d < axes; ++d) {
          double sum = 0;
          for (int k = 0; k <= axes; ++k)
            sum += Number(theta.as<T>()[(n * axes + d) * (axes + 1) + k]) * at[k];
          y.mut<T>()[(n * points + p) * axes + d] = FromDouble<T>(sum);
        }
      }
    return {};
  });
}

Status RoiAlign::Infer(const Attrs& a, InferContext& ctx) {
  if (a.mode != "avg" && a.mode != "max")
    return Fail(Code::kInvalidArgument, "the mode '{}'", a.mode);
  if (a.coordinate_transformation_mode != "half_pixel" &&
      a.coordinate_transformation_mode != "output_half_pixel")
    return Fail(Code::kInvalidArgument, "coordinate_transformation_mode '{}'",
                a.coordinate_transformation_mode);
  if (a.output_height < 1 || a.output_width < 1 || a.sampling_ratio < 0 || a.sampling_ratio > 4096)
    return Fail(Code::kInvalidArgument, "output {}x{} with sampling_ratio {}", a.output_height,
                a.output_width, a.sampling_ratio);
  const Type &x = ctx.input(0), &rois = ctx.input(1), &batch = ctx.input(2);
  if ((x.ranked && x.dims.rank() != 4) ||
      (rois.ranked && (rois.dims.rank() != 2 || !MergeDim(rois.dims[1], 4))) ||
      (batch.ranked && batch.dims.rank() != 1) ||
      (rois.ranked && batch.ranked && !MergeDim(rois.dims[0], batch.dims[0])))
    return Fail(Code::kInvalidArgument, "X {}, rois {} and batch_indices {} do not fit",
                ToString(x), ToString(rois), ToString(batch));
  int64_t count = rois.ranked ? rois.dims[0] : kUnknownDim;
  if (batch.ranked) count = *MergeDim(count, batch.dims[0]);
  Dims out{count, x.ranked ? x.dims[1] : kUnknownDim, a.output_height, a.output_width};
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status RoiAlign::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView &x = ctx.in(0), &rois = ctx.in(1);
  TensorView& y = ctx.out(0);
  const auto batch_index = TRY(IntsOf(ctx.in(2)));
  const int64_t channels = x.dims[1], height = x.dims[2], width = x.dims[3];
  if (height * width == 0) return Fail(Code::kInvalidArgument, "the input has no pixels");
  for (const int64_t b : batch_index)
    if (b < 0 || b >= x.dims[0])
      return Fail(Code::kInvalidArgument, "batch index {} of {}", b, x.dims[0]);
  const bool half = a.coordinate_transformation_mode == "half_pixel", max = a.mode == "max";
  // An adaptive grid looks at every pixel at most this often, whatever a region claims to span.
  const auto samples = [&](double span, int64_t extent) {
    const double n = std::ceil(span);
    return a.sampling_ratio > 0 ? a.sampling_ratio
           : n >= 1             ? int64_t(std::min(n, double(4 * extent + 4)))
                                : 0;
  };
  return VisitFloat(x.dtype, "RoiAlign", [&]<class T>(TypeTag<T>) -> Status {
    for (int64_t r = 0; r < y.dims[0]; ++r) {
      const T* roi = rois.as<T>() + r * 4;
      const double shift = half ? 0.5 : 0, scale = a.spatial_scale;
      const double x0 = Number(roi[0]) * scale - shift, y0 = Number(roi[1]) * scale - shift;
      double w = Number(roi[2]) * scale - shift - x0, h = Number(roi[3]) * scale - shift - y0;
      if (!half) {
        w = std::max(w, 1.0);
        h = std::max(h, 1.0);
      }
      const double bin_h = h / double(a.output_height), bin_w = w / double(a.output_width);
      const int64_t rows = samples(bin_h, height), columns = samples(bin_w, width);
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t i = 0; i < a.output_height; ++i)
          for (int64_t j = 0; j < a.output_width; ++j) {
            const Bin bin{
                y0 + double(i) * bin_h, x0 + double(j) * bin_w, bin_h, bin_w, rows, columns};
            const T* plane = x.as<T>() + (batch_index[size_t(r)] * channels + c) * height * width;
            y.mut<T>()[((r * channels + c) * a.output_height + i) * a.output_width + j] =
                FromDouble<T>(PoolBin(plane, height, width, bin, max));
          }
    }
    return {};
  });
}

}  // namespace dunlin
