// QOperator models: which operators over codes are rewritten, to the same bits.
#include "ops/evaluate.h"
#include "ops/quant/code_ops.h"
#include "passes/testing.h"

namespace dunlin {
namespace {

struct OperatorGraph : GraphBuilder {
  Tensor Codes(Dims dims, DType type) {
    Tensor t = Tensor::Create(type, std::move(dims)).value();
    for (int64_t i = 0; i < t.bytes(); ++i) t.raw()[i] = std::byte(rng());
    return t;
  }
  Tensor Floats(int64_t n, float lo, float hi) {
    std::uniform_real_distribution<float> d(lo, hi);
    Tensor t = Tensor::Create(DType::kF32, n == 0 ? Dims{} : Dims{n}).value();
    for (int64_t i = 0; i < t.count(); ++i) t.mut<float>()[i] = d(rng);
    return t;
  }
  Tensor Integers(int64_t n) {
    Tensor t = Tensor::Create(DType::kI32, {n}).value();
    for (int64_t i = 0; i < n; ++i) t.mut<int32_t>()[i] = int32_t(rng() % 20001) - 10000;
    return t;
  }
  ValueId Zero(int zero, DType type) {
    return Const(Convert(Tensor::Scalar<int32_t>(zero), type).value());
  }
  // An input of the graph with these codes.
  ValueId Feed(Tensor codes) {
    const ValueId v = Input(codes.dims(), codes.dtype());
    fed[v] = std::move(codes);
    return v;
  }
  std::map<ValueId, Tensor> fed;
};

// What a graph without control flow makes of those inputs, by the operators' references.
std::vector<Tensor> Run(const Graph& g, std::map<ValueId, Tensor> values) {
  for (const NodeId id : g.SoundOrder()) {
    const Node& n = g.node(id);
    std::vector<Tensor> inputs;
    for (const ValueId v : n.inputs) {
      if (v == ValueId::kNone)
        inputs.emplace_back();
      else
        inputs.push_back(g.value(v).is_constant() ? g.value(v).constant : values.at(v));
    }
    auto y = Evaluate(*n.op, *n.attrs, inputs, int(n.outputs.size()));
    EXPECT_TRUE(y.has_value()) << n.op->name << ": " << y.error().message;
    for (size_t i = 0; i < n.outputs.size(); ++i) values[n.outputs[i]] = (*y)[i];
  }
  std::vector<Tensor> outputs;
  for (const ValueId v : g.outputs()) outputs.push_back(values.at(v));
  return outputs;
}

// Optimises; the result must be `left`, and give the same bits.
void ExpectSameBits(OperatorGraph& b, ValueId y, const Counts& left) {
  const auto fed = b.fed;
  const auto g = b.Finish({y});
  const Tensor before = Run(*g, fed)[0];
  ASSERT_TRUE(OptimizeModel(*g).has_value());
  ASSERT_TRUE(g->Verify().has_value());
  EXPECT_EQ(OpCounts(*g), left);
  const Tensor after = Run(*g, fed)[0];
  ASSERT_EQ(after.dtype(), before.dtype());
  ASSERT_EQ(after.dims(), before.dims());
  EXPECT_EQ(std::memcmp(after.raw(), before.raw(), size_t(before.bytes())), 0);
}

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

}  // namespace
}  // namespace dunlin
