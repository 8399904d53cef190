// LayerNormalization and RMSNormalization: each row of everything from `axis` on is normalised.
#include "kernels/reduce.h"
#include "ops/elementwise/lower.h"
#include "ops/norm/norm.h"

namespace dunlin {
namespace {

struct LayerAttrs {
  int64_t axis = -1, stash_type = 1;  // stash_type: ONNX's number of the type of Mean and InvStdDev
  float epsilon = 1e-5f;
  template <class V>
  void Visit(V& v) {
    v("axis", axis);
    v("epsilon", epsilon);
    v("stash_type", stash_type);
  }
};

// Scale and bias broadcast to the normalised dimensions.
Status CheckParameter(const InferContext& ctx, std::string_view name, int i,
                      std::span<const int64_t> normalized) {
  if (!ctx.has(i) || !ctx.input(i).ranked) return {};
  const Dims& d = ctx.input(i).dims;
  const auto both = Broadcast(normalized, d);
  if (!both || d.size() > normalized.size())
    return Fail(Code::kInvalidArgument, "{}: input {} of extents {} does not broadcast to {}", name,
                i, ToString(d), ToString(normalized));
  for (size_t k = 0; k < normalized.size(); ++k)
    if (IsKnown(normalized[k]) && IsKnown((*both)[k]) && (*both)[k] != normalized[k])
      return Fail(Code::kInvalidArgument, "{}: input {} of extents {} does not broadcast to {}",
                  name, i, ToString(d), ToString(normalized));
  return {};
}

// The elements of a parameter repeated to the normalised extents.
Result<std::vector<double>> Expand(std::string_view name, const TensorView& t,
                                   std::span<const int64_t> normalized) {
  const auto own = TRY(ToDoubles(name, t));
  const auto plan = PlanBroadcast<1>(normalized, {std::span<const int64_t>(t.dims)});
  std::vector<double> v(size_t(CountOf(normalized)));
  if (v.empty()) return v;
  ForEachRow(plan, 0, plan.rows(), [&](int64_t out, const std::array<int64_t, 1>& in) {
    for (int64_t i = 0; i < plan.cols(); ++i)
      v[size_t(out + i)] = own[size_t(in[0] + i * plan.strides[0].back())];
  });
  return v;
}

class FastRows final : public Kernel {
 public:
  FastRows(int64_t rows, int64_t n, float epsilon, bool centred)
      : rows_(rows), n_(n), epsilon_(epsilon), centred_(centred) {}
  std::string_view name() const override { return centred_ ? "layernorm.simd" : "rmsnorm.simd"; }
  Status Run(RunContext& ctx) const override {
    const auto data = [&](int i) {
      return ctx.has(i) ? static_cast<const float*>(ctx.in(i).data) : nullptr;
    };
    const auto output = [&](int o) {
      return ctx.wants(o) ? static_cast<float*>(ctx.out(o).data) : nullptr;
    };
    const float *x = data(0), *scale = data(1), *bias = data(2);
    float *y = output(0), *mean = output(1), *inverse = output(2);
    const auto rows = [&](int64_t b, int64_t e) {
      NormalizeRowsF32(x + b * n_, scale, bias, y + b * n_, e - b, n_, epsilon_, centred_,
                       mean ? mean + b : nullptr, inverse ? inverse + b : nullptr);
    };
    const int64_t grain = std::max<int64_t>(1, kCostlyGrain / n_);
    if (rows_ <= grain)
      rows(0, rows_);
    else
      ctx.ParallelFor(rows_, grain, rows);
    return {};
  }

 private:
  int64_t rows_, n_;
  float epsilon_;
  bool centred_;
};

template <bool centred>
struct RowNormalization {
  static constexpr std::string_view kName = centred ? "LayerNormalization" : "RMSNormalization";
  using Attrs = LayerAttrs;

  static Status Infer(const Attrs& a, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, kName));
    const DType stash = a.stash_type == 11   ? DType::kF64
                        : a.stash_type == 10 ? DType::kF16
                        : a.stash_type == 16 ? DType::kBF16
                                             : DType::kF32;
    ctx.Set(0, x);
    if (!x.ranked) {
      for (int o = 1; o < ctx.output_count(); ++o) ctx.Set(o, Type::Unranked(stash));
      return {};
    }
    const int axis = TRY(ResolveAxis(kName, a.axis, x.dims.rank()));
    if (x.dims.empty()) return Fail(Code::kInvalidArgument, "{}: the input is a scalar", kName);
    const std::span<const int64_t> normalized =
        std::span<const int64_t>(x.dims).subspan(size_t(axis));
    for (int i = 1; i < ctx.input_count(); ++i) TRY(CheckParameter(ctx, kName, i, normalized));
    Dims rows = x.dims;
    std::fill(rows.begin() + axis, rows.end(), 1);
    for (int o = 1; o < ctx.output_count(); ++o) ctx.Set(o, Type::Of(stash, rows));
    return {};
  }

  // f32 with a scale (and bias) for every element of a row.
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    const Dims& x = ctx.input(0).dims;
    const AxisSplit s = SplitFrom(x, TRY(ResolveAxis(kName, a.axis, x.rank())));
    bool fits = s.axis > 0 && ctx.wants(0);
    for (int i = 0; i < ctx.input_count(); ++i)
      if (ctx.has(i))
        fits &=
            ctx.input(i).dtype == DType::kF32 && (i == 0 || CountOf(ctx.input(i).dims) == s.axis);
    for (int o = 0; o < ctx.output_count(); ++o)
      if (ctx.wants(o)) fits &= ctx.output(o).dtype == DType::kF32;
    if (!fits) return nullptr;
    return std::make_unique<FastRows>(s.outer, s.axis, a.epsilon, centred);
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const int axis = TRY(ResolveAxis(kName, a.axis, x.rank()));
    const AxisSplit s = SplitFrom(x.dims, axis);
    const std::span<const int64_t> normalized =
        std::span<const int64_t>(x.dims).subspan(size_t(axis));
    const auto scale = TRY(Expand(kName, ctx.in(1), normalized));
    std::vector<double> bias(size_t(s.axis), 0.0);
    if (ctx.has(2)) bias = TRY(Expand(kName, ctx.in(2), normalized));
    std::vector<double> means(static_cast<size_t>(s.outer)), inverses(static_cast<size_t>(s.outer));
    TRY(VisitTypes<Floats>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      for (int64_t r = 0; r < s.outer && s.axis > 0; ++r) {
        const T* in = x.as<T>() + r * s.axis;
        T* out = ctx.out(0).mut<T>() + r * s.axis;
        Moments m = MomentsOf(in, s.axis);
        if (!centred) m = {0, m.variance + m.mean * m.mean};  // the mean square
        const double inverse = 1 / std::sqrt(m.variance + a.epsilon);
        for (int64_t i = 0; i < s.axis; ++i)
          out[i] =
              Narrow<T>((Widen(in[i]) - m.mean) * inverse * scale[size_t(i)] + bias[size_t(i)]);
        means[size_t(r)] = m.mean;
        inverses[size_t(r)] = inverse;
      }
      return {};
    }));
    for (int o = 1; o < 3; ++o) {
      if (!ctx.wants(o)) continue;
      TRY(VisitTypes<Floats>(ctx.out(o).dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
        const auto& from = o == 1 ? means : inverses;
        for (size_t i = 0; i < from.size(); ++i) ctx.out(o).mut<T>()[i] = Narrow<T>(from[i]);
        return {};
      }));
    }
    return {};
  }
};

}  // namespace

std::vector<OpDef> LayerNormOps() {
  return {Declare<RowNormalization<true>>(
              "LayerNormalization",
              {.min_inputs = 2, .max_inputs = 3, .max_outputs = 3, .in_place = 0}),
          Declare<RowNormalization<false>>("RMSNormalization",
                                           {.min_inputs = 2, .max_inputs = 2, .in_place = 0})};
}

}  // namespace dunlin
