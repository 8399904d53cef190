// Which weights --compute bf16 rounds.
#include "passes/testing.h"

namespace dunlin {
namespace {

int Rounded(std::unique_ptr<Graph> g) {
  RuleCounts counts;
  EXPECT_TRUE(RoundWeights(*g, counts).has_value());
  EXPECT_TRUE(g->Verify().has_value());
  int n = 0;
  for (const auto& [name, count] : counts.counts()) n += count;
  return n;
}

TEST(RoundWeights, OfProductsThatMayHaveFewRows) {
  for (const auto& [rows, wanted] : {std::pair<int64_t, int>{1, 1}, {kUnknownDim, 1}, {128, 0}}) {
    GraphBuilder b;
    const ValueId y = b.Add("MatMul", {b.Input({rows, 128}), b.Weights({128, 256})});
    EXPECT_EQ(Rounded(b.Finish({y})), wanted) << rows;
  }
}

TEST(RoundWeights, ToTheNearestBF16AndOnlyOnce) {
  GraphBuilder b;
  const ValueId w = b.Weights({128, 256});
  const float first = b.graph().value(w).constant.as<float>()[0];
  const ValueId y = b.Add("MatMul", {b.Input({1, 128}), w});
  auto g = b.Finish({y});
  RuleCounts counts;
  ASSERT_TRUE(RoundWeights(*g, counts).has_value());
  const Node& product = *g->producer(g->outputs()[0]);
  EXPECT_EQ(g->value(product.inputs[1]).constant.as<float>()[0], float(BFloat16(first)));
  EXPECT_EQ(Rounded(std::move(g)), 0);
}

TEST(RoundWeights, LeavesSmallOnesAndThoseOfOtherOperators) {
  GraphBuilder b;
  const ValueId x = b.Input({1, 64});
  const ValueId sum =
      b.Add("Add", {b.Add("MatMul", {x, b.Weights({64, 64})}), b.Weights({256, 64})});
  EXPECT_EQ(Rounded(b.Finish({sum})), 0);
}

}  // namespace
}  // namespace dunlin
