// LinearRegressor and LinearClassifier (ai.onnx.ml): y = x wᵀ + b, then a transform.
#include "ops/ml/ml.h"

namespace dunlin {
namespace ml {
namespace {

// One vector of coefficients and one intercept for each output.
struct Linear {
  std::vector<float> coefficients, intercepts;

  Status Check(int64_t outputs, int64_t features) const {
    int64_t needed = 0;
    if (!__builtin_mul_overflow(outputs, features, &needed) &&
        int64_t(coefficients.size()) == needed)
      return {};
    return Fail(Code::kInvalidArgument, "it has {} coefficients for {} features and {} outputs",
                coefficients.size(), features, outputs);
  }
  void Scores(const double* x, int64_t features, int64_t outputs, float* y) const {
    for (int64_t o = 0; o < outputs; ++o) {
      const float* w = coefficients.data() + o * features;
      double sum = intercepts.empty() ? 0 : double(intercepts[size_t(o)]);
      for (int64_t k = 0; k < features; ++k) sum += x[k] * double(w[k]);
      y[o] = float(sum);
    }
  }
};

struct LinearRegressor {
  struct Attrs {
    std::vector<float> coefficients, intercepts;
    int64_t targets = 1;
    std::string post_transform = "NONE";
    template <class V>
    void Visit(V& v) {
      v("coefficients", coefficients);
      v("intercepts", intercepts);
      v("targets", targets);
      v("post_transform", post_transform);
    }
  };
  static constexpr std::string_view kKernel = "linear.rows";
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const int64_t rows = TRY(InferRows(ctx));
    TRY(Prepare(a, DType::kF32));
    ctx.Set(0, Type::Of(DType::kF32, {rows, a.targets}));
    return {};
  }
  static Result<LinearRegressor> Prepare(const Attrs& a, DType) {
    LinearRegressor m;
    if (a.targets < 1 || a.targets > int64_t(a.coefficients.size()))
      return Fail(Code::kInvalidArgument, "it has {} targets and {} coefficients", a.targets,
                  a.coefficients.size());
    if (!a.intercepts.empty() && int64_t(a.intercepts.size()) != a.targets)
      return Fail(Code::kInvalidArgument, "it has {} intercepts for {} targets",
                  a.intercepts.size(), a.targets);
    m.linear_ = {a.coefficients, a.intercepts};
    m.targets_ = a.targets;
    m.transform_ = TRY(ParsePostTransform(a.post_transform));
    return m;
  }
  Status Run(RunContext& ctx, const Results& results) const {
    const auto x = TRY(RowReader<double>::Create(ctx.in(0)));
    const int64_t rows = x.rows().count, features = x.rows().width, outputs = targets_;
    TRY(linear_.Check(outputs, features));
    TensorView& y = *TRY(results.Get(0, DType::kF32, {rows, outputs}));
    ctx.ParallelFor(rows, RowGrain(outputs * features), [&](int64_t begin, int64_t end) {
      std::vector<double> buffer;
      for (int64_t r = begin; r < end; ++r) {
        float* scores = y.mut<float>() + r * outputs;
        linear_.Scores(x.Row(r, buffer), features, outputs, scores);
        Transform(transform_, std::span<float>(scores, size_t(outputs)));
      }
    });
    return {};
  }

 private:
  Linear linear_;
  int64_t targets_ = 1;
  PostTransform transform_ = PostTransform::kNone;
};

// With one vector of coefficients and two labels the score is the second one's.
struct LinearClassifier {
  struct Attrs {
    std::vector<float> coefficients, intercepts;
    Labels labels;
    int64_t multi_class = 0;  // says how it was trained; changes nothing
    std::string post_transform = "NONE";
    template <class V>
    void Visit(V& v) {
      v("coefficients", coefficients);
      v("intercepts", intercepts);
      v("classlabels_ints", labels.ints);
      v("classlabels_strings", labels.strings);
      v("multi_class", multi_class);
      v("post_transform", post_transform);
    }
  };
  static constexpr std::string_view kKernel = "linear.rows";
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const int64_t rows = TRY(InferRows(ctx));
    TRY(Prepare(a, DType::kF32));
    const Type& x = ctx.input(0);
    const int64_t width = x.ranked ? TRY(RowsOf(x.dims)).width : kUnknownDim;
    ctx.Set(0, Type::Of(a.labels.dtype(), {rows}));
    int64_t scores = kUnknownDim;
    if (const auto outputs = Outputs(a, width)) scores = ScoreCount(a.labels, *outputs);
    ctx.Set(1, Type::Of(DType::kF32, {rows, scores}));
    return {};
  }
  static Result<LinearClassifier> Prepare(const Attrs& a, DType) {
    LinearClassifier m;
    TRY(a.labels.Check());
    m.labels_ = a.labels;
    m.linear_ = {a.coefficients, a.intercepts};
    m.transform_ = TRY(ParsePostTransform(a.post_transform));
    return m;
  }
  Status Run(RunContext& ctx, const Results& results) const {
    const auto x = TRY(RowReader<double>::Create(ctx.in(0)));
    const int64_t rows = x.rows().count, features = x.rows().width;
    const int64_t outputs = TRY(CheckedOutputs(features));
    const int64_t scores = ScoreCount(labels_, outputs);
    TensorView* y = TRY(results.GetIfWanted(0, labels_.dtype(), {rows}));
    TensorView* z = TRY(results.GetIfWanted(1, DType::kF32, {rows, scores}));
    ctx.ParallelFor(rows, RowGrain(outputs * features), [&](int64_t begin, int64_t end) {
      std::vector<double> buffer;
      std::vector<float> s(static_cast<size_t>(scores));
      for (int64_t r = begin; r < end; ++r) {
        linear_.Scores(x.Row(r, buffer), features, outputs, s.data());
        if (y != nullptr) Label(s, outputs, *y, r);
        if (scores == outputs)
          Transform(transform_, std::span<float>(s));
        else
          ExpandBinary(transform_, SecondClass::kComplement, s.data());
        if (z != nullptr) std::copy(s.begin(), s.end(), z->mut<float>() + r * scores);
      }
    });
    return {};
  }

 private:
  static std::optional<int64_t> Outputs(const Attrs& a, int64_t features) {
    if (!a.intercepts.empty()) return int64_t(a.intercepts.size());
    if (!IsKnown(features) || features == 0) return std::nullopt;
    return int64_t(a.coefficients.size()) / features;
  }
  static int64_t ScoreCount(const Labels& labels, int64_t outputs) {
    return outputs == 1 && labels.size() == 2 ? 2 : outputs;
  }
  Result<int64_t> CheckedOutputs(int64_t features) const {
    const auto outputs = int64_t(!linear_.intercepts.empty() ? linear_.intercepts.size()
                                 : features > 0 ? linear_.coefficients.size() / size_t(features)
                                                : 0);
    TRY(linear_.Check(outputs, features));
    if (outputs < 1 || (outputs > 1 && outputs > labels_.size()))
      return Fail(Code::kInvalidArgument, "it computes {} scores for {} class labels", outputs,
                  labels_.size());
    return outputs;
  }
  void Label(std::span<const float> scores, int64_t outputs, TensorView& y, int64_t row) const {
    if (outputs == 1)
      labels_.WriteBinary(scores[0] > 0, y, row);
    else
      labels_.Write(std::max_element(scores.begin(), scores.begin() + outputs) - scores.begin(), y,
                    row);
  }

  Linear linear_;
  Labels labels_;
  PostTransform transform_ = PostTransform::kNone;
};

}  // namespace
}  // namespace ml

std::span<const OpDef> LinearOps() {
  static const OpDef ops[] = {
      Declare<ml::ModelOp<ml::LinearRegressor>>("LinearRegressor", {.domain = ml::kDomain}),
      Declare<ml::ModelOp<ml::LinearClassifier>>("LinearClassifier",
                                                 {.domain = ml::kDomain, .max_outputs = 2}),
  };
  return ops;
}

}  // namespace dunlin
