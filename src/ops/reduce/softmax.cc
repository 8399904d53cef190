// Softmax, LogSoftmax and Hardmax along one axis.
#include "kernels/reduce.h"
#include "ops/elementwise/lower.h"
#include "ops/reduce/axes.h"
#include "ops/reduce/reduce.h"

namespace dunlin {
namespace {

struct SoftmaxAttrs {
  int64_t axis = -1;
  template <class V>
  void Visit(V& v) {
    v("axis", axis);
  }
};

// One line along the axis: n elements, `stride` apart.
struct SoftmaxLine {
  static constexpr std::string_view kName = "Softmax";
  template <class T>
  static void Run(const T* x, T* y, int64_t n, int64_t stride) {
    double largest = -HUGE_VAL, sum = 0;
    for (int64_t i = 0; i < n; ++i) largest = std::fmax(largest, Widen(x[i * stride]));
    for (int64_t i = 0; i < n; ++i) sum += std::exp(Widen(x[i * stride]) - largest);
    for (int64_t i = 0; i < n; ++i)
      y[i * stride] = Narrow<T>(std::exp(Widen(x[i * stride]) - largest) / sum);
  }
};
struct LogSoftmaxLine {
  static constexpr std::string_view kName = "LogSoftmax";
  template <class T>
  static void Run(const T* x, T* y, int64_t n, int64_t stride) {
    double largest = -HUGE_VAL, sum = 0;
    for (int64_t i = 0; i < n; ++i) largest = std::fmax(largest, Widen(x[i * stride]));
    for (int64_t i = 0; i < n; ++i) sum += std::exp(Widen(x[i * stride]) - largest);
    const double log_sum = std::log(sum);
    for (int64_t i = 0; i < n; ++i)
      y[i * stride] = Narrow<T>(Widen(x[i * stride]) - largest - log_sum);
  }
};
// 1 at the first largest element.
struct HardmaxLine {
  static constexpr std::string_view kName = "Hardmax";
  template <class T>
  static void Run(const T* x, T* y, int64_t n, int64_t stride) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; ++i)
      if (Widen(x[i * stride]) > Widen(x[best * stride])) best = i;
    for (int64_t i = 0; i < n; ++i) y[i * stride] = Narrow<T>(i == best ? 1.0 : 0.0);
  }
};

// Extents as they lie in memory, around the axis.
AxisSplit SplitInMemory(const Dims& dims, int axis, Layout layout) {
  if (layout != Layout::kChannelsLast || dims.rank() < 3) return SplitAt(dims, axis);
  Dims d = dims;
  std::rotate(d.begin() + 1, d.begin() + 2, d.end());
  return SplitAt(d, axis == 0 ? 0 : axis == 1 ? dims.rank() - 1 : axis - 1);
}

class FastSoftmax final : public Kernel {
 public:
  FastSoftmax(bool log, AxisSplit split) : log_(log), split_(split) {}
  std::string_view name() const override {
    return split_.inner == 1 ? "softmax.rows" : "softmax.columns";
  }
  // The largest value and the sum of every line, for the column form.
  size_t scratch_bytes() const override {
    return split_.inner == 1 ? 0 : size_t(2 * split_.outer * split_.inner) * sizeof(float);
  }
  Status Run(RunContext& ctx) const override {
    const auto* x = static_cast<const float*>(ctx.in(0).data);
    auto* y = static_cast<float*>(ctx.out(0).data);
    const int64_t n = split_.axis, inner = split_.inner;
    if (inner == 1) {
      const auto rows = [&](int64_t b, int64_t e) {
        SoftmaxRowsF32(log_, x + b * n, y + b * n, e - b, n);
      };
      const int64_t grain = std::max<int64_t>(1, kCostlyGrain / n);
      if (split_.outer <= grain)
        rows(0, split_.outer);
      else
        ctx.ParallelFor(split_.outer, grain, rows);
      return {};
    }
    auto* scratch = static_cast<float*>(ctx.scratch());
    const int64_t width =
        std::max<int64_t>(64, (kCostlyGrain / n + 63) / 64 * 64);  // lines of one piece
    const int64_t pieces = (inner + width - 1) / width;
    const int64_t grain = std::max<int64_t>(1, kCostlyGrain / (std::min(width, inner) * n));
    ctx.ParallelFor(split_.outer * pieces, grain, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        const int64_t o = i / pieces, c = i % pieces * width, at = o * n * inner + c;
        SoftmaxColumnsF32(log_, x + at, y + at, inner, n, std::min(width, inner - c),
                          scratch + 2 * (o * inner + c));
      }
    });
    return {};
  }

 private:
  bool log_;
  AxisSplit split_;
};

template <class Line>
struct AlongAxis {
  using Attrs = SoftmaxAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Floats>(x.dtype, Line::kName));
    if (x.ranked) TRY(ResolveAxis(Line::kName, a.axis, x.dims.rank()));
    ctx.Set(0, x);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const AxisSplit s = SplitAt(x.dims, TRY(ResolveAxis(Line::kName, a.axis, x.rank())));
    return VisitTypes<Floats>(x.dtype, Line::kName, [&]<class T>(TypeTag<T>) -> Status {
      const T* in = x.as<T>();
      T* out = ctx.out(0).mut<T>();
      for (int64_t o = 0; o < s.outer; ++o)
        for (int64_t i = 0; i < s.inner && s.axis > 0; ++i) {
          const int64_t at = o * s.axis * s.inner + i;
          Line::Run(in + at, out + at, s.axis, s.inner);
        }
      return {};
    });
  }
};

template <class Line, bool log>
struct FastAlongAxis : AlongAxis<Line> {
  static Result<KernelPtr> Lower(const SoftmaxAttrs& a, LowerContext& ctx) {
    const Type& x = ctx.input(0);
    if (x.dtype != DType::kF32) return nullptr;
    const int axis = TRY(ResolveAxis(Line::kName, a.axis, x.dims.rank()));
    const AxisSplit split = SplitInMemory(x.dims, axis, ctx.input_layout(0));
    if (split.axis == 0 || split.inner == 0) return nullptr;  // nothing to share out
    return std::make_unique<FastSoftmax>(log, split);
  }
  static LayoutPlan Layouts(const SoftmaxAttrs&, const LayoutQuery& q) {
    const auto count = ElementCount(q.inputs[0].dims);
    return q.inputs[0].dtype == DType::kF32 && count && *count > 0 ? ElementwiseLayouts(q)
                                                                   : RowMajorLayouts(q);
  }
};

}  // namespace

std::vector<OpDef> SoftmaxOps() {
  return {Declare<FastAlongAxis<SoftmaxLine, false>>("Softmax", {.in_place = 0}),
          Declare<FastAlongAxis<LogSoftmaxLine, true>>("LogSoftmax", {.in_place = 0}),
          Declare<AlongAxis<HardmaxLine>>("Hardmax", {.in_place = 0})};
}

}  // namespace dunlin
