// Softmax from codes to codes.
#include "ops/elementwise/lower.h"
#include "ops/quant/qlinear.h"
#include "ops/reduce/axes.h"

namespace dunlin {
namespace {

// Exponentials come from a table, whose numbers are as large as their sum allows; the result's
// scale is taken for the reciprocal of an integer. Inputs x, x_scale, x_zero_point (optional),
// y_scale, y_zero_point.
struct QLinearSoftmax {
  static constexpr std::string_view kName = "QLinearSoftmax";
  struct Attrs {
    std::optional<int64_t> axis;  // -1, or 1 before opset 13
    int64_t opset = 13;           // before 13: over all axes from `axis` on
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("opset", opset);
    }
    int64_t AxisOrDefault() const { return axis.value_or(opset < 13 ? 1 : -1); }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckType<Bytes>(ctx.dtype(0), kName));
    TRY(CheckLinear(kName, ctx, {1, 2, 3, 4}));
    if (ctx.input(0).ranked) TRY(ResolveAxis(kName, a.AxisOrDefault(), ctx.input(0).dims.rank()));
    ctx.Set(0, ctx.input(0));
    return {};
  }
  // exp(-distance * scale) for distances from the greatest code, times one factor for all.
  static std::vector<float> Table(float scale, int64_t terms) {
    const double fits = std::log(std::numeric_limits<float>::max() / float(terms)) - 5;
    std::vector<float> table(256);
    for (int d = 0; d < 256; ++d)
      table[size_t(d)] = float(std::exp((std::max(0.0, fits) / double(scale) - d) * double(scale)));
    return table;
  }
  // Calls lines(how many lines along the axis, fn(begin, end)).
  template <class F>
  static Status ForLines(const Attrs& a, RunContext& ctx, const F& lines) {
    const TensorView& x = ctx.in(0);
    AxisSplit split = SplitAt(x.dims, TRY(ResolveAxis(kName, a.AxisOrDefault(), x.dims.rank())));
    if (a.opset < 13) {
      split.axis *= split.inner;
      split.inner = 1;
    }
    if (split.axis == 0) return {};
    const Linear from = TRY(ReadLinear(kName, ctx, 1, 2)), to = TRY(ReadLinear(kName, ctx, 3, 4));
    const std::vector<float> table = Table(from.scale, split.axis);
    return VisitTypes<Bytes>(x.dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      lines(split, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t first = i / split.inner * split.axis * split.inner + i % split.inner;
          Line(x.as<Q>() + first, split.axis, split.inner, table, to, ctx.out(0).mut<Q>() + first);
        }
      });
      return {};
    });
  }
  template <class Q>
  static void Line(const Q* x, int64_t count, int64_t step, const std::vector<float>& table,
                   const Linear& to, Q* y) {
    const float steps = std::floor(1.0f / to.scale);
    int most = x[0];
    for (int64_t k = 0; k < count; ++k) most = std::max(most, int(x[k * step]));
    float sum = 0;
    for (int64_t k = 0; k < count; ++k) sum += table[size_t(most - x[k * step])];
    for (int64_t k = 0; k < count; ++k)
      y[k * step] = CodeOf<Q>(table[size_t(most - x[k * step])] * steps / sum, to.zero);
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    return ForLines(
        a, ctx, [](const AxisSplit& split, const auto& run) { run(0, split.outer * split.inner); });
  }

  // The same loops on all threads: a sum depends on its order.
  class SoftmaxKernel final : public Kernel {
   public:
    explicit SoftmaxKernel(const Attrs& attrs) : attrs_(attrs) {}
    std::string_view name() const override { return "codes.softmax"; }
    Status Run(RunContext& ctx) const override {
      return ForLines(attrs_, ctx, [&](const AxisSplit& split, const auto& run) {
        ctx.ParallelFor(split.outer * split.inner, std::max<int64_t>(1, kCostlyGrain / split.axis),
                        run);
      });
    }

   private:
    Attrs attrs_;
  };
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext&) {
    return KernelPtr(std::make_unique<SoftmaxKernel>(a));
  }
};

}  // namespace

std::vector<OpDef> QLinearSoftmaxOps() {
  return {Declare<QLinearSoftmax>(QLinearSoftmax::kName,
                                  {.domain = "com.microsoft", .min_inputs = 4, .max_inputs = 5})};
}

}  // namespace dunlin
