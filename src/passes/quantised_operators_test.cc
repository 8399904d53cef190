// QOperator models: which operators over codes are rewritten, to the same bits.
#include "passes/quantised_testing.h"

namespace dunlin {
namespace {

constexpr DType kTypes[] = {DType::kU8, DType::kI8};

TEST(QuantisedOperatorsTest, ConvolutionsGiveTheSameCodes) {
  for (const DType type : kTypes)
    for (const DType w_type : kTypes)
      for (const int64_t scales : {0, 5}) {
        OperatorGraph b;
        const ValueId conv = b.Add(
            "QLinearConv",
            {b.Feed(b.Codes({2, 4, 7, 6}, type)), b.Scalar(0.013f), b.Zero(9, type),
             b.Const(b.Codes({5, 4, 3, 3}, w_type)), b.Const(b.Floats(scales, 0.001f, 0.02f)),
             b.Zero(3, w_type), b.Scalar(0.37f), b.Zero(type == DType::kU8 ? 131 : -7, type),
             b.Const(b.Integers(5))},
            {{"pads", std::vector<int64_t>{1, 0, 1, 2}}, {"strides", std::vector<int64_t>{2, 1}}});
        ExpectSameBits(b, conv, {{"CodeConv", 1}});
      }
}

TEST(QuantisedOperatorsTest, ProductsGiveTheSameCodes) {
  for (const DType type : kTypes)
    for (const int64_t scales : {0, 9}) {
      OperatorGraph b;
      const ValueId product =
          b.Add("QLinearMatMul",
                {b.Feed(b.Codes({2, 5, 7}, type)), b.Scalar(0.013f), b.Zero(9, type),
                 b.Const(b.Codes({7, 9}, DType::kI8)), b.Const(b.Floats(scales, 0.001f, 0.02f)),
                 b.Zero(0, DType::kI8), b.Scalar(0.21f), b.Zero(100, type)});
      ExpectSameBits(b, product, {{"CodeMatMul", 1}});
    }
}

TEST(QuantisedOperatorsTest, GemmGivesTheSameCodesOrFloats) {
  for (const bool codes : {false, true})
    for (const bool turned : {false, true}) {
      OperatorGraph b;
      const ValueId bias = b.Const(b.Integers(9).Reshaped(turned ? Dims{9} : Dims{1, 9}));
      std::vector<ValueId> inputs = {b.Feed(b.Codes(turned ? Dims{7, 5} : Dims{5, 7}, DType::kU8)),
                                     b.Scalar(0.013f),
                                     b.Zero(9, DType::kU8),
                                     b.Const(b.Codes(turned ? Dims{9, 7} : Dims{7, 9}, DType::kI8)),
                                     b.Const(b.Floats(9, 0.001f, 0.02f)),
                                     b.Const(Tensor::Zeros(DType::kI8, {9}).value()),
                                     bias};
      if (codes) inputs.insert(inputs.end(), {b.Scalar(0.21f), b.Zero(100, DType::kU8)});
      const ValueId gemm =
          b.Add("com.microsoft.QGemm", std::move(inputs),
                {{"alpha", 0.7f}, {"transA", int64_t(turned)}, {"transB", int64_t(turned)}});
      ExpectSameBits(b, gemm, {{"CodeMatMul", 1}});
    }
}

// A scale that comes as an input cannot be an attribute; a scale a row is rounded elsewhere.
TEST(QuantisedOperatorsTest, WhatMeansSomethingElseStays) {
  OperatorGraph b;
  const Tensor a = b.Codes({5, 7}, DType::kU8), w = b.Codes({7, 9}, DType::kI8);
  const ValueId by_row =
      b.Add("QLinearMatMul",
            {b.Feed(a), b.Const(b.Floats(5, 0.01f, 0.02f)), b.Zero(9, DType::kU8), b.Const(w),
             b.Scalar(0.01f), b.Zero(0, DType::kI8), b.Scalar(0.21f), b.Zero(100, DType::kU8)});
  const ValueId y_scale = b.Input({}, DType::kF32);
  const ValueId open = b.Add(
      "QLinearMatMul", {b.Feed(a), b.Scalar(0.01f), b.Zero(9, DType::kU8), b.Const(w),
                        b.Scalar(0.01f), b.Zero(0, DType::kI8), y_scale, b.Zero(100, DType::kU8)});
  EXPECT_EQ(Optimised(b.Finish({by_row, open})), (Counts{{"QLinearMatMul", 2}}));
}

// A function of the codes behind the operator is its table.
TEST(QuantisedOperatorsTest, TablesAreTakenIn) {
  OperatorGraph b;
  const ValueId conv =
      b.Add("QLinearConv",
            {b.Feed(b.Codes({1, 3, 5, 5}, DType::kU8)), b.Scalar(0.01f), b.Zero(7, DType::kU8),
             b.Const(b.Codes({4, 3, 1, 1}, DType::kI8)), b.Scalar(0.02f), b.Zero(0, DType::kI8),
             b.Scalar(0.05f), b.Zero(99, DType::kU8)});
  const ValueId x = b.Add("DequantizeLinear", {conv, b.Scalar(0.05f), b.Zero(99, DType::kU8)});
  const ValueId y =
      b.Add("QuantizeLinear", {b.Add("Sigmoid", {x}), b.Scalar(1 / 256.0f), b.Zero(0, DType::kU8)});
  ExpectSameBits(b, y, {{"CodeConv", 1}});
}

// Weights that are sums of powers of two: f32 gives the exact means, halves included.
TEST(QuantisedOperatorsTest, InterpolationOfCodesRoundsAsThatOfFloats) {
  for (const DType type : kTypes)
    for (const float y_scale : {0.5f, 1.0f, 0.25f})
      for (const char* mode : {"half_pixel", "align_corners", "asymmetric"}) {
        OperatorGraph b;
        const int zero = type == DType::kU8 ? 131 : -7;
        const ValueId x = b.Add("DequantizeLinear", {b.Feed(b.Codes({2, 11, 5, 3}, type)),
                                                     b.Scalar(0.5f), b.Zero(9, type)});
        const ValueId sizes = b.Const(Tensor::Of<int64_t>({4}, {2, 11, 9, 5}));
        const ValueId scales = b.Const(Tensor::Of<float>({4}, {1, 1, 2, 4}));
        const bool align = std::string_view(mode) == "align_corners";
        const ValueId y = b.Add(
            "Resize",
            {x, ValueId::kNone, align ? ValueId::kNone : scales, align ? sizes : ValueId::kNone},
            {{"mode", std::string("linear")},
             {"coordinate_transformation_mode", std::string(mode)}});
        SCOPED_TRACE(mode);
        ExpectSameBits(b, b.Add("QuantizeLinear", {y, b.Scalar(y_scale), b.Zero(zero, type)}),
                       {{"CodeResize", 1}});
      }
}

TEST(QuantisedOperatorsTest, InterpolationOfFewChannelsStaysInFloats) {
  OperatorGraph b;
  const ValueId x = b.Add("DequantizeLinear", {b.Feed(b.Codes({2, 3, 5, 3}, DType::kU8)),
                                               b.Scalar(0.5f), b.Zero(9, DType::kU8)});
  const ValueId y =
      b.Add("Resize", {x, ValueId::kNone, b.Const(Tensor::Of<float>({4}, {1, 1, 2, 2}))},
            {{"mode", std::string("linear")}});
  const Counts left =
      Optimised(b.Finish({b.Add("QuantizeLinear", {y, b.Scalar(0.5f), b.Zero(9, DType::kU8)})}));
  EXPECT_EQ(left.count("CodeResize"), 0u);
}

}  // namespace
}  // namespace dunlin
