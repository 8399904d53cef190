// Softmax, LogSoftmax and Hardmax along one axis.
#include "ops/elementwise/numeric.h"
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

}  // namespace

std::vector<OpDef> SoftmaxOps() {
  return {Declare<AlongAxis<SoftmaxLine>>("Softmax", {.in_place = 0}),
          Declare<AlongAxis<LogSoftmaxLine>>("LogSoftmax", {.in_place = 0}),
          Declare<AlongAxis<HardmaxLine>>("Hardmax", {.in_place = 0})};
}

}  // namespace dunlin
