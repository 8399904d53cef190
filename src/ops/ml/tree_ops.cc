// TreeEnsembleRegressor, TreeEnsembleClassifier (versions 1 and 3) and TreeEnsemble (version 5).
#include <algorithm>
#include <optional>
#include <variant>

#include "ops/ml/ml.h"
#include "ops/ml/tree_attrs.h"
#include "ops/ml/trees.h"

namespace dunlin {
namespace ml {
namespace {

// Numbered as TreeEnsemble's attribute.
enum class Aggregate : uint8_t { kAverage, kSum, kMin, kMax };
Result<Aggregate> ParseAggregate(std::string_view name) {
  static constexpr std::string_view kNames[] = {"AVERAGE", "SUM", "MIN", "MAX"};
  const auto* it = std::find(std::begin(kNames), std::end(kNames), name);
  if (it == std::end(kNames))
    return Fail(Code::kInvalidArgument, "aggregate_function '{}' is none of AVERAGE, SUM, MIN, MAX",
                name);
  return Aggregate(it - std::begin(kNames));
}

// More targets or classes than any ensemble has; they cost memory for every row.
constexpr int64_t kMaxTargets = int64_t{1} << 20;

// Scores are added up in the order of trees, in the precision of the features: as the libraries do
// that train ensembles, so that a tie is one here too. f32 where nothing is f64 and integers need
// not be told apart beyond 2^24.
bool NeedsDouble(DType x, std::initializer_list<const Tensor*> attributes) {
  return !(x == DType::kF32 || x == DType::kF16 || x == DType::kBF16) ||
         std::any_of(attributes.begin(), attributes.end(),
                     [](const Tensor* t) { return t->dtype() == DType::kF64; });
}

Status CheckTargets(int64_t targets) {
  if (targets >= 1 && targets <= kMaxTargets) return {};
  return Fail(Code::kInvalidArgument, "it has {} targets, 1 to {} are allowed", targets,
              kMaxTargets);
}

class Forest {
 public:
  static Result<Forest> Create(const WrittenTrees& written, int64_t targets, Aggregate aggregate,
                               bool needs_double) {
    TRY(CheckTargets(targets));
    Forest f;
    f.targets_ = targets;
    f.aggregate_ = aggregate;
    if (needs_double)
      f.trees_ = TRY(CompileTrees<double>(written, targets));
    else
      f.trees_ = TRY(CompileTrees<float>(written, targets));
    return f;
  }
  int64_t targets() const { return targets_; }

  // finish(row, scores, voted) with every row's scores and whether anybody voted for each target,
  // on several threads.
  template <class Finish>
  Status Run(RunContext& ctx, const Finish& finish) const {
    return std::visit([&](const auto& trees) { return RunTrees(trees, ctx, finish); }, trees_);
  }

 private:
  template <class T>
  struct Block {
    std::vector<T> scores;
    std::vector<uint8_t> voted;
  };

  template <class T>
  void Count(const Trees<T>& trees, int32_t leaf, T* scores, uint8_t* voted) const {
    for (int32_t i = trees.first_vote[size_t(leaf)]; i < trees.first_vote[size_t(leaf) + 1]; ++i) {
      const auto& vote = trees.votes[size_t(i)];
      T& s = scores[vote.target];
      if (aggregate_ == Aggregate::kSum || aggregate_ == Aggregate::kAverage)
        s += vote.weight;
      else if (!voted[vote.target] ||
               (aggregate_ == Aggregate::kMin ? vote.weight < s : vote.weight > s))
        s = vote.weight;
      voted[vote.target] = 1;
    }
  }
  template <class T>
  void Average(const Trees<T>& trees, std::vector<T>& scores) const {
    if (aggregate_ == Aggregate::kAverage)
      for (T& s : scores) s /= T(trees.roots.size());
  }

  template <class T, class Finish>
  Status RunTrees(const Trees<T>& trees, RunContext& ctx, const Finish& finish) const {
    const auto x = TRY(RowReader<T>::Create(ctx.in(0)));
    const Rows rows = x.rows();
    if (rows.width < trees.features)
      return Fail(Code::kInvalidArgument, "rows have {} features, its trees test feature {}",
                  rows.width, trees.features - 1);
    const auto count = int64_t(trees.roots.size());
    // A descent is some ten dependent reads.
    constexpr int64_t kTreeCost = 50;
    const int64_t tree_grain = RowGrain(kTreeCost);
    if (rows.count < ctx.threads() && count >= 2 * tree_grain) {
      for (int64_t r = 0; r < rows.count; ++r) RunOneRow(trees, x, r, tree_grain, ctx, finish);
      return {};
    }
    // A block of rows goes through one tree after another, whose nodes then are in the cache.
    constexpr int64_t kBlock = 32;
    const int64_t block = targets_ > 1024 ? 1 : kBlock;
    const int64_t share = rows.count / (4 * int64_t(ctx.threads())) + 1;
    const int64_t grain = std::max(RowGrain(kTreeCost * count), std::min(block, share));
    ctx.ParallelFor(rows.count, grain, [&](int64_t begin, int64_t end) {
      std::vector<std::vector<T>> buffers(static_cast<size_t>(block));
      std::vector<const T*> row(static_cast<size_t>(block));
      Block<T> b;
      for (int64_t first = begin; first < end; first += block) {
        const int64_t n = std::min(block, end - first);
        for (int64_t i = 0; i < n; ++i) row[size_t(i)] = x.Row(first + i, buffers[size_t(i)]);
        b.scores.assign(size_t(n * targets_), 0);
        b.voted.assign(size_t(n * targets_), 0);
        for (const int32_t root : trees.roots)
          for (int64_t i = 0; i < n; ++i)
            Count(trees, trees.Leaf(root, row[size_t(i)]), b.scores.data() + i * targets_,
                  b.voted.data() + i * targets_);
        Average(trees, b.scores);
        for (int64_t i = 0; i < n; ++i)
          finish(first + i, b.scores.data() + i * targets_, b.voted.data() + i * targets_);
      }
    });
    return {};
  }

  // Trees in parallel: their leaves are noted, then counted in order.
  template <class T, class Finish>
  void RunOneRow(const Trees<T>& trees, const RowReader<T>& x, int64_t r, int64_t grain,
                 RunContext& ctx, const Finish& finish) const {
    std::vector<T> buffer;
    const T* row = x.Row(r, buffer);
    std::vector<int32_t> leaves(trees.roots.size());
    ctx.ParallelFor(int64_t(leaves.size()), grain, [&](int64_t begin, int64_t end) {
      for (auto t = size_t(begin); t < size_t(end); ++t)
        leaves[t] = trees.Leaf(trees.roots[t], row);
    });
    Block<T> b{std::vector<T>(size_t(targets_), 0), std::vector<uint8_t>(size_t(targets_), 0)};
    for (const int32_t leaf : leaves) Count(trees, leaf, b.scores.data(), b.voted.data());
    Average(trees, b.scores);
    finish(r, b.scores.data(), b.voted.data());
  }

  std::variant<Trees<float>, Trees<double>> trees_;
  int64_t targets_ = 1;
  Aggregate aggregate_ = Aggregate::kSum;
};

struct Regressor {
  struct Attrs {
    NodeLists nodes;
    VoteLists votes;
    std::vector<float> base_values;
    Tensor base_values_as_tensor;
    std::string aggregate_function = "SUM", post_transform = "NONE";
    std::optional<int64_t> n_targets;
    template <class V>
    void Visit(V& v) {
      nodes.Visit(v);
      v("target_treeids", votes.treeids);
      v("target_nodeids", votes.nodeids);
      v("target_ids", votes.ids);
      v("target_weights", votes.weights);
      v("target_weights_as_tensor", votes.weights_as_tensor);
      v("base_values", base_values);
      v("base_values_as_tensor", base_values_as_tensor);
      v("aggregate_function", aggregate_function);
      v("post_transform", post_transform);
      v("n_targets", n_targets);
    }
    int64_t targets() const {
      if (n_targets) return *n_targets;
      const auto most = std::max_element(votes.ids.begin(), votes.ids.end());
      return most == votes.ids.end() ? 1 : std::clamp<int64_t>(*most, 0, kMaxTargets) + 1;
    }
  };
  static constexpr std::string_view kKernel = "trees.rows";
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const int64_t rows = TRY(InferRows(ctx));
    TRY(CheckLists(a.nodes, a.votes));
    TRY(CheckTargets(a.targets()));
    ctx.Set(0, Type::Of(DType::kF32, {rows, a.targets()}));
    return {};
  }
  static Result<Regressor> Prepare(const Attrs& a, DType x) {
    Regressor m;
    m.transform_ = TRY(ParsePostTransform(a.post_transform));
    const Aggregate aggregate = TRY(ParseAggregate(a.aggregate_function));
    const WrittenTrees written = TRY(Write(a.nodes, a.votes));
    m.forest_ =
        TRY(Forest::Create(written, a.targets(), aggregate,
                           NeedsDouble(x, {&a.nodes.values_as_tensor, &a.votes.weights_as_tensor,
                                           &a.base_values_as_tensor})));
    m.base_ = TRY(Numbers(a.base_values, a.base_values_as_tensor));
    if (!m.base_.empty() && int64_t(m.base_.size()) != a.targets())
      return Fail(Code::kInvalidArgument, "it has {} base values for {} targets", m.base_.size(),
                  a.targets());
    return m;
  }
  Status Run(RunContext& ctx, const Results& results) const {
    const Rows rows = TRY(RowsOf(ctx.in(0).dims));
    const int64_t targets = forest_.targets();
    TensorView& y = *TRY(results.Get(0, DType::kF32, {rows.count, targets}));
    return forest_.Run(ctx, [&]<class T>(int64_t row, const T* scores, const uint8_t*) {
      float* to = y.mut<float>() + row * targets;
      for (int64_t t = 0; t < targets; ++t)
        to[t] = float(base_.empty() ? scores[t] : scores[t] + T(base_[size_t(t)]));
      Transform(transform_, std::span<float>(to, size_t(targets)));
    });
  }

 private:
  Forest forest_;
  std::vector<double> base_;
  PostTransform transform_ = PostTransform::kNone;
};

// The class with the most votes. Where there are two classes and all votes are for one of them, the
// votes are a score of the second class, which wins above 1/2 if no weight is negative, else above
// 0; this is how exporters write binary models, and how ONNX Runtime reads them.
struct Classifier {
  struct Attrs {
    NodeLists nodes;
    VoteLists votes;
    Labels labels;
    std::vector<float> base_values;
    Tensor base_values_as_tensor;
    std::string post_transform = "NONE";
    template <class V>
    void Visit(V& v) {
      nodes.Visit(v);
      v("class_treeids", votes.treeids);
      v("class_nodeids", votes.nodeids);
      v("class_ids", votes.ids);
      v("class_weights", votes.weights);
      v("class_weights_as_tensor", votes.weights_as_tensor);
      v("classlabels_int64s", labels.ints);
      v("classlabels_strings", labels.strings);
      v("base_values", base_values);
      v("base_values_as_tensor", base_values_as_tensor);
      v("post_transform", post_transform);
    }
  };
  static constexpr std::string_view kKernel = "trees.rows";
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const int64_t rows = TRY(InferRows(ctx));
    TRY(CheckLists(a.nodes, a.votes));
    TRY(a.labels.Check());
    TRY(CheckTargets(a.labels.size()));
    ctx.Set(0, Type::Of(a.labels.dtype(), {rows}));
    ctx.Set(1, Type::Of(DType::kF32, {rows, a.labels.size()}));
    return {};
  }
  static Result<Classifier> Prepare(const Attrs& a, DType x) {
    Classifier m;
    m.transform_ = TRY(ParsePostTransform(a.post_transform));
    TRY(a.labels.Check());
    m.labels_ = a.labels;
    const int64_t classes = a.labels.size();
    const WrittenTrees written = TRY(Write(a.nodes, a.votes));
    m.forest_ =
        TRY(Forest::Create(written, classes, Aggregate::kSum,
                           NeedsDouble(x, {&a.nodes.values_as_tensor, &a.votes.weights_as_tensor,
                                           &a.base_values_as_tensor})));
    m.base_ = TRY(Numbers(a.base_values, a.base_values_as_tensor));
    if (int64_t(m.base_.size()) > classes)
      return Fail(Code::kInvalidArgument, "it has {} base values for {} classes", m.base_.size(),
                  classes);
    const std::vector<double> weights = TRY(Numbers(a.votes.weights, a.votes.weights_as_tensor));
    m.positive_ = std::all_of(weights.begin(), weights.end(), [](double w) { return w >= 0; });
    const bool one_class =
        !a.votes.ids.empty() && std::all_of(a.votes.ids.begin(), a.votes.ids.end(),
                                            [&](int64_t id) { return id == a.votes.ids[0]; });
    if (classes == 2 && one_class) m.voted_class_ = a.votes.ids[0];
    return m;
  }
  Status Run(RunContext& ctx, const Results& results) const {
    const Rows rows = TRY(RowsOf(ctx.in(0).dims));
    const int64_t classes = labels_.size();
    TensorView* y = TRY(results.GetIfWanted(0, labels_.dtype(), {rows.count}));
    TensorView* z = TRY(results.GetIfWanted(1, DType::kF32, {rows.count, classes}));
    return forest_.Run(ctx, [&]<class T>(int64_t row, T* scores, const uint8_t* voted) {
      std::vector<float> own(z == nullptr ? size_t(classes) : 0);
      float* to = z == nullptr ? own.data() : z->mut<float>() + row * classes;
      if (classes == 1)
        One(scores, to, y, row);
      else if (voted_class_ >= 0)
        Binary(scores, to, y, row);
      else
        Several(scores, voted, to, y, row);
    });
  }

 private:
  template <class T>
  void One(const T* scores, float* to, TensorView* y, int64_t row) const {
    const T s = base_.empty() ? scores[0] : scores[0] + T(base_[0]);
    if (y != nullptr) labels_.WriteBinary(s > 0, *y, row);
    to[0] = float(s);
    Transform(transform_, std::span<float>(to, 1));
  }
  template <class T>
  void Binary(const T* scores, float* to, TensorView* y, int64_t row) const {
    T s = scores[voted_class_];
    if (!base_.empty()) s += T(base_[base_.size() == 2 ? size_t(voted_class_) : 0]);
    if (y != nullptr) labels_.WriteBinary(s > (positive_ ? T(0.5) : T(0)), *y, row);
    if (voted_class_ == 0 && base_.size() < 2) {
      to[0] = float(s);
      ExpandBinary(transform_, positive_ ? SecondClass::kComplement : SecondClass::kNegative, to);
      return;
    }
    to[0] = to[1] = 0;
    to[voted_class_] = float(s);
    Transform(transform_, std::span<float>(to, 2));
  }
  // A class that nobody votes for, and that has no base value, does not win.
  template <class T>
  void Several(T* scores, const uint8_t* voted, float* to, TensorView* y, int64_t row) const {
    const int64_t classes = labels_.size();
    int64_t best = -1;
    for (int64_t c = 0; c < classes; ++c) {
      const bool has_base = size_t(c) < base_.size();
      if (has_base) scores[c] += T(base_[size_t(c)]);
      if ((voted[c] != 0 || has_base) && (best < 0 || scores[c] > scores[best])) best = c;
      to[c] = float(scores[c]);
    }
    if (y != nullptr) labels_.Write(std::max<int64_t>(best, 0), *y, row);
    Transform(transform_, std::span<float>(to, size_t(classes)));
  }

  Forest forest_;
  Labels labels_;
  std::vector<double> base_;
  PostTransform transform_ = PostTransform::kNone;
  bool positive_ = true;
  int64_t voted_class_ = -1;  // of two classes, the one all votes are for; -1: not so
};

struct Ensemble {
  struct Attrs {
    EnsembleLists lists;
    int64_t aggregate_function = 1, post_transform = 0;
    std::optional<int64_t> n_targets;
    template <class V>
    void Visit(V& v) {
      lists.Visit(v);
      v("aggregate_function", aggregate_function);
      v("post_transform", post_transform);
      v("n_targets", n_targets);
    }
    int64_t targets() const {
      if (n_targets) return *n_targets;
      const auto& ids = lists.leaf_targetids;
      const auto most = std::max_element(ids.begin(), ids.end());
      return most == ids.end() ? 1 : std::clamp<int64_t>(*most, 0, kMaxTargets) + 1;
    }
  };
  static constexpr std::string_view kKernel = "trees.rows";
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const int64_t rows = TRY(InferRows(ctx));
    TRY(CheckLists(a.lists));
    TRY(CheckTargets(a.targets()));
    if (const DType x = ctx.dtype(0); IsInteger(x))
      return Fail(Code::kInvalidArgument, "its input is {}, not floats", DTypeName(x));
    ctx.Set(0, Type::Of(ctx.dtype(0), {rows, a.targets()}));
    return {};
  }
  static Result<Ensemble> Prepare(const Attrs& a, DType x) {
    Ensemble m;
    if (a.aggregate_function < 0 || a.aggregate_function > int64_t(Aggregate::kMax))
      return Fail(Code::kInvalidArgument, "aggregate_function is {}", a.aggregate_function);
    if (a.post_transform < 0 || a.post_transform > int64_t(PostTransform::kProbit))
      return Fail(Code::kInvalidArgument, "post_transform is {}", a.post_transform);
    m.transform_ = PostTransform(a.post_transform);
    const WrittenTrees written = TRY(Write(a.lists));
    m.forest_ = TRY(Forest::Create(written, a.targets(), Aggregate(a.aggregate_function),
                                   NeedsDouble(x, {&a.lists.splits, &a.lists.leaf_weights})));
    return m;
  }
  Status Run(RunContext& ctx, const Results& results) const {
    const Rows rows = TRY(RowsOf(ctx.in(0).dims));
    const int64_t targets = forest_.targets();
    TensorView& y = *TRY(results.Get(0, ctx.in(0).dtype, {rows.count, targets}));
    return VisitDType(y.dtype, "TreeEnsemble", [&]<class Y>(TypeTag<Y>) -> Status {
      if constexpr (kIsFloat<Y>)
        return forest_.Run(ctx, [&]<class T>(int64_t row, T* scores, const uint8_t*) {
          Transform(transform_, std::span<T>(scores, size_t(targets)));
          for (int64_t t = 0; t < targets; ++t) {
            if constexpr (kIsHalf<Y>)
              y.mut<Y>()[row * targets + t] = Y(float(scores[t]));
            else
              y.mut<Y>()[row * targets + t] = Y(scores[t]);
          }
        });
      return Fail(Code::kInvalidArgument, "its input is {}, not floats", DTypeName(y.dtype));
    });
  }

 private:
  Forest forest_;
  PostTransform transform_ = PostTransform::kNone;
};

}  // namespace
}  // namespace ml

std::span<const OpDef> TreeOps() {
  static const OpDef ops[] = {
      Declare<ml::ModelOp<ml::Regressor>>("TreeEnsembleRegressor", {.domain = ml::kDomain}),
      Declare<ml::ModelOp<ml::Classifier>>("TreeEnsembleClassifier",
                                           {.domain = ml::kDomain, .max_outputs = 2}),
      Declare<ml::ModelOp<ml::Ensemble>>("TreeEnsemble", {.domain = ml::kDomain}),
  };
  return ops;
}

}  // namespace dunlin
