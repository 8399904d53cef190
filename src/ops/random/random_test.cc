#include <cmath>

#include "ops/testing.h"

namespace dunlin {
namespace {

using testing::Near;
using testing::OpTest;

Tensor Draw(const OpTest& t) {
  const auto r = t.Reference();
  EXPECT_TRUE(r.has_value()) << r.error().message;
  return r ? (*r)[0] : Tensor();
}

TEST(Random, ASeedFixesTheNumbersAndNoSeedDoesNot) {
  for (const char* name : {"RandomNormal", "RandomUniform"}) {
    OpTest seeded(name), other(name), free(name);
    seeded.Attr("shape", std::vector<int64_t>{50}).Attr("seed", 1.0);
    other.Attr("shape", std::vector<int64_t>{50}).Attr("seed", 2.0);
    free.Attr("shape", std::vector<int64_t>{50});
    EXPECT_TRUE(Near(Draw(seeded), Draw(seeded)));
    EXPECT_FALSE(Near(Draw(seeded), Draw(other)));
    EXPECT_FALSE(Near(Draw(free), Draw(free)));
    EXPECT_TRUE(free.def().nondeterministic);
  }
}

TEST(Random, NormalHasItsMeanAndScale) {
  OpTest t("RandomNormal");
  t.Attr("shape", std::vector<int64_t>{100, 200})
      .Attr("seed", 7.0)
      .Attr("mean", 3.0)
      .Attr("scale", 2.0);
  double sum = 0, squares = 0;
  const Tensor x = Draw(t);
  for (const float v : x.values<float>()) sum += v, squares += double(v) * v;
  const double mean = sum / 20000;
  EXPECT_NEAR(mean, 3, 0.06);  // four standard errors of 2 / sqrt(20000)
  EXPECT_NEAR(std::sqrt(squares / 20000 - mean * mean), 2, 0.05);
}

TEST(Random, UniformStaysInsideItsBounds) {
  OpTest t("RandomUniformLike");
  t.Input(Tensor::Zeros(DType::kF64, {3, 1000}).value())
      .Attr("low", -2.0)
      .Attr("high", 5.0)
      .Attr("seed", 7.0);
  double sum = 0;
  const Tensor x = Draw(t);
  for (const double v : x.values<double>()) {
    EXPECT_GE(v, -2);
    EXPECT_LT(v, 5);
    sum += v;
  }
  EXPECT_NEAR(sum / 3000, 1.5, 0.15);  // four standard errors of 7 / sqrt(12 * 3000)
}

TEST(Random, LikeTakesTheInputsTypeUnlessToldOtherwise) {
  OpTest same("RandomNormalLike"), told("RandomNormalLike");
  same.Input(Tensor::Zeros(DType::kF16, {2, 3}).value());
  told.Input(Tensor::Zeros(DType::kI64, {2, 3}).value()).SetAttrs([](Attrs&) {});
  told.Attr("dtype", testing::AttrSetter::Value(DType::kF32));
  EXPECT_EQ((*same.Infer())[0], Type::Of(DType::kF16, {2, 3}));
  EXPECT_EQ((*told.Infer())[0], Type::Of(DType::kF32, {2, 3}));
}

TEST(Bernoulli, FollowsTheProbabilities) {
  Tensor p = Tensor::Create(DType::kF32, {3, 1000}).value();
  for (int64_t i = 0; i < 3000; ++i) p.mut<float>()[i] = i < 1000 ? 0 : i < 2000 ? 1 : 0.25f;
  OpTest t("Bernoulli");
  t.Input(p).Attr("seed", 3.0).Attr("dtype", testing::AttrSetter::Value(DType::kI32));
  const Tensor x = Draw(t);
  int counts[3] = {};
  for (int i = 0; i < 3000; ++i) counts[i / 1000] += x.as<int32_t>()[i];
  EXPECT_EQ(counts[0], 0);
  EXPECT_EQ(counts[1], 1000);
  EXPECT_NEAR(counts[2], 250, 55);  // four standard deviations
}

TEST(Multinomial, FollowsTheLogits) {
  OpTest t("Multinomial");
  t.Attr("sample_size", 1000)
      .Attr("seed", 3.0)
      .Attr("dtype", testing::AttrSetter::Value(DType::kI64));
  t.Input(Tensor::Of<float>(
      {2, 3}, {-INFINITY, 5, -INFINITY, std::log(1.f), std::log(2.f), std::log(1.f)}));
  const Tensor x = Draw(t);
  int counts[2][3] = {};
  for (int i = 0; i < 2000; ++i) ++counts[i / 1000][x.as<int64_t>()[i]];
  EXPECT_EQ(counts[0][1], 1000);
  EXPECT_NEAR(counts[1][1], 500, 64);  // four standard deviations
  EXPECT_NEAR(counts[1][0], 250, 55);
}

TEST(Random, RefusesNegativeExtentsAndIntegerTypes) {
  OpTest negative("RandomNormal"), integer("RandomUniform");
  negative.Attr("shape", std::vector<int64_t>{2, -1});
  integer.Attr("shape", std::vector<int64_t>{2})
      .Attr("dtype", testing::AttrSetter::Value(DType::kI32));
  EXPECT_EQ(negative.Infer().error().code, Code::kInvalidArgument);
  EXPECT_EQ(integer.Infer().error().code, Code::kInvalidArgument);
}

TEST(Dropout, PassesTheInputAtInference) {
  const Tensor x = testing::RandomF32({3, 5});
  const auto r = OpTest("Dropout").Input(x).Input(Tensor::Scalar(0.9f)).Outputs(2).Reference();
  ASSERT_TRUE(r.has_value());
  EXPECT_TRUE(Near((*r)[0], x));
  for (const bool kept : (*r)[1].values<bool>()) EXPECT_TRUE(kept);
}

// numpy.random.seed(0); numpy.random.uniform(size=6) is .5488 .7152 .6028 .5449 .4237 .6459.
TEST(Dropout, DrawsNumpysNumbersInTraining) {
  OpTest t("Dropout");
  t.Attr("seed", 0)
      .Input(Tensor::Of<float>({6}, {1, 2, 3, 4, 5, 6}))
      .Input(Tensor::Scalar(0.6f))
      .Input(Tensor::Scalar(true))
      .Outputs(2);
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], Tensor::Of<float>({6}, {0, 5, 7.5f, 0, 0, 15}), {.abs = 1e-5}));
  EXPECT_TRUE(Near((*r)[1], Tensor::Of<bool>({6}, {false, true, true, false, false, true})));
  t.ExpectInferIsTotal();
}

TEST(Dropout, OfNothingIsTheInputInTrainingToo) {
  const Tensor x = Tensor::Of<float>({2}, {1, 2});
  OpTest t("Dropout");
  t.Input(x).Input(Tensor::Scalar(0.0f)).Input(Tensor::Scalar(true));
  EXPECT_TRUE(Near(Draw(t), x));
}

TEST(Dropout, RefusesARatioThatKeepsNothing) {
  OpTest t("Dropout");
  t.Input(Tensor::Scalar(1.0f)).Input(Tensor::Scalar(1.0f)).Input(Tensor::Scalar(true));
  EXPECT_EQ(t.Reference().error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin
