// NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss (ONNX opset 13): scores [N,C,d…], labels
// [N,d…], one optional weight per class.
#include <cmath>
#include <limits>

#include "ops/op.h"

namespace dunlin {
namespace {

enum class Reduction : uint8_t { kNone, kSum, kMean };

struct LossAttrs {
  std::string reduction = "mean";
  std::optional<int64_t> ignore_index;  // this label counts for nothing and need not be a class
  template <class V>
  void Visit(V& v) {
    v("reduction", reduction);
    v("ignore_index", ignore_index);
  }
};

Result<Reduction> ReductionOf(const LossAttrs& a) {
  if (a.reduction == "none") return Reduction::kNone;
  if (a.reduction == "sum") return Reduction::kSum;
  if (a.reduction == "mean") return Reduction::kMean;
  return Fail(Code::kInvalidArgument, "reduction '{}' is not none, sum or mean", a.reduction);
}

template <class T>
double AsDouble(T v) {
  if constexpr (kIsHalf<T>)
    return float(v);
  else
    return double(v);
}
template <class T>
void Put(TensorView& out, int64_t i, double v) {
  if constexpr (kIsHalf<T>)
    out.mut<T>()[i] = T(float(v));
  else
    out.mut<T>()[i] = T(v);
}

// Output 0 is a scalar, or has the labels' extents; output 1, where there is one, the scores'.
Status InferLoss(const LossAttrs& a, InferContext& ctx) {
  const Reduction reduction = TRY(ReductionOf(a));
  const Type &scores = ctx.input(0), &labels = ctx.input(1);
  if (scores.dtype != DType::kUndefined && !IsFloat(scores.dtype))
    return Fail(Code::kInvalidArgument, "scores are {}, not a float type", DTypeName(scores.dtype));
  if (labels.dtype != DType::kUndefined && labels.dtype != DType::kI32 &&
      labels.dtype != DType::kI64)
    return Fail(Code::kInvalidArgument, "labels are {}, not i32 or i64", DTypeName(labels.dtype));
  if (ctx.has(2) && ctx.dtype(2) != DType::kUndefined && scores.dtype != DType::kUndefined &&
      ctx.dtype(2) != scores.dtype)
    return Fail(Code::kInvalidArgument, "weights are {}, scores {}", DTypeName(ctx.dtype(2)),
                DTypeName(scores.dtype));
  Type each{Type::Kind::kTensor, scores.dtype, labels.ranked, labels.dims};
  if (scores.ranked) {
    if (scores.dims.rank() < 2)
      return Fail(Code::kInvalidArgument, "scores have rank {}, below 2", scores.dims.rank());
    if (labels.ranked && labels.dims.rank() + 1 != scores.dims.rank())
      return Fail(Code::kInvalidArgument, "labels of rank {} for scores of rank {}",
                  labels.dims.rank(), scores.dims.rank());
    Dims expected = scores.dims;
    expected.erase(1);
    for (size_t i = 0; labels.ranked && i < expected.size(); ++i) {
      const int64_t l = labels.dims[i];
      if (IsKnown(l) && IsKnown(expected[i]) && l != expected[i])
        return Fail(Code::kInvalidArgument,
                    "extent {} of the labels is {} where the scores have {}", i, l, expected[i]);
      if (IsKnown(l)) expected[i] = l;
    }
    each = Type::Of(scores.dtype, expected);
    if (ctx.has(2) && ctx.input(2).ranked) {
      const Dims& w = ctx.input(2).dims;
      if (w.rank() != 1 || (IsKnown(w[0]) && IsKnown(scores.dims[1]) && w[0] != scores.dims[1]))
        return Fail(Code::kInvalidArgument, "weights {} for {} classes",
                    ToString(std::span<const int64_t>(w)), scores.dims[1]);
    }
  }
  ctx.Set(0, reduction == Reduction::kNone ? each : Type::Of(scores.dtype, {}));
  if (ctx.output_count() > 1) ctx.Set(1, scores);
  return {};
}

// Extents as the loops see them.
struct Extents {
  int64_t batch, classes, inner;
  explicit Extents(const Dims& d) : batch(d[0]), classes(d[1]), inner(1) {
    for (int i = 2; i < d.rank(); ++i) inner *= d[size_t(i)];
    if (inner == 0) batch = 0;  // nothing, however often
  }
};

// log_prob(n, c, i) gives the log-probability; it is asked for the label's class only.
template <class T, class LogProb>
Status Reduce(const LossAttrs& a, RunContext& ctx, const Extents& e, LogProb&& log_prob) {
  const Reduction reduction = TRY(ReductionOf(a));
  const bool wide = ctx.in(1).dtype == DType::kI64;
  const T* weights = ctx.has(2) ? ctx.in(2).as<T>() : nullptr;
  double sum = 0, total = 0;
  for (int64_t n = 0; n < e.batch; ++n)
    for (int64_t i = 0; i < e.inner; ++i) {
      const int64_t at = n * e.inner + i;
      const int64_t label = wide ? ctx.in(1).as<int64_t>()[at] : ctx.in(1).as<int32_t>()[at];
      double loss = 0;
      if (!a.ignore_index || label != *a.ignore_index) {
        if (label < 0 || label >= e.classes)
          return Fail(Code::kInvalidArgument, "label {} outside [0, {})", label, e.classes);
        const double weight = weights != nullptr ? AsDouble(weights[label]) : 1;
        loss = -log_prob(n, label, i) * weight;
        total += weight;
      }
      if (reduction == Reduction::kNone) Put<T>(ctx.out(0), at, loss);
      sum += loss;
    }
  if (reduction == Reduction::kSum) Put<T>(ctx.out(0), 0, sum);
  if (reduction == Reduction::kMean) Put<T>(ctx.out(0), 0, sum / total);
  return {};
}

template <class F>
Status VisitFloat(DType t, F&& f) {
  return VisitDType(t, "loss", [&]<class T>(TypeTag<T> tag) -> Status {
    if constexpr (kIsFloat<T>)
      return f(tag);
    else
      return Fail(Code::kInvalidArgument, "a loss of {}", DTypeName(t));
  });
}

struct NegativeLogLikelihoodLoss {
  using Attrs = LossAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) { return InferLoss(a, ctx); }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    return VisitFloat(ctx.in(0).dtype, [&]<class T>(TypeTag<T>) -> Status {
      const Extents e(ctx.in(0).dims);
      const T* x = ctx.in(0).as<T>();
      return Reduce<T>(a, ctx, e, [&](int64_t n, int64_t c, int64_t i) {
        return AsDouble(x[(n * e.classes + c) * e.inner + i]);
      });
    });
  }
};

struct SoftmaxCrossEntropyLoss {
  using Attrs = LossAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) { return InferLoss(a, ctx); }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    return VisitFloat(ctx.in(0).dtype, [&]<class T>(TypeTag<T>) -> Status {
      const Extents e(ctx.in(0).dims);
      const T* x = ctx.in(0).as<T>();
      const auto at = [&](int64_t n, int64_t c, int64_t i) {
        return (n * e.classes + c) * e.inner + i;
      };
      const auto log_sum = [&](int64_t n, int64_t i) {
        double highest = -std::numeric_limits<double>::infinity(), sum = 0;
        for (int64_t c = 0; c < e.classes; ++c)
          highest = std::max(highest, AsDouble(x[at(n, c, i)]));
        for (int64_t c = 0; c < e.classes; ++c) sum += std::exp(AsDouble(x[at(n, c, i)]) - highest);
        return highest + std::log(sum);
      };
      if (ctx.output_count() > 1 && ctx.wants(1))
        for (int64_t n = 0; n < e.batch; ++n)
          for (int64_t i = 0; i < e.inner; ++i) {
            const double s = log_sum(n, i);
            for (int64_t c = 0; c < e.classes; ++c)
              Put<T>(ctx.out(1), at(n, c, i), AsDouble(x[at(n, c, i)]) - s);
          }
      if (!ctx.wants(0)) return {};
      return Reduce<T>(a, ctx, e, [&](int64_t n, int64_t c, int64_t i) {
        return AsDouble(x[at(n, c, i)]) - log_sum(n, i);
      });
    });
  }
};

}  // namespace

std::span<const OpDef> LossOps() {
  static const OpDef ops[] = {
      Declare<NegativeLogLikelihoodLoss>("NegativeLogLikelihoodLoss",
                                         {.min_inputs = 2, .max_inputs = 3}),
      Declare<SoftmaxCrossEntropyLoss>("SoftmaxCrossEntropyLoss",
                                       {.min_inputs = 2, .max_inputs = 3, .max_outputs = 2}),
  };
  return ops;
}

}  // namespace dunlin
