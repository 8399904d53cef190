// SVMRegressor and SVMClassifier (ai.onnx.ml).
#include <cmath>

#include "ops/ml/ml.h"

namespace dunlin {
namespace ml {
namespace {

struct SvmKernel {
  enum class Type : uint8_t { kLinear, kPoly, kRbf, kSigmoid } type = Type::kLinear;
  double gamma = 0, coef0 = 0, degree = 0;

  static Result<SvmKernel> Create(std::string_view name, std::span<const float> params) {
    SvmKernel k;
    if (name == "POLY")
      k.type = Type::kPoly;
    else if (name == "RBF")
      k.type = Type::kRbf;
    else if (name == "SIGMOID")
      k.type = Type::kSigmoid;
    else if (name != "LINEAR")
      return Fail(Code::kInvalidArgument, "kernel_type '{}' is none of LINEAR, POLY, RBF, SIGMOID",
                  name);
    if (!params.empty() && params.size() != 3)
      return Fail(Code::kInvalidArgument, "kernel_params has {} entries, not gamma, coef0, degree",
                  params.size());
    if (!params.empty()) {
      k.gamma = double(params[0]);
      k.coef0 = double(params[1]);
      k.degree = double(params[2]);
    }
    return k;
  }
  double operator()(const double* x, const float* v, int64_t n) const {
    double sum = 0;
    if (type == Type::kRbf) {
      for (int64_t i = 0; i < n; ++i) sum += (x[i] - double(v[i])) * (x[i] - double(v[i]));
      return std::exp(-gamma * sum);
    }
    for (int64_t i = 0; i < n; ++i) sum += x[i] * double(v[i]);
    if (type == Type::kLinear) return sum;
    sum = gamma * sum + coef0;
    return type == Type::kPoly ? std::pow(sum, degree) : std::tanh(sum);
  }
};

// `total` floats as vectors of `features`.
Status CheckVectors(std::string_view what, size_t total, int64_t count, int64_t features) {
  int64_t needed = 0;
  if (!__builtin_mul_overflow(count, features, &needed) && int64_t(total) == needed) return {};
  return Fail(Code::kInvalidArgument, "{} has {} entries for {} vectors of {} features", what,
              total, count, features);
}

// y = Σ coefficient · K(x, support vector) + rho; without support vectors the coefficients are the
// one vector of a linear model. One-class: the sign.
struct SvmRegressor {
  struct Attrs {
    std::vector<float> coefficients, kernel_params, rho, support_vectors;
    std::string kernel_type = "LINEAR", post_transform = "NONE";
    int64_t n_supports = 0, one_class = 0;
    template <class V>
    void Visit(V& v) {
      v("coefficients", coefficients);
      v("kernel_params", kernel_params);
      v("kernel_type", kernel_type);
      v("n_supports", n_supports);
      v("one_class", one_class);
      v("post_transform", post_transform);
      v("rho", rho);
      v("support_vectors", support_vectors);
    }
  };
  static constexpr std::string_view kKernel = "svm.rows";
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const int64_t rows = TRY(InferRows(ctx));
    TRY(Prepare(a, DType::kF32));
    ctx.Set(0, Type::Of(DType::kF32, {rows, 1}));
    return {};
  }
  static Result<SvmRegressor> Prepare(const Attrs& a, DType) {
    // One score has no use for a transform; ONNX Runtime applies none either.
    TRY(ParsePostTransform(a.post_transform));
    if (a.coefficients.empty() || a.rho.empty())
      return Fail(Code::kInvalidArgument, "coefficients or rho are missing");
    if (a.n_supports < 0 || (a.n_supports > 0 && a.n_supports != int64_t(a.coefficients.size())))
      return Fail(Code::kInvalidArgument, "it has {} coefficients for {} support vectors",
                  a.coefficients.size(), a.n_supports);
    SvmRegressor m;
    m.kernel_ =
        TRY(SvmKernel::Create(a.n_supports > 0 ? a.kernel_type : "LINEAR", a.kernel_params));
    if (a.n_supports > 0) {
      m.vectors_ = a.support_vectors;
      m.coefficients_ = a.coefficients;
    } else {
      m.vectors_ = a.coefficients;
      m.coefficients_ = {1};
    }
    m.rho_ = double(a.rho[0]);
    m.one_class_ = a.one_class != 0;
    return m;
  }
  Status Run(RunContext& ctx, const Results& results) const {
    const auto x = TRY(RowReader<double>::Create(ctx.in(0)));
    const int64_t rows = x.rows().count, features = x.rows().width;
    const auto count = int64_t(coefficients_.size());
    TRY(CheckVectors("support_vectors", vectors_.size(), count, features));
    TensorView& y = *TRY(results.Get(0, DType::kF32, {rows, 1}));
    ctx.ParallelFor(rows, RowGrain(count * features), [&](int64_t begin, int64_t end) {
      std::vector<double> buffer;
      for (int64_t r = begin; r < end; ++r) {
        const double* row = x.Row(r, buffer);
        double sum = rho_;
        for (int64_t i = 0; i < count; ++i)
          sum += double(coefficients_[size_t(i)]) *
                 kernel_(row, vectors_.data() + i * features, features);
        y.mut<float>()[r] = one_class_ ? (sum > 0 ? 1.0f : -1.0f) : float(sum);
      }
    });
    return {};
  }

 private:
  SvmKernel kernel_;
  std::vector<float> vectors_, coefficients_;
  double rho_ = 0;
  bool one_class_ = false;
};

// Probabilities of k classes from those of pairs, r[i][j] = P(i | i or j): method 2 of Wu, Lin and
// Weng, "Probability estimates for multi-class classification by pairwise coupling" (2004).
void CouplePairs(int64_t k, std::span<const double> r, std::span<double> p) {
  constexpr int kMaxRounds = 100;
  const auto at = [k](int64_t i, int64_t j) { return size_t(i * k + j); };
  std::vector<double> q(size_t(k * k), 0), qp(static_cast<size_t>(k));
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < k; ++j) {
      if (i == j) continue;
      q[at(i, i)] += r[at(j, i)] * r[at(j, i)];
      q[at(i, j)] = -r[at(j, i)] * r[at(i, j)];
    }
  std::fill(p.begin(), p.end(), 1.0 / double(k));
  for (int round = 0; round < kMaxRounds; ++round) {
    double pqp = 0, worst = 0;
    for (int64_t i = 0; i < k; ++i) {
      qp[size_t(i)] = 0;
      for (int64_t j = 0; j < k; ++j) qp[size_t(i)] += q[at(i, j)] * p[size_t(j)];
      pqp += p[size_t(i)] * qp[size_t(i)];
    }
    for (const double v : qp) worst = std::max(worst, std::fabs(v - pqp));
    if (worst < 0.005 / double(k)) break;
    for (int64_t i = 0; i < k; ++i) {
      const double step = (pqp - qp[size_t(i)]) / q[at(i, i)];
      p[size_t(i)] += step;
      pqp = (pqp + step * (step * q[at(i, i)] + 2 * qp[size_t(i)])) / (1 + step) / (1 + step);
      for (int64_t j = 0; j < k; ++j) {
        qp[size_t(j)] = (qp[size_t(j)] + step * q[at(i, j)]) / (1 + step);
        p[size_t(j)] /= 1 + step;
      }
    }
  }
}

// With vectors_per_class one classifier for each pair of classes (i, j), i < j, whose sign is a
// vote for i or j; else one linear model for each class.
struct SvmClassifier {
  struct Attrs {
    std::vector<float> coefficients, kernel_params, prob_a, prob_b, rho, support_vectors;
    std::vector<int64_t> vectors_per_class;
    std::string kernel_type = "LINEAR", post_transform = "NONE";
    Labels labels;
    template <class V>
    void Visit(V& v) {
      v("classlabels_ints", labels.ints);
      v("classlabels_strings", labels.strings);
      v("coefficients", coefficients);
      v("kernel_params", kernel_params);
      v("kernel_type", kernel_type);
      v("post_transform", post_transform);
      v("prob_a", prob_a);
      v("prob_b", prob_b);
      v("rho", rho);
      v("support_vectors", support_vectors);
      v("vectors_per_class", vectors_per_class);
    }
  };
  static constexpr std::string_view kKernel = "svm.rows";
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const int64_t rows = TRY(InferRows(ctx));
    const SvmClassifier m = TRY(Prepare(a, DType::kF32));
    ctx.Set(0, Type::Of(a.labels.dtype(), {rows}));
    ctx.Set(1, Type::Of(DType::kF32, {rows, m.ScoreCount()}));
    return {};
  }

  static Result<SvmClassifier> Prepare(const Attrs& a, DType) {
    // Pairs of more classes than this have no place in memory.
    constexpr int64_t kMaxClasses = 65535;
    SvmClassifier m;
    m.transform_ = TRY(ParsePostTransform(a.post_transform));
    TRY(a.labels.Check());
    m.a_ = a;
    const int64_t classes = a.labels.size();
    if (classes > kMaxClasses)
      return Fail(Code::kInvalidArgument, "it has {} classes, at most {} are allowed", classes,
                  kMaxClasses);
    for (const int64_t n : a.vectors_per_class) {
      if (n < 0 || __builtin_add_overflow(m.vectors_, n, &m.vectors_))
        return Fail(Code::kInvalidArgument, "vectors_per_class has an entry of {}", n);
      m.first_.push_back(m.vectors_ - n);
    }
    if (a.prob_a.size() != a.prob_b.size())
      return Fail(Code::kInvalidArgument, "prob_a has {} entries, prob_b {}", a.prob_a.size(),
                  a.prob_b.size());
    m.kernel_ = TRY(SvmKernel::Create(m.vectors_ > 0 ? a.kernel_type : "LINEAR", a.kernel_params));
    if (m.vectors_ > 0) TRY(m.CheckPairs());
    if (a.rho.empty() || a.coefficients.empty())
      return Fail(Code::kInvalidArgument, "coefficients or rho are missing");
    m.positive_ =
        std::all_of(a.coefficients.begin(), a.coefficients.end(), [](float c) { return c >= 0; });
    return m;
  }

  Status Run(RunContext& ctx, const Results& results) const {
    const auto x = TRY(RowReader<double>::Create(ctx.in(0)));
    const int64_t rows = x.rows().count, features = x.rows().width;
    if (vectors_ > 0)
      TRY(CheckVectors("support_vectors", a_.support_vectors.size(), vectors_, features));
    else
      TRY(CheckVectors("coefficients", a_.coefficients.size(), a_.labels.size(), features));
    const int64_t scores = ScoreCount();
    TensorView* y = TRY(results.GetIfWanted(0, a_.labels.dtype(), {rows}));
    TensorView* z = TRY(results.GetIfWanted(1, DType::kF32, {rows, scores}));
    const int64_t work = std::max(vectors_, a_.labels.size()) * features + vectors_ * scores;
    ctx.ParallelFor(rows, RowGrain(work), [&](int64_t begin, int64_t end) {
      std::vector<double> buffer;
      std::vector<float> s(static_cast<size_t>(scores));
      for (int64_t r = begin; r < end; ++r) {
        const double* row = x.Row(r, buffer);
        const int64_t best =
            vectors_ > 0 ? ScorePairs(row, features, s) : ScoreClasses(row, features, s);
        if (y != nullptr) a_.labels.Write(best, *y, r);
        if (z != nullptr) std::copy(s.begin(), s.end(), z->mut<float>() + r * scores);
      }
    });
    return {};
  }

 private:
  int64_t pairs() const { return a_.labels.size() * (a_.labels.size() - 1) / 2; }
  bool probabilities() const { return !a_.prob_a.empty(); }
  int64_t ScoreCount() const {
    const int64_t classes = a_.labels.size();
    return vectors_ == 0 || probabilities() || classes == 2 ? classes : pairs();
  }

  Status CheckPairs() const {
    const int64_t classes = a_.labels.size();
    if (classes < 2 || int64_t(a_.vectors_per_class.size()) != classes)
      return Fail(Code::kInvalidArgument, "vectors_per_class has {} entries for {} classes",
                  a_.vectors_per_class.size(), classes);
    const auto needs = [&](std::string_view name, size_t have, int64_t needed) -> Status {
      if (int64_t(have) >= needed) return {};
      return Fail(Code::kInvalidArgument, "{} has {} entries, {} are needed", name, have, needed);
    };
    int64_t coefficients = 0;
    if (__builtin_mul_overflow(classes - 1, vectors_, &coefficients))
      return Fail(Code::kInvalidArgument, "vectors_per_class adds up to {}", vectors_);
    TRY(needs("coefficients", a_.coefficients.size(), coefficients));
    TRY(needs("rho", a_.rho.size(), pairs()));
    if (probabilities()) TRY(needs("prob_a", a_.prob_a.size(), pairs()));
    return {};
  }

  // The scores of a row and the class it belongs to.
  int64_t ScorePairs(const double* x, int64_t features, std::vector<float>& scores) const {
    const int64_t classes = a_.labels.size();
    std::vector<double> kernels(static_cast<size_t>(vectors_)), margins;
    for (int64_t v = 0; v < vectors_; ++v)
      kernels[size_t(v)] = kernel_(x, a_.support_vectors.data() + v * features, features);
    std::vector<int64_t> votes(size_t(classes), 0);
    // Row c - 1 of the coefficients holds what a vector says against class c; a class has no row
    // of its own among its vectors, so rows of later classes stand one higher.
    const auto sum = [&](int64_t of, int64_t row) {
      double s = 0;
      const int64_t first = first_[size_t(of)];
      for (int64_t v = first; v < first + a_.vectors_per_class[size_t(of)]; ++v)
        s += double(a_.coefficients[size_t(row * vectors_ + v)]) * kernels[size_t(v)];
      return s;
    };
    margins.reserve(size_t(pairs()));
    for (int64_t i = 0; i < classes; ++i)
      for (int64_t j = i + 1; j < classes; ++j) {
        margins.push_back(sum(i, j - 1) + sum(j, i) + double(a_.rho[margins.size()]));
        ++votes[size_t(margins.back() > 0 ? i : j)];
      }
    const int64_t best = std::max_element(votes.begin(), votes.end()) - votes.begin();
    if (probabilities()) {
      Probabilities(margins, scores);
    } else if (classes == 2) {
      scores[0] = float(margins[0]);
      ExpandBinary(
          transform_,
          transform_ == PostTransform::kNone ? SecondClass::kNegative : SecondClass::kComplement,
          scores.data());
      return best;
    } else {
      std::transform(margins.begin(), margins.end(), scores.begin(),
                     [](double m) { return float(m); });
    }
    Transform(transform_, std::span<float>(scores));
    return best;
  }

  void Probabilities(std::span<const double> margins, std::vector<float>& scores) const {
    constexpr double kLeast = 1e-7;
    const int64_t classes = a_.labels.size();
    std::vector<double> r(size_t(classes * classes)), p(static_cast<size_t>(classes));
    size_t pair = 0;
    for (int64_t i = 0; i < classes; ++i)
      for (int64_t j = i + 1; j < classes; ++j, ++pair) {
        const double v = margins[pair] * double(a_.prob_a[pair]) + double(a_.prob_b[pair]);
        const double first = std::clamp(1 / (1 + std::exp(v)), kLeast, 1 - kLeast);
        r[size_t(i * classes + j)] = first;
        r[size_t(j * classes + i)] = 1 - first;
      }
    CouplePairs(classes, r, p);
    std::transform(p.begin(), p.end(), scores.begin(), [](double v) { return float(v); });
  }

  int64_t ScoreClasses(const double* x, int64_t features, std::vector<float>& scores) const {
    for (size_t c = 0; c < scores.size(); ++c)
      scores[c] = float(kernel_(x, a_.coefficients.data() + int64_t(c) * features, features) +
                        double(a_.rho[0]));
    const auto most = std::max_element(scores.begin(), scores.end());
    int64_t best = most - scores.begin();
    // Of two classes ONNX Runtime takes the second as soon as one score speaks for a class.
    if (scores.size() == 2 && !probabilities() && (positive_ ? *most >= 0.5f : *most > 0)) best = 1;
    Transform(transform_, std::span<float>(scores));
    return best;
  }

  Attrs a_;
  SvmKernel kernel_;
  PostTransform transform_ = PostTransform::kNone;
  std::vector<int64_t> first_;  // each class's first support vector
  int64_t vectors_ = 0;
  bool positive_ = false;
};

}  // namespace
}  // namespace ml

std::span<const OpDef> SvmOps() {
  static const OpDef ops[] = {
      Declare<ml::ModelOp<ml::SvmRegressor>>("SVMRegressor", {.domain = ml::kDomain}),
      Declare<ml::ModelOp<ml::SvmClassifier>>("SVMClassifier",
                                              {.domain = ml::kDomain, .max_outputs = 2}),
  };
  return ops;
}

}  // namespace dunlin
