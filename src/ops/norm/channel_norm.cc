// Normalisations that treat dimension 1 as channels: [N, C, spatial…].
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

// [N, C, S]; a vector [N] counts as one channel.
struct ChannelSplit {
  int64_t batch = 1, channels = 1, spatial = 1;
};
ChannelSplit SplitChannels(const Dims& d) {
  ChannelSplit s;
  for (size_t i = 0; i < d.size(); ++i)
    (i == 0 ? s.batch : i == 1 ? s.channels : s.spatial) *= d[i];
  return s;
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
};

// Local response normalisation across channels.
struct Lrn {
  static constexpr std::string_view kName = "LRN";
  struct Attrs {
    float alpha = 1e-4f, beta = 0.75f, bias = 1;
    int64_t size = 0;
    template <class V>
    void Visit(V& v) {
      v("alpha", alpha);
      v("beta", beta);
      v("bias", bias);
      v("size", size);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, kName));
    if (a.size < 1) return Fail(Code::kInvalidArgument, "{}: size is {}", kName, a.size);
    if (x.ranked && x.dims.rank() < 2)
      return Fail(Code::kInvalidArgument, "{}: extents {} have no channels", kName,
                  ToString(x.dims));
    ctx.Set(0, x);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const ChannelSplit s = SplitChannels(x.dims);
    // Clamped so that sums with it cannot overflow.
    const int64_t before = std::min((a.size - 1) / 2, s.channels),
                  after = std::min(a.size / 2, s.channels);
    return VisitTypes<Floats>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      T* out = ctx.out(0).mut<T>();
      for (int64_t n = 0; n < s.batch; ++n)
        for (int64_t i = 0; i < s.spatial; ++i) {
          const int64_t base = n * s.channels * s.spatial + i;
          const T* line = x.as<T>() + base;
          for (int64_t c = 0; c < s.channels; ++c) {
            double squares = 0;
            for (int64_t k = std::max<int64_t>(0, c - before);
                 k <= std::min(s.channels - 1, c + after); ++k)
              squares += Widen(line[k * s.spatial]) * Widen(line[k * s.spatial]);
            out[base + c * s.spatial] =
                Narrow<T>(Widen(line[c * s.spatial]) /
                          std::pow(a.bias + a.alpha / double(a.size) * squares, a.beta));
          }
        }
      return {};
    });
  }
};

}  // namespace

std::vector<OpDef> ChannelNormOps() {
  return {Declare<BatchNormalization>(BatchNormalization::kName,
                                      {.min_inputs = 5, .max_inputs = 5, .max_outputs = 3}),
          Declare<InstanceNormalization>(InstanceNormalization::kName,
                                         {.min_inputs = 3, .max_inputs = 3, .in_place = 0}),
          Declare<GroupNormalization>(GroupNormalization::kName,
                                      {.min_inputs = 3, .max_inputs = 3, .in_place = 0}),
          Declare<Lrn>(Lrn::kName, {})};
}

}  // namespace dunlin
