// Models in f16 and bf16 compute in f32; their inputs, outputs and constants keep their types.
#include <gtest/gtest.h>

#include "passes/testing.h"

namespace dunlin {
namespace {

constexpr DType kHalves[] = {DType::kF16, DType::kBF16};

Tensor AsType(const Tensor& t, DType to) { return *Convert(t, to); }

void ExpectSound(const Graph& g) {
  const Status s = g.Verify();
  EXPECT_TRUE(s.has_value()) << s.error().message << g.ToText();
}

// x + w in halves, twice in a row.
std::unique_ptr<Graph> TwoAdds(DType half, const Dims& dims) {
  GraphBuilder b;
  const ValueId x = b.Input(dims, half);
  const ValueId w = b.Const(AsType(Tensor::Of<float>({1}, {0.5f}), half));
  return b.Finish({b.Add("Relu", {b.Add("Add", {b.Add("Tanh", {x}), w})})});
}

TEST(WidenHalves, CastsOnlyAtTheEnds) {
  for (const DType half : kHalves) {
    auto g = TwoAdds(half, {2, 3});
    RuleCounts counts;
    ASSERT_TRUE(WidenHalves(*g, counts).has_value());
    ExpectSound(*g);
    EXPECT_EQ(OpCounts(*g), (Counts{{"Cast", 2}, {"Tanh", 1}, {"Add", 1}, {"Relu", 1}}));
    EXPECT_EQ(g->value(g->inputs()[0]).type, Type::Of(half, {2, 3}));
    EXPECT_EQ(g->value(g->outputs()[0]).type, Type::Of(half, {2, 3}));
    EXPECT_EQ(g->producer(g->outputs()[0])->op->name, "Cast");
  }
}

TEST(WidenHalves, ASecondTimeChangesNothing) {
  auto g = TwoAdds(DType::kF16, {2, 3});
  RuleCounts counts;
  ASSERT_TRUE(WidenHalves(*g, counts).has_value());
  g->RemoveDeadNodes();
  const std::string once = g->ToText();
  ASSERT_TRUE(WidenHalves(*g, counts).has_value());
  g->RemoveDeadNodes();
  EXPECT_EQ(g->ToText(), once);
}

TEST(WidenHalves, LargeConstantsWaitUntilTheyAreRead) {
  GraphBuilder b;
  const Tensor w =
      AsType(Tensor::Of<float>({64, 64}, std::vector<float>(4096, 0.25f)), DType::kF16);
  const ValueId x = b.Input({1, 64}, DType::kF16);
  auto g = b.Finish({b.Add("MatMul", {x, b.Const(w)})});
  RuleCounts counts;
  ASSERT_TRUE(WidenHalves(*g, counts).has_value());
  const Node& product = *g->producer(g->producer(g->outputs()[0])->inputs[0]);
  const Tensor& wide = g->value(product.inputs[1]).constant;
  ASSERT_EQ(wide.dtype(), DType::kF32);
  EXPECT_TRUE(wide.buffer()->unaligned());
  EXPECT_EQ(wide.as<float>()[4095], 0.25f);
  EXPECT_FALSE(wide.buffer()->unaligned());
}

TEST(WidenHalves, WhatOnlyMovesStaysNarrow) {
  GraphBuilder b;
  const ValueId table = b.Const(AsType(Tensor::Of<float>({3, 2}, {1, 2, 3, 4, 5, 6}), DType::kF16));
  const ValueId rows = b.Add("Gather", {table, b.Input({4}, DType::kI64)});
  auto g = b.Finish({b.Add("Tanh", {rows})});
  RuleCounts counts;
  ASSERT_TRUE(WidenHalves(*g, counts).has_value());
  ExpectSound(*g);
  const Node& cast = *g->producer(g->producer(g->producer(g->outputs()[0])->inputs[0])->inputs[0]);
  EXPECT_EQ(cast.op->name, "Cast");
  EXPECT_EQ(g->value(cast.inputs[0]).type.dtype, DType::kF16);  // of what Gather gives
}

TEST(WidenHalves, OwnCastsOfTheModelAreUsed) {
  GraphBuilder b;
  const ValueId x = b.Input({5}, DType::kF16);
  const ValueId f = b.Add("Tanh", {b.Add("Cast", {x}, {{"to", DType::kF32}})});
  const ValueId h = b.Add("Cast", {f}, {{"to", DType::kF16}});
  const ValueId mask = b.Add("Cast", {b.Input({5}, DType::kBool)}, {{"to", DType::kF16}});
  auto g = b.Finish({b.Add("Add", {b.Add("Mul", {h, x}), mask})});
  RuleCounts counts;
  ASSERT_TRUE(WidenHalves(*g, counts).has_value());
  g->RemoveDeadNodes();
  ExpectSound(*g);
  EXPECT_EQ(OpCounts(*g), (Counts{{"Cast", 3}, {"Tanh", 1}, {"Mul", 1}, {"Add", 1}}));
}

TEST(WidenHalves, ACastThereAndBackRounds) {
  GraphBuilder b;
  const ValueId h = b.Add("Cast", {b.Input({5})}, {{"to", DType::kBF16}});
  auto g = b.Finish({b.Add("Cast", {h}, {{"to", DType::kF32}})});
  RuleCounts counts;
  ASSERT_TRUE(WidenHalves(*g, counts).has_value());
  ExpectSound(*g);
  const Node& back = *g->producer(g->outputs()[0]);
  EXPECT_EQ(g->value(back.inputs[0]).type.dtype, DType::kBF16);
}

TEST(WidenHalves, UnknownTypesAndSequencesAreLeftAlone) {
  GraphBuilder b;
  const ValueId x = b.Input({5}, DType::kF16);
  const ValueId unknown = b.graph().AddInput("u", Type{});
  const ValueId sum = b.Add("Add", {b.Add("Tanh", {x}), unknown});
  const ValueId sequence = b.Add("SequenceConstruct", {b.Add("Tanh", {x})});
  auto g = b.Finish({sum, sequence});
  RuleCounts counts;
  ASSERT_TRUE(WidenHalves(*g, counts).has_value());
  ExpectSound(*g);
  EXPECT_EQ(g->value(g->producer(sum)->inputs[0]).type.dtype, DType::kF16);
  EXPECT_EQ(g->value(g->producer(sequence)->inputs[0]).type.dtype, DType::kF16);
}

}  // namespace
}  // namespace dunlin
