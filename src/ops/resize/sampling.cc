// GridSample and AffineGrid.
#include "ops/resize/sampling.h"
#include "ops/movement/axes.h"

namespace dunlin {
namespace {

// f32 images: where a block of pixels reads and with which weights is computed once for all
// channels.
class GridSampleKernel final : public Kernel {
 public:
  GridSampleKernel(const Sampler& s, int64_t channels, int64_t pixels, int64_t plane)
      : sampler_(s), channels_(channels), pixels_(pixels), plane_(plane) {}

  Status Run(RunContext& ctx) const override {
    const float* x = ctx.in(0).as<float>();
    const float* grid = ctx.in(1).as<float>();
    float* y = ctx.out(0).mut<float>();
    const int64_t per_image = (pixels_ + kBlock - 1) / kBlock,
                  blocks = ctx.in(0).dims[0] * per_image;
    const int64_t grain = std::max<int64_t>(1, 128 / channels_);
    ctx.ParallelFor(blocks, grain, [&](int64_t begin, int64_t end) {
      Taps taps[kBlock];
      for (int64_t b = begin; b < end; ++b) {
        const int64_t n = b / per_image, first = b % per_image * kBlock;
        const auto count = int(std::min<int64_t>(kBlock, pixels_ - first));
        for (int i = 0; i < count; ++i) taps[i] = TapsAt(grid + (n * pixels_ + first + i) * 2);
        for (int64_t c = 0; c < channels_; ++c) {
          const float* from = x + (n * channels_ + c) * plane_;
          float* to = y + (n * channels_ + c) * pixels_ + first;
          for (int i = 0; i < count; ++i) {
            const Taps& t = taps[i];
            float sum = 0;
            // A weight of 0 must not let NaN or infinity through.
            for (int k = 0; k < 4; ++k) sum += t.weight[k] == 0 ? 0 : from[t.at[k]] * t.weight[k];
            to[i] = sum;
          }
        }
      }
    });
    return {};
  }
  std::string_view name() const override { return "grid_sample"; }

 private:
  static constexpr int kBlock = 64;
  struct Taps {
    int32_t at[4] = {};
    float weight[4] = {};
  };

  Taps TapsAt(const float* grid) const {
    Taps t;
    double base[2], part[2];
    for (int d = 0; d < 2; ++d) {
      double p = sampler_.Pixel(double(grid[1 - d]), d);
      if (sampler_.mode == SampleMode::kNearest) p = std::nearbyint(p);
      p = sampler_.Folded(p, d);
      base[d] = std::floor(p);
      part[d] = p - base[d];
      if (!std::isfinite(p)) return t;
    }
    for (int k = 0; k < 4; ++k) {
      const double r = base[0] + k / 2, c = base[1] + k % 2;
      const double w = (k / 2 ? part[0] : 1 - part[0]) * (k % 2 ? part[1] : 1 - part[1]);
      const bool inside =
          r >= 0 && r < double(sampler_.extent[0]) && c >= 0 && c < double(sampler_.extent[1]);
      // Outside, and weightless, taps read the first pixel they may.
      if (!inside || w == 0) continue;
      t.at[k] = int32_t(int64_t(r) * sampler_.stride[0] + int64_t(c) * sampler_.stride[1]);
      t.weight[k] = float(w);
    }
    return t;
  }

  Sampler sampler_;
  int64_t channels_, pixels_, plane_;
};

}  // namespace

Status GridSample::Infer(const Attrs& a, InferContext& ctx) {
  const SampleMode mode = TRY(ParseSampleMode(a.mode));
  TRY(ParseSamplePadding(a.padding_mode));
  const Type &x = ctx.input(0), &grid = ctx.input(1);
  if (!x.ranked && !grid.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const int rank = x.ranked ? x.dims.rank() : grid.dims.rank();
  if (rank != 4 && rank != 5)
    return Fail(Code::kInvalidArgument, "GridSample takes two or three spatial axes, not {}",
                rank - 2);
  if (rank == 5 && mode == SampleMode::kCubic)
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
  Sampler s{TRY(ParseSampleMode(a.mode)),
            TRY(ParseSamplePadding(a.padding_mode)),
            a.align_corners,
            axes,
            {},
            {}};
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
            double at[kMaxSampledAxes];
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

Result<KernelPtr> GridSample::Lower(const Attrs& a, LowerContext& ctx) {
  const SampleMode mode = TRY(ParseSampleMode(a.mode));
  const Type &x = ctx.input(0), &y = ctx.output(0);
  if (x.dtype != DType::kF32 || ctx.input(1).dtype != DType::kF32 || x.dims.rank() != 4 ||
      mode == SampleMode::kCubic || CountOf(y.dims) == 0 || CountOf(x.dims) > INT32_MAX)
    return KernelPtr();
  const Dims strides = StridesOf(x.dims);
  const Sampler s{mode,
                  TRY(ParseSamplePadding(a.padding_mode)),
                  a.align_corners,
                  2,
                  {x.dims[2], x.dims[3]},
                  {strides[2], strides[3]}};
  return KernelPtr(
      std::make_unique<GridSampleKernel>(s, y.dims[1], y.dims[2] * y.dims[3], strides[1]));
}

Status AffineGrid::Infer(const Attrs&, InferContext& ctx) {
  const Type& theta = ctx.input(0);
  const auto size = TRY(IntList(ctx, 1));
  int axes = 0;
  if (size) {
    axes = int(size->size()) - 2;
  } else if (theta.ranked && theta.dims.rank() == 3 && IsKnown(theta.dims[1])) {
    axes = int(std::min<int64_t>(theta.dims[1], kMaxSampledAxes + 1));
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
        double at[kMaxSampledAxes + 1];
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

}  // namespace dunlin
