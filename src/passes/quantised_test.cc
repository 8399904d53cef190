// Which float operators between codes become integer ones, and which do not.
#include "passes/testing.h"

namespace dunlin {
namespace {

struct QuantisedGraph : GraphBuilder {
  ValueId Dequantize(ValueId codes, float scale, int zero = 0, DType zero_type = DType::kU8) {
    return Add("DequantizeLinear", {codes, Scalar(scale), Zero(zero, zero_type)});
  }
  ValueId Quantize(ValueId x, float scale, int zero = 0, DType type = DType::kU8) {
    return Add("QuantizeLinear", {x, Scalar(scale), Zero(zero, type)});
  }
  ValueId Zero(int zero, DType type) {
    return Const(Convert(Tensor::Scalar<int32_t>(zero), type).value());
  }
  ValueId Codes(Dims dims, DType type = DType::kU8) { return Input(std::move(dims), type); }
  ValueId ConstCodes(Dims dims) { return Const(Tensor::Zeros(DType::kI8, dims).value()); }
  ValueId Conv(ValueId x, std::vector<float> scales, ValueId bias = ValueId::kNone) {
    const int64_t n = int64_t(scales.size());
    const ValueId w = Add("DequantizeLinear",
                          {ConstCodes({2, 3, 1, 1}),
                           Const(n == 1 ? Tensor::Scalar(scales[0])
                                        : Tensor::Of<float>({n}, std::span<const float>(scales))),
                           Const(Tensor::Zeros(DType::kI8, n == 1 ? Dims{} : Dims{n}).value())},
                          {{"axis", int64_t{0}}});
    std::vector<ValueId> inputs = {x, w};
    if (bias != ValueId::kNone) inputs.push_back(bias);
    return Add("Conv", std::move(inputs));
  }
};

TEST(QuantisedTest, ConvolutionBetweenCodes) {
  for (const std::vector<float>& scales : {std::vector<float>{0.5f}, std::vector<float>{0.5f, 2}}) {
    QuantisedGraph b;
    const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}), 0.1f, 3);
    const ValueId y = b.Quantize(b.Conv(x, scales), 0.2f, 5);
    EXPECT_EQ(Optimised(b.Finish({y})), (Counts{{"QLinearConv", 1}}));
  }
}

TEST(QuantisedTest, BiasInUnitsOfTheSums) {
  for (const float unit : {0.05f, 0.07f}) {  // 0.1 * 0.5, and another
    QuantisedGraph b;
    const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}), 0.1f, 3);
    const ValueId bias = b.Add("DequantizeLinear", {b.Const(Tensor::Of<int32_t>({2}, {1, 2})),
                                                    b.Const(Tensor::Scalar(unit))});
    const ValueId y = b.Quantize(b.Conv(x, {0.5f}, bias), 0.2f, 5);
    EXPECT_EQ(Optimised(b.Finish({y})).count("QLinearConv"), unit == 0.05f ? 1u : 0u);
  }
}

TEST(QuantisedTest, SumsKeepWhatOthersRead) {
  QuantisedGraph b;
  const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}), 0.1f),
                z = b.Dequantize(b.Codes({1, 3, 4, 4}), 0.3f);
  const ValueId sum = b.Quantize(b.Add("Add", {x, z}), 0.2f),
                product = b.Quantize(b.Add("Mul", {x, z}), 0.2f);
  EXPECT_EQ(Optimised(b.Finish({sum, product, x})),
            (Counts{{"QLinearAdd", 1}, {"QLinearMul", 1}, {"DequantizeLinear", 1}}));
}

TEST(QuantisedTest, PoolsAndProducts) {
  QuantisedGraph b;
  const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}), 0.1f);
  const ValueId pooled =
      b.Quantize(b.Add("AveragePool", {x}, {{"kernel_shape", std::vector<int64_t>{2, 2}}}), 0.1f);
  const ValueId global = b.Quantize(b.Add("GlobalAveragePool", {x}), 0.1f);
  const ValueId a = b.Dequantize(b.Codes({4, 3}), 0.1f);
  const ValueId w = b.Dequantize(b.ConstCodes({3, 5}), 0.1f, 0, DType::kI8);
  const ValueId product = b.Quantize(b.Add("MatMul", {a, w}), 0.2f);
  const ValueId gemm = b.Quantize(b.Add("Gemm", {a, w}), 0.3f);
  const ValueId softmax = b.Quantize(b.Add("Softmax", {a}), 1.0f / 256);
  EXPECT_EQ(Optimised(b.Finish({pooled, global, product, gemm, softmax})),
            (Counts{{"QLinearAveragePool", 1},
                    {"QLinearSoftmax", 1},
                    {"QLinearGlobalAveragePool", 1},
                    {"QLinearMatMul", 1},
                    {"QGemm", 1}}));
}

TEST(QuantisedTest, LimitsThatCodesHaveAnyway) {
  QuantisedGraph b;
  const ValueId x = b.Input({2, 3});
  const ValueId relu = b.Quantize(b.Add("Relu", {x}), 0.1f, 0);
  const ValueId clip = b.Quantize(b.Add("Clip", {x, b.Scalar(0), b.Scalar(25.5f)}), 0.1f, 0);
  EXPECT_EQ(Optimised(b.Finish({relu, clip})), (Counts{{"QuantizeLinear", 2}}));
  QuantisedGraph c;  // the zero point is not the lowest code; the limit is within the codes
  const ValueId y = c.Input({2, 3});
  const ValueId kept = c.Quantize(c.Add("Relu", {y}), 0.1f, 7);
  const ValueId six = c.Quantize(c.Add("Clip", {y, c.Scalar(0), c.Scalar(6)}), 0.1f, 0);
  EXPECT_EQ(Optimised(c.Finish({kept, six})),
            (Counts{{"QuantizeLinear", 2}, {"Relu", 1}, {"Clip", 1}}));
}

TEST(QuantisedTest, CodesAreMovedInPlaceOfNumbers) {
  QuantisedGraph b;
  const ValueId x = b.Dequantize(b.Codes({2, 3}), 0.1f, 4);
  const ValueId y = b.Quantize(b.Add("Transpose", {x}), 0.1f, 4);
  EXPECT_EQ(Optimised(b.Finish({y})), (Counts{{"Transpose", 1}}));
  QuantisedGraph c;  // other codes come out
  const ValueId z = c.Quantize(c.Dequantize(c.Codes({2, 3}), 0.1f, 4), 0.2f, 4);
  EXPECT_EQ(Optimised(c.Finish({z})), (Counts{{"DequantizeLinear", 1}, {"QuantizeLinear", 1}}));
}

TEST(QuantisedTest, SixteenBitsStayFloats) {
  QuantisedGraph b;
  const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}, DType::kU16), 0.1f, 0, DType::kU16);
  const ValueId y = b.Quantize(b.Add("Add", {x, x}), 0.2f, 0, DType::kU16);
  const Counts counts = Optimised(b.Finish({y}));
  EXPECT_EQ(counts.count("QLinearAdd"), 0u);
  EXPECT_EQ(counts.count("QuantizeLinear"), 1u);
}

TEST(QuantisedTest, AResultThatOthersReadStaysAFloat) {
  QuantisedGraph b;
  const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}), 0.1f, 3);
  const ValueId conv = b.Conv(x, {0.5f});
  const ValueId y = b.Quantize(conv, 0.2f, 5);
  EXPECT_EQ(Optimised(b.Finish({y, conv})).count("QLinearConv"), 0u);
}

}  // namespace
}  // namespace dunlin
