#include "ops/movement/axes.h"
#include "ops/resize/sampling.h"

namespace dunlin {
namespace {

// Where one sample reads, and with which weights; all zero outside.
struct Corners {
  int64_t at[4] = {};
  double weight[4] = {};
};
Corners CornersOf(int64_t height, int64_t width, double y, double x) {
  Corners c;
  if (!(y >= -1 && y <= double(height) && x >= -1 && x <= double(width))) return c;
  y = std::max(y, 0.0);
  x = std::max(x, 0.0);
  const auto y0 = std::min(int64_t(y), height - 1), x0 = std::min(int64_t(x), width - 1);
  const int64_t y1 = std::min(y0 + 1, height - 1), x1 = std::min(x0 + 1, width - 1);
  const double fy = y0 == height - 1 ? 0 : y - double(y0),
               fx = x0 == width - 1 ? 0 : x - double(x0);
  return {{y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1},
          {(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx}};
}

// One output pixel: a rectangle, sampled in rows and columns.
struct Bin {
  double y, x, height, width;
  int64_t rows, columns;

  Corners Sample(int64_t i, int64_t image_height, int64_t image_width) const {
    return CornersOf(image_height, image_width,
                     y + (double(i / columns) + 0.5) * height / double(rows),
                     x + (double(i % columns) + 0.5) * width / double(columns));
  }
};

// The average of the samples, or, as the framework that defined it does, the largest weighted
// corner.
template <class T>
double PoolBin(const T* x, int64_t height, int64_t width, const Bin& b, bool max) {
  double sum = 0, best = -INFINITY;
  for (int64_t i = 0; i < b.rows * b.columns; ++i) {
    const Corners s = b.Sample(i, height, width);
    for (int k = 0; k < 4; ++k) {
      const double v = s.weight[k] * Number(x[s.at[k]]);
      sum += v;
      best = std::max(best, v);
    }
  }
  if (max) return b.rows * b.columns == 0 ? 0 : best;
  return sum / double(std::max<int64_t>(1, b.rows * b.columns));
}

// A region in the pixels of the feature map, cut into bins.
struct Region {
  double y, x, bin_height, bin_width;
  int64_t rows, columns;  // of samples in a bin
  Bin At(int64_t i, int64_t j) const {
    return {y + double(i) * bin_height,
            x + double(j) * bin_width,
            bin_height,
            bin_width,
            rows,
            columns};
  }
};
Region RegionOf(const RoiAlign::Attrs& a, const double (&roi)[4], int64_t height, int64_t width) {
  const bool half = a.coordinate_transformation_mode == "half_pixel";
  const double shift = half ? 0.5 : 0, scale = a.spatial_scale;
  const double x = roi[0] * scale - shift, y = roi[1] * scale - shift;
  double w = roi[2] * scale - shift - x, h = roi[3] * scale - shift - y;
  if (!half) {
    w = std::max(w, 1.0);
    h = std::max(h, 1.0);
  }
  // An adaptive grid looks at every pixel at most this often, whatever a region claims to span.
  const auto samples = [&](double span, int64_t extent) {
    const double n = std::ceil(span);
    return a.sampling_ratio > 0 ? a.sampling_ratio
           : n >= 1             ? int64_t(std::min(n, double(4 * extent + 4)))
                                : 0;
  };
  const double bin_h = h / double(a.output_height), bin_w = w / double(a.output_width);
  return {y, x, bin_h, bin_w, samples(bin_h, height), samples(bin_w, width)};
}

Status CheckBatch(const std::vector<int64_t>& index, const TensorView& x) {
  if (x.dims[2] * x.dims[3] == 0) return Fail(Code::kInvalidArgument, "the input has no pixels");
  for (const int64_t b : index)
    if (b < 0 || b >= x.dims[0])
      return Fail(Code::kInvalidArgument, "batch index {} of {}", b, x.dims[0]);
  return {};
}

// f32 averages: a bin's samples are located once for all channels. Regions are shared among
// threads.
class RoiAlignKernel final : public Kernel {
 public:
  explicit RoiAlignKernel(RoiAlign::Attrs a) : attrs_(std::move(a)) {}

  Status Run(RunContext& ctx) const override {
    const TensorView &x = ctx.in(0), &rois = ctx.in(1);
    const auto batch = TRY(IntsOf(ctx.in(2)));
    TRY(CheckBatch(batch, x));
    float* y = ctx.out(0).mut<float>();
    ctx.ParallelFor(ctx.out(0).dims[0], 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        double roi[4];
        for (int k = 0; k < 4; ++k) roi[k] = rois.as<float>()[r * 4 + k];
        const int64_t region_size = x.dims[1] * attrs_.output_height * attrs_.output_width;
        Pool(x, batch[size_t(r)], RegionOf(attrs_, roi, x.dims[2], x.dims[3]), y + r * region_size);
      }
    });
    return {};
  }
  std::string_view name() const override { return "roi_align.avg"; }

 private:
  static constexpr int64_t kBlock = 32;  // samples located at a time

  void Pool(const TensorView& x, int64_t image, const Region& region, float* y) const {
    const int64_t channels = x.dims[1], height = x.dims[2], width = x.dims[3];
    const int64_t bins = attrs_.output_height * attrs_.output_width;
    const float* from = x.as<float>() + image * channels * height * width;
    std::fill(y, y + channels * bins, 0.0f);
    for (int64_t i = 0; i < bins; ++i) {
      const Bin bin = region.At(i / attrs_.output_width, i % attrs_.output_width);
      const int64_t samples = bin.rows * bin.columns;
      const float scale = 1 / float(std::max<int64_t>(1, samples));
      for (int64_t s = 0; s < samples; s += kBlock) {
        const int64_t count = std::min(kBlock, samples - s);
        Corners corners[kBlock];
        for (int64_t k = 0; k < count; ++k) corners[k] = bin.Sample(s + k, height, width);
        for (int64_t c = 0; c < channels; ++c) {
          const float* plane = from + c * height * width;
          float sum = 0;
          for (int64_t k = 0; k < count; ++k)
            for (int q = 0; q < 4; ++q)
              sum += plane[corners[k].at[q]] * float(corners[k].weight[q]);
          y[c * bins + i] += sum * scale;
        }
      }
    }
  }

  RoiAlign::Attrs attrs_;
};

}  // namespace

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
  if (rois.dtype != x.dtype && rois.dtype != DType::kUndefined && x.dtype != DType::kUndefined)
    return Fail(Code::kInvalidArgument, "rois are {}, X is {}", DTypeName(rois.dtype),
                DTypeName(x.dtype));
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
  const auto batch = TRY(IntsOf(ctx.in(2)));
  TRY(CheckBatch(batch, x));
  const int64_t channels = x.dims[1], height = x.dims[2], width = x.dims[3];
  return VisitFloat(x.dtype, "RoiAlign", [&]<class T>(TypeTag<T>) -> Status {
    for (int64_t r = 0; r < y.dims[0]; ++r) {
      double roi[4];
      for (int k = 0; k < 4; ++k) roi[k] = Number(rois.as<T>()[r * 4 + k]);
      const Region region = RegionOf(a, roi, height, width);
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t i = 0; i < a.output_height; ++i)
          for (int64_t j = 0; j < a.output_width; ++j) {
            const T* plane = x.as<T>() + (batch[size_t(r)] * channels + c) * height * width;
            y.mut<T>()[((r * channels + c) * a.output_height + i) * a.output_width + j] =
                FromDouble<T>(PoolBin(plane, height, width, region.At(i, j), a.mode == "max"));
          }
    }
    return {};
  });
}

Result<KernelPtr> RoiAlign::Lower(const Attrs& a, LowerContext& ctx) {
  if (ctx.input(0).dtype != DType::kF32 || a.mode != "avg" || CountOf(ctx.output(0).dims) == 0)
    return KernelPtr();
  return KernelPtr(std::make_unique<RoiAlignKernel>(a));
}

}  // namespace dunlin
