// Quantised operators: meaning, granularity, saturation, and what is refused.
#include "ops/quant/linear.h"
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

Tensor Narrow(DType t, const Dims& dims, std::initializer_list<double> v) {
  Tensor x = Tensor::Zeros(t, dims).value();
  int64_t i = 0;
  for (const double e : v) StoreNarrow(t, x.raw(), i++, e);
  return x;
}

TEST(QuantizeTest, FourBits) {
  const Tensor x = Vec<float>({-100, -7, 0.5f, 1.5f, 100});
  EXPECT_TRUE(Near((*OpTest("QuantizeLinear")
                         .Input(x)
                         .Input(Tensor::Scalar(1.0f))
                         .Input(Narrow(DType::kI4, {}, {1}))
                         .Reference())[0],
                   Narrow(DType::kI4, {5}, {-8, -6, 1, 3, 7})));
  OpTest d("DequantizeLinear");
  d.Attr("block_size", 2)
      .Attr("axis", 0)
      .Input(Narrow(DType::kU4, {3}, {0, 15, 8}))
      .Input(Vec<float>({0.5f, 2}))
      .Input(Narrow(DType::kU4, {2}, {8, 1}));
  EXPECT_TRUE(Near((*d.Reference())[0], Vec<float>({-4, 3.5f, 14})));
  d.ExpectKernelMatches();
  d.ExpectInferIsTotal();
}

// ONNX's cast to f8: what is too large becomes the largest number, or NaN where that is asked.
TEST(QuantizeTest, EightBitFloats) {
  for (const bool saturate : {true, false}) {
    OpTest q("QuantizeLinear");
    q.Attr("saturate", int(saturate))
        .Input(Vec<float>({0, 1, 2, 100000, 200}))
        .Input(Tensor::Scalar(2.0f))
        .Input(Narrow(DType::kF8E4M3FN, {}, {0}));
    const Tensor y = (*q.Reference())[0];
    const double expected[] = {0, 0.5, 1, saturate ? 448 : NAN, 96};  // 100: a tie, to even
    for (int i = 0; i < 5; ++i) {
      const double v = LoadNarrow(y.dtype(), y.raw(), i);
      EXPECT_TRUE(v == expected[i] || (std::isnan(v) && std::isnan(expected[i]))) << i << ": " << v;
    }
  }
  OpTest d("DequantizeLinear");
  d.Input(Narrow(DType::kF8E5M2, {3}, {0.5, -3, 0.25})).Input(Tensor::Scalar(2.0f));
  EXPECT_TRUE(Near((*d.Reference())[0], Vec<float>({1, -6, 0.5f})));
  d.ExpectKernelMatches();
}

TEST(QuantMatMulTest, EightBitFloats) {
  const DType t = DType::kF8E4M3FN;
  OpTest p("QLinearMatMul");
  p.Input(Narrow(t, {1, 2}, {1, 2})).Input(Tensor::Scalar(2.0f)).Input(Narrow(t, {}, {0}));
  p.Input(Narrow(t, {2, 1}, {3, -1})).Input(Tensor::Scalar(3.0f)).Input(Narrow(t, {}, {0}));
  p.Input(Tensor::Scalar(0.5f)).Input(Narrow(t, {}, {0}));  // (3 - 2) * 6 / 0.5
  const Tensor y = (*p.Reference())[0];
  EXPECT_EQ(LoadNarrow(t, y.raw(), 0), 12);
  p.ExpectInferIsTotal();
}

// ---- the kernels give what the references give, to the last code ----

TEST(QuantKernelTest, QuantisesAndDequantisesInEveryGranularity) {
  const Tensor x = RandomF32({3, 5, 70}, -300, 300);
  const struct {
    int axis, block;
    Dims scale;
  } cases[] = {{0, 0, {}},   {0, 0, {3}},        {1, 0, {5}},
               {2, 0, {70}}, {1, 2, {3, 3, 70}}, {2, 32, {3, 5, 3}}};
  for (const auto& c : cases) {
    const Tensor scale = RandomF32(c.scale, 0.5f, 2), zero = RandomInts<int8_t>(c.scale, -20, 20);
    OpTest q("QuantizeLinear");
    q.Attr("axis", c.axis).Attr("block_size", c.block).Input(x).Input(scale).Input(zero);
    q.ExpectKernelMatches();
    q.ExpectInferIsTotal();
    OpTest d("DequantizeLinear");
    d.Attr("axis", c.axis)
        .Attr("block_size", c.block)
        .Input(RandomInts<int8_t>({3, 5, 70}, -128, 127))
        .Input(scale)
        .Input(zero);
    d.ExpectKernelMatches();
    d.ExpectInferIsTotal();
  }
  OpTest("DynamicQuantizeLinear").Input(x).Outputs(3).ExpectKernelMatches();
}

// A scale a channel, in both layouts: the kernel takes channels-last images as they are.
TEST(QuantKernelTest, ScalesOfChannelsAreFoundInBothLayouts) {
  for (const int axis : {1, -3}) {
    const Tensor scale = RandomF32({40}, 0.5f, 2), zero = RandomInts<uint8_t>({40}, 100, 140);
    OpTest q("QuantizeLinear");
    q.Attr("axis", axis).Input(RandomF32({2, 40, 5, 7}, -300, 300)).Const(scale).Const(zero);
    q.ExpectKernelMatches();
    OpTest d("DequantizeLinear");
    d.Attr("axis", axis).Input(RandomInts<uint8_t>({2, 40, 5, 7}, 0, 255)).Const(scale).Const(zero);
    d.ExpectKernelMatches();
    const Type in[] = {Type::Of(DType::kF32, {2, 40, 5, 7}), Type::Of(DType::kF32, {40}),
                       Type::Of(DType::kU8, {40})};
    const Type out[] = {Type::Of(DType::kU8, {2, 40, 5, 7})};
    const Layout current[] = {Layout::kChannelsLast, Layout::kRowMajor, Layout::kRowMajor};
    const LayoutQuery query{in, out, current, {false, true, true}};
    EXPECT_EQ(LinearLayouts({.axis = axis}, query).outputs[0], Layout::kChannelsLast);
    EXPECT_EQ(LinearLayouts({.axis = axis + 1}, query).outputs[0], Layout::kRowMajor);
  }
}

TEST(QuantKernelTest, MultipliesCodesOfEveryShape) {
  const std::pair<Dims, Dims> shapes[] = {
      {{5, 7}, {7, 9}},          {{2, 3, 64}, {64, 33}}, {{2, 3, 5, 8}, {2, 3, 8, 4}},
      {{3, 1, 5, 8}, {4, 8, 6}}, {{7}, {7, 9}},          {{5, 7}, {7}},
      {{1, 300}, {300, 70}},     {{30, 129}, {129, 300}}};
  for (const auto& [a, b] : shapes)
    for (const bool constant : {false, true})
      for (const int reach : {127, 100}) {  // with their zero points beyond 8 bits, or within
        OpTest t("MatMulInteger");
        t.Input(RandomInts<uint8_t>(a, 0, 255));
        const Tensor w = RandomInts<int8_t>(b, -reach, reach);
        constant ? t.Const(w) : t.Input(w);
        t.Input(Tensor::Scalar<uint8_t>(7));
        const Tensor zero =
            b.rank() == 2 ? RandomInts<int8_t>({b[1]}, -9, 9) : Tensor::Scalar<int8_t>(-3);
        constant ? t.Const(zero) : t.Input(zero);
        t.ExpectKernelMatches();
      }
  OpTest rows("MatMulInteger");  // a zero point a row of a
  rows.Input(RandomInts<uint8_t>({4, 6}, 0, 255))
      .Input(RandomInts<uint8_t>({6, 3}, 0, 255))
      .Input(RandomInts<uint8_t>({4}, 0, 255));
  rows.ExpectKernelMatches();
}

TEST(QuantKernelTest, ConvolvesCodesOfEveryGeometry) {
  using Ints = std::vector<int64_t>;
  const struct {
    Dims x, w;
    int group;
    Ints pads, strides, dilations;
  } cases[] = {{{2, 3, 9, 8}, {8, 3, 3, 3}, 1, {1, 1, 1, 1}, {2, 1}, {1, 1}},
               {{1, 6, 9, 9}, {6, 1, 3, 3}, 6, {1, 0, 1, 2}, {1, 1}, {1, 1}},
               {{1, 6, 9, 9}, {4, 3, 3, 3}, 2, {0, 0, 0, 0}, {1, 1}, {2, 2}},
               {{1, 6, 5, 5}, {12, 1, 3, 3}, 6, {0, 0, 0, 0}, {1, 1}, {1, 1}},
               {{1, 33, 4, 4}, {300, 33, 1, 1}, 1, {0, 0, 0, 0}, {1, 1}, {1, 1}},
               {{1, 1, 12, 12}, {2, 1, 9, 9}, 1, {0, 0, 0, 0}, {1, 1}, {1, 1}},
               {{2, 4, 30}, {6, 4, 5}, 1, {2, 2}, {1}, {1}},
               {{1, 4, 5, 4, 6}, {6, 4, 3, 3, 3}, 1, {1, 1, 1, 1, 1, 1}, {1, 1, 1}, {1, 1, 1}}};
  for (const auto& c : cases)
    for (const int reach : {127, 100}) {  // weights with their zero points beyond 8 bits, or within
      OpTest t("ConvInteger");
      t.Attr("group", c.group)
          .Attr("pads", c.pads)
          .Attr("strides", c.strides)
          .Attr("dilations", c.dilations)
          .Input(RandomInts<uint8_t>(c.x, 0, 255))
          .Const(RandomInts<uint8_t>(c.w, std::max(0, 111 - reach), reach == 127 ? 255 : 211))
          .Input(Tensor::Scalar<uint8_t>(99))
          .Const(Tensor::Scalar<uint8_t>(111));
      t.ExpectKernelMatches();
      OpTest q("QLinearConv");
      q.Attr("group", c.group)
          .Attr("pads", c.pads)
          .Attr("strides", c.strides)
          .Attr("dilations", c.dilations)
          .Input(RandomInts<uint8_t>(c.x, 0, 255))
          .Const(Tensor::Scalar(0.02f))
          .Const(Tensor::Scalar<uint8_t>(99))
          .Const(RandomInts<int8_t>(c.w, -reach, reach))
          .Const(RandomF32({c.w[0]}, 0.01f, 0.02f))
          .Const(RandomInts<int8_t>({c.w[0]}, -3, 3))
          .Const(Tensor::Scalar(0.5f))
          .Const(Tensor::Scalar<uint8_t>(120))
          .Const(RandomInts<int32_t>({c.w[0]}, -900, 900));
      q.ExpectKernelMatches();
    }
}

TEST(QuantMatMulTest, RoundsLongSumsBeforeScaling) {
  // 299 * 255 * 255 + 255 * 85 + 43 * 1 = 148.5 * 2^17 + 1, of which f32 does not hold the 1.
  Tensor a = RandomInts<uint8_t>({1, 301}, 255, 255), b = RandomInts<uint8_t>({301, 1}, 255, 255);
  b.mut<uint8_t>()[299] = 85;
  a.mut<uint8_t>()[300] = 43;
  b.mut<uint8_t>()[300] = 1;
  OpTest t("QLinearMatMul");
  t.Input(a).Input(Tensor::Scalar(1.0f)).Input(Tensor::Scalar<uint8_t>(0));
  t.Input(b).Input(Tensor::Scalar(1.0f)).Input(Tensor::Scalar<uint8_t>(0));
  t.Input(Tensor::Scalar(131072.0f)).Input(Tensor::Scalar<uint8_t>(1));
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<uint8_t>({1, 1}, {149})));  // 148.5 to even, + 1
  t.ExpectKernelMatches();
}

TEST(QuantMatMulTest, QGemmAddsItsBiasToTheSums) {
  const auto gemm = [](int trans_b) {
    OpTest t("QGemm", "com.microsoft");
    t.Attr("transB", trans_b)
        .Input(Tensor::Of<uint8_t>({1, 2}, {3, 5}))
        .Input(Tensor::Scalar(0.5f))
        .Input(Tensor::Scalar<uint8_t>(1))
        .Input(Tensor::Of<int8_t>(trans_b ? Dims{1, 2} : Dims{2, 1}, {2, -1}))
        .Input(Tensor::Scalar(2.0f))
        .Input(Tensor::Scalar<int8_t>(0))
        .Input(Vec<int32_t>({4}));
    return t;
  };
  for (const int trans_b : {0, 1}) {  // (2 * 2 - 4 * 1 + 4) * 0.5 * 2 = 4
    OpTest real = gemm(trans_b);
    EXPECT_TRUE(Near((*real.Reference())[0], Tensor::Of<float>({1, 1}, {4})));
    real.ExpectKernelMatches();
    real.ExpectInferIsTotal();
    OpTest codes = gemm(trans_b);
    codes.Input(Tensor::Scalar(2.0f)).Input(Tensor::Scalar<uint8_t>(10));
    EXPECT_TRUE(Near((*codes.Reference())[0], Tensor::Of<uint8_t>({1, 1}, {12})));
    codes.ExpectKernelMatches();
  }
  EXPECT_EQ(OpTest("QGemm", "com.microsoft")
                .Input(Tensor::Of<uint8_t>({1, 2}, {3, 5}))
                .Input(Tensor::Scalar(0.5f))
                .Input(Tensor::Scalar<uint8_t>(1))
                .Input(Tensor::Of<int8_t>({3, 1}, {2, -1, 0}))
                .Input(Tensor::Scalar(2.0f))
                .Input(Tensor::Scalar<int8_t>(0))
                .Infer()
                .error()
                .code,
            Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin::testing
