// MaxRoiPool: the largest element in each cell of a grid laid over regions of an image.
//   x [N, C, H, W], rois [R, 5] rows of (image, x1, y1, x2, y2) -> y [R, C, pooled_h, pooled_w]
// Corners are rounded to pixels, both inclusive. An empty cell gives 0.
#include <algorithm>
#include <cmath>

#include "ops/elementwise/numeric.h"
#include "ops/movement/axes.h"
#include "ops/pool/pool.h"

namespace dunlin {
namespace {

struct MaxRoiPool {
  static constexpr std::string_view kName = "MaxRoiPool";
  struct Attrs {
    std::vector<int64_t> pooled_shape;
    float spatial_scale = 1;
    template <class V>
    void Visit(V& v) {
      v("pooled_shape", pooled_shape);
      v("spatial_scale", spatial_scale);
    }
  };

  static Status CheckAttrs(const Attrs& a) {
    const auto& p = a.pooled_shape;
    if (p.size() == 2 && std::min(p[0], p[1]) >= 1 && std::max(p[0], p[1]) <= INT32_MAX) return {};
    return Fail(Code::kInvalidArgument, "pooled_shape is {}, not [height, width]", ToString(p));
  }

  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckAttrs(a));
    const Type &x = ctx.input(0), &rois = ctx.input(1);
    TRY(CheckType<Floats>(x.dtype, kName));
    TRY(CheckType<Floats>(rois.dtype, kName));
    if (x.dtype != DType::kUndefined && rois.dtype != DType::kUndefined && x.dtype != rois.dtype)
      return Fail(Code::kInvalidArgument, "regions of {} in images of {}", DTypeName(rois.dtype),
                  DTypeName(x.dtype));
    if ((x.ranked && x.dims.rank() != 4) || (rois.ranked && rois.dims.rank() != 2) ||
        (rois.ranked && IsKnown(rois.dims[1]) && rois.dims[1] != 5))
      return Fail(Code::kInvalidArgument,
                  "images {} and regions {} are not [N, C, H, W] and [R, 5]", ToString(x),
                  ToString(rois));
    Dims y{rois.ranked ? rois.dims[0] : kUnknownDim, x.ranked ? x.dims[1] : kUnknownDim,
           a.pooled_shape[0], a.pooled_shape[1]};
    TRY(CheckSize(y));
    ctx.Set(0, Type::Of(x.dtype, std::move(y)));
    return {};
  }

  // A region along one axis: its first pixel and how many.
  struct Span {
    double begin = 0, extent = 1;
    // Pixels [first, second) of an image of `limit` that cell i of `cells` covers.
    std::pair<int64_t, int64_t> Cell(int64_t i, int64_t cells, int64_t limit) const {
      const double size = extent / double(cells), most = double(limit);
      const double from = std::floor(double(i) * size) + begin;
      const double to = std::ceil(double(i + 1) * size) + begin;
      return {int64_t(std::clamp(from, 0.0, most)), int64_t(std::clamp(to, 0.0, most))};
    }
  };
  static Span SpanOf(double from, double to, double scale) {
    const double begin = std::round(from * scale), end = std::round(to * scale);
    return {begin, std::max(end - begin + 1, 1.0)};
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    TRY(CheckAttrs(a));
    const TensorView &x = ctx.in(0), &rois = ctx.in(1);
    const int64_t channels = x.dims[1], height = x.dims[2], width = x.dims[3];
    const int64_t rows = a.pooled_shape[0], columns = a.pooled_shape[1];
    return VisitTypes<Floats>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      T* y = ctx.out(0).mut<T>();
      for (int64_t r = 0; r < rois.dims[0]; ++r) {
        double roi[5];
        for (int64_t k = 0; k < 5; ++k) roi[k] = Widen(rois.as<T>()[r * 5 + k]);
        for (const double v : roi)
          if (!(std::fabs(v * a.spatial_scale) < 0x1p52))
            return Fail(Code::kInvalidArgument, "region {} has the entry {}", r, v);
        if (!(roi[0] >= 0 && roi[0] < double(x.dims[0])))
          return Fail(Code::kInvalidArgument, "region {} lies in image {} of {}", r, roi[0],
                      x.dims[0]);
        const Span across = SpanOf(roi[1], roi[3], a.spatial_scale);
        const Span down = SpanOf(roi[2], roi[4], a.spatial_scale);
        for (int64_t c = 0; c < channels; ++c) {
          const T* plane = x.as<T>() + (int64_t(roi[0]) * channels + c) * height * width;
          for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) {
              const auto [top, bottom] = down.Cell(i, rows, height);
              const auto [left, right] = across.Cell(j, columns, width);
              double best = top < bottom && left < right ? -HUGE_VAL : 0;
              for (int64_t h = top; h < bottom; ++h)
                for (int64_t w = left; w < right; ++w)
                  best = std::max(best, double(Widen(plane[h * width + w])));
              *y++ = Narrow<T>(best);
            }
        }
      }
      return {};
    });
  }
};

}  // namespace

OpDef MaxRoiPoolOp() {
  return Declare<MaxRoiPool>("MaxRoiPool", {.min_inputs = 2, .max_inputs = 2});
}

}  // namespace dunlin
