// Graphs that are fused as far as they can be, written as standard operators and run again: the
// answers are those of the graph as it was.
#include <gtest/gtest.h>

#include <cmath>

#include "dunlin/engine.h"
#include "formats/onnx.h"
#include "passes/testing.h"

namespace dunlin {
namespace {

ImportedModel Modelled(std::unique_ptr<Graph> g) {
  ImportedModel m;
  for (const ValueId v : g->inputs()) m.inputs.push_back({g->value(v).name, g->value(v).type});
  for (size_t i = 0; i < g->outputs().size(); ++i)
    m.outputs.push_back({"out" + std::to_string(i), Type{}});
  m.metadata["opset"] = "17";
  m.graph = std::move(g);
  return m;
}

// Output 0 of the written model, its inputs filled with reproducible numbers.
Result<Tensor> Answer(const ImportedModel& m, int opset) {
  ExportOptions options;
  options.opset = opset;
  const std::string bytes = TRY(ExportOnnxBytes(m, options));
  const auto model = TRY(Model::LoadBytes(std::as_bytes(std::span(bytes))));
  auto session = TRY(Session::Create(model));
  std::vector<NamedTensor> inputs;
  std::mt19937 rng(7);
  std::uniform_real_distribution<float> d(-1, 1);
  for (const PortInfo& p : model->inputs()) {
    Tensor t = TRY(Tensor::Create(p.dtype, p.dims));
    for (int64_t i = 0; i < t.count(); ++i) t.mut<float>()[i] = d(rng);
    inputs.push_back({p.name, std::move(t)});
  }
  return TRY(session.Run(inputs))[0].value.tensor;
}

// `fused`: the operator that optimising must have made.
void ExpectTheSameWhenWritten(std::unique_ptr<Graph> g, const std::string& fused) {
  auto optimised = g->Clone();
  ASSERT_TRUE(OptimizeForShapes(*optimised));
  EXPECT_EQ(OpCounts(*optimised).count(fused), 1u) << optimised->ToText();
  const ImportedModel before = Modelled(std::move(g)), after = Modelled(std::move(optimised));
  const auto want = Answer(before, 17);
  ASSERT_TRUE(want) << want.error().message;
  for (const int opset : {11, 13, 17, 20, 24}) {
    const auto got = Answer(after, opset);
    ASSERT_TRUE(got) << opset << ": " << got.error().message;
    ASSERT_EQ(got->dims(), want->dims());
    for (int64_t i = 0; i < want->count(); ++i)
      ASSERT_NEAR(got->as<float>()[i], want->as<float>()[i], 2e-5) << opset << " at " << i;
  }
}

TEST(Export, AConvolutionsResidualAndActivationStandApart) {
  for (const char* activation : {"Relu", "Sigmoid", "HardSwish", "Gelu", "Tanh"}) {
    GraphBuilder b;
    const ValueId y =
        b.Add("Conv", {b.Input({1, 8, 5, 5}), b.Weights({4, 8, 1, 1}), b.Weights({4})});
    const ValueId sum = b.Add("Add", {y, b.Input({1, 4, 5, 5})});
    ExpectTheSameWhenWritten(b.Finish({b.Add(activation, {sum})}), "FusedConv");
  }
}

TEST(Export, AProductsFactorBiasAndActivationStandApart) {
  GraphBuilder b;
  const ValueId x = b.Add("MatMul", {b.Input({3, 4}), b.Weights({4, 5})});
  const ValueId scaled = b.Add("Mul", {x, b.Scalar(0.5f)});
  const ValueId sum = b.Add("Add", {scaled, b.Weights({5})});
  ExpectTheSameWhenWritten(b.Finish({b.Add("LeakyRelu", {sum})}), "FusedMatMul");
}

TEST(Export, AProductWithATurnedOperandTurnsItFirst) {
  GraphBuilder b;
  const ValueId y = b.Add("Gemm", {b.Input({3, 4}), b.Weights({5, 4}), b.Weights({5})},
                          {{"transB", true}, {"alpha", 2.0f}});
  ExpectTheSameWhenWritten(b.Finish({y}), "FusedMatMul");
}

TEST(Export, ANormalisationsReluStandsApart) {
  GraphBuilder b;
  const ValueId y =
      b.Add("BatchNormalization", {b.Input({1, 4, 3, 3}), b.Weights({4}), b.Weights({4}),
                                   b.Weights({4}), b.Weights({4}, 0.5f, 1)});
  ExpectTheSameWhenWritten(b.Finish({b.Add("Relu", {y})}), "BatchNormRelu");
}

TEST(Export, AttentionIsTwoProductsAndASoftmax) {
  GraphBuilder b;
  const auto heads = [&](std::vector<int64_t> perm) {
    return b.Add("Transpose", {b.Input({1, 4, 2, 3})}, {{"perm", std::move(perm)}});
  };
  const ValueId scores = b.Add("MatMul", {heads({0, 2, 1, 3}), heads({0, 2, 3, 1})});
  const ValueId masked = b.Add("Add", {b.Add("Mul", {scores, b.Scalar(0.6f)}), b.Weights({4, 4})});
  const ValueId y = b.Add("MatMul", {b.Add("Softmax", {masked}), heads({0, 2, 1, 3})});
  ExpectTheSameWhenWritten(b.Finish({y}), "Attention");
}

TEST(Export, AShuffleOfChannelsIsTwoReshapesAndATranspose) {
  GraphBuilder b;
  const ValueId all =
      b.Add("Concat", {b.Input({2, 6, 2, 2}), b.Input({2, 6, 2, 2})}, {{"axis", int64_t{1}}});
  const ValueId apart =
      b.Add("Reshape", {all, b.Const(Tensor::Ints(std::vector<int64_t>{2, 2, 6, 2, 2}))});
  const ValueId turned =
      b.Add("Transpose", {apart}, {{"perm", std::vector<int64_t>{0, 2, 1, 3, 4}}});
  const ValueId y =
      b.Add("Reshape", {turned, b.Const(Tensor::Ints(std::vector<int64_t>{2, 12, 2, 2}))});
  ExpectTheSameWhenWritten(b.Finish({y}), "ChannelShuffle");
}

// Normalisation over the last axis, by an operator that came with opset 17 or 23.
TEST(Export, NormalisationsOfNewOpsetsAreMeansAndRootsInOldOnes) {
  for (const char* op : {"LayerNormalization", "RMSNormalization"}) {
    GraphBuilder b;
    const ValueId y = b.Add(op, {b.Input({3, 8}), b.Weights({8})}, {{"epsilon", 1e-3f}});
    ExpectTheSameWhenWritten(b.Finish({y}), op);
  }
  GraphBuilder b;
  const ValueId y =
      b.Add("GroupNormalization", {b.Input({2, 4, 3}), b.Weights({4}), b.Weights({4})},
            {{"num_groups", int64_t{2}}});
  ExpectTheSameWhenWritten(b.Finish({y}), "GroupNormalization");
}

}  // namespace
}  // namespace dunlin
