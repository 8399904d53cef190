// Normalisations that treat dimension 1 as channels: [N, C, spatial…].
#include <limits>

#include "kernels/elementwise.h"
#include "kernels/reduce.h"
#include "ops/band.h"
#include "ops/elementwise/lower.h"
#include "ops/norm/norm.h"

namespace dunlin {

std::span<const OpDef> NormOps() {
  static const std::vector<OpDef> all = [] {
    std::vector<OpDef> v;
    for (const auto& part : {ChannelNormOps(), LayerNormOps(), VectorNormOps()})
      v.insert(v.end(), part.begin(), part.end());
    return v;
  }();
  return all;
}

namespace {

// y = max(least, x * factor + shift) per channel. The two vectors are made once when all parameters
// are constant.
class ChannelAffine final : public Kernel, public BandKernel {
 public:
  ChannelAffine(const Dims& dims, bool channels_last, float epsilon, bool relu)
      : split_(SplitChannels(dims)),
        by_column_(channels_last || split_.spatial == 1),
        epsilon_(epsilon),
        least_(relu ? 0 : -std::numeric_limits<float>::infinity()) {
    if (by_column_ && (dims.rank() == 3 || dims.rank() == 4))
      image_rows_ = dims.rank() == 4 ? dims[2] : 1;
  }
  // parameters: scale, bias, mean, variance, of `channels` elements each.
  void Fold(const std::array<const float*, 4>& parameters) {
    folded_.resize(size_t(2 * split_.channels));
    Compute(parameters, folded_.data());
  }
  bool reads_strided(int input) const override { return input == 0 && by_column_; }
  InputUse uses(int input) const override {
    return input > 0 && !folded_.empty() ? InputUse::kNothing : InputUse::kValues;
  }
  std::string_view name() const override { return "batchnorm.affine"; }
  size_t scratch_bytes() const override {
    return folded_.empty() ? size_t(2 * split_.channels) * sizeof(float) : 0;
  }
  Status Run(RunContext& ctx) const override {
    const float* factor = folded_.data();
    if (folded_.empty()) {
      auto* made = static_cast<float*>(ctx.scratch());
      std::array<const float*, 4> parameters;
      for (int i = 0; i < 4; ++i)
        parameters[size_t(i)] = static_cast<const float*>(ctx.in(i + 1).data);
      Compute(parameters, made);
      factor = made;
    }
    const float* shift = factor + split_.channels;
    const auto* x = static_cast<const float*>(ctx.in(0).data);
    auto* y = static_cast<float*>(ctx.out(0).data);
    const int64_t cols = by_column_ ? split_.channels : split_.spatial;
    const int64_t x_stride = ctx.in(0).pixel_stride != 0 ? ctx.in(0).pixel_stride : cols;
    const int64_t rows =
        by_column_ ? split_.batch * split_.spatial : split_.batch * split_.channels;
    if (rows * cols == 0) return {};
    ctx.ParallelFor(rows, std::max<int64_t>(1, kCheapGrain / cols), [&](int64_t b, int64_t e) {
      if (by_column_)
        AffineColumns(x + b * x_stride, x_stride, factor, shift, least_, y + b * cols, e - b, cols);
      else
        AffineRows(x + b * cols, factor, shift, split_.channels, b, least_, y + b * cols, e - b,
                   cols);
    });
    return {};
  }

  const BandKernel* bands() const override {
    return !folded_.empty() && image_rows_ > 0 ? this : nullptr;
  }
  BandShape band_shape() const override {
    const int64_t row_floats = split_.spatial / image_rows_ * split_.channels;
    return {split_.batch, {.in = image_rows_, .out = image_rows_}, row_floats, row_floats};
  }
  void RunBand(const BandArgs& band) const override {
    const int64_t c = split_.channels, width = split_.spatial / image_rows_;
    const int64_t x_stride = band.pixel_stride != 0 ? band.pixel_stride : c;
    const int64_t first = band.begin * width;
    AffineColumns(band.x + first * x_stride, x_stride, folded_.data(), folded_.data() + c, least_,
                  band.y + first * c, (band.end - band.begin) * width, c);
  }

 private:
  void Compute(const std::array<const float*, 4>& p, float* out) const {
    for (int64_t c = 0; c < split_.channels; ++c) {
      const double factor = p[0][c] / std::sqrt(double(p[3][c]) + epsilon_);
      out[c] = float(factor);
      out[split_.channels + c] = float(p[1][c] - p[2][c] * factor);
    }
  }

  ChannelSplit split_;
  bool by_column_;
  float epsilon_, least_;
  int64_t image_rows_ = 0;     // of images in channels-last layout; 0: it has no bands
  std::vector<float> folded_;  // factors, then shifts
};

bool AllF32(const LowerContext& ctx) {
  for (int i = 0; i < ctx.input_count(); ++i)
    if (ctx.has(i) && ctx.input(i).dtype != DType::kF32) return false;
  return true;
}

struct BatchNormalization {
  static constexpr std::string_view kName = "BatchNormalization";
  struct Attrs {
    float epsilon = 1e-5f, momentum = 0.9f;
    bool training_mode = false;
    template <class V>
    void Visit(V& v) {
      v("epsilon", epsilon);
      v("momentum", momentum);
      v("training_mode", training_mode);
    }
  };

  static Status Infer(const Attrs&, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, kName));
    if (x.ranked) {
      if (x.dims.rank() < 1)
        return Fail(Code::kInvalidArgument, "{}: the input is a scalar", kName);
      const int64_t channels = x.dims.rank() > 1 ? x.dims[1] : 1;
      for (int i = 1; i < 5; ++i) TRY(CheckVector(ctx, kName, i, channels));
    }
    ctx.Set(0, x);
    for (int o = 1; o < std::min(ctx.output_count(), 3); ++o) ctx.Set(o, ctx.input(o + 2));
    return {};
  }

  // The inference form over f32.
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    if (ctx.wants(1) || ctx.wants(2)) return nullptr;
    return LowerAffine(a, ctx, false);
  }
  static Result<KernelPtr> LowerAffine(const Attrs& a, LowerContext& ctx, bool relu) {
    if (a.training_mode || !AllF32(ctx)) return nullptr;
    auto kernel = std::make_unique<ChannelAffine>(
        ctx.input(0).dims, ctx.input_layout(0) == Layout::kChannelsLast, a.epsilon, relu);
    std::array<const float*, 4> parameters;
    for (int i = 0; i < 4; ++i) {
      const Tensor* t = ctx.value(i + 1);
      if (t == nullptr) return kernel;
      parameters[size_t(i)] = t->as<float>();
    }
    kernel->Fold(parameters);
    return kernel;
  }

  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) {
    LayoutPlan plan = RowMajorLayouts(q);
    bool fits = !a.training_mode && q.inputs[0].ranked && q.inputs[0].dims.rank() >= 3;
    for (const Type& t : q.inputs) fits &= t.dtype == DType::kF32;
    for (size_t o = 1; o < q.outputs.size(); ++o) fits &= q.outputs[o].dtype == DType::kUndefined;
    if (fits) plan.inputs[0] = plan.outputs[0] = q.current[0];
    return plan;
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const ChannelSplit s = SplitChannels(x.dims);
    const auto scale = TRY(ToDoubles(kName, ctx.in(1))), bias = TRY(ToDoubles(kName, ctx.in(2)));
    auto mean = TRY(ToDoubles(kName, ctx.in(3))), variance = TRY(ToDoubles(kName, ctx.in(4)));
    std::vector<double> running_mean = mean, running_variance = variance;
    TRY(VisitTypes<Floats>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      const T* in = x.as<T>();
      T* out = ctx.out(0).mut<T>();
      for (int64_t c = 0; c < s.channels; ++c) {
        const auto each = [&](const auto& f) {
          for (int64_t n = 0; n < s.batch; ++n)
            for (int64_t i = 0; i < s.spatial; ++i) f((n * s.channels + c) * s.spatial + i);
        };
        const auto k = size_t(c);
        if (a.training_mode) {
          const double count = double(s.batch * s.spatial);
          mean[k] = variance[k] = 0;
          each([&](int64_t i) { mean[k] += Widen(in[i]) / count; });
          each([&](int64_t i) {
            variance[k] += (Widen(in[i]) - mean[k]) * (Widen(in[i]) - mean[k]) / count;
          });
          running_mean[k] = running_mean[k] * a.momentum + mean[k] * (1.0 - a.momentum);
          running_variance[k] = running_variance[k] * a.momentum + variance[k] * (1.0 - a.momentum);
        }
        const double factor = scale[k] / std::sqrt(variance[k] + a.epsilon);
        each([&](int64_t i) { out[i] = Narrow<T>((Widen(in[i]) - mean[k]) * factor + bias[k]); });
      }
      return {};
    }));
    for (int o = 1; o < 3; ++o) {
      if (!ctx.wants(o)) continue;
      TRY(VisitTypes<Floats>(ctx.out(o).dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
        const auto& from = o == 1 ? running_mean : running_variance;
        for (size_t i = 0; i < from.size(); ++i) ctx.out(o).mut<T>()[i] = Narrow<T>(from[i]);
        return {};
      }));
    }
    return {};
  }
};

// dunlin.BatchNormRelu: y = max(0, BatchNormalization(x)), the inference form.
struct BatchNormRelu {
  using Attrs = BatchNormalization::Attrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    return BatchNormalization::Infer(a, ctx);
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return BatchNormalization::LowerAffine(a, ctx, true);
  }
  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) {
    return BatchNormalization::Layouts(a, q);
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    TRY(BatchNormalization::Reference(a, ctx));
    TensorView& y = ctx.out(0);
    return VisitTypes<Floats>(y.dtype, "BatchNormRelu", [&]<class T>(TypeTag<T>) -> Status {
      T* out = y.mut<T>();
      for (int64_t i = 0; i < CountOf(y.dims); ++i)
        if (Widen(out[i]) < 0) out[i] = Narrow<T>(0.0);
      return {};
    });
  }
};

// Each of `groups` groups of channels of each sample is normalised by its own moments, then scaled
// and shifted per channel.
Status NormalizeGroups(std::string_view name, RunContext& ctx, int64_t groups, double epsilon) {
  const TensorView& x = ctx.in(0);
  const ChannelSplit s = SplitChannels(x.dims);
  const auto scale = TRY(ToDoubles(name, ctx.in(1))), bias = TRY(ToDoubles(name, ctx.in(2)));
  return VisitTypes<Floats>(x.dtype, name, [&]<class T>(TypeTag<T>) -> Status {
    const T* in = x.as<T>();
    T* out = ctx.out(0).mut<T>();
    const int64_t width = s.channels / groups * s.spatial;  // elements of a group
    for (int64_t g = 0; g < s.batch * groups && width > 0; ++g) {
      const Moments m = MomentsOf(in + g * width, width);
      const double factor = 1 / std::sqrt(m.variance + epsilon);
      for (int64_t i = 0; i < width; ++i) {
        const auto c = size_t((g % groups) * (s.channels / groups) + i / s.spatial);
        out[g * width + i] =
            Narrow<T>((Widen(in[g * width + i]) - m.mean) * factor * scale[c] + bias[c]);
      }
    }
    return {};
  });
}

// Groups of channels over f32, row-major.
class FastGroups final : public Kernel {
 public:
  FastGroups(ChannelSplit split, int64_t groups, float epsilon)
      : split_(split), groups_(groups), epsilon_(epsilon) {}
  std::string_view name() const override { return "groupnorm.simd"; }
  Status Run(RunContext& ctx) const override {
    const auto *x = static_cast<const float*>(ctx.in(0).data),
               *scale = static_cast<const float*>(ctx.in(1).data),
               *bias = static_cast<const float*>(ctx.in(2).data);
    auto* y = static_cast<float*>(ctx.out(0).data);
    const int64_t channels = split_.channels / groups_, width = channels * split_.spatial;
    ctx.ParallelFor(split_.batch * groups_, std::max<int64_t>(1, kCheapGrain / width),
                    [&](int64_t b, int64_t e) {
                      for (int64_t g = b; g < e; ++g) {
                        const RowMoments m = MomentsF32(x + g * width, width, epsilon_, true);
                        for (int64_t i = 0; i < channels; ++i) {
                          const int64_t c = g % groups_ * channels + i,
                                        at = g * width + i * split_.spatial;
                          CentreAndScaleF32(x + at, m.mean, m.inverse * scale[c], bias[c], y + at,
                                            split_.spatial);
                        }
                      }
                    });
    return {};
  }

 private:
  ChannelSplit split_;
  int64_t groups_;
  float epsilon_;
};

Result<KernelPtr> LowerGroups(LowerContext& ctx, int64_t groups, float epsilon) {
  const ChannelSplit split = SplitChannels(ctx.input(0).dims);
  if (!AllF32(ctx) || split.channels == 0 || split.spatial == 0) return nullptr;
  return std::make_unique<FastGroups>(split, groups, epsilon);
}

struct InstanceNormalization {
  static constexpr std::string_view kName = "InstanceNormalization";
  struct Attrs {
    float epsilon = 1e-5f;
    template <class V>
    void Visit(V& v) {
      v("epsilon", epsilon);
    }
  };
  static Status Infer(const Attrs&, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, kName));
    if (x.ranked) {
      if (x.dims.rank() < 2)
        return Fail(Code::kInvalidArgument, "{}: extents {} have no channels", kName,
                    ToString(x.dims));
      for (int i = 1; i < 3; ++i) TRY(CheckVector(ctx, kName, i, x.dims[1]));
    }
    ctx.Set(0, x);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    return NormalizeGroups(kName, ctx, std::max<int64_t>(1, ctx.in(0).dims[1]), a.epsilon);
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerGroups(ctx, ctx.input(0).dims[1], a.epsilon);
  }
};

struct GroupNormalization {
  static constexpr std::string_view kName = "GroupNormalization";
  struct Attrs {
    float epsilon = 1e-5f;
    int64_t num_groups = 0, stash_type = 1;
    template <class V>
    void Visit(V& v) {
      v("epsilon", epsilon);
      v("num_groups", num_groups);
      v("stash_type", stash_type);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, kName));
    if (a.num_groups < 1)
      return Fail(Code::kInvalidArgument, "{}: num_groups is {}", kName, a.num_groups);
    if (x.ranked) {
      if (x.dims.rank() < 2)
        return Fail(Code::kInvalidArgument, "{}: extents {} have no channels", kName,
                    ToString(x.dims));
      if (IsKnown(x.dims[1]) && x.dims[1] % a.num_groups != 0)
        return Fail(Code::kInvalidArgument, "{}: {} channels do not split into {} groups", kName,
                    x.dims[1], a.num_groups);
      for (int i = 1; i < 3; ++i) TRY(CheckVector(ctx, kName, i, x.dims[1]));
    }
    ctx.Set(0, x);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    return NormalizeGroups(kName, ctx, a.num_groups, a.epsilon);
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerGroups(ctx, a.num_groups, a.epsilon);
  }
};

}  // namespace

std::vector<OpDef> ChannelNormOps() {
  return {
      Declare<BatchNormalization>(
          BatchNormalization::kName,
          {.min_inputs = 5, .max_inputs = 5, .max_outputs = 3, .in_place = 0}),
      Declare<BatchNormRelu>("BatchNormRelu",
                             {.domain = "dunlin", .min_inputs = 5, .max_inputs = 5, .in_place = 0}),
      Declare<InstanceNormalization>(InstanceNormalization::kName,
                                     {.min_inputs = 3, .max_inputs = 3, .in_place = 0}),
      Declare<GroupNormalization>(GroupNormalization::kName,
                                  {.min_inputs = 3, .max_inputs = 3, .in_place = 0}),
      LrnOp()};
}

}  // namespace dunlin
