#include <gtest/gtest.h>

#include "ops/conv/conv.h"
#include "passes/passes.h"
#include "passes/testing.h"

namespace dunlin {
namespace {

struct Net : GraphBuilder {
  ValueId Conv(ValueId x, int64_t outputs, int64_t kernel = 1, int64_t stride = 1) {
    const int64_t C = graph().value(x).type.dims[1], pad = kernel / 2;
    return Add("Conv", {x, Weights({outputs, C, kernel, kernel}), Weights({outputs})},
               {{"pads", std::vector<int64_t>{pad, pad, pad, pad}},
                {"strides", std::vector<int64_t>{stride, stride}}});
  }
  ValueId Depthwise(ValueId x, int64_t kernel = 3) {
    const int64_t C = graph().value(x).type.dims[1], pad = kernel / 2;
    return Add("Conv", {x, Weights({C, 1, kernel, kernel})},
               {{"pads", std::vector<int64_t>{pad, pad, pad, pad}}, {"group", C}});
  }
};

TEST(Siblings, NarrowHeadsOfOneInputBecomeOneConvolution) {
  Net b;
  const ValueId x = b.Input({1, 32, 7, 7});
  EXPECT_EQ(Optimised(b.Finish({b.Conv(x, 1), b.Conv(x, 4), b.Conv(x, 10)})),
            (Counts{{"FusedConv", 1}, {"Split", 1}}));
}

TEST(Siblings, TheirActivationStays) {
  Net b;
  const ValueId x = b.Input({1, 32, 7, 7});
  const auto g = b.Finish({b.Add("Relu", {b.Conv(x, 3, 3)}), b.Add("Relu", {b.Conv(x, 5, 3)})});
  ASSERT_TRUE(OptimizeModel(*g).has_value());
  EXPECT_EQ(OpCounts(*g), (Counts{{"FusedConv", 1}, {"Split", 1}}));
  for (const NodeId id : g->SoundOrder())
    if (g->node(id).op->name == "FusedConv") {
      EXPECT_EQ(IntAttr(*g->node(id).attrs, "activation"), int64_t(Activation::kRelu));
    }
}

TEST(Siblings, DepthwiseBehindEveryHeadFollows) {
  Net b;
  const ValueId x = b.Input({1, 32, 7, 7});
  const auto g = b.Finish({b.Depthwise(b.Conv(x, 1)), b.Depthwise(b.Conv(x, 4))});
  ASSERT_TRUE(OptimizeModel(*g).has_value());
  ASSERT_TRUE(g->Verify().has_value());
  EXPECT_EQ(OpCounts(*g), (Counts{{"FusedConv", 2}, {"Split", 1}}));
  const Node& split = *g->producer(g->outputs()[0]);
  EXPECT_EQ(IntAttr(*g->producer(split.inputs[0])->attrs, "group"), 5);
}

TEST(Siblings, DepthwiseBehindSomeHeadsOrOfAnotherKernelStays) {
  Net b;
  const ValueId x = b.Input({1, 32, 7, 7});
  EXPECT_EQ(Optimised(b.Finish({b.Depthwise(b.Conv(x, 1)), b.Conv(x, 4)})),
            (Counts{{"FusedConv", 1}, {"Split", 1}, {"Conv", 1}}));
  Net c;
  const ValueId y = c.Input({1, 32, 7, 7});
  EXPECT_EQ(Optimised(c.Finish({c.Depthwise(c.Conv(y, 1)), c.Depthwise(c.Conv(y, 4), 5)})),
            (Counts{{"FusedConv", 1}, {"Split", 1}, {"Conv", 2}}));
  Net d;  // somebody else reads a head
  const ValueId z = d.Input({1, 32, 7, 7});
  const ValueId head = d.Conv(z, 1);
  EXPECT_EQ(Optimised(d.Finish({d.Depthwise(head), head, d.Depthwise(d.Conv(z, 4))})),
            (Counts{{"FusedConv", 1}, {"Split", 1}, {"Conv", 2}}));
}

TEST(Siblings, StayApartWhereMergingSavesLittleOrTheyDiffer) {
  const auto apart = [](const char* why, const auto& second, int64_t channels, int64_t outputs,
                        const char* activation) {
    Net b;
    const ValueId x = b.Input({1, channels, 8, 8});
    ValueId y = b.Conv(x, outputs);
    if (activation != nullptr) y = b.Add(activation, {y});
    EXPECT_EQ(Optimised(b.Finish({y, second(b, x)})).count("Split"), 0U) << why;
  };
  const auto conv = [](int64_t outputs, int64_t kernel, int64_t stride) {
    return [=](Net& b, ValueId x) { return b.Conv(x, outputs, kernel, stride); };
  };
  apart("whole vectors each", conv(32, 1, 1), 32, 16, nullptr);
  apart("one vector less of nine", conv(8, 1, 1), 32, 120, nullptr);
  apart("short sums", conv(4, 1, 1), 8, 4, nullptr);
  apart("another kernel", conv(4, 3, 1), 32, 4, nullptr);
  apart("another stride", conv(4, 1, 2), 32, 4, nullptr);
  apart("another activation", conv(4, 1, 1), 32, 4, "Relu");
}

TEST(Siblings, AResidualSumKeepsAConvolutionApart) {
  Net b;
  const ValueId x = b.Input({1, 32, 8, 8}), r = b.Input({1, 4, 8, 8});
  EXPECT_EQ(Optimised(b.Finish({b.Add("Add", {b.Conv(x, 4), r}), b.Conv(x, 3)})),
            (Counts{{"FusedConv", 1}, {"Conv", 1}}));
}

TEST(Siblings, BranchesOfAConcatWriteThereAtOnce) {
  Net b;
  const ValueId x = b.Input({1, 32, 8, 8});
  EXPECT_EQ(
      Optimised(b.Finish({b.Add("Concat", {b.Conv(x, 4), b.Conv(x, 3)}, {{"axis", int64_t{1}}})})),
      (Counts{{"Conv", 2}, {"Concat", 1}}));
}

TEST(Siblings, WaitForKnownShapes) {
  Net b;
  const ValueId x = b.Input({b.graph().symbols().Intern("batch"), 32, 8, 8});
  EXPECT_EQ(Optimised(b.Finish({b.Conv(x, 4), b.Conv(x, 3)})), (Counts{{"Conv", 2}}));
}

}  // namespace
}  // namespace dunlin
