// Quantised operators of com.microsoft that are rewritten. Expected values are worked out by hand.
#include <gmock/gmock.h>

#include "formats/onnx/rewrite_testing.h"

namespace dunlin::onnx_import {
namespace {

using ::testing::HasSubstr;
using testing::Near;

constexpr const char* kMs = "com.microsoft";

template <class T>
Tensor Of(const Dims& dims, std::initializer_list<T> v) {
  return Tensor::Of<T>(dims, v);
}
Tensor Scale(float v) { return Tensor::Scalar(v); }
template <class T>
Tensor Zero(T v) {
  return Tensor::Scalar<T>(v);
}

TEST(Quantised, OperatorsBetweenCodes) {
  RewriteTest leaky(kMs, "QLinearLeakyRelu");
  leaky.Attr("alpha", 0.5f)
      .Input(Of<int8_t>({3}, {-8, 2, 4}))
      .Input(Scale(1))
      .Input(Zero<int8_t>(2));
  leaky.Input(Scale(0.5f)).Input(Zero<int8_t>(1));  // -10 -> -5, 0, 2
  EXPECT_TRUE(Near(leaky.Run()[0], Of<int8_t>({3}, {-9, 1, 5})));
  RewriteTest sigmoid(kMs, "QLinearSigmoid");
  sigmoid.Input(Of<uint8_t>({2}, {0, 255})).Input(Scale(1)).Absent();
  sigmoid.Input(Scale(1.0f / 256));  // 1/2, and what rounds to 1
  EXPECT_TRUE(Near(sigmoid.Run()[0], Of<uint8_t>({2}, {128, 255})));
  RewriteTest mean(kMs, "QLinearReduceMean");
  mean.Attr("axes", std::vector<int64_t>{1}).Attr("keepdims", int64_t{0});
  mean.Input(Of<uint8_t>({1, 2}, {2, 4})).Input(Scale(1)).Input(Zero<uint8_t>(0));
  mean.Input(Scale(1)).Input(Zero<uint8_t>(10));
  EXPECT_TRUE(Near(mean.Run()[0], Of<uint8_t>({1}, {13})));
}

TEST(Quantised, PartsGetTheScaleOfTheWhole) {
  RewriteTest concat(kMs, "QLinearConcat");
  concat.Attr("axis", int64_t{0}).Input(Scale(2)).Input(Zero<uint8_t>(1));
  concat.Input(Of<uint8_t>({1}, {9})).Input(Scale(2)).Input(Zero<uint8_t>(1));
  concat.Input(Of<uint8_t>({2}, {4, 6})).Input(Scale(1)).Input(Zero<uint8_t>(0));
  EXPECT_TRUE(Near(concat.Run()[0], Of<uint8_t>({3}, {9, 3, 4})));
  RewriteTest where(kMs, "QLinearWhere");
  where.Input(Of<bool>({2}, {true, false}));
  where.Input(Of<uint8_t>({1}, {4})).Input(Scale(1)).Input(Zero<uint8_t>(0));
  where.Input(Of<uint8_t>({1}, {6})).Input(Scale(2)).Input(Zero<uint8_t>(1));
  where.Input(Scale(2)).Input(Zero<uint8_t>(1));
  EXPECT_TRUE(Near(where.Run()[0], Of<uint8_t>({2}, {3, 6})));
  RewriteTest broken(kMs, "QLinearConcat");
  broken.Attr("axis", int64_t{0}).Input(Scale(2)).Input(Zero<uint8_t>(1));
  broken.Input(Of<uint8_t>({1}, {9})).Input(Scale(2)).Input(Zero<uint8_t>(1)).Input(Scale(1));
  EXPECT_THAT(broken.Error(), HasSubstr("6 inputs"));
}

TEST(Quantised, IntegersStayIntegers) {
  RewriteTest product(kMs, "MulInteger");
  product.Input(Of<uint8_t>({2}, {200, 3})).Input(Zero<uint8_t>(3));
  product.Input(Of<uint8_t>({1}, {255})).Input(Zero<uint8_t>(5));
  EXPECT_TRUE(Near(product.Run()[0], Of<int32_t>({2}, {49250, 0})));
  RewriteTest sum(kMs, "ReduceSumInteger");
  sum.Attr("axes", std::vector<int64_t>{0}).Attr("keepdims", int64_t{1});
  sum.Input(Of<int8_t>({3}, {127, 127, -1}));
  EXPECT_TRUE(Near(sum.Run()[0], Of<int32_t>({1}, {253})));
  RewriteTest wide(kMs, "MatMulInteger16");
  wide.Input(Of<int16_t>({1, 2}, {30000, 2})).Input(Of<int16_t>({2, 1}, {30000, -1}));
  EXPECT_TRUE(Near(wide.Run()[0], Of<int32_t>({1, 1}, {899999998})));
}

TEST(Quantised, ProductsThatGiveRealNumbers) {
  RewriteTest t(kMs, "MatMulIntegerToFloat");
  t.Input(Of<uint8_t>({1, 2}, {3, 5})).Input(Of<int8_t>({2, 2}, {1, 2, 3, 4}));
  t.Input(Scale(0.5f)).Input(Of<float>({2}, {2, 4})).Input(Zero<uint8_t>(1));
  t.Input(Of<int8_t>({2}, {0, 1})).Input(Of<float>({2}, {100, 200}));
  // [2 4] [1 1; 3 3] = [14 14], times [1 2], plus the bias
  EXPECT_TRUE(Near(t.Run()[0], Of<float>({1, 2}, {114, 228})));
  RewriteTest dynamic(kMs, "DynamicQuantizeMatMul");
  dynamic.Input(Of<float>({1, 2}, {0, 255})).Input(Of<int8_t>({2, 1}, {7, 2})).Input(Scale(0.5f));
  EXPECT_TRUE(Near(dynamic.Run()[0], Of<float>({1, 1}, {255})));
}

TEST(Quantised, ConvolutionsMayHaveTheirChannelsLast) {
  RewriteTest t(kMs, "QLinearConv");
  t.Attr("channels_last", int64_t{1});
  t.Input(Of<uint8_t>({1, 1, 2, 2}, {1, 10, 2, 20})).Input(Scale(1)).Input(Zero<uint8_t>(0));
  t.Input(Of<uint8_t>({1, 2, 1, 1}, {1, 2})).Input(Scale(1)).Input(Zero<uint8_t>(0));
  t.Input(Scale(1)).Input(Zero<uint8_t>(0));
  EXPECT_TRUE(Near(t.Run()[0], Of<uint8_t>({1, 1, 2, 1}, {21, 42})));
}

// Between 2048 and 4096 f16 holds even numbers only.
TEST(Quantised, FromOpset23TheScaleSaysHowQuotientsAreRounded) {
  for (const int opset : {21, 23}) {
    RewriteTest t("", "QuantizeLinear", opset);
    t.Input(Of<float>({1}, {4095})).Input(Tensor::Scalar(Half(1.0f))).Input(Zero<uint16_t>(0));
    EXPECT_TRUE(Near(t.Run()[0], Of<uint16_t>({1}, {uint16_t(opset == 21 ? 4095 : 4096)})));
    RewriteTest said("", "QuantizeLinear", opset);  // in f32
    said.Attr("precision", int64_t{1}).Input(Of<float>({1}, {4095}));
    said.Input(Tensor::Scalar(Half(1.0f))).Input(Zero<uint16_t>(0));
    EXPECT_TRUE(Near(said.Run()[0], Of<uint16_t>({1}, {4095})));
  }
}

}  // namespace
}  // namespace dunlin::onnx_import
