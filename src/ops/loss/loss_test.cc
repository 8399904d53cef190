#include <cmath>

#include "ops/testing.h"

namespace dunlin {
namespace {

using testing::Near;
using testing::OpTest;

// Log-probabilities of two rows over three classes.
Tensor LogProbs() { return Tensor::Of<float>({2, 3}, {-1, -2, -3, -4, -5, -6}); }

TEST(Nll, WeightsTheMeanAndIgnoresALabel) {
  OpTest t("NegativeLogLikelihoodLoss");
  t.Input(Tensor::Of<float>({3, 3}, {-1, -2, -3, -4, -5, -6, -7, -8, -9}));
  t.Input(Tensor::Of<int64_t>({3}, {0, 2, -100})).Input(Tensor::Of<float>({3}, {2, 1, 0.5f}));
  t.Attr("ignore_index", -100);
  EXPECT_TRUE(
      Near((*t.Reference())[0], Tensor::Scalar<float>((2 * 1 + 0.5f * 6) / 2.5f), {.rel = 1e-6}));
}

TEST(Nll, ReducesAsAsked) {
  const auto run = [](const char* reduction) {
    OpTest t("NegativeLogLikelihoodLoss");
    t.Attr("reduction", reduction).Input(LogProbs()).Input(Tensor::Of<int32_t>({2}, {1, 0}));
    return (*t.Reference())[0];
  };
  EXPECT_TRUE(Near(run("none"), Tensor::Of<float>({2}, {2, 4})));
  EXPECT_TRUE(Near(run("sum"), Tensor::Scalar<float>(6)));
  EXPECT_TRUE(Near(run("mean"), Tensor::Scalar<float>(3)));
}

TEST(Nll, RefusesALabelThatIsNoClass) {
  for (const int64_t label : {-1, 3}) {
    OpTest t("NegativeLogLikelihoodLoss");
    t.Input(LogProbs()).Input(Tensor::Of<int64_t>({2}, {1, label}));
    EXPECT_EQ(t.Reference().error().code, Code::kInvalidArgument);
  }
}

TEST(SoftmaxCrossEntropy, IsStableForLargeScoresAndGivesLogProbabilities) {
  OpTest t("SoftmaxCrossEntropyLoss");
  t.Input(Tensor::Of<float>({1, 2}, {1000, 1001})).Input(Tensor::Of<int64_t>({1}, {0})).Outputs(2);
  const float low = -std::log(1 + std::exp(1.f)), high = low + 1;
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], Tensor::Scalar<float>(-low), {.rel = 1e-6}));
  EXPECT_TRUE(Near((*r)[1], Tensor::Of<float>({1, 2}, {low, high}), {.rel = 1e-6}));
}

TEST(Loss, InferenceRefusesWhatDoesNotFit) {
  const auto infer = [](Dims scores, Dims labels, Dims weights) {
    OpTest t("SoftmaxCrossEntropyLoss");
    t.Input(Tensor::Zeros(DType::kF32, scores).value())
        .Input(Tensor::Zeros(DType::kI64, labels).value());
    t.Input(Tensor::Zeros(DType::kF32, weights).value()).Attr("reduction", "none");
    return t.Infer();
  };
  EXPECT_EQ((*infer({2, 3, 4}, {2, 4}, {3}))[0], Type::Of(DType::kF32, {2, 4}));
  EXPECT_FALSE(infer({2, 3, 4}, {2, 5}, {3}).has_value());
  EXPECT_FALSE(infer({2, 3, 4}, {2}, {3}).has_value());
  EXPECT_FALSE(infer({2, 3, 4}, {2, 4}, {4}).has_value());
  EXPECT_FALSE(infer({3}, {2}, {3}).has_value());
}

TEST(Loss, InferenceCopesWithAnything) {
  for (const char* reduction : {"none", "mean"}) {
    OpTest t("NegativeLogLikelihoodLoss");
    t.Attr("reduction", reduction).Input(LogProbs()).Input(Tensor::Of<int32_t>({2}, {1, 0}));
    t.ExpectInferIsTotal();
  }
}

TEST(Loss, ABatchOfNothingTakesNoTime) {
  OpTest t("NegativeLogLikelihoodLoss");
  t.Input(Tensor::Zeros(DType::kF32, {int64_t{1} << 50, 3, 0}).value());
  t.Input(Tensor::Zeros(DType::kI64, {int64_t{1} << 50, 0}).value()).Attr("reduction", "sum");
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Scalar<float>(0)));
}

}  // namespace
}  // namespace dunlin
