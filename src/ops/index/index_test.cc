#include "ops/index/index.h"

#include "ops/testing.h"

namespace dunlin::testing {
namespace {

Tensor Ints(std::initializer_list<int64_t> v) {
  return Tensor::Of<int64_t>({int64_t(v.size())}, v);
}
Tensor F(const Dims& d, std::initializer_list<float> v) { return Tensor::Of<float>(d, v); }

TEST(Gather, PicksSlicesAlongAnAxis) {
  OpTest t("Gather");
  t.Attr("axis", 1).Input(F({2, 3}, {0, 1, 2, 3, 4, 5})).Input(Tensor::Of<int32_t>({2}, {-1, 0}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2, 2}, {2, 0, 5, 3})));
  t.ExpectKernelMatches();
  t.ExpectInferIsTotal();
}

TEST(Gather, KernelAgreesForEverySize) {
  const auto check = [](Tensor x, int axis, Tensor index, bool constant) {
    OpTest t("Gather");
    t.Attr("axis", axis).Input(std::move(x));
    constant ? t.Const(std::move(index)) : t.Input(std::move(index));
    t.ExpectKernelMatches();
    t.ExpectInferIsTotal();
  };
  for (const int axis : {0, 1, -1})
    for (const bool constant : {false, true}) {
      check(RandomF32({5, 6, 7}), axis, Ints({4, -2, 0}), constant);
      check(RandomInts<int8_t>({5, 6, 7}, -9, 9), axis, Tensor::Scalar<int64_t>(-1), constant);
      check(RandomInts<int64_t>({5, 6, 7}, -9, 9), axis, Tensor::Of<int64_t>({2, 1}, {1, 2}),
            constant);
    }
  check(RandomF32({1000, 128}), 0, RandomInts<int64_t>({3, 500}, -1000, 999), false);
  check(RandomF32({3, 500, 300}), 1, Tensor::Scalar<int64_t>(7), true);
}

// More than one thread's share, which may begin in the middle of the indices.
TEST(Gather, KernelAgreesForManySingleElements) {
  std::vector<int64_t> columns(301);
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = int64_t(i * 7 % 211) - 50;
  for (const bool wide : {false, true}) {
    OpTest t("Gather");
    t.Attr("axis", 1);
    wide ? t.Input(RandomInts<int64_t>({233, 170}, -9, 9)) : t.Input(RandomF32({233, 170}));
    t.Input(Tensor::Ints(columns));
    t.ExpectKernelMatches();
  }
  OpTest none("Gather");
  none.Attr("axis", 1).Input(RandomF32({3, 4})).Input(Tensor::Ints({}));
  none.ExpectKernelMatches();
}

TEST(Gather, RefusesIndicesOutside) {
  for (const int64_t bad : {int64_t{3}, int64_t{-4}, INT64_MAX, INT64_MIN}) {
    OpTest constant("Gather");
    constant.Input(F({3}, {0, 1, 2})).Const(Ints({bad}));
    EXPECT_FALSE(constant.Infer().has_value());
    OpTest late("Gather");
    late.Input(F({3}, {0, 1, 2})).Input(Ints({0, bad}));
    EXPECT_FALSE(late.Kernel({}).has_value());
    EXPECT_FALSE(late.Reference().has_value());
  }
  EXPECT_FALSE(OpTest("Gather").Input(F({}, {0})).Input(Ints({0})).Infer().has_value());
}

TEST(Gather, PicksEntriesOfAShape) {
  OpTest t("Gather");
  t.Input(Ints({1, 2, 3})).Input(Tensor::Scalar<int64_t>(1));
  auto ctx = t.MakeInfer();
  const Tensor one = Tensor::Scalar<int64_t>(1);
  ctx.shape_values[0] = Dims{5, SymbolDim(4), 7};
  ctx.values[1] = &one;
  ASSERT_TRUE(t.Infer(ctx).has_value());
  EXPECT_EQ(ctx.shape_results[0], Dims{SymbolDim(4)});
}

TEST(Gather, MovesStrings) {
  OpTest t("Gather");
  t.Input(Tensor::Of<std::string>({2}, {"a", "b"})).Input(Ints({1, 1, 0}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<std::string>({3}, {"b", "b", "a"})));
}

TEST(GatherElements, TakesOneElementPerIndex) {
  OpTest t("GatherElements");
  t.Attr("axis", 1)
      .Input(F({2, 2}, {1, 2, 3, 4}))
      .Input(Tensor::Of<int64_t>({2, 2}, {0, 0, -1, 0}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2, 2}, {1, 1, 4, 3})));
  t.ExpectInferIsTotal();
  OpTest bad("GatherElements");
  bad.Input(F({2, 2}, {1, 2, 3, 4})).Input(Tensor::Of<int64_t>({1, 3}, {0, 0, 0}));
  EXPECT_FALSE(bad.Infer().has_value());
}

TEST(GatherND, FollowsTuplesInsideBatches) {
  OpTest t("GatherND");
  t.Input(F({2, 2}, {0, 1, 2, 3})).Input(Tensor::Of<int64_t>({2, 2}, {0, 0, 1, -1}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2}, {0, 3})));
  t.ExpectInferIsTotal();
  OpTest batched("GatherND");
  batched.Attr("batch_dims", 1)
      .Input(F({2, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7}))
      .Input(Tensor::Of<int64_t>({2, 1}, {1, 0}));
  EXPECT_TRUE(Near(batched.Reference().value()[0], F({2, 2}, {2, 3, 4, 5})));
  OpTest bad("GatherND");
  bad.Attr("batch_dims", 2)
      .Input(F({2, 2}, {0, 1, 2, 3}))
      .Input(Tensor::Of<int64_t>({2, 2}, {0, 0, 1, 1}));
  EXPECT_FALSE(bad.Infer().has_value());
}

OpTest Scatter(const char* reduction, std::initializer_list<int64_t> at) {
  OpTest t("ScatterElements");
  t.Attr("reduction", reduction)
      .Input(F({4}, {1, 2, 3, 4}))
      .Input(Ints(at))
      .Input(F({2}, {10, 20}));
  return t;
}

TEST(ScatterElements, ReplacesOrReduces) {
  EXPECT_TRUE(Near(Scatter("none", {0, -1}).Reference().value()[0], F({4}, {10, 2, 3, 20})));
  EXPECT_TRUE(Near(Scatter("add", {1, 1}).Reference().value()[0], F({4}, {1, 32, 3, 4})));
  EXPECT_TRUE(Near(Scatter("mul", {1, 1}).Reference().value()[0], F({4}, {1, 400, 3, 4})));
  EXPECT_TRUE(Near(Scatter("max", {1, 0}).Reference().value()[0], F({4}, {20, 10, 3, 4})));
  EXPECT_TRUE(Near(Scatter("min", {1, 0}).Reference().value()[0], F({4}, {1, 2, 3, 4})));
  EXPECT_FALSE(Scatter("none", {0, 4}).Reference().has_value());
  EXPECT_FALSE(Scatter("mean", {0, 1}).Infer().has_value());
  Scatter("none", {0, 1}).ExpectInferIsTotal();
}

TEST(ScatterND, ReplacesOrReducesSlices) {
  OpTest t("ScatterND");
  t.Input(F({2, 2}, {1, 2, 3, 4}))
      .Input(Tensor::Of<int64_t>({1, 1}, {-1}))
      .Input(F({1, 2}, {7, 8}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2, 2}, {1, 2, 7, 8})));
  t.Attr("reduction", "add");
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2, 2}, {1, 2, 10, 12})));
  t.ExpectInferIsTotal();
  OpTest bad("ScatterND");
  bad.Input(F({2, 2}, {1, 2, 3, 4}))
      .Input(Tensor::Of<int64_t>({1, 1}, {0}))
      .Input(F({1, 3}, {7, 8, 9}));
  EXPECT_FALSE(bad.Infer().has_value());
}

TEST(Compress, KeepsWhatTheConditionSelects) {
  OpTest t("Compress");
  t.Attr("axis", 1)
      .Input(F({2, 3}, {0, 1, 2, 3, 4, 5}))
      .Input(Tensor::Of<bool>({2}, {false, true}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2, 1}, {1, 4})));
  t.ExpectInferIsTotal();
  OpTest flat("Compress");
  flat.Input(F({2, 2}, {0, 1, 2, 3})).Input(Tensor::Of<bool>({4}, {true, false, false, true}));
  EXPECT_TRUE(Near(flat.Reference().value()[0], F({2}, {0, 3})));
  OpTest bad("Compress");
  bad.Input(F({2}, {0, 1})).Input(Tensor::Of<bool>({3}, {false, false, true}));
  EXPECT_FALSE(bad.Reference().has_value());
}

TEST(Unique, GroupsElementsSortedOrInOrder) {
  OpTest t("Unique");
  t.Input(F({5}, {2, NAN, 1, 2, NAN})).Outputs(4);
  const auto r = t.Reference().value();
  EXPECT_TRUE(Near(r[0], F({3}, {1, 2, NAN})));
  EXPECT_TRUE(Near(r[1], Ints({2, 0, 1})));
  EXPECT_TRUE(Near(r[2], Ints({1, 2, 0, 1, 2})));
  EXPECT_TRUE(Near(r[3], Ints({1, 2, 2})));
  t.Attr("sorted", 0);
  EXPECT_TRUE(Near(t.Reference().value()[0], F({3}, {2, NAN, 1})));
  EXPECT_TRUE(Near(t.Reference().value()[2], Ints({0, 1, 2, 0, 1})));
}

TEST(Unique, GroupsSlices) {
  OpTest t("Unique");
  t.Attr("axis", 1).Input(F({2, 3}, {1, 0, 1, 2, 5, 2}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2, 2}, {0, 1, 5, 2})));
  t.ExpectInferIsTotal();
}

TEST(NonMaxSuppression, KeepsTheBestOfOverlappingBoxes) {
  OpTest t("NonMaxSuppression");
  t.Input(F({1, 3, 4}, {0, 0, 1, 1, 1, 1.05f, 0, 0.05f, 5, 5, 6, 6}))
      .Input(F({1, 1, 3}, {0.5f, 0.9f, 0.1f}))
      .Input(Tensor::Scalar<int64_t>(10))
      .Input(Tensor::Scalar(0.5f))
      .Input(Tensor::Scalar(0.05f));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<int64_t>({2, 3}, {0, 0, 1, 0, 0, 2})));
  t.ExpectInferIsTotal();
}

TEST(TensorScatter, WritesEachItemFromItsOwnPlace) {
  OpTest t("TensorScatter");
  t.Input(F({2, 3, 2}, {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6}))
      .Input(F({2, 1, 2}, {8, 9, 10, 11}))
      .Input(Tensor::Of<int64_t>({2}, {1, 2}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2, 3, 2}, {1, 2, 8, 9, 5, 6, 1, 2, 3, 4, 10, 11})));
  t.ExpectInferIsTotal();
}

TEST(TensorScatter, GoesRoundInACircle) {
  OpTest t("TensorScatter");
  t.Attr("mode", "circular").Attr("axis", 2);
  t.Input(F({1, 2, 3}, {1, 2, 3, 4, 5, 6}))
      .Input(F({1, 2, 2}, {7, 8, 9, 10}))
      .Input(Tensor::Of<int64_t>({1}, {2}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 2, 3}, {8, 2, 7, 10, 5, 9})));
}

TEST(TensorScatter, BeginsAtZeroAndRefusesToRunOver) {
  OpTest t("TensorScatter"), over("TensorScatter"), batch("TensorScatter");
  t.Input(F({1, 2, 1}, {1, 2})).Input(F({1, 1, 1}, {7}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 2, 1}, {7, 2})));
  over.Input(F({1, 2, 1}, {1, 2})).Input(F({1, 1, 1}, {7})).Input(Tensor::Of<int64_t>({1}, {2}));
  EXPECT_EQ(over.Reference().error().code, Code::kInvalidArgument);
  batch.Attr("axis", 0).Input(F({1, 2, 1}, {1, 2})).Input(F({1, 1, 1}, {7}));
  EXPECT_EQ(batch.Infer().error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin::testing
