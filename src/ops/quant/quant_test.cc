// Quantised operators: meaning, granularity, saturation, and what is refused.
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

template <class T>
Tensor Vec(std::initializer_list<T> v) {
  return Tensor::Of<T>({int64_t(v.size())}, v);
}

TEST(QuantizeTest, RoundsHalvesToEvenAndSaturates) {
  const auto r = OpTest("QuantizeLinear")
                     .Input(Vec<float>({1, 3, 5, -9, 900, NAN}))
                     .Input(Tensor::Scalar(2.0f))
                     .Input(Tensor::Scalar<uint8_t>(3))
                     .Reference();
  ASSERT_TRUE(r.has_value());
  EXPECT_TRUE(Near((*r)[0], Vec<uint8_t>({3, 5, 5, 0, 255, 0})));
}

TEST(QuantizeTest, OneScalePerChannelAndPerBlock) {
  const Tensor x = Tensor::Of<float>({2, 2}, {2, 4, 9, 12});
  EXPECT_TRUE(Near((*OpTest("QuantizeLinear")
                         .Attr("axis", 0)
                         .Input(x)
                         .Input(Vec<float>({2, 3}))
                         .Input(Vec<int8_t>({0, 1}))
                         .Reference())[0],
                   Tensor::Of<int8_t>({2, 2}, {1, 2, 4, 5})));
  const Tensor codes = Tensor::Of<int8_t>({1, 5}, {1, 2, 3, 4, 5});
  EXPECT_TRUE(Near((*OpTest("DequantizeLinear")
                         .Attr("axis", 1)
                         .Attr("block_size", 2)
                         .Input(codes)
                         .Input(Tensor::Of<float>({1, 3}, {1, 10, 100}))
                         .Reference())[0],
                   Tensor::Of<float>({1, 5}, {1, 2, 30, 40, 500})));
}

TEST(QuantizeTest, ScaleMustFitTheAxis) {
  EXPECT_EQ(OpTest("QuantizeLinear")
                .Input(RandomF32({2, 3}))
                .Input(Vec<float>({1, 2}))
                .Infer()
                .error()
                .code,
            Code::kInvalidArgument);
  EXPECT_EQ(OpTest("DequantizeLinear")
                .Attr("axis", 5)
                .Input(Tensor::Of<int8_t>({2}, {1, 2}))
                .Input(Vec<float>({1, 2}))
                .Infer()
                .error()
                .code,
            Code::kInvalidArgument);
}

TEST(QuantizeTest, DequantizeUndoesQuantize) {
  const Tensor x = RandomF32({3, 40}, -4, 4), scale = Tensor::Scalar(8.0f / 255),
               zero = Tensor::Scalar<uint8_t>(128);
  const Tensor q = (*OpTest("QuantizeLinear").Input(x).Input(scale).Input(zero).Reference())[0];
  EXPECT_TRUE(Near((*OpTest("DequantizeLinear").Input(q).Input(scale).Input(zero).Reference())[0],
                   x, {8.0 / 255 / 2 + 1e-6}));
  OpTest t("QuantizeLinear");
  t.Input(x).Input(scale).Input(zero).ExpectInferIsTotal();
}

TEST(QuantizeTest, DynamicRangeContainsZero) {
  const auto r = OpTest("DynamicQuantizeLinear")
                     .Input(Vec<float>({0, 2, -3, -2.5f, 1.34f, 0.5f}))
                     .Outputs(3)
                     .Reference();
  ASSERT_TRUE(r.has_value());
  EXPECT_TRUE(Near((*r)[0], Vec<uint8_t>({153, 255, 0, 26, 221, 179})));
  EXPECT_TRUE(Near((*r)[1], Tensor::Scalar(5.0f / 255), {1e-7}));
  EXPECT_EQ(*(*r)[2].as<uint8_t>(), 153);
  const auto zeros =
      OpTest("DynamicQuantizeLinear").Input(Vec<float>({0, 0})).Outputs(3).Reference();
  EXPECT_TRUE(Near((*zeros)[0], Vec<uint8_t>({0, 0})));
}

TEST(QuantMatMulTest, SubtractsZeroPointsAndBroadcasts) {
  OpTest t("MatMulInteger");
  t.Input(Tensor::Of<uint8_t>({2, 2}, {1, 2, 3, 4}))
      .Input(Tensor::Of<int8_t>({2, 1}, {5, -6}))
      .Input(Tensor::Scalar<uint8_t>(1))
      .Input(Tensor::Scalar<int8_t>(1));
  EXPECT_TRUE(
      Near((*t.Reference())[0], Tensor::Of<int32_t>({2, 1}, {-7, -13})));  // [0 1; 2 3] [4; -7]
  t.ExpectInferIsTotal();
  EXPECT_EQ(OpTest("MatMulInteger")
                .Input(RandomInts<uint8_t>({2, 3}, 0, 9))
                .Input(RandomInts<uint8_t>({2, 3}, 0, 9))
                .Infer()
                .error()
                .code,
            Code::kInvalidArgument);
  const auto batched = OpTest("MatMulInteger")
                           .Input(RandomInts<uint8_t>({3, 1, 2, 4}, 0, 9))
                           .Input(RandomInts<uint8_t>({5, 4, 2}, 0, 9))
                           .Reference();
  EXPECT_EQ((*batched)[0].dims(), (Dims{3, 5, 2, 2}));
}

TEST(QuantConvTest, PaddingHoldsTheZeroPoint) {
  OpTest t("ConvInteger");
  t.Attr("pads", std::vector<int64_t>{1, 1, 1, 1})
      .Input(Tensor::Of<uint8_t>({1, 1, 1, 1}, {7}))
      .Input(Tensor::Of<uint8_t>({1, 1, 3, 3}, {1, 1, 1, 1, 2, 1, 1, 1, 1}))
      .Input(Tensor::Scalar<uint8_t>(5));
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<int32_t>({1, 1, 1, 1}, {4})));  // (7 - 5) * 2
  t.ExpectInferIsTotal();
}

TEST(QuantConvTest, RequantizesPerChannelWithBias) {
  OpTest t("QLinearConv");
  t.Input(Tensor::Of<uint8_t>({1, 1, 1, 2}, {12, 8}))
      .Input(Tensor::Scalar(0.5f))
      .Input(Tensor::Scalar<uint8_t>(10))
      .Input(Tensor::Of<int8_t>({2, 1, 1, 1}, {2, -3}))
      .Input(Vec<float>({1, 2}))
      .Input(Vec<int8_t>({0, 0}))
      .Input(Tensor::Scalar(1.0f))
      .Input(Tensor::Scalar<uint8_t>(100))
      .Input(Vec<int32_t>({2, 4}));
  // ((x - 10) * w + b) * 0.5 * w_scale + 100
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<uint8_t>({1, 2, 1, 2}, {103, 99, 98, 110})));
  t.ExpectInferIsTotal();
}

}  // namespace
}  // namespace dunlin::testing
