// Operators of com.microsoft that are rewritten. Expected values are worked out by hand or by the
// plain formula beside them.
#include <gmock/gmock.h>

#include "formats/onnx/rewrite_testing.h"

namespace dunlin::onnx_import {
namespace {

using ::testing::HasSubstr;
using testing::Near;

constexpr const char* kMs = "com.microsoft";

Tensor F(const Dims& dims, std::initializer_list<float> v) { return Tensor::Of<float>(dims, v); }
Tensor I32(const Dims& dims, std::initializer_list<int32_t> v) {
  return Tensor::Of<int32_t>(dims, v);
}

TEST(Microsoft, FusedMatMulTransposesAndScales) {
  RewriteTest t(kMs, "FusedMatMul");
  t.Attr("transA", int64_t{1}).Attr("alpha", 2.0f);
  t.Input(F({2, 1}, {1, 2})).Input(F({2, 1}, {3, 4}));  // 2 (1 * 3 + 2 * 4)
  EXPECT_TRUE(Near(t.Run()[0], F({1, 1}, {22})));
}

TEST(Microsoft, FusedMatMulTakesTheBatchFromInside) {
  RewriteTest t(kMs, "FusedMatMul");
  t.Attr("transBatchA", int64_t{1});
  t.Input(F({1, 2, 1}, {1, 2})).Input(F({2, 1, 1}, {10, 100}));
  EXPECT_TRUE(Near(t.Run()[0], F({2, 1, 1}, {10, 200})));
}

TEST(Microsoft, FusedConvAddsBeforeItActivates) {
  RewriteTest t(kMs, "FusedConv");
  t.Attr("activation", std::string("Clip")).Attr("activation_params", std::vector<float>{-1, 2});
  t.Input(F({1, 1, 1, 3}, {1, 2, 3})).Input(F({1, 1, 1, 1}, {1})).Absent();
  t.Input(F({1, 1, 1, 3}, {-5, -1, 4}));
  EXPECT_TRUE(Near(t.Run()[0], F({1, 1, 1, 3}, {-1, 1, 2})));
}

TEST(Microsoft, AnActivationNobodyKnowsIsNamed) {
  RewriteTest t(kMs, "FusedGemm");
  t.Attr("activation", std::string("Wobble")).Input(F({1, 1}, {1})).Input(F({1, 1}, {1}));
  EXPECT_THAT(t.Error(), HasSubstr("Wobble"));
}

TEST(Microsoft, AnUnknownAttributeIsNamed) {
  RewriteTest t(kMs, "Gelu");
  t.Attr("wobble", int64_t{1}).Input(F({1}, {1}));
  EXPECT_THAT(t.Error(), HasSubstr("wobble"));
}

TEST(Microsoft, AnInputThatIsLeftOutIsNamed) {
  RewriteTest t(kMs, "FusedMatMul");
  t.Input(F({1, 1}, {1}));
  EXPECT_THAT(t.Error(), HasSubstr("input 1"));
}

TEST(Microsoft, QuickGeluScalesTheGate) {
  RewriteTest t(kMs, "QuickGelu");
  t.Input(F({2}, {0, 1}));  // x / (1 + exp(-1.702 x))
  EXPECT_TRUE(Near(t.Run()[0], F({2}, {0, 0.84579576f}), {.abs = 1e-6}));
}

TEST(Microsoft, BiasSoftmaxRepeatsTheBiasWithin) {
  RewriteTest t(kMs, "BiasSoftmax");
  t.Attr("axis", int64_t{2}).Attr("is_inner_broadcast", int64_t{1});
  t.Input(F({2, 2, 2}, {0, 0, 0, 0, 0, 0, 0, 0})).Input(F({2, 1, 2}, {0, 0, std::log(3.0f), 0}));
  EXPECT_TRUE(
      Near(t.Run()[0], F({2, 2, 2}, {.5f, .5f, .5f, .5f, .75f, .25f, .75f, .25f}), {.abs = 1e-6}));
}

TEST(Microsoft, SkipLayerNormalizationGivesTheSum) {
  RewriteTest t(kMs, "SkipLayerNormalization");
  t.Attr("epsilon", 0.0f).Input(F({1, 1, 2}, {1, 2})).Input(F({1, 2}, {0, 2}));
  t.Input(F({2}, {1, 3})).Absent().Input(F({2}, {0, 1}));
  t.Outputs(4).Unwanted(1).Unwanted(2);
  const auto y = t.Run();
  EXPECT_TRUE(Near(y[0], F({1, 1, 2}, {-1, 3}), {.abs = 1e-6}));  // of 1 and 5
  EXPECT_TRUE(Near(y[3], F({1, 1, 2}, {1, 5})));
}

TEST(Microsoft, SimplifiedNormGivesTheInverseOfTheRoot) {
  RewriteTest t("", "SimplifiedLayerNormalization", 14);
  t.Attr("epsilon", 0.0f).Attr("stash_type", int64_t{1});
  t.Input(F({1, 2}, {1, 7})).Input(F({2}, {1, 2})).Outputs(2);  // mean square 25
  const auto y = t.Run();
  EXPECT_TRUE(Near(y[0], F({1, 2}, {0.2f, 2.8f}), {.abs = 1e-6}));
  EXPECT_TRUE(Near(y[1], F({1, 1}, {0.2f}), {.abs = 1e-6}));
}

TEST(Microsoft, AnAxisFarOutsideIsRefusedAtOnce) {
  RewriteTest t("", "SimplifiedLayerNormalization", 14);
  t.Attr("axis", INT64_MIN).Input(F({1, 2}, {1, 7})).Input(F({2}, {1, 2})).Outputs(2);
  EXPECT_THAT(t.Error(), HasSubstr("axis"));
}

TEST(Microsoft, EmbedLayerNormalizationCountsTheMask) {
  RewriteTest t(kMs, "EmbedLayerNormalization");
  t.Attr("epsilon", 0.0f).Input(I32({1, 2}, {1, 0})).Absent();
  t.Input(F({2, 2}, {0, 0, 3, 1})).Input(F({3, 2}, {1, 1, 0, 4, 9, 9})).Absent();
  t.Input(F({2}, {1, 1})).Input(F({2}, {0, 0})).Input(I32({1, 2}, {1, 0})).Outputs(3);
  const auto y = t.Run();
  EXPECT_TRUE(Near(y[0], F({1, 2, 2}, {1, -1, -1, 1}), {.abs = 1e-6}));
  EXPECT_TRUE(Near(y[1], I32({1}, {1})));
  EXPECT_TRUE(Near(y[2], F({1, 2, 2}, {4, 2, 0, 4})));
}

TEST(Microsoft, GroupNormOfPicturesWithChannelsLast) {
  RewriteTest t(kMs, "SkipGroupNorm");
  t.Attr("groups", int64_t{1}).Attr("activation", int64_t{0}).Attr("epsilon", 0.0f);
  t.Input(F({1, 1, 2, 2}, {1, 1, 1, 1})).Input(F({2}, {1, 10})).Input(F({2}, {0, 1}));
  t.Input(F({1, 2}, {0, 2})).Outputs(2);  // the sum: 1 3 1 3, mean 2, deviation 1
  const auto y = t.Run();
  EXPECT_TRUE(Near(y[0], F({1, 1, 2, 2}, {-1, 11, -1, 11}), {.abs = 1e-6}));
  EXPECT_TRUE(Near(y[1], F({1, 1, 2, 2}, {1, 3, 1, 3})));
}

TEST(Microsoft, NhwcPoolsOverPixels) {
  RewriteTest t(kMs, "NhwcMaxPool");
  t.Attr("kernel_shape", std::vector<int64_t>{1, 2}).Attr("strides", std::vector<int64_t>{1, 2});
  t.Input(Tensor::Of<uint8_t>({1, 1, 2, 2}, {1, 8, 3, 2}));
  EXPECT_TRUE(Near(t.Run()[0], Tensor::Of<uint8_t>({1, 1, 1, 2}, {3, 8})));
}

TEST(Microsoft, CropAndResizeSamplesCornerToCorner) {
  RewriteTest t(kMs, "CropAndResize");
  t.Attr("extrapolation_value", -1.0f);
  t.Input(F({1, 1, 2, 3}, {0, 1, 2, 3, 4, 5})).Input(F({1, 4}, {0, 0, 1, 2}));
  t.Input(I32({1}, {0})).Input(I32({2}, {1, 3}));
  // One row: the middle of the box; columns 0, 2 and 4, the last outside.
  EXPECT_TRUE(Near(t.Run()[0], F({1, 1, 1, 3}, {1.5f, 3.5f, -1}), {.abs = 1e-6}));
}

TEST(Microsoft, IrfftUndoesRfft) {
  RewriteTest forth(kMs, "Rfft");
  forth.Attr("signal_ndim", int64_t{1}).Attr("normalized", int64_t{0}).Attr("onesided", int64_t{1});
  const Tensor x = F({2, 4}, {1, 2, 3, 5, -1, 0, 2, 7});
  const Tensor spectrum = forth.Input(x).Run()[0];
  ASSERT_EQ(spectrum.dims(), (Dims{2, 3, 2}));
  RewriteTest back(kMs, "Irfft");
  back.Attr("signal_ndim", int64_t{1}).Input(spectrum);
  EXPECT_TRUE(Near(back.Run()[0], x, {.abs = 1e-5}));
}

TEST(Microsoft, ComplexMulConjTurnsTheSecondFactor) {
  RewriteTest t(kMs, "ComplexMulConj");
  t.Input(F({1, 2}, {1, 2})).Input(F({1, 2}, {3, 4}));  // (1 + 2i)(3 - 4i) = 11 + 2i
  EXPECT_TRUE(Near(t.Run()[0], F({1, 2}, {11, 2})));
}

TEST(Microsoft, RelativePositionBiasSharesFarBuckets) {
  RewriteTest t(kMs, "RelativePositionBias");
  t.Attr("max_distance", int64_t{8}).Attr("is_bidirectional", int64_t{0});
  t.Input(F({4, 1}, {0, 1, 2, 3}));
  t.Input(Tensor::Scalar<int64_t>(5)).Input(Tensor::Scalar<int64_t>(1));
  // Distances 0 to 4; from 2 on: 2 + floor(2 log(d / 2) / log 4).
  const auto y = t.Try();
  ASSERT_TRUE(y) << y.error().message;
  EXPECT_TRUE(Near((*y)[0], F({1, 1, 5, 1}, {0, 1, 2, 2, 3})));
}

}  // namespace
}  // namespace dunlin::onnx_import
