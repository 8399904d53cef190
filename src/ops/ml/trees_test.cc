// Expected values follow from the trees by hand: a stump sends x <= threshold to its first leaf.
#include <cmath>
#include <limits>

#include "ops/testing.h"

namespace dunlin {
namespace {

using testing::Near;
using testing::OpTest;
using Strings = std::vector<std::string>;
using Ints = std::vector<int64_t>;
using Floats = std::vector<float>;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Tensor F32(const Dims& dims, std::initializer_list<float> v) { return Tensor::Of<float>(dims, v); }

// `trees` stumps on feature 0 with the given mode, threshold 0, leaves 1 (true) and 2 (false).
OpTest Stumps(const std::string& op, int trees, const std::string& mode = "BRANCH_LEQ") {
  OpTest t(op, "ai.onnx.ml");
  Ints treeids, nodeids, features, yes, no;
  Strings modes;
  Floats values;
  for (int i = 0; i < trees; ++i) {
    treeids.insert(treeids.end(), 3, i);
    nodeids.insert(nodeids.end(), {0, 1, 2});
    features.insert(features.end(), 3, 0);
    yes.insert(yes.end(), {1, 0, 0});
    no.insert(no.end(), {2, 0, 0});
    modes.insert(modes.end(), {mode, "LEAF", "LEAF"});
    values.insert(values.end(), {0, 0, 0});
  }
  t.Attr("nodes_treeids", treeids).Attr("nodes_nodeids", nodeids);
  t.Attr("nodes_featureids", features).Attr("nodes_modes", modes).Attr("nodes_values", values);
  t.Attr("nodes_truenodeids", yes).Attr("nodes_falsenodeids", no);
  return t;
}

struct V {
  int64_t tree, node, id;
  float weight;
};
OpTest& Votes(OpTest& t, const std::string& prefix, std::initializer_list<V> votes) {
  Ints trees, nodes, ids;
  Floats weights;
  for (const V& v : votes) {
    trees.push_back(v.tree);
    nodes.push_back(v.node);
    ids.push_back(v.id);
    weights.push_back(v.weight);
  }
  t.Attr(prefix + "_treeids", trees).Attr(prefix + "_nodeids", nodes);
  return t.Attr(prefix + "_ids", ids).Attr(prefix + "_weights", weights);
}

Tensor ResultOf(const OpTest& t, size_t output = 0) {
  const auto r = t.Reference();
  EXPECT_TRUE(r.has_value()) << r.error().message;
  return r.has_value() ? (*r)[output] : Tensor();
}

TEST(TreeEnsembleRegressor, EveryModeComparesItsWay) {
  const std::pair<const char*, std::vector<float>> modes[] = {
      // For x = -1, 0, 1, NaN: 1 where the comparison holds, 2 where not.
      {"BRANCH_LEQ", {1, 1, 2, 2}}, {"BRANCH_LT", {1, 2, 2, 2}}, {"BRANCH_GTE", {2, 1, 1, 2}},
      {"BRANCH_GT", {2, 2, 1, 2}},  {"BRANCH_EQ", {2, 1, 2, 2}}, {"BRANCH_NEQ", {1, 2, 1, 1}},
  };
  for (const auto& [mode, expected] : modes) {
    SCOPED_TRACE(mode);
    OpTest t = Stumps("TreeEnsembleRegressor", 1, mode);
    Votes(t, "target", {{0, 1, 0, 1}, {0, 2, 0, 2}});
    t.Attr("n_targets", 1).Input(F32({4, 1}, {-1, 0, 1, kNaN}));
    EXPECT_TRUE(Near(ResultOf(t), Tensor::Of<float>({4, 1}, expected)));
    t.ExpectKernelMatches();
    t.ExpectInferIsTotal();
  }
}

TEST(TreeEnsembleRegressor, NaNGoesTheWayItsNodeSays) {
  OpTest t = Stumps("TreeEnsembleRegressor", 1);
  Votes(t, "target", {{0, 1, 0, 1}, {0, 2, 0, 2}});
  t.Attr("nodes_missing_value_tracks_true", Ints{1, 0, 0});
  t.Input(F32({2, 1}, {kNaN, 1}));
  EXPECT_TRUE(Near(ResultOf(t), F32({2, 1}, {1, 2})));
}

TEST(TreeEnsembleRegressor, AggregatesTheTreesAndAddsBaseValues) {
  const std::pair<const char*, std::vector<float>> functions[] = {
      {"SUM", {14, 21, 14, 20}},
      {"AVERAGE", {12, 20.5f, 12, 20}},
      {"MIN", {11, 21, 11, 20}},
      {"MAX", {13, 21, 13, 20}},
  };
  for (const auto& [function, expected] : functions) {
    SCOPED_TRACE(function);
    OpTest t = Stumps("TreeEnsembleRegressor", 2);
    Votes(t, "target", {{0, 1, 0, 1}, {1, 1, 0, 3}, {0, 1, 1, 1}, {0, 2, 0, 3}, {1, 2, 0, 1}});
    t.Attr("n_targets", 2).Attr("base_values", Floats{10, 20});
    t.Attr("aggregate_function", function).Input(F32({2, 1}, {-1, 1}));
    EXPECT_TRUE(Near(ResultOf(t), Tensor::Of<float>({2, 2}, expected)));
    t.ExpectKernelMatches();
  }
}

TEST(TreeEnsembleRegressor, DoubleThresholdsAreNotRounded) {
  OpTest t = Stumps("TreeEnsembleRegressor", 1);
  Votes(t, "target", {{0, 1, 0, 1}, {0, 2, 0, 2}});
  t.Attr("nodes_values_as_tensor", Tensor::Of<double>({3}, {0.1, 0, 0}));
  t.Input(Tensor::Of<double>({2, 1}, {0.1, std::nextafter(0.1, 1.0)}));
  EXPECT_TRUE(Near(ResultOf(t), F32({2, 1}, {1, 2})));
}

TEST(TreeEnsembleRegressor, ManyTreesOfOneRowAreOneSumWhateverTheThreads) {
  constexpr int kTrees = 3000;
  OpTest t = Stumps("TreeEnsembleRegressor", kTrees);
  Ints trees, nodes;
  Floats weights;
  for (int i = 0; i < kTrees; ++i) {
    trees.push_back(i);
    nodes.push_back(1);
    weights.push_back(1.0f / float(1 + i));
  }
  t.Attr("target_treeids", trees).Attr("target_nodeids", nodes);
  t.Attr("target_ids", Ints(kTrees, 0)).Attr("target_weights", weights);
  t.Input(F32({1, 1}, {-1}));
  float sum = 0;
  for (const float w : weights) sum += w;
  EXPECT_TRUE(Near(ResultOf(t), F32({1, 1}, {sum})));
  t.ExpectKernelMatches();
}

TEST(TreeEnsembleRegressor, ASharedChildIsATreeACycleIsNot) {
  // 0: x <= 0 ? 1 : 2; 1: x == -1 ? 3 : 4; 2: x == 1 ? 3 : 4. Leaves 3, 4.
  const auto tree = [](const Ints& yes) {
    OpTest t("TreeEnsembleRegressor", "ai.onnx.ml");
    t.Attr("nodes_treeids", Ints(5, 7)).Attr("nodes_nodeids", Ints{0, 1, 2, 3, 4});
    t.Attr("nodes_featureids", Ints(5, 0)).Attr("nodes_values", Floats{0, -1, 1, 0, 0});
    t.Attr("nodes_modes", Strings{"BRANCH_LEQ", "BRANCH_EQ", "BRANCH_EQ", "LEAF", "LEAF"});
    t.Attr("nodes_truenodeids", yes).Attr("nodes_falsenodeids", Ints{2, 4, 4, 0, 0});
    Votes(t, "target", {{7, 3, 0, 5}, {7, 4, 0, 6}});
    t.Input(F32({4, 1}, {-1, -2, 1, 2}));
    return t;
  };
  EXPECT_TRUE(Near(ResultOf(tree({1, 3, 3, 0, 0})), F32({4, 1}, {5, 6, 5, 6})));
  for (const Ints& cycle : {Ints{1, 0, 3, 0, 0}, Ints{1, 2, 1, 0, 0}, Ints{0, 3, 3, 0, 0}}) {
    const auto r = tree(cycle).Reference();
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().message.find("cycle"), std::string::npos) << r.error().message;
  }
}

TEST(TreeEnsembleRegressor, HostileListsAreRefused) {
  const auto with = [](std::string_view name, auto value) {
    OpTest t = Stumps("TreeEnsembleRegressor", 1);
    Votes(t, "target", {{0, 1, 0, 1}, {0, 2, 0, 2}});
    t.Input(F32({1, 1}, {0})).Attr(name, value);
    return t.Reference();
  };
  constexpr int64_t kHuge = int64_t{1} << 62;
  EXPECT_TRUE(with("n_targets", 1));
  EXPECT_FALSE(with("nodes_featureids", Ints{0, 0}));
  EXPECT_FALSE(with("nodes_featureids", Ints{1, 0, 0}));  // rows have one feature
  EXPECT_FALSE(with("nodes_featureids", Ints{-1, 0, 0}));
  EXPECT_FALSE(with("nodes_featureids", Ints{kHuge, 0, 0}));
  EXPECT_FALSE(with("nodes_truenodeids", Ints{kHuge, 0, 0}));
  EXPECT_FALSE(with("nodes_nodeids", Ints{0, 1, 1}));
  EXPECT_FALSE(with("nodes_modes", Strings{"BRANCH_ODD", "LEAF", "LEAF"}));
  EXPECT_FALSE(with("nodes_values_as_tensor", F32({1}, {0})));
  EXPECT_FALSE(with("target_ids", Ints{0, kHuge}));
  EXPECT_FALSE(with("target_ids", Ints{0, -1}));
  EXPECT_FALSE(with("target_nodeids", Ints{1, 9}));
  EXPECT_FALSE(with("n_targets", testing::AttrSetter::Value(kHuge)));
  EXPECT_FALSE(with("base_values", Floats{1, 2, 3}));
  EXPECT_FALSE(with("aggregate_function", "MEDIAN"));
  EXPECT_FALSE(with("post_transform", "TANH"));
}

OpTest Classifier(std::initializer_list<V> votes, const Ints& labels) {
  OpTest t = Stumps("TreeEnsembleClassifier", 1);
  Votes(t, "class", votes);
  t.Attr("classlabels_int64s", labels).Outputs(2).Input(F32({2, 1}, {-1, 1}));
  return t;
}

void ExpectClasses(const OpTest& t, const Tensor& labels, const Tensor& scores) {
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], labels));
  EXPECT_TRUE(Near((*r)[1], scores, {.abs = 1e-6}));
  t.ExpectInferIsTotal();
  t.ExpectKernelMatches();
}

TEST(TreeEnsembleClassifier, VotesForOneOfTwoClassesAreAProbabilityOrAMargin) {
  ExpectClasses(Classifier({{0, 1, 0, 0.3f}, {0, 2, 0, 0.7f}}, {3, 7}),
                Tensor::Of<int64_t>({2}, {3, 7}), F32({2, 2}, {0.7f, 0.3f, 0.3f, 0.7f}));
  ExpectClasses(Classifier({{0, 1, 0, -0.3f}, {0, 2, 0, 0.4f}}, {3, 7}),
                Tensor::Of<int64_t>({2}, {3, 7}), F32({2, 2}, {0.3f, -0.3f, -0.4f, 0.4f}));
  OpTest logistic = Classifier({{0, 1, 0, -0.3f}, {0, 2, 0, 0.4f}}, {3, 7});
  logistic.Attr("post_transform", "LOGISTIC").Attr("base_values", Floats{0.1f});
  // 1 / (1 + exp(±0.2)), 1 / (1 + exp(±0.5))
  ExpectClasses(logistic, Tensor::Of<int64_t>({2}, {3, 7}),
                F32({2, 2}, {0.549834f, 0.450166f, 0.377541f, 0.622459f}));
}

TEST(TreeEnsembleClassifier, VotesForBothClassesAreCompared) {
  ExpectClasses(
      Classifier({{0, 1, 0, 0.7f}, {0, 1, 1, 0.3f}, {0, 2, 0, 0.2f}, {0, 2, 1, 0.8f}}, {3, 7}),
      Tensor::Of<int64_t>({2}, {3, 7}), F32({2, 2}, {0.7f, 0.3f, 0.2f, 0.8f}));
}

TEST(TreeEnsembleClassifier, AClassWithoutVotesDoesNotWin) {
  OpTest t = Classifier({{0, 1, 0, -2}, {0, 1, 2, -1}, {0, 2, 1, 1}, {0, 2, 2, 1}}, {3, 7, 9});
  ExpectClasses(t, Tensor::Of<int64_t>({2}, {9, 7}), F32({2, 3}, {-2, 0, -1, 0, 1, 1}));
  t.Attr("base_values", Floats{0, 0.5f, 0});
  ExpectClasses(t, Tensor::Of<int64_t>({2}, {7, 7}), F32({2, 3}, {-2, 0.5f, -1, 0, 1.5f, 1}));
}

TEST(TreeEnsembleClassifier, TransformsKeepTheLabel) {
  const std::initializer_list<V> votes = {{0, 1, 0, 1}, {0, 1, 2, 2}, {0, 2, 1, 1}};
  OpTest softmax = Classifier(votes, {3, 7, 9});
  softmax.Attr("post_transform", "SOFTMAX");
  // exp of 1, 0, 2 and of 0, 1, 0 over their sums.
  ExpectClasses(softmax, Tensor::Of<int64_t>({2}, {9, 7}),
                F32({2, 3}, {0.244728f, 0.0900306f, 0.665241f, 0.211942f, 0.576117f, 0.211942f}));
  OpTest zero = Classifier(votes, {3, 7, 9});
  zero.Attr("post_transform", "SOFTMAX_ZERO");
  ExpectClasses(zero, Tensor::Of<int64_t>({2}, {9, 7}),
                F32({2, 3}, {0.268941f, 0, 0.731059f, 0, 1, 0}));
}

TEST(TreeEnsembleClassifier, LabelsMayBeText) {
  OpTest t = Stumps("TreeEnsembleClassifier", 1);
  Votes(t, "class", {{0, 1, 0, 1}, {0, 2, 2, 1}});
  t.Attr("classlabels_strings", Strings{"a", "b", "c"}).Outputs(2).Input(F32({2, 1}, {-1, 1}));
  ExpectClasses(t, Tensor::Of<std::string>({2}, {"a", "c"}), F32({2, 3}, {1, 0, 0, 0, 0, 1}));
}

// Node 0: x0 <= 1 ? node 1 : leaf 2; node 1: x1 of {2, 5} ? leaf 0 : leaf 1.
OpTest Ensemble() {
  OpTest t("TreeEnsemble", "ai.onnx.ml");
  t.Attr("tree_roots", Ints{0}).Attr("nodes_featureids", Ints{0, 1});
  t.Attr("nodes_modes", Tensor::Of<uint8_t>({2}, {0, 6}));
  t.Attr("nodes_splits", F32({2}, {1, 0}));
  t.Attr("nodes_truenodeids", Ints{1, 0}).Attr("nodes_trueleafs", Ints{0, 1});
  t.Attr("nodes_falsenodeids", Ints{2, 1}).Attr("nodes_falseleafs", Ints{1, 1});
  t.Attr("leaf_targetids", Ints{0, 1, 0}).Attr("leaf_weights", F32({3}, {10, 20, 30}));
  t.Attr("membership_values", F32({3}, {5, 2, kNaN})).Attr("n_targets", 2);
  return t;
}

TEST(TreeEnsemble, KnowsSetsOfValues) {
  OpTest t = Ensemble();
  t.Input(F32({5, 2}, {0, 5, 0, 2, 0, 3, 2, 5, 0, kNaN}));
  EXPECT_TRUE(Near(ResultOf(t), F32({5, 2}, {10, 0, 10, 0, 0, 20, 30, 0, 0, 20})));
  t.ExpectKernelMatches();
  t.ExpectInferIsTotal();
  OpTest twice = Ensemble();
  twice.Input(Tensor::Of<double>({1, 2}, {0, 5}));
  EXPECT_TRUE(Near(ResultOf(twice), Tensor::Of<double>({1, 2}, {10, 0})));
  OpTest half = Ensemble();
  half.Input(Tensor::Of<Half>({1, 2}, {Half(0), Half(5)}));
  EXPECT_TRUE(Near(ResultOf(half), Tensor::Of<Half>({1, 2}, {Half(10), Half(0)})));
}

TEST(TreeEnsemble, HostileListsAreRefused) {
  const auto with = [](std::string_view name, auto value) {
    OpTest t = Ensemble();
    t.Input(F32({1, 2}, {0, 5})).Attr(name, value);
    return t.Reference();
  };
  constexpr int64_t kHuge = int64_t{1} << 62;
  EXPECT_TRUE(with("tree_roots", Ints{0, 1}));
  EXPECT_FALSE(with("tree_roots", Ints{}));
  EXPECT_FALSE(with("tree_roots", Ints{2}));
  EXPECT_FALSE(with("tree_roots", Ints{-1}));
  EXPECT_FALSE(with("nodes_truenodeids", Ints{0, 0}));  // a cycle
  EXPECT_FALSE(with("nodes_truenodeids", Ints{-2, 0}));
  EXPECT_FALSE(with("nodes_truenodeids", Ints{1, kHuge}));
  EXPECT_FALSE(with("nodes_falsenodeids", Ints{3, 1}));
  EXPECT_FALSE(with("nodes_trueleafs", Ints{0}));
  EXPECT_FALSE(with("nodes_modes", Tensor::Of<uint8_t>({2}, {0, 7})));
  EXPECT_FALSE(with("nodes_modes", Tensor::Of<uint8_t>({1}, {0})));
  EXPECT_FALSE(with("membership_values", F32({0}, {})));
  EXPECT_FALSE(with("leaf_targetids", Ints{0, 1, 2}));
  EXPECT_FALSE(with("aggregate_function", 4));
  EXPECT_FALSE(with("post_transform", -1));
}

}  // namespace
}  // namespace dunlin
