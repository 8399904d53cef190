#include "passes/passes.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ops/conv/conv.h"
#include "ops/matmul/matmul.h"
#include "passes/testing.h"

namespace dunlin {
namespace {

TEST(Fold, ComputesWhatDependsOnConstantsOnly) {
  GraphBuilder b;
  const ValueId x = b.Input({2});
  const ValueId k = b.Add("Mul", {b.Scalar(2), b.Scalar(3)});
  const auto g = b.Finish({b.Add("Add", {x, k})});
  RuleCounts counts;
  ASSERT_TRUE(FoldConstants(*g, counts).has_value());
  EXPECT_EQ(OpCounts(*g), (Counts{{"Add", 1}}));
  const Node& add = *g->producer(g->outputs()[0]);
  EXPECT_EQ(g->value(add.inputs[1]).constant.as<float>()[0], 6);
}

TEST(Fold, DoublingAConstantEndsAtTheGrowthThatIsAllowed) {
  GraphBuilder b;
  ValueId c = b.Weights({1 << 18});  // 1 MiB
  for (int i = 0; i < 3; ++i) c = b.Add("Concat", {c, c}, {{"axis", int64_t{0}}});
  const auto g = b.Finish({c});
  RuleCounts counts;
  ASSERT_TRUE(FoldConstants(*g, counts).has_value());
  EXPECT_EQ(OpCounts(*g), (Counts{{"Concat", 3}}));
}

int64_t ConstantBytes(const Graph& g) {
  int64_t bytes = 0;
  for (size_t v = 0; v < g.value_count(); ++v) bytes += g.value(ValueId(v)).constant.bytes();
  return bytes;
}

// Each constant is as large as what it is made of: no single one grows.
ValueId Doubled(GraphBuilder& b, ValueId c, int times) {
  for (int i = 0; i < times; ++i)
    c = b.Add("Concat", {c, b.Add("Neg", {c})}, {{"axis", int64_t{0}}});
  return c;
}

TEST(Fold, AChainThatDoublesEndsAtTheBudgetOfTheModel) {
  GraphBuilder b;
  const auto g = b.Finish({Doubled(b, b.Scalar(1), 0), Doubled(b, b.Weights({4}), 36)});
  RuleCounts counts;
  for (int pass = 0; pass < 5; ++pass) {  // the budget is not one pass's
    ASSERT_TRUE(FoldConstants(*g, counts).has_value());
    EXPECT_LE(ConstantBytes(*g), int64_t{80} << 20) << "pass " << pass;
  }
  EXPECT_LE(ConstantBytes(*g->Clone()), int64_t{80} << 20);
  EXPECT_GT(OpCounts(*g)["Concat"], 10);
  EXPECT_LT(OpCounts(*g)["Concat"], 20) << "most of what is small is folded";
}

TEST(Fold, ClonesGoOnWithWhatIsLeftOfTheBudget) {
  GraphBuilder b;
  const auto g = b.Finish({Doubled(b, b.Weights({4}), 30)});
  RuleCounts counts;
  ASSERT_TRUE(FoldConstants(*g, counts).has_value());
  const int left = OpCounts(*g)["Concat"];
  const auto clone = g->Clone();
  ASSERT_TRUE(FoldConstants(*clone, counts).has_value());
  EXPECT_EQ(OpCounts(*clone)["Concat"], left);
}

TEST(Fold, ManyConstantsThatGrowALittleShareTheBudget) {
  GraphBuilder b;
  const ValueId one = b.Weights({1}), shape = b.Const(Tensor::Ints(std::vector<int64_t>{1 << 18}));
  std::vector<ValueId> all;
  for (int i = 0; i < 200; ++i) all.push_back(b.Add("Expand", {one, shape}));  // 1 MiB each
  const auto g = b.Finish({b.Add("Sum", all)});
  RuleCounts counts;
  ASSERT_TRUE(FoldConstants(*g, counts).has_value());
  EXPECT_LE(ConstantBytes(*g), int64_t{65} << 20);
  EXPECT_EQ(OpCounts(*g)["Sum"], 1);
}

TEST(Fold, WorkIsBoundedWhereResultsAreSmall) {
  GraphBuilder b;
  const ValueId w = b.Weights({1 << 10, 1 << 10});
  std::vector<ValueId> all;
  for (int i = 0; i < 2000; ++i) all.push_back(b.Add("ReduceSum", {w}, {{"keepdims", false}}));
  const auto g = b.Finish({b.Add("Sum", all)});
  RuleCounts counts;
  ASSERT_TRUE(FoldConstants(*g, counts).has_value());
  EXPECT_NEAR(OpCounts(*g)["ReduceSum"], 2000 - 256, 2);  // 1 GiB
}

TEST(Fold, ALargeModelHasALargerBudget) {
  GraphBuilder b;
  ValueId w = b.Const(*Tensor::Zeros(DType::kF32, {1 << 11, 3 << 10}));  // 24 MiB, 72 in all
  for (int i = 0; i < 3; ++i) w = b.Add("Transpose", {w}, {{"perm", std::vector<int64_t>{1, 0}}});
  const auto g = b.Finish({w});
  RuleCounts counts;
  ASSERT_TRUE(FoldConstants(*g, counts).has_value());
  EXPECT_EQ(OpCounts(*g), (Counts{}));
}

TEST(Report, TellsWhichRuleFiredHowOftenAndWhatWasLeft) {
  GraphBuilder b;
  ValueId x = b.Input({2, 3});
  x = b.Add("Identity", {x});
  for (int i = 0; i < 2; ++i) x = b.Add("Mul", {x, b.Add("Sigmoid", {x})});
  const auto g = b.Finish({x});
  const auto report = OptimizeModel(*g);
  ASSERT_TRUE(report.has_value());
  std::map<std::string, int> fired;
  for (const PassReport& p : report->passes)
    for (const RuleCount& r : p.rules) fired[p.stage + "/" + p.pass + "/" + r.rule] += r.count;
  EXPECT_EQ(fired,
            (std::map<std::string, int>{{"pre/simplify/no-op", 1}, {"optimise/fuse/silu", 2}}));
  EXPECT_EQ(report->before.nodes, 5);
  EXPECT_EQ(report->after().nodes, 2);
}

TEST(Report, CountsASharedConstantOnce) {
  GraphBuilder b;
  const ValueId x = b.Input({2, 3});
  const ValueId w = b.Weights({2, 3});
  const auto g = b.Finish({b.Add("Add", {x, w}), b.Add("Sub", {x, w})});
  const auto report = OptimizeModel(*g);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->after().constant_bytes, 2 * 3 * 4);
}

TEST(Fold, ShapeOfAKnownInputDisappears) {
  GraphBuilder b;
  const ValueId x = b.Input({2, 3, 4});
  const ValueId shape = b.Add("Shape", {x});
  const ValueId batch = b.Add("Gather", {shape, b.Const(Tensor::Ints(std::vector<int64_t>{0}))});
  const ValueId target = b.Add("Concat", {batch, b.Const(Tensor::Ints(std::vector<int64_t>{-1}))},
                               {{"axis", int64_t{0}}});
  EXPECT_EQ(Optimised(b.Finish({b.Add("Reshape", {x, target})})), (Counts{{"Reshape", 1}}));
}

TEST(Simplify, RemovesNodesThatDoNothing) {
  GraphBuilder b;
  ValueId x = b.Input({2, 3});
  x = b.Add("Identity", {x});
  x = b.Add("Add", {x, b.Scalar(0)});
  x = b.Add("Mul", {x, b.Scalar(1)});
  x = b.Add("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 1}}});
  x = b.Add("Reshape", {x, b.Const(Tensor::Ints(std::vector<int64_t>{2, 3}))});
  EXPECT_EQ(Optimised(b.Finish({b.Add("Relu", {x})})), (Counts{{"Relu", 1}}));
}

TEST(Simplify, KeepsAnAddThatBroadcasts) {
  GraphBuilder b;
  const ValueId x = b.Input({3});
  const ValueId zeros = b.Const(*Tensor::Zeros(DType::kF32, {2, 3}));
  EXPECT_EQ(Optimised(b.Finish({b.Add("Add", {x, zeros})})), (Counts{{"Add", 1}}));
}

TEST(Simplify, ComputesEqualNodesOnce) {
  GraphBuilder b;
  const ValueId x = b.Input({4});
  EXPECT_EQ(Optimised(b.Finish({b.Add("Sub", {b.Add("Exp", {x}), b.Add("Exp", {x})})})),
            (Counts{{"Exp", 1}, {"Sub", 1}}));
}

TEST(Simplify, MergesTransposes) {
  GraphBuilder b;
  ValueId x = b.Input({2, 3, 4});
  x = b.Add("Transpose", {x}, {{"perm", std::vector<int64_t>{2, 0, 1}}});
  x = b.Add("Transpose", {x}, {{"perm", std::vector<int64_t>{1, 2, 0}}});
  EXPECT_EQ(Optimised(b.Finish({b.Add("Relu", {x})})), (Counts{{"Relu", 1}}));
}

// x, weights [4,3,3,3] → conv
ValueId Conv(GraphBuilder& b, ValueId x) {
  return b.Add("Conv", {x, b.Weights({4, 3, 3, 3})}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
}
ValueId BatchNorm(GraphBuilder& b, ValueId x) {
  return b.Add("BatchNormalization",
               {x, b.Weights({4}), b.Weights({4}), b.Weights({4}), b.Weights({4}, 0.5f, 2)});
}

TEST(Fuse, ConvTakesBatchNormScaleShiftResidualAndActivation) {
  GraphBuilder b;
  const ValueId x = b.Input({1, 3, 8, 8}), residual = b.Input({1, 4, 8, 8});
  ValueId y = BatchNorm(b, Conv(b, x));
  y = b.Add("Mul", {y, b.Weights({4, 1, 1})});
  y = b.Add("Add", {y, residual});
  EXPECT_EQ(Optimised(b.Finish({b.Add("Relu", {y})})), (Counts{{"FusedConv", 1}}));
}

// Reshape, Transpose, Reshape of a Concat of two values with 6 channels.
Counts Shuffled(std::vector<int64_t> split, std::vector<int64_t> perm, int64_t axis = 1) {
  GraphBuilder b;
  const std::vector<int64_t> whole =
      axis == 1 ? std::vector<int64_t>{2, 12, 4, 4} : std::vector<int64_t>{2, 6, 8, 4};
  const ValueId x =
      b.Add("Concat", {b.Input({2, 6, 4, 4}), b.Input({2, 6, 4, 4})}, {{"axis", axis}});
  const ValueId turned =
      b.Add("Transpose", {b.Add("Reshape", {x, b.Const(Tensor::Ints(split))})}, {{"perm", perm}});
  return Optimised(b.Finish({b.Add("Reshape", {turned, b.Const(Tensor::Ints(whole))})}));
}

TEST(Fuse, AChannelShuffleIsOneStepWithTheConcatBeforeIt) {
  EXPECT_EQ(Shuffled({2, 2, 6, 4, 4}, {0, 2, 1, 3, 4}), (Counts{{"ChannelShuffle", 1}}));
  // Groups that are not the inputs.
  EXPECT_EQ(Shuffled({2, 3, 4, 4, 4}, {0, 2, 1, 3, 4}),
            (Counts{{"Concat", 1}, {"ChannelShuffle", 1}}));
  EXPECT_EQ(Shuffled({2, 2, 3, 8, 4}, {0, 2, 1, 3, 4}, 2),
            (Counts{{"Concat", 1}, {"ChannelShuffle", 1}}));
}

TEST(Fuse, WhatMovesOtherAxesIsNoChannelShuffle) {
  const Counts apart = {{"Concat", 1}, {"Reshape", 2}, {"Transpose", 1}};
  EXPECT_EQ(Shuffled({2, 2, 6, 4, 4}, {0, 1, 2, 4, 3}), apart);
  EXPECT_EQ(Shuffled({2, 12, 2, 2, 4}, {0, 2, 1, 3, 4}), apart);
}

TEST(Fuse, ReluJoinsABatchNormThatNoConvolutionTakes) {
  GraphBuilder b;
  EXPECT_EQ(Optimised(b.Finish({b.Add("Relu", {BatchNorm(b, b.Input({1, 4, 8, 8}))})})),
            (Counts{{"BatchNormRelu", 1}}));
}
TEST(Fuse, ReluLeavesABatchNormThatOthersRead) {
  GraphBuilder b;
  const ValueId y = BatchNorm(b, b.Input({1, 4, 8, 8}));
  EXPECT_EQ(Optimised(b.Finish({b.Add("Relu", {y}), y})),
            (Counts{{"BatchNormalization", 1}, {"Relu", 1}}));
}
TEST(Fuse, ReluLeavesABatchNormThatAConvolutionMightTake) {
  GraphBuilder b;
  const ValueId w = b.Input({4, 3, 3, 3});
  const ValueId y = BatchNorm(b, b.Add("Conv", {b.Input({1, 3, 8, 8}), w}));
  EXPECT_EQ(Optimised(b.Finish({b.Add("Relu", {y})})),
            (Counts{{"Conv", 1}, {"BatchNormalization", 1}, {"Relu", 1}}));
}

// softmax(0.5 Q K^T + mask) V of projections [1, S, 2 heads, 3], as exporters write it.
struct AttentionGraph {
  GraphBuilder b;
  ValueId weights, result;
  explicit AttentionGraph(int64_t key_heads = 2) {
    const auto heads = [&](int64_t rows, std::vector<int64_t> perm, int64_t count = 2) {
      return b.Add("Transpose", {b.Input({1, rows, count, 3})}, {{"perm", std::move(perm)}});
    };
    const ValueId q = heads(4, {0, 2, 1, 3}), k = heads(5, {0, 2, 3, 1}, key_heads);
    const ValueId scores = b.Add("Mul", {b.Add("MatMul", {q, k}), b.Scalar(0.5f)});
    weights = b.Add("Softmax", {b.Add("Add", {scores, b.Input({1, 1, 1, 5})})});
    result = b.Add("Transpose", {b.Add("MatMul", {weights, heads(5, {0, 2, 1, 3})})},
                   {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  }
};

TEST(Fuse, AttentionBecomesOneStepWithItsTransposes) {
  AttentionGraph a;
  EXPECT_EQ(Optimised(a.b.Finish({a.result})), (Counts{{"Attention", 1}}));
}

// softmax((Q * a) (K^T / b)) V with the transposes below the scales.
Counts ScaledAttention(const Dims& factor) {
  GraphBuilder b;
  const auto heads = [&](std::vector<int64_t> perm) {
    return b.Add("Transpose", {b.Input({1, 4, 2, 3})}, {{"perm", std::move(perm)}});
  };
  const ValueId q = b.Add("Mul", {b.Weights(factor), heads({0, 2, 1, 3})});
  const ValueId k = b.Add("Div", {heads({0, 2, 3, 1}), b.Scalar(1.5f)});
  const ValueId weights = b.Add("Softmax", {b.Add("MatMul", {q, k})});
  return Optimised(b.Finish({b.Add("MatMul", {weights, heads({0, 2, 1, 3})})}));
}

TEST(Fuse, AttentionTakesTheScalesOfItsOperands) {
  EXPECT_EQ(ScaledAttention({}), (Counts{{"Attention", 1}}));
}

// softmax(where(keep, Q K^T, fill)) V; the fill is one number or spread by key.
Counts KeptAttention(bool constant, float fill_spread) {
  GraphBuilder b;
  const ValueId scores = b.Add("MatMul", {b.Input({1, 2, 4, 3}), b.Input({1, 2, 3, 4})});
  Tensor keep = *Tensor::Create(DType::kBool, {4, 4});
  for (int64_t i = 0; i < 16; ++i) keep.mut<bool>()[i] = i % 4 <= i / 4;
  const ValueId mask = constant ? b.Const(keep) : b.Input({4, 4}, DType::kBool);
  const ValueId fill = b.Weights({4}, -1e9f, -1e9f + fill_spread);
  const ValueId weights = b.Add("Softmax", {b.Add("Where", {mask, scores, fill})});
  return Optimised(b.Finish({b.Add("MatMul", {weights, b.Input({1, 2, 4, 3})})}));
}

TEST(Fuse, AttentionTakesAMaskThatTellsWhatStays) {
  EXPECT_EQ(KeptAttention(true, 0), (Counts{{"Attention", 1}}));
  EXPECT_EQ(KeptAttention(false, 0), (Counts{{"Attention", 1}, {"Not", 1}}));
}

TEST(Fuse, AttentionWhoseFillDiffersByKeyStaysApart) {
  EXPECT_EQ(KeptAttention(true, 1e8f).count("Attention"), 0u);
}

TEST(Fuse, AttentionLeavesAScaleThatDiffersByHead) {
  const Counts counts = ScaledAttention({2, 1, 1});
  EXPECT_EQ(counts.count("Mul"), 1u);
  EXPECT_EQ(counts.count("Div"), 0u);
}

TEST(Fuse, AttentionWhoseWeightsAreReadStaysApart) {
  AttentionGraph a;
  EXPECT_EQ(Optimised(a.b.Finish({a.result, a.weights})).count("Attention"), 0u);
}

TEST(Fuse, AttentionWithSharedHeadsOfKeysAloneStaysApart) {
  AttentionGraph a(1);
  EXPECT_EQ(Optimised(a.b.Finish({a.result})).count("Attention"), 0u);
}

// softmax(Q K^T) V of four heads of queries, with heads of keys and values repeated by `times`.
Counts GroupedAttention(int64_t times) {
  GraphBuilder b;
  const auto ints = [&](std::vector<int64_t> v) { return b.Const(Tensor::Ints(v)); };
  const auto heads = [&] {
    const ValueId x = b.Add("Unsqueeze", {b.Input({1, 2, 5, 3}), ints({2})});
    return b.Add("Reshape",
                 {b.Add("Expand", {x, ints({1, 2, times, 5, 3})}), ints({1, 2 * times, 5, 3})});
  };
  const ValueId k = b.Add("Transpose", {heads()}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  const ValueId weights = b.Add("Softmax", {b.Add("MatMul", {b.Input({1, 4, 7, 3}), k})});
  return Optimised(b.Finish({b.Add("MatMul", {weights, heads()})}));
}

// softmax(Q / c K^T) V of [S, N, D] with batch and heads in one extent, as bmm takes it.
Counts BatchedAttention(std::vector<int64_t> last) {
  GraphBuilder b;
  const auto heads = [&](std::vector<int64_t> perm) {
    return b.Add("Transpose", {b.Input({4, 6, 3})}, {{"perm", std::move(perm)}});
  };
  const ValueId q = b.Add("Div", {heads({1, 0, 2}), b.Scalar(1.5f)});
  const ValueId scores = b.Add("MatMul", {q, heads({1, 2, 0})});
  const ValueId weights = b.Add("Softmax", {b.Add("Add", {scores, b.Input({6, 1, 4})})});
  const ValueId y = b.Add("MatMul", {weights, heads({1, 0, 2})});
  return Optimised(b.Finish({b.Add("Transpose", {y}, {{"perm", std::move(last)}})}));
}

TEST(Fuse, AttentionOverBatchAndHeadsInOneExtentIsOneStepAmongViews) {
  EXPECT_EQ(BatchedAttention({1, 0, 2}), (Counts{{"Attention", 1}, {"Reshape", 4}}));
}

TEST(Fuse, AttentionOverOneExtentLeavesAnotherTransposeOfItsResult) {
  EXPECT_EQ(BatchedAttention({2, 0, 1}),
            (Counts{{"Attention", 1}, {"Reshape", 4}, {"Transpose", 1}}));
}

TEST(Fuse, AttentionReadsRepeatedHeadsOfKeysWhereTheyLie) {
  EXPECT_EQ(GroupedAttention(2), (Counts{{"Attention", 1}}));
}

TEST(Fuse, AttentionLeavesHeadsThatRepeatInAnotherOrder) {
  GraphBuilder b;
  const auto ints = [&](std::vector<int64_t> v) { return b.Const(Tensor::Ints(v)); };
  const auto heads = [&] {  // the repetition stands ahead of the heads
    const ValueId x = b.Add("Unsqueeze", {b.Input({1, 2, 5, 3}), ints({1})});
    return b.Add("Reshape", {b.Add("Expand", {x, ints({1, 2, 2, 5, 3})}), ints({1, 4, 5, 3})});
  };
  const ValueId k = b.Add("Transpose", {heads()}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  const ValueId weights = b.Add("Softmax", {b.Add("MatMul", {b.Input({1, 4, 7, 3}), k})});
  const Counts counts = Optimised(b.Finish({b.Add("MatMul", {weights, heads()})}));
  EXPECT_EQ(counts.at("Expand"), 2);
}

TEST(Fuse, ConvWhoseResultIsUsedTwiceKeepsIt) {
  GraphBuilder b;
  const ValueId y = Conv(b, b.Input({1, 3, 8, 8}));
  EXPECT_EQ(Optimised(b.Finish({b.Add("Relu", {y}), y})), (Counts{{"Conv", 1}, {"Relu", 1}}));
}

TEST(Fuse, ResidualThatBroadcastsStaysAnAdd) {
  GraphBuilder b;
  const ValueId y = Conv(b, b.Input({1, 3, 8, 8}));
  EXPECT_EQ(Optimised(b.Finish({b.Add("Add", {y, b.Input({1, 4, 1, 1})})})),
            (Counts{{"Add", 1}, {"Conv", 1}}));
}

TEST(Fuse, PadOfZerosGoesIntoTheConv) {
  GraphBuilder b;
  const ValueId pads = b.Const(Tensor::Ints(std::vector<int64_t>{0, 0, 1, 2, 0, 0, 3, 4}));
  const ValueId padded = b.Add("Pad", {b.Input({1, 3, 8, 8}), pads});
  auto g = b.Finish({b.Add("Conv", {padded, b.Weights({4, 3, 3, 3})})});
  ASSERT_TRUE(OptimizeModel(*g).has_value());
  EXPECT_EQ(OpCounts(*g), (Counts{{"Conv", 1}}));
  EXPECT_EQ(As<ConvAttrs>(*g->producer(g->outputs()[0])->attrs).pads,
            (std::vector<int64_t>{1, 2, 3, 4}));
}

TEST(Fuse, PadOfOnesStays) {
  GraphBuilder b;
  const ValueId pads = b.Const(Tensor::Ints(std::vector<int64_t>{0, 0, 1, 1, 0, 0, 1, 1}));
  const ValueId padded = b.Add("Pad", {b.Input({1, 3, 8, 8}), pads, b.Scalar(1)});
  EXPECT_EQ(Optimised(b.Finish({b.Add("Conv", {padded, b.Weights({4, 3, 3, 3})})})),
            (Counts{{"Conv", 1}, {"Pad", 1}}));
}

TEST(Fuse, MatMulTakesScaleBiasAndGelu) {
  GraphBuilder b;
  ValueId y = b.Add("MatMul", {b.Input({5, 8}), b.Weights({8, 6})});
  y = b.Add("Div", {y, b.Scalar(2)});
  y = b.Add("Add", {b.Weights({6}), y});
  const ValueId e = b.Add(
      "Add", {b.Add("Erf", {b.Add("Div", {y, b.Scalar(float(std::sqrt(2.0)))})}), b.Scalar(1)});
  y = b.Add("Mul", {b.Add("Mul", {y, e}), b.Scalar(0.5)});
  auto g = b.Finish({y});
  ASSERT_TRUE(OptimizeModel(*g).has_value());
  EXPECT_EQ(OpCounts(*g), (Counts{{"FusedMatMul", 1}}));
  const auto& a = As<FusedMatMulAttrs>(*g->producer(g->outputs()[0])->attrs);
  EXPECT_EQ(a.alpha, 0.5f);
  EXPECT_EQ(a.activation, int64_t(Activation::kGelu));
}

TEST(Fuse, TransposeOfKeysBecomesAFlag) {
  GraphBuilder b;
  const ValueId q = b.Input({1, 2, 5, 8}), k = b.Input({1, 5, 2, 8});
  const ValueId kt = b.Add("Transpose", {k}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
  auto g = b.Finish({b.Add("MatMul", {q, kt})});
  ASSERT_TRUE(OptimizeModel(*g).has_value());
  const Node& n = *g->producer(g->outputs()[0]);
  ASSERT_EQ(n.op->name, "FusedMatMul");
  EXPECT_TRUE(As<FusedMatMulAttrs>(*n.attrs).trans_b);
}

TEST(Fuse, HardSwishInItsSpellings) {
  for (const bool division : {true, false}) {
    GraphBuilder b;
    const ValueId x = b.Input({1, 3, 4, 4});
    const ValueId c = b.Add("Clip", {b.Add("Add", {x, b.Scalar(3)}), b.Scalar(0), b.Scalar(6)});
    const ValueId y = division ? b.Add("Div", {b.Add("Mul", {x, c}), b.Scalar(6)})
                               : b.Add("Mul", {x, b.Add("Mul", {c, b.Scalar(1.0f / 6)})});
    EXPECT_EQ(Optimised(b.Finish({y})), (Counts{{"HardSwish", 1}})) << division;
  }
}

TEST(Fuse, ClipThatIsNotSixIsNoHardSwish) {
  GraphBuilder b;
  const ValueId x = b.Input({4});
  const ValueId c = b.Add("Clip", {b.Add("Add", {x, b.Scalar(3)}), b.Scalar(0), b.Scalar(5)});
  EXPECT_EQ(Optimised(b.Finish({b.Add("Div", {b.Add("Mul", {x, c}), b.Scalar(6)})})),
            (Counts{{"Add", 1}, {"Clip", 1}, {"Div", 1}, {"Mul", 1}}));
}

ValueId LayerNormChain(GraphBuilder& b, ValueId x, int64_t axis) {
  const ValueId axes = b.Const(Tensor::Ints(std::vector<int64_t>{axis}));
  const ValueId d = b.Add("Sub", {x, b.Add("ReduceMean", {x, axes})});
  const ValueId var = b.Add("ReduceMean", {b.Add("Pow", {d, b.Scalar(2)}), axes});
  const ValueId n = b.Add("Div", {d, b.Add("Sqrt", {b.Add("Add", {var, b.Scalar(1e-5f)})})});
  return b.Add("Add", {b.Add("Mul", {n, b.Weights({8})}), b.Weights({8})});
}

TEST(Fuse, LayerNormFromItsPrimitives) {
  GraphBuilder b;
  EXPECT_EQ(Optimised(b.Finish({LayerNormChain(b, b.Input({2, 8}), -1)})),
            (Counts{{"LayerNormalization", 1}}));
}

// (x - mean) / sqrt(variance + 1e-5), and x / sqrt(mean square + 1e-5): neither scaled nor shifted.
ValueId PlainNorm(GraphBuilder& b, ValueId x, bool centred, int64_t axis) {
  const auto mean = [&](ValueId of) {
    return b.Add("ReduceMean", {of, b.Const(Tensor::Ints(std::vector<int64_t>{axis}))});
  };
  if (centred) x = b.Add("Sub", {x, mean(x)});
  const ValueId square = mean(b.Add("Pow", {x, b.Scalar(2)}));
  return b.Add("Div", {x, b.Add("Sqrt", {b.Add("Add", {square, b.Scalar(1e-5f)})})});
}

TEST(Fuse, NormsWithoutScaleAndShiftAreOneStep) {
  GraphBuilder b;
  EXPECT_EQ(Optimised(b.Finish({PlainNorm(b, b.Input({2, 8}), true, -1)})),
            (Counts{{"LayerNormalization", 1}}));
  GraphBuilder c;
  EXPECT_EQ(Optimised(c.Finish({PlainNorm(c, c.Input({2, 8}), false, -1)})),
            (Counts{{"RMSNormalization", 1}}));
}

TEST(Fuse, NormsOverAnotherAxisStayApart) {
  for (const bool centred : {true, false}) {
    GraphBuilder b;
    const Counts counts = Optimised(b.Finish({PlainNorm(b, b.Input({8, 8}), centred, 0)}));
    EXPECT_EQ(counts.at("ReduceMean"), centred ? 2 : 1);
  }
}

TEST(Fuse, MeanOverAnotherAxisIsNoLayerNorm) {
  GraphBuilder b;
  EXPECT_EQ(
      Optimised(b.Finish({LayerNormChain(b, b.Input({8, 8}), 0)})).count("LayerNormalization"), 0u);
}

}  // namespace
}  // namespace dunlin
