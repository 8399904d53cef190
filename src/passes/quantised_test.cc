// Which float operators between codes become integer ones, and which do not.
#include <cmath>

#include "ops/quant/code_ops.h"
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
    EXPECT_EQ(Optimised(b.Finish({y})), (Counts{{"CodeConv", 1}}));
  }
}

// The only convolution that is left of a graph, and what it does after its sums.
const CodeStoreAttrs& StoreOf(const Graph& g) {
  for (const NodeId id : g.SoundOrder())
    if (g.node(id).op->name == kCodeConvName) return As<CodeConvAttrs>(*g.node(id).attrs).store;
  ADD_FAILURE() << "no CodeConv in\n" << g.ToText();
  static const CodeStoreAttrs none;
  return none;
}
Counts After(Graph& g) {
  EXPECT_TRUE(OptimizeModel(g).has_value());
  EXPECT_TRUE(g.Verify().has_value());
  return OpCounts(g);
}
const Node& ConvOf(const Graph& g) {
  for (const NodeId id : g.SoundOrder())
    if (g.node(id).op->name == kCodeConvName) return g.node(id);
  std::abort();
}

TEST(QuantisedTest, ABiasOfAnyScaleOrInFloats) {
  for (const float unit : {0.05f, 0.07f, 0.0f}) {  // 0.1 * 0.5, another, none
    QuantisedGraph b;
    const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}), 0.1f, 3);
    const ValueId bias = unit == 0
                             ? b.Weights({2})
                             : b.Add("DequantizeLinear", {b.Const(Tensor::Of<int32_t>({2}, {1, 2})),
                                                          b.Const(Tensor::Scalar(unit))});
    const ValueId y = b.Quantize(b.Conv(x, {0.5f}, bias), 0.2f, 5);
    const auto g = b.Finish({y});
    EXPECT_EQ(After(*g), (Counts{{"CodeConv", 1}})) << unit;
    EXPECT_EQ(g->value(ConvOf(*g).inputs[kBias]).type.dtype,
              unit == 0.05f ? DType::kI32 : DType::kF32);
  }
}

// Signed codes around zero, as some tools write them: the activation cannot be the codes' limit.
TEST(QuantisedTest, AnActivationBeforeTheRoundingIsTakenIn) {
  for (const char* op : {"Relu", "Sigmoid", "HardSwish", "LeakyRelu"}) {
    QuantisedGraph b;
    const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}, DType::kI8), 0.1f, 0, DType::kI8);
    const ValueId y = b.Quantize(b.Add(op, {b.Conv(x, {0.5f})}), 0.2f, 0, DType::kI8);
    EXPECT_EQ(Optimised(b.Finish({y})), (Counts{{"CodeConv", 1}})) << op;
  }
  QuantisedGraph c;
  const ValueId x = c.Dequantize(c.Codes({1, 3, 4, 4}), 0.1f, 3);
  const ValueId y =
      c.Quantize(c.Add("Clip", {c.Conv(x, {0.5f}), c.Scalar(0), c.Scalar(6)}), 0.1f, 7);
  const auto g = c.Finish({y});
  EXPECT_EQ(After(*g), (Counts{{"CodeConv", 1}}));
  EXPECT_EQ(StoreOf(*g).act_b, 6);
}

// Residual blocks: with the convolution rounded before the sum, or not.
TEST(QuantisedTest, ResidualSumsAreTakenIn) {
  for (const bool rounded : {false, true}) {
    QuantisedGraph b;
    const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}), 0.1f, 3),
                  r = b.Dequantize(b.Codes({1, 2, 4, 4}), 0.3f, 9);
    ValueId conv = b.Conv(x, {0.5f});
    if (rounded) conv = b.Dequantize(b.Quantize(conv, 0.4f, 11), 0.4f, 11);
    const ValueId y = b.Quantize(b.Add("Relu", {b.Add("Add", {r, conv})}), 0.2f, 5);
    const auto g = b.Finish({y});
    EXPECT_EQ(After(*g), (Counts{{"CodeConv", 1}}));
    EXPECT_EQ(StoreOf(*g).mid_scale, rounded ? 0.4f : 0);
    EXPECT_EQ(StoreOf(*g).mid_zero, rounded ? 11 : 0);
    EXPECT_EQ(StoreOf(*g).residual_scale, 0.3f);
    EXPECT_EQ(StoreOf(*g).residual_zero, 9);
    EXPECT_EQ(StoreOf(*g).activation, int64_t(Activation::kRelu));
    EXPECT_EQ(StoreOf(*g).y_zero, 5);
  }
}

// SiLU as quantisers write it: every step between codes. Together it is a function of one code.
TEST(QuantisedTest, FunctionsOfOneCodeAreTables) {
  QuantisedGraph b;
  const ValueId codes = b.Codes({1, 3, 4, 4});
  const ValueId x = b.Dequantize(codes, 0.05f, 128);
  const ValueId gate =
      b.Dequantize(b.Quantize(b.Add("Sigmoid", {x}), 1 / 256.0f, 0), 1 / 256.0f, 0);
  const ValueId y = b.Quantize(b.Add("Mul", {x, gate}), 0.04f, 7);
  const auto g = b.Finish({y});
  EXPECT_EQ(After(*g), (Counts{{"CodeTable", 1}}));
  const Node& table = g->node(g->value(g->outputs()[0]).producer);
  const Tensor& t = g->value(table.inputs[1]).constant;
  for (int i = 0; i < 256; ++i) {
    const double v = 0.05 * (i - 128),
                 s = std::min(255.0, std::nearbyint(256 / (1 + std::exp(-v))));
    EXPECT_NEAR(t.as<uint8_t>()[i], std::nearbyint(v * s / 256 / 0.04) + 7, 1) << i;
  }
  QuantisedGraph c;  // after a convolution it is the convolution's
  const ValueId z = c.Dequantize(c.Codes({1, 3, 4, 4}), 0.1f, 3);
  const ValueId q = c.Dequantize(c.Quantize(c.Conv(z, {0.5f}), 0.05f, 99), 0.05f, 99);
  const ValueId out = c.Quantize(c.Add("Mul", {q, c.Add("Sigmoid", {q})}), 0.04f, 7);
  EXPECT_EQ(Optimised(c.Finish({out})), (Counts{{"CodeConv", 1}}));
}

// HardSwish with every constant in codes, of an image whose size is not known yet.
TEST(QuantisedTest, ConstantsInCodesAndOpenExtentsAreNoObstacle) {
  QuantisedGraph b;
  const ValueId codes = b.Codes({1, 3, kUnknownDim, kUnknownDim});
  const ValueId x = b.Dequantize(codes, 0.05f, 128);
  const ValueId three = b.Dequantize(b.Const(Tensor::Scalar<uint8_t>(255)), 3 / 255.0f, 0);
  const ValueId gate =
      b.Dequantize(b.Quantize(b.Add("Add", {x, three}), 6 / 255.0f, 0), 6 / 255.0f, 0);
  const ValueId wide = b.Dequantize(b.Quantize(b.Add("Mul", {x, gate}), 0.2f, 9), 0.2f, 9);
  const ValueId y = b.Quantize(b.Add("Div", {wide, b.Scalar(6)}), 0.05f, 9);
  const auto g = b.Finish({y});
  EXPECT_EQ(After(*g), (Counts{{"CodeTable", 1}}));
  const Node& table = g->node(g->value(g->outputs()[0]).producer);
  const Tensor& t = g->value(table.inputs[1]).constant;
  for (int i = 0; i < 256; ++i) {
    const double v = 0.05 * (i - 128), hardswish = v * std::clamp(v + 3, 0.0, 6.0) / 6;
    const double code = std::clamp(std::nearbyint(hardswish / 0.05) + 9, 0.0, 255.0);
    EXPECT_NEAR(t.as<uint8_t>()[i], code, 2) << i;
  }
}

// The product that is made later takes the other in as soon as it is known that both have the same
// extents.
TEST(QuantisedTest, SumsWaitForTheirExtents) {
  QuantisedGraph b;
  const ValueId codes = b.Codes({1, 3, kUnknownDim, 4});
  const auto branch = [&](float scale) {
    const ValueId c = b.Conv(b.Dequantize(codes, 0.1f, 3), {scale});
    return b.Dequantize(b.Quantize(c, 0.05f, 99), 0.05f, 99);
  };
  const ValueId y = b.Quantize(b.Add("Add", {branch(0.5f), branch(0.2f)}), 0.2f, 5);
  const auto g = b.Finish({y});
  const Counts open = After(*g);
  EXPECT_EQ(open.at("CodeConv"), 2);
  EXPECT_EQ(open.at("Add"), 1);
  g->value(g->inputs()[0]).type = Type::Of(DType::kU8, {1, 3, 4, 4});
  ASSERT_TRUE(OptimizeForShapes(*g).has_value());
  EXPECT_EQ(OpCounts(*g), (Counts{{"CodeConv", 2}}));
}

TEST(QuantisedTest, ALimitAfterASumOfCodesIsATable) {
  QuantisedGraph b;
  const ValueId x = b.Dequantize(b.Codes({1, 3}, DType::kI8), 0.1f, 0, DType::kI8),
                z = b.Dequantize(b.Codes({1, 3}, DType::kI8), 0.3f, 0, DType::kI8);
  const ValueId y = b.Quantize(b.Add("Relu", {b.Add("Add", {x, z})}), 0.2f, 0, DType::kI8);
  EXPECT_EQ(Optimised(b.Finish({y})), (Counts{{"CodeTable", 1}, {"QLinearAdd", 1}}));
}

TEST(QuantisedTest, PartsOfAConcatAreRecoded) {
  QuantisedGraph b;
  const ValueId x = b.Dequantize(b.Codes({1, 3}), 0.1f, 3),
                z = b.Dequantize(b.Codes({1, 3}), 0.3f, 9);
  const ValueId y = b.Quantize(b.Add("Concat", {x, z}, {{"axis", int64_t{1}}}), 0.3f, 9);
  EXPECT_EQ(Optimised(b.Finish({y})), (Counts{{"CodeTable", 1}, {"Concat", 1}}));
}

TEST(QuantisedTest, CodesAreRoundedBeforeTheyAreMoved) {
  QuantisedGraph b;
  const ValueId x = b.Dequantize(b.Codes({1, 3, 4, 4}), 0.1f, 3);
  const ValueId moved =
      b.Add("Transpose", {b.Conv(x, {0.5f})}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
  const auto g = b.Finish({b.Quantize(moved, 0.2f, 5)});
  EXPECT_EQ(After(*g), (Counts{{"CodeConv", 1}, {"Transpose", 1}}));
  EXPECT_EQ(StoreOf(*g).y_scale, 0.2f);
}

// Dynamic quantisation: Cast(ConvInteger) * (x_scale * w_scale) + bias.
TEST(QuantisedTest, IntegerProductsTakeTheirScaleAndBiasIn) {
  QuantisedGraph b;
  const ValueId x = b.Input({1, 3, 4, 4});
  Node& dynamic = b.graph().AddNode(OpNamed("DynamicQuantizeLinear"),
                                    AttrsWith(OpNamed("DynamicQuantizeLinear"), {}), {x},
                                    std::vector<std::string>{"q", "scale", "zero"}, "dynamic");
  ASSERT_TRUE(InferNode(b.graph(), dynamic).has_value());
  const std::vector<ValueId> q = dynamic.outputs;
  const ValueId conv = b.Add("ConvInteger", {q[0], b.ConstCodes({2, 3, 1, 1}), q[2]});
  const ValueId cast = b.Add("Cast", {conv}, {{"to", DType::kF32}});
  const ValueId scaled = b.Add("Mul", {cast, b.Add("Mul", {q[1], b.Scalar(0.5f)})});
  const ValueId y = b.Add("Add", {scaled, b.Weights({1, 2, 1, 1})});
  EXPECT_EQ(Optimised(b.Finish({y})),
            (Counts{{"CodeConv", 1}, {"DynamicQuantizeLinear", 1}, {"Mul", 1}}));
}

// Asked for, not by default.
TEST(QuantiseProductsTest, ProductsOfOneFactorShareItsCodes) {
  QuantisedGraph b;
  const ValueId x = b.Input({2, 5, 64});
  const ValueId q = b.Add("Add", {b.Add("MatMul", {x, b.Weights({64, 32})}), b.Weights({32})});
  const ValueId k = b.Add("Relu", {b.Add("MatMul", {x, b.Weights({64, 48})})});
  const ValueId narrow = b.Add("MatMul", {x, b.Weights({64, 4})});
  const auto g = b.Finish({q, k, narrow});
  ASSERT_TRUE(OptimizeModel(*g).has_value());
  RuleCounts counts;
  ASSERT_TRUE(QuantiseProducts(*g, counts).has_value());
  ASSERT_TRUE(g->Verify().has_value());
  const Counts left = OpCounts(*g);
  EXPECT_EQ(left.at("CodeMatMul"), 2);
  EXPECT_EQ(left.at("QuantizeRows"), 1);
  EXPECT_EQ(left.count("Relu"), 0u);
}

TEST(QuantisedTest, TransposedKeysAreTheProductsBusiness) {
  QuantisedGraph b;
  const ValueId q = b.Dequantize(b.Codes({2, 3, 5, 8}), 0.1f, 3),
                k = b.Dequantize(b.Codes({2, 3, 5, 8}), 0.1f, 3);
  const ValueId t = b.Add("Transpose", {k}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  EXPECT_EQ(Optimised(b.Finish({b.Add("MatMul", {q, t})})), (Counts{{"CodeMatMul", 1}}));
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
                    {"CodeMatMul", 2}}));
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
  EXPECT_EQ(Optimised(c.Finish({z})), (Counts{{"CodeTable", 1}}));
}

// Halves of channels, as networks that shuffle them read them: each with codes of its own.
TEST(QuantisedTest, SeveralMovesOfTheSameCodes) {
  const auto half = [](QuantisedGraph& b, ValueId x, int64_t first) {
    const auto one = [&](int64_t v) { return b.Const(Tensor::Of<int64_t>({1}, {v})); };
    return b.Add("Slice", {x, one(first), one(first + 2), one(1)});
  };
  QuantisedGraph b;
  const ValueId x = b.Dequantize(b.Codes({1, 4, 3, 3}), 0.1f, 4);
  const ValueId low = b.Quantize(half(b, x, 0), 0.2f, 4), high = b.Quantize(half(b, x, 2), 0.1f, 4);
  EXPECT_EQ(Optimised(b.Finish({low, high})), (Counts{{"Slice", 2}, {"CodeTable", 1}}));
  QuantisedGraph c;  // somebody reads the numbers
  const ValueId y = c.Dequantize(c.Codes({1, 4, 3, 3}), 0.1f, 4);
  EXPECT_EQ(Optimised(c.Finish({half(c, y, 0), c.Add("Exp", {y})})),
            (Counts{{"Slice", 1}, {"DequantizeLinear", 1}, {"Exp", 1}}));
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
  const auto g = b.Finish({y, conv});
  EXPECT_EQ(After(*g), (Counts{{"CodeConv", 1}, {"QuantizeLinear", 1}}));
  EXPECT_EQ(StoreOf(*g).y_scale, 0);
}

}  // namespace
}  // namespace dunlin
