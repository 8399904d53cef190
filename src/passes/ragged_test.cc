#include "passes/ragged.h"

#include <gtest/gtest.h>

#include "passes/testing.h"

namespace dunlin {
namespace {

class Ragged : public ::testing::Test {
 protected:
  GraphBuilder b;
  int64_t batch = b.graph().symbols().Intern("batch");
  int64_t tokens = b.graph().symbols().Intern("tokens");

  ValueId Tokens(int64_t width = 4) { return b.Input({batch, tokens, width}); }
  ValueId Ints(std::initializer_list<int64_t> v) {
    return b.Const(Tensor::Ints(std::span<const int64_t>(v.begin(), v.size())));
  }
  ValueId Scalar(int64_t v) { return b.Const(Tensor::Scalar<int64_t>(v)); }
  ValueId Linear(ValueId x, int64_t from, int64_t to) {
    return b.Add("Add", {b.Add("MatMul", {x, b.Weights({from, to})}), b.Weights({to})});
  }
  // The number of tokens, as exporters ask for it.
  ValueId Length(ValueId x) {
    return b.Add("Gather", {b.Add("Shape", {x}), Scalar(1)}, {{"axis", int64_t{0}}});
  }
  Result<RaggedGraph> Pack(std::initializer_list<ValueId> outputs) {
    const auto g = b.Finish(outputs);
    RuleCounts counts;
    TRY(OptimizeModel(*g));
    auto packed = TRY(MakeRagged(*g));
    EXPECT_TRUE(packed.graph->Verify().has_value());
    return packed;
  }
  void ExpectRefused(std::initializer_list<ValueId> outputs, const std::string& why) {
    const auto r = Pack(outputs);
    ASSERT_FALSE(r.has_value());
    EXPECT_EQ(r.error().code, Code::kUnimplemented);
    EXPECT_EQ(r.error().message.find("not raggable: "), 0u) << r.error().message;
    EXPECT_NE(r.error().message.find(why), std::string::npos) << r.error().message;
  }
};

TEST_F(Ragged, WhatIsDoneTokenByTokenStays) {
  const auto r = Pack({Linear(b.Add("Gelu", {Linear(Tokens(), 4, 8)}), 8, 3)});
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_EQ(r->inputs[0].kind, RaggedPort::Kind::kTokens);
  EXPECT_EQ(r->outputs[0].kind, RaggedPort::Kind::kTokens);
  EXPECT_EQ(r->outputs[0].token_axis, 1);
  EXPECT_EQ(r->graph->inputs().size(), 1u + RaggedGraph::kIndices);
}

TEST_F(Ragged, HeadsAreSplitAndMergedWithoutKnowingTheLength) {
  const ValueId x = Tokens(6);
  const ValueId shape = b.Add(
      "Concat",
      {b.Add(
           "Unsqueeze",
           {b.Add("Gather", {b.Add("Shape", {x}), Scalar(0)}, {{"axis", int64_t{0}}}), Ints({0})}),
       b.Add("Unsqueeze", {Length(x), Ints({0})}), Ints({2, 3})},
      {{"axis", int64_t{0}}});
  const ValueId heads = b.Add("Transpose", {b.Add("Reshape", {x, shape})},
                              {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  const auto r = Pack({b.Add("Exp", {heads})});
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_EQ(r->outputs[0].token_axis, 2);
}

TEST_F(Ragged, BatchAndTokensMayBecomeOneAndTwoAgain) {
  const ValueId x = Tokens(4);
  const ValueId flat = b.Add("Reshape", {x, Ints({-1, 4})});
  const ValueId back = b.Add("Reshape", {Linear(flat, 4, 4), b.Add("Shape", {x})});
  const auto r = Pack({back});
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_EQ(r->outputs[0].token_axis, 1);
}

TEST_F(Ragged, PositionsCountWithinASequence) {
  const ValueId x = Tokens();
  const ValueId places = b.Add("Range", {Scalar(0), Length(x), Scalar(1)});
  const ValueId table = b.Add("Gather", {b.Weights({64, 4}), places}, {{"axis", int64_t{0}}});
  const auto r = Pack({b.Add("Add", {x, table})});
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_EQ(OpCounts(*r->graph).count("Range"), 0u);
}

TEST_F(Ragged, ATableCutToTheLengthIsReadByPosition) {
  const ValueId x = Tokens();
  const ValueId end = b.Add("Unsqueeze", {Length(x), Ints({0})});
  const ValueId table = b.Add("Slice", {b.Weights({1, 64, 4}), Ints({0}), end, Ints({1})});
  const auto r = Pack({b.Add("Add", {x, table})});
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_EQ(OpCounts(*r->graph)["Gather"], 1);
}

TEST_F(Ragged, TheFirstTokenAndMeansAreTakenPerSequence) {
  const ValueId x = Tokens();
  const ValueId first = b.Add("Gather", {x, Scalar(0)}, {{"axis", int64_t{1}}});
  const ValueId mean = b.Add("ReduceMean", {x, Ints({1})}, {{"keepdims", false}});
  const auto r = Pack({Linear(first, 4, 2), mean});
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_EQ(r->outputs[0].kind, RaggedPort::Kind::kSegments);
  EXPECT_EQ(r->outputs[1].kind, RaggedPort::Kind::kSegments);
  EXPECT_EQ(OpCounts(*r->graph)["SegmentReduce"], 1);
}

TEST_F(Ragged, SumsSoFarBeginAnewWithEverySequence) {
  const auto r = Pack({b.Add("CumSum", {b.Input({batch, tokens}), Scalar(1)})});
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_EQ(OpCounts(*r->graph)["SegmentCumSum"], 1);
}

TEST_F(Ragged, AttentionIsKeptWithinSegments) {
  const ValueId x = Tokens();
  const ValueId scores =
      b.Add("MatMul", {x, b.Add("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 2, 1}}})});
  const ValueId y = b.Add("MatMul", {b.Add("Softmax", {scores}, {{"axis", int64_t{-1}}}), x});
  const auto r = Pack({y});
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_EQ(OpCounts(*r->graph)["SegmentSoftmax"], 1);
}

TEST_F(Ragged, AnotherPositionThanTheFirstOrLastIsRefused) {
  ExpectRefused({b.Add("Gather", {Tokens(), Scalar(1)}, {{"axis", int64_t{1}}})},
                "of type Gather takes positions other than the first and the last");
}

TEST_F(Ragged, ASoftmaxOverPositionsAloneIsRefused) {
  ExpectRefused({b.Add("Softmax", {Tokens()}, {{"axis", int64_t{1}}})},
                "of type Softmax mixes positions");
}

TEST_F(Ragged, AConvolutionIsRefused) {
  const ValueId x = b.Add("Transpose", {Tokens()}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
  ExpectRefused({b.Add("Conv", {x, b.Weights({8, 4, 3})})}, "of type Conv mixes positions");
}

TEST_F(Ragged, ARecurrentNetIsRefused) {
  const ValueId x = b.Add("Transpose", {Tokens()}, {{"perm", std::vector<int64_t>{1, 0, 2}}});
  ExpectRefused({b.Add("GRU", {x, b.Weights({1, 9, 4}), b.Weights({1, 9, 3})},
                       {{"hidden_size", int64_t{3}}})},
                "of type GRU mixes positions");
}

TEST_F(Ragged, TurningSequencesAroundIsRefused) {
  const ValueId far = Ints({-(int64_t{1} << 40)});
  ExpectRefused({b.Add("Slice", {Tokens(), Ints({-1}), far, Ints({1}), Ints({-1})})},
                "of type Slice mixes positions");
}

TEST_F(Ragged, SumsWithoutTheSoftmaxAreRefused) {
  const ValueId x = Tokens();
  const ValueId scores =
      b.Add("MatMul", {x, b.Add("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 2, 1}}})});
  ExpectRefused({b.Add("MatMul", {b.Add("Relu", {scores}), x})}, "mixes positions");
}

TEST_F(Ragged, AMeanOfTheSequenceAgainstItsTokensIsRefused) {
  const ValueId x = Tokens();
  const ValueId mean = b.Add("ReduceMean", {x, Ints({1})}, {{"keepdims", true}});
  ExpectRefused({b.Add("Sub", {x, mean})}, "brings together a value of a sequence and its tokens");
}

TEST_F(Ragged, TheNumberOfTokensAsANumberIsRefused) {
  const ValueId x = Tokens();
  const ValueId n = b.Add("Cast", {Length(x)}, {{"to", DType::kF32}});
  ExpectRefused({b.Add("Div", {x, n})}, "computes with the number of tokens");
}

TEST_F(Ragged, ScoresAsAnOutputAreRefused) {
  const ValueId x = Tokens();
  ExpectRefused(
      {b.Add("MatMul", {x, b.Add("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 2, 1}}})})},
      "pairs positions");
}

TEST_F(Ragged, InputsWithoutALengthAreRefused) {
  ExpectRefused({b.Add("Relu", {b.Input({batch, 4})})}, "no input has a length that varies");
}

}  // namespace
}  // namespace dunlin
