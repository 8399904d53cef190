// What old opsets write becomes what the newest would write.
#include <gtest/gtest.h>

#include "formats/onnx/upgrader.h"
#include "ops/evaluate.h"

namespace dunlin::onnx_import {
namespace {

using Ints = std::vector<int64_t>;

Tensor Floats(const Dims& d, std::initializer_list<float> v) { return Tensor::Of<float>(d, v); }

// One node of an opset over constants: upgraded, added to a graph, computed.
struct OldNode {
  OldNode(int of, std::string op) : opset(of), raw{std::move(op), "", "node", {}, {}, {"y"}} {}
  OldNode& Input(Tensor t) {
    raw.inputs.push_back(graph.AddConstant(fmt::format("x{}", raw.inputs.size()), std::move(t)));
    return *this;
  }
  // A value of unknown rank, whose element type alone is known; computed as `t`.
  OldNode& Unranked(Tensor t) {
    raw.inputs.push_back(graph.AddInput("free", Type::Unranked(t.dtype())));
    fed = std::move(t);
    return *this;
  }
  OldNode& Attr(std::string name, AttrValue v) {
    raw.attrs[std::move(name)] = std::move(v);
    return *this;
  }
  Result<Tensor> Run() {
    TRY(Upgrade(raw, opset, graph));
    const OpDef* op = FindOp(raw.op, raw.domain);
    if (op == nullptr) return Fail(Code::kInternal, "{} is no operator", raw.op);
    auto attrs = DefaultAttrs(*op);
    TRY(FillAttrs(*attrs, raw.attrs));
    graph.AddOutput(graph.AddNode(*op, attrs, raw.inputs, raw.outputs, "node").outputs[0]);
    std::map<ValueId, Tensor> values;
    if (fed.defined()) values[graph.inputs()[0]] = fed;
    for (const NodeId id : TRY(graph.Order())) {
      const Node& n = graph.node(id);
      std::vector<Tensor> inputs;
      for (const ValueId v : n.inputs)
        inputs.push_back(v == ValueId::kNone            ? Tensor()
                         : graph.value(v).is_constant() ? graph.value(v).constant
                                                        : values[v]);
      const auto out = TRY(Evaluate(*n.op, *n.attrs, inputs, int(n.outputs.size())));
      for (size_t i = 0; i < out.size(); ++i) values[n.outputs[i]] = out[i];
    }
    return values[graph.outputs()[0]];
  }

  int opset;
  Graph graph;
  RawNode raw;
  Tensor fed;
};

void ExpectFloats(Result<Tensor> got, const Dims& dims, const std::vector<float>& want) {
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->dims(), dims);
  ASSERT_EQ(got->count(), int64_t(want.size()));
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got->as<float>()[i], want[i], 1e-5) << i;
}

const Tensor kRow = Floats({1, 3}, {1, 2, 3});

TEST(Upgrade, TheFirstTileRepeatsOneAxis) {
  OldNode n(1, "Tile");
  n.Input(kRow).Input(Floats({1}, {2})).Input(Floats({1}, {0}));
  ExpectFloats(n.Run(), {2, 3}, {1, 2, 3, 1, 2, 3});
}

TEST(Upgrade, TheFirstUpsampleHasTwoScales) {
  OldNode n(1, "Upsample");
  n.Input(Floats({1, 1, 1, 2}, {1, 2})).Attr("height_scale", 2.0f).Attr("width_scale", 1.5f);
  ExpectFloats(n.Run(), {1, 1, 2, 3}, {1, 1, 2, 1, 1, 2});
}

TEST(Upgrade, TheFirstSplitTakesLengthsOfTheDatasType) {
  OldNode n(1, "Split");
  n.Input(kRow).Input(Floats({2}, {1, 2})).Attr("axis", int64_t{1});
  n.raw.outputs = {"y", "z"};
  ExpectFloats(n.Run(), {1, 1}, {1});
}

TEST(Upgrade, ConcatOfOldJoinsChannels) {
  OldNode n(1, "Concat");
  n.Input(kRow).Input(Floats({1, 1}, {4}));
  ExpectFloats(n.Run(), {1, 4}, {1, 2, 3, 4});
}

// Per element: scale (x - mean) / sqrt(variance + epsilon) + bias.
TEST(Upgrade, BatchNormalizationWithoutSpatialTreatsElementsApart) {
  OldNode n(7, "BatchNormalization");
  n.Input(Floats({1, 1, 2}, {3, 5}))
      .Input(Floats({1, 2}, {1, 2}))
      .Input(Floats({1, 2}, {0, 1}))
      .Input(Floats({1, 2}, {1, 1}))
      .Input(Floats({1, 2}, {4, 16}))
      .Attr("spatial", int64_t{0})
      .Attr("epsilon", 0.0f);
  ExpectFloats(n.Run(), {1, 1, 2}, {1, 3});
}

TEST(Upgrade, GroupNormalization18NeedsNoKnownChannels) {
  OldNode n(18, "GroupNormalization");
  // Two groups of two channels, each of mean 0 and variance 1; one scale and bias a group.
  n.Unranked(Floats({1, 4}, {-1, 1, -1, 1}))
      .Input(Floats({2}, {1, 10}))
      .Input(Floats({2}, {0, 5}))
      .Attr("num_groups", int64_t{2})
      .Attr("epsilon", 0.0f);
  ExpectFloats(n.Run(), {1, 4}, {-1, 1, -5, 15});
}

// A region of half a pixel; until opset 16 its corners were not shifted by half a pixel, and it
// counted as a whole one. The one sample is in its middle: pixel (1, 1), or (0.25, 0.25).
TEST(Upgrade, RoiAlign10DoesNotShiftRegions) {
  const auto align = [](int opset) {
    OldNode n(opset, "RoiAlign");
    n.Input(Floats({1, 1, 2, 2}, {0, 1, 2, 3}))
        .Input(Floats({1, 4}, {0.5f, 0.5f, 1, 1}))
        .Input(Tensor::Ints(Ints{0}))
        .Attr("sampling_ratio", int64_t{1});
    return n.Run();
  };
  ExpectFloats(align(10), {1, 1, 1, 1}, {3});
  ExpectFloats(align(16), {1, 1, 1, 1}, {0.25f * 1 + 0.25f * 2});
}

TEST(Upgrade, NormsOfOldHadAFloatOrder) {
  OldNode n(1, "GlobalLpPool"), half(1, "GlobalLpPool");
  n.Input(Floats({1, 1, 2}, {3, 4})).Attr("p", 2.0f);
  ExpectFloats(n.Run(), {1, 1, 1}, {5});
  half.Input(Floats({1, 1, 2}, {3, 4})).Attr("p", 2.5f);
  EXPECT_EQ(half.Run().error().code, Code::kUnimplemented);
}

TEST(Upgrade, ExperimentalOperatorsAreComputedByOthers) {
  OldNode affine(1, "Affine"), tanh(1, "ScaledTanh"), softplus(1, "ParametricSoftplus");
  affine.Input(kRow).Attr("alpha", 2.0f).Attr("beta", 1.0f);
  ExpectFloats(affine.Run(), {1, 3}, {3, 5, 7});
  tanh.Input(Floats({1}, {0.5f})).Attr("alpha", 2.0f).Attr("beta", 3.0f);
  ExpectFloats(tanh.Run(), {1}, {2 * 0.9051483f});
  softplus.Input(Floats({1}, {0.5f})).Attr("alpha", 2.0f).Attr("beta", 2.0f);
  ExpectFloats(softplus.Run(), {1}, {2 * 1.3132617f});
}

TEST(Upgrade, ExperimentalPicturesAreScaledAndCropped) {
  OldNode scaler(1, "ImageScaler"), crop(1, "Crop"), part(1, "Crop");
  scaler.Input(Floats({1, 2, 1, 1}, {1, 2})).Attr("scale", 10.0f);
  scaler.Attr("bias", std::vector<float>{1, 2});
  ExpectFloats(scaler.Run(), {1, 2, 1, 1}, {11, 22});
  const Tensor x = Floats({1, 1, 3, 3}, {0, 1, 2, 3, 4, 5, 6, 7, 8});
  crop.Input(x).Attr("border", Ints{1, 0, 0, 1});  // left, top, right, bottom
  ExpectFloats(crop.Run(), {1, 1, 2, 2}, {1, 2, 4, 5});
  part.Input(x).Attr("border", Ints{1, 1, 0, 0}).Attr("scale", Ints{1, 2});
  ExpectFloats(part.Run(), {1, 1, 1, 2}, {4, 5});
}

// Channels 1 5 and 2 6 of two images.
TEST(Upgrade, MeansOfOldWereChosenByFlags) {
  const Tensor x = Floats({2, 2, 1, 1}, {1, 2, 5, 6});
  OldNode each(1, "MeanVarianceNormalization"), all(1, "MeanVarianceNormalization");
  each.Input(x);
  ExpectFloats(each.Run(), {2, 2, 1, 1}, {-1, -1, 1, 1});
  all.Input(x).Attr("across_channels", int64_t{1}).Attr("normalize_variance", int64_t{0});
  ExpectFloats(all.Run(), {2, 2, 1, 1}, {-2.5f, -1.5f, 1.5f, 2.5f});
}

TEST(Upgrade, RnnsOfOldAskedForTheirSequences) {
  OldNode n(1, "RNN");
  // tanh(2 * 0.5)
  n.Input(Floats({1, 1, 1}, {0.5f})).Input(Floats({1, 1, 1}, {2})).Input(Floats({1, 1, 1}, {0}));
  n.Attr("output_sequence", int64_t{1}).Attr("hidden_size", int64_t{1});
  ExpectFloats(n.Run(), {1, 1, 1, 1}, {0.7615942f});
}

// numpy.random.seed(1); numpy.random.uniform(size=3) is .417 .720 .0001.
TEST(Upgrade, DropoutKeepsItsSeed) {
  OldNode n(13, "Dropout");
  n.Input(kRow).Input(Tensor::Scalar(0.5f)).Input(Tensor::Scalar(true)).Attr("seed", int64_t{1});
  ExpectFloats(n.Run(), {1, 3}, {0, 4, 0});
}

TEST(Upgrade, RefusesANodeThatLeavesOutWhatItNeeds) {
  for (const char* op : {"BatchNormalization", "Add", "TopK", "Affine"}) {
    OldNode n(7, op);
    n.Input(kRow).Attr("spatial", int64_t{0});
    n.raw.inputs.insert(n.raw.inputs.begin(), ValueId::kNone);
    n.raw.inputs.resize(5, ValueId::kNone);
    EXPECT_EQ(Upgrade(n.raw, 7, n.graph).error().code, Code::kInvalidArgument) << op;
  }
}

TEST(Upgrade, RefusesAListWithAGap) {
  for (const char* op : {"Concat", "SequenceConstruct", "Max"}) {
    OldNode n(13, op);
    n.Input(kRow).Input(kRow);
    n.raw.inputs.insert(n.raw.inputs.begin() + 1, ValueId::kNone);
    EXPECT_EQ(Upgrade(n.raw, 13, n.graph).error().code, Code::kInvalidArgument) << op;
  }
}

TEST(Upgrade, ANodeWithoutInputsIsLeftToTheImporter) {
  for (const char* op : {"Softmax", "PRelu", "BatchNormalization", "Tile", "Affine", "Pad"}) {
    OldNode n(5, op);
    EXPECT_TRUE(Upgrade(n.raw, 5, n.graph)) << op;
  }
}

}  // namespace
}  // namespace dunlin::onnx_import
