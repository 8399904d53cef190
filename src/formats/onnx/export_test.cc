// What is written says what the graph says, in the opset that is asked for; and is read back as the
// same graph.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "formats/onnx.h"
#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"
#include "ops/op.h"

namespace dunlin {
namespace {

using onnx_import::AttrMap;
using testing::ElementsAre;
using testing::HasSubstr;

// A graph made by hand, as the importer would hand it over.
struct Maker {
  ImportedModel model;
  explicit Maker(int opset = 21) {
    model.graph = std::make_unique<Graph>();
    model.metadata["opset"] = std::to_string(opset);
  }
  Graph& g() { return *model.graph; }
  ValueId Input(const std::string& name, Dims dims, DType t = DType::kF32) {
    model.inputs.push_back({name, Type::Of(t, dims)});
    return g().AddInput(name, Type::Of(t, dims));
  }
  static ValueId Add(Graph& g, std::string_view op, std::vector<ValueId> in,
                     const AttrMap& attrs = {}, std::string_view domain = "") {
    const OpDef* def = FindOp(op, domain);
    EXPECT_NE(def, nullptr) << op;
    auto a = DefaultAttrs(*def);
    EXPECT_TRUE(onnx_import::FillAttrs(*a, attrs)) << op;
    Node& n = g.AddNode(*def, std::move(a), std::move(in),
                        std::string(op) + std::to_string(g.value_count()));
    const Status s = InferNode(g, n);
    EXPECT_TRUE(s) << s.error().message;
    return n.outputs[0];
  }
  ValueId Add(std::string_view op, std::vector<ValueId> in, const AttrMap& attrs = {}) {
    return Add(g(), op, std::move(in), attrs);
  }
  ValueId Const(const std::string& name, Tensor t) { return g().AddConstant(name, std::move(t)); }
  ValueId Ints(std::vector<int64_t> v) { return Const("ints", Tensor::Ints(v)); }
  void Output(const std::string& name, ValueId v) {
    g().AddOutput(v);
    model.outputs.push_back({name, Type{}});
  }
  Result<std::string> Bytes(int opset = 0) const {
    ExportOptions o;
    o.opset = opset;
    return ExportOnnxBytes(model, o);
  }
  onnx::ModelProto Written(int opset = 0) const {
    onnx::ModelProto p;
    const auto bytes = Bytes(opset);
    EXPECT_TRUE(bytes) << bytes.error().message;
    EXPECT_TRUE(bytes && p.ParseFromString(*bytes));
    return p;
  }
};

std::vector<std::string> Ops(const onnx::GraphProto& g) {
  std::vector<std::string> ops;
  for (const auto& n : g.node()) ops.push_back(n.op_type());
  return ops;
}

Result<ImportedModel> Import(const std::string& bytes, const std::string& dir = "") {
  auto buffer = *Buffer::Allocate(bytes.size());
  std::memcpy(buffer->data(), bytes.data(), bytes.size());
  return ImportOnnx({buffer->data(), bytes.size()}, buffer, dir);
}

Tensor Floats(int64_t count) {
  std::vector<float> v(static_cast<size_t>(count));
  std::iota(v.begin(), v.end(), 0.0f);
  return Tensor::Of<float>(Dims{count}, std::span<const float>(v));
}

TEST(OnnxExport, KeepsNamesSymbolsAndTheModelsOwnKeys) {
  Maker m(13);
  m.model.metadata["model.author"] = "somebody";
  const int64_t batch = m.g().symbols().Intern("batch");
  m.Output("y", m.Add("Relu", {m.Input("x", {batch, 3})}));
  const auto p = m.Written();
  EXPECT_EQ(p.graph().input(0).name(), "x");
  EXPECT_EQ(p.graph().input(0).type().tensor_type().shape().dim(0).dim_param(), "batch");
  EXPECT_EQ(p.graph().output(0).name(), "y");
  EXPECT_EQ(p.graph().output(0).type().tensor_type().shape().dim(1).dim_value(), 3);
  EXPECT_EQ(p.opset_import(0).version(), 13);
  EXPECT_EQ(p.ir_version(), 7);  // that of the release which brought opset 13
  ASSERT_EQ(p.metadata_props_size(), 1);
  EXPECT_EQ(p.metadata_props(0).key(), "author");
}

TEST(OnnxExport, AnOutputThatNoNodeMakesIsCopied) {
  Maker m;
  const ValueId x = m.Input("x", {2});
  m.Output("same", x);
  m.Output("weight", m.Const("weight", Floats(2)));
  const ValueId y = m.Add("Relu", {x});
  m.Output("first", y);
  m.Output("second", y);
  const auto p = m.Written();
  EXPECT_THAT(Ops(p.graph()), ElementsAre("Relu", "Identity", "Identity", "Identity"));
  EXPECT_EQ(p.graph().node(0).output(0), "first");
  EXPECT_EQ(p.graph().node(3).output(0), "second");
}

TEST(OnnxExport, AnOutputListedTwiceIsDefinedOnce) {
  Maker m;
  const ValueId x = m.Input("x", {2});
  m.Output("same", x);
  m.Output("same", x);
  const ValueId y = m.Add("Relu", {x});
  m.Output("y", y);
  m.Output("y", y);
  const auto p = m.Written();
  EXPECT_THAT(Ops(p.graph()), ElementsAre("Relu", "Identity"));
  EXPECT_EQ(p.graph().output_size(), 4);
}

TEST(OnnxExport, AxesAreAttributesBeforeOpset13) {
  Maker m;
  m.Output("y", m.Add("Squeeze", {m.Input("x", {1, 3}), m.Ints({0})}));
  EXPECT_EQ(m.Written(13).graph().node(0).input_size(), 2);
  const auto old = m.Written(11);
  ASSERT_EQ(old.graph().node(0).input_size(), 1);
  ASSERT_EQ(old.graph().node(0).attribute_size(), 1);
  EXPECT_EQ(old.graph().node(0).attribute(0).name(), "axes");
  EXPECT_EQ(old.graph().initializer_size(), 0);
}

TEST(OnnxExport, NegativeAxesCountFromTheFrontBeforeOpset11) {
  Maker m;
  m.Output("y", m.Add("ReduceSum", {m.Input("x", {2, 3, 4}), m.Ints({-1})}));
  EXPECT_EQ(m.Written(9).graph().node(0).attribute(0).ints(0), 2);
}

TEST(OnnxExport, SoftmaxOfAMiddleAxisTurnsItToTheEndBeforeOpset13) {
  Maker m;
  m.Output("y", m.Add("Softmax", {m.Input("x", {2, 3, 4})}, {{"axis", int64_t{1}}}));
  EXPECT_THAT(Ops(m.Written(13).graph()), ElementsAre("Softmax"));
  EXPECT_THAT(Ops(m.Written(11).graph()), ElementsAre("Transpose", "Softmax", "Transpose"));
}

TEST(OnnxExport, OperatorsAnOpsetLacksBecomeOlderOnes) {
  Maker m;
  m.Output("y", m.Add("Gelu", {m.Input("x", {4})}));
  EXPECT_THAT(Ops(m.Written(20).graph()), ElementsAre("Gelu"));
  EXPECT_THAT(Ops(m.Written(13).graph()), ElementsAre("Div", "Erf", "Add", "Mul", "Mul"));
}

TEST(OnnxExport, WhatAnOpsetCannotSayIsRefusedWithTheLeastThatCan) {
  Maker m(13);
  const ValueId x = m.Input("x", {4}, DType::kI32);
  m.Output("y", m.Add("BitwiseAnd", {x, x}));
  const auto r = m.Bytes(13);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::kUnimplemented);
  EXPECT_THAT(r.error().message, HasSubstr("(BitwiseAnd): the operator needs opset 18"));
  EXPECT_FALSE(m.Bytes(6));
  EXPECT_FALSE(m.Bytes(25));
}

TEST(OnnxExport, ElementTypesThatCameLaterAreRefused) {
  Maker integers(14), halves(22);
  integers.Output("y", integers.Add("Relu", {integers.Input("x", {4}, DType::kI32)}));
  EXPECT_TRUE(integers.Bytes(14));
  EXPECT_THAT(integers.Bytes(13).error().message, HasSubstr("elements of i32 needs opset 14"));
  halves.Output("y", halves.Add("Elu", {halves.Input("x", {4}, DType::kBF16)}));
  EXPECT_TRUE(halves.Bytes(22));
  EXPECT_FALSE(halves.Bytes(21));
}

TEST(OnnxExport, KindsOfInputsAreKept) {
  Maker m(16);
  Type optional = Type::Of(DType::kF32, {2});
  optional.kind = Type::Kind::kOptional;
  m.model.inputs.push_back({"x", optional, true});
  m.Output("y", m.Add("OptionalHasElement", {m.g().AddInput("x", optional)}));
  const auto p = m.Written();
  EXPECT_TRUE(p.graph().input(0).type().optional_type().elem_type().has_sequence_type());
  Maker maps;
  const Type map = Type::Map(DType::kI64, DType::kF32);
  maps.model.inputs.push_back({"x", map});
  const ValueId x = maps.g().AddInput("x", map);
  maps.model.metadata["opset.ai.onnx.ml"] = "3";
  maps.Output("y", Maker::Add(maps.g(), "CastMap", {x}, {}, "ai.onnx.ml"));
  const auto q = maps.Written();
  EXPECT_EQ(q.graph().input(0).type().map_type().key_type(), onnx::TensorProto::INT64);
  EXPECT_EQ(q.opset_import(1).version(), 3);
}

TEST(OnnxExport, WithoutAnOpsetTheLeastAboveTheModelsOwnIsTaken) {
  Maker m(13);
  const ValueId x = m.Input("x", {4}, DType::kI32);
  m.Output("y", m.Add("BitwiseAnd", {x, x}));
  EXPECT_EQ(m.Written().opset_import(0).version(), 18);
}

// If(condition) with branches that read the value x of the outside and a weight.
void AddIf(Maker& m) {
  const ValueId condition = m.Input("condition", {}, DType::kBool);
  const ValueId x = m.Input("x", {512});
  const Tensor weight = Floats(512);
  const OpDef* def = FindOp("If");
  const std::string out[] = {"chosen"};
  Node& n = m.g().AddNode(*def, DefaultAttrs(*def), {condition, x}, out, "if");
  n.captures = 1;
  for (const std::string_view op : {"Add", "Mul"}) {
    auto branch = std::make_unique<Graph>(m.g().symbol_table());
    const ValueId in = branch->AddInput("x", m.g().value(x).type);
    branch->AddOutput(Maker::Add(*branch, op, {in, branch->AddConstant("weight", weight)}));
    n.subgraphs.push_back(std::move(branch));
  }
  const NodeId id = n.id;
  ASSERT_TRUE(InferNode(m.g(), m.g().node(id)));
  m.Output("y", m.g().node(id).outputs[0]);
}

TEST(OnnxExport, BodiesReadTheOutsideByNameAndShareItsWeights) {
  Maker m;
  AddIf(m);
  const auto p = m.Written();
  ASSERT_EQ(p.graph().node_size(), 1);
  const auto& n = p.graph().node(0);
  ASSERT_EQ(n.input_size(), 1);
  ASSERT_EQ(n.attribute_size(), 2);
  EXPECT_EQ(n.attribute(0).name(), "then_branch");
  ASSERT_EQ(p.graph().initializer_size(), 1);
  for (const auto& a : n.attribute()) {
    EXPECT_EQ(a.g().input_size(), 0);
    EXPECT_EQ(a.g().initializer_size(), 0);
    EXPECT_EQ(a.g().node(0).input(0), "x");
    EXPECT_EQ(a.g().node(0).input(1), p.graph().initializer(0).name());
  }
}

TEST(OnnxExport, WhatWasWrittenIsReadAndWrittenTheSameAgain) {
  Maker m;
  AddIf(m);
  const ValueId x = m.Input("z", {1, 8});
  m.Output("w", m.Add("Gelu", {m.Add("Add", {x, m.Const("bias", Floats(8))})}));
  const auto first = m.Bytes(13);
  ASSERT_TRUE(first) << first.error().message;
  const auto read = Import(*first);
  ASSERT_TRUE(read) << read.error().message;
  const auto second = ExportOnnxBytes(*read, {});
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_TRUE(*first == *second);
}

TEST(OnnxExport, ElementsOfEveryTypeComeBackAsTheyWere) {
  for (const DType t :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI8, DType::kI16, DType::kI32,
        DType::kI64, DType::kU8, DType::kU16, DType::kU32, DType::kU64, DType::kI4, DType::kU4,
        DType::kF8E4M3FN, DType::kF8E5M2, DType::kF8E4M3FNUZ, DType::kF8E5M2FNUZ}) {
    Maker m;
    const Tensor weight = *Tensor::Create(t, {5});
    for (int64_t i = 0; i < weight.bytes(); ++i) weight.raw()[i] = std::byte(i + 1);
    m.Output("y", m.Const("w", weight));
    const auto bytes = m.Bytes();
    ASSERT_TRUE(bytes) << DTypeName(t) << ": " << bytes.error().message;
    const auto read = Import(*bytes);
    ASSERT_TRUE(read) << DTypeName(t) << ": " << read.error().message;
    const Graph& g = *read->graph;
    const Tensor got = g.value(g.producer(g.outputs()[0])->inputs[0]).constant;
    ASSERT_EQ(got.dtype(), t);
    EXPECT_EQ(std::memcmp(got.raw(), weight.raw(), size_t(weight.bytes())), 0) << DTypeName(t);
  }
}

class OnnxExportFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::temp_directory_path() / ("dunlin_export_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  size_t Files() const {
    return size_t(std::distance(std::filesystem::directory_iterator(folder_), {}));
  }
  std::filesystem::path folder_;
};

Maker WithWeights() {
  Maker m;
  m.Output("y", m.Add("Add", {m.Input("x", {1000}), m.Const("big", Floats(1000))}));
  m.Output("z", m.Add("Mul", {m.g().inputs()[0], m.Const("second", Floats(1000))}));
  m.Output("v", m.Add("Sub", {m.g().inputs()[0], m.Const("small", Floats(1))}));
  return m;
}

TEST_F(OnnxExportFile, LargeWeightsLieBesideTheModelOnPageBorders) {
  const Maker m = WithWeights();
  const std::string path = folder_ / "net.onnx";
  ExportOptions options;
  options.external_data = ExternalData::kAlways;
  const auto report = ExportOnnx(m.model, path, options);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->data_file, "net.onnx.data");
  EXPECT_EQ(report->data_bytes, 4096 + 4000);
  EXPECT_EQ(std::filesystem::file_size(path + ".data"), size_t(4096 + 4000));
  EXPECT_EQ(std::filesystem::file_size(path), size_t(report->model_bytes));
  const auto file = Buffer::MapFile(path);
  ASSERT_TRUE(file);
  const auto read = ImportOnnx({(*file)->data(), (*file)->bytes()}, *file, folder_);
  ASSERT_TRUE(read) << read.error().message;
  ASSERT_EQ(read->external_files.size(), 1u);
  const Graph& g = *read->graph;
  const Tensor second = g.value(g.producer(g.outputs()[1])->inputs[1]).constant;
  ASSERT_EQ(second.count(), 1000);
  EXPECT_EQ(second.as<float>()[999], 999.0f);
}

TEST_F(OnnxExportFile, AnInterruptedExportLeavesNothing) {
  const Maker m = WithWeights();
  ExportOptions options;
  options.progress = [](int64_t, int64_t) { return false; };
  const auto report = ExportOnnx(m.model, folder_ / "net.onnx", options);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Code::kCancelled);
  EXPECT_EQ(Files(), 0u);
}

TEST_F(OnnxExportFile, AnExistingFileIsReplacedOnlyByACompleteOne) {
  const Maker m = WithWeights();
  const std::string path = folder_ / "net.onnx";
  std::ofstream(path) << "before";
  ExportOptions options;
  options.progress = [](int64_t done, int64_t total) { return done < total; };
  ASSERT_FALSE(ExportOnnx(m.model, path, options));
  EXPECT_EQ(std::filesystem::file_size(path), 6u);
  ASSERT_TRUE(ExportOnnx(m.model, path, {}));
  EXPECT_GT(std::filesystem::file_size(path), 8000u);
  EXPECT_EQ(Files(), 1u);
}

TEST_F(OnnxExportFile, APlaceThatCannotBeWrittenIsNamed) {
  const Maker m = WithWeights();
  const auto missing = ExportOnnx(m.model, folder_ / "no" / "net.onnx", {});
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("/no/net.onnx"));
  const auto folder = ExportOnnx(m.model, folder_, {});
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message, HasSubstr("is not a file"));
}

}  // namespace
}  // namespace dunlin
