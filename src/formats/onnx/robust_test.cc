// Files as real writers leave them, and as nobody should: what can be understood loads, the rest is
// refused with a sentence that helps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "formats/onnx/testing.h"
#include "formats/onnx_describe.h"

namespace dunlin {
namespace {

using onnx_import::ErrorOf;
using onnx_import::ModelMaker;
using testing::AllOf;
using testing::HasSubstr;
namespace fs = std::filesystem;
using P = onnx::TensorProto;

const Tensor& ConstantOutput(const Result<ImportedModel>& r, size_t i = 0) {
  static const Tensor none;
  return r ? r->graph->value(r->graph->outputs()[i]).constant : none;
}

// ---- errors ----

TEST(OnnxRobust, EveryIndependentErrorIsFound) {
  ModelMaker m;
  m.Input("x", {"2"});
  m.Weight("short", {3}, {1, 2});
  m.Node("Relu", {"x", "x"}, {"a"});                        // an error
  m.Node("Add", {"a", "x"}, {"b"});                         // its consequences are none
  m.Node("Add", {"x", "short"}, {"c"});                     // nor is that of the initializer
  m.Node("Add", {"x", "nowhere"}, {"d"});                   // an error
  ModelMaker::Int(m.Node("Neg", {"x"}, {"e"}), "axis", 1);  // and another
  m.Node("Sum", {"b", "c", "d", "e"}, {"y"});
  m.Output("y");
  const std::string bytes = m.model.SerializeAsString();
  const auto buffer = *Buffer::Allocate(bytes.size());
  std::memcpy(buffer->data(), bytes.data(), bytes.size());
  const auto errors = ImportErrors({buffer->data(), bytes.size()}, buffer, "");
  std::vector<std::string> messages;
  for (const Error& e : errors) messages.push_back(e.message);
  EXPECT_THAT(messages, ::testing::ElementsAre(HasSubstr("short"), HasSubstr("Relu_1"),
                                               HasSubstr("nowhere"), HasSubstr("axis")));
  EXPECT_EQ(ErrorOf(m.Import()), messages[0]);
}

TEST(OnnxRobust, LoopsInLoopsAreInferredInLittleTime) {
  // Twice for every level would be for ever.
  ModelMaker m;
  m.Input("x", {"2"});
  m.Input("n", {});
  m.graph().mutable_input(1)->mutable_type()->mutable_tensor_type()->set_elem_type(
      onnx::TensorProto::INT64);
  onnx::GraphProto* graph = &m.graph();
  std::string state = "x";
  constexpr int kDepth = 30;  // more and protobuf refuses the file
  for (int d = 1; d <= kDepth; ++d) {
    const std::string at = std::to_string(d);
    auto& loop = ModelMaker::NodeOf(*graph, "Loop", {"n", "", state}, {d == 1 ? "y" : "o" + at});
    auto* a = loop.add_attribute();
    a->set_name("body");
    a->set_type(onnx::AttributeProto::GRAPH);
    graph = a->mutable_g();
    for (const std::string& name : {"i" + at, "c" + at, "s" + at})
      graph->add_input()->set_name(name);
    ModelMaker::NodeOf(*graph, "Identity", {"c" + at}, {"go" + at});
    graph->add_output()->set_name("go" + at);
    graph->add_output()->set_name(d == kDepth ? "last" : "o" + std::to_string(d + 1));
    state = "s" + at;
  }
  ModelMaker::NodeOf(*graph, "Neg", {state}, {"last"});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_EQ(r->graph->value(r->graph->outputs()[0]).type.dtype, DType::kF32);
}

// ---- what is declared and not so ----

TEST(OnnxRobust, InferenceWinsOverWhatIsDeclared) {
  ModelMaker m;
  m.Input("x", {"2", "3"});
  m.Node("Neg", {"x"}, {"t"});
  m.Node("Transpose", {"t"}, {"y"});
  ModelMaker::Describe(m.graph().add_value_info(), "t", {"7", "7", "7"});
  ModelMaker::Describe(m.graph().add_value_info(), "ghost", {"1"});
  ModelMaker::Describe(m.graph().add_output(), "y", {"2", "2"});
  auto* type = m.graph().mutable_output(0)->mutable_type()->mutable_tensor_type();
  type->set_elem_type(99);  // no type at all
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_EQ(r->graph->value(r->graph->outputs()[0]).type, Type::Of(DType::kF32, {3, 2}));
}

TEST(OnnxRobust, AnInputWithoutTypeIsOfAnyType) {
  ModelMaker m;
  m.graph().add_input()->set_name("x");
  m.Node("Neg", {"x"}, {"y"});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_EQ(r->inputs[0].type, Type{});
}

// ---- names ----

TEST(OnnxRobust, InitializersThatAreInputsAreConstantsUnlessFed) {
  ModelMaker m;
  m.Input("x", {"2"});
  m.Input("w", {"2"});
  m.Weight("w", {2}, {1, 2});
  m.Node("Add", {"x", "w"}, {"y"});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  ASSERT_EQ(r->inputs.size(), 1u);
  ASSERT_EQ(r->defaults.size(), 1u);
  EXPECT_EQ(r->defaults[0].name, "w");
  const auto fed = m.Feed({"w"});
  ASSERT_TRUE(fed) << ErrorOf(fed);
  ASSERT_EQ(fed->inputs.size(), 2u);
  EXPECT_EQ(fed->inputs[1].name, "w");
  EXPECT_THAT(ErrorOf(m.Feed({"nothing"})), HasSubstr("'nothing'"));
}

TEST(OnnxRobust, NamesMayBeEmptyUnusedOrGivenTwice) {
  ModelMaker m;
  m.Input("x", {"2"});
  m.Input("x", {"2"});
  m.Weight("unused", {1}, {1});
  m.Weight("", {1}, {1});
  m.Weight("", {1}, {1});
  m.Weight("w", {2}, {1, 2});
  m.Weight("w", {2}, {3, 4});  // the later one counts
  m.Node("Add", {"x", "w"}, {"y"}).set_name("same");
  m.Node("Neg", {"x"}, {"z"}).set_name("same");
  m.Node("Neg", {"x"}, {"nobody reads this"}).clear_name();
  m.Node("Neg", {"x"}, {""}).clear_name();
  m.Node("Clip", {"x", "", "", ""}, {"c"});
  m.Output("y");
  m.Output("y");
  m.Output("x");
  m.Output("w");
  m.Output("c");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  const Graph& g = *r->graph;
  EXPECT_EQ(g.inputs().size(), 1u);
  EXPECT_EQ(g.outputs()[0], g.outputs()[1]);
  EXPECT_EQ(g.outputs()[2], g.inputs()[0]);
  EXPECT_EQ(ConstantOutput(r, 3).as<float>()[0], 3);
}

onnx::GraphProto& Branch(onnx::NodeProto& n, const char* name) {
  auto* a = n.add_attribute();
  a->set_name(name);
  a->set_type(onnx::AttributeProto::GRAPH);
  return *a->mutable_g();
}

TEST(OnnxRobust, SubGraphsMayReuseNamesAndStandInAnyOrder) {
  ModelMaker m;
  m.Input("x", {"2"});
  m.Input("c", {});
  m.graph().mutable_input(1)->mutable_type()->mutable_tensor_type()->set_elem_type(P::BOOL);
  m.Node("Neg", {"x"}, {"t"});
  auto& n = m.Node("If", {"c"}, {"y"});
  auto& then_branch = Branch(n, "then_branch");  // its own t hides the outer one
  ModelMaker::NodeOf(then_branch, "Abs", {"t"}, {"o"});
  ModelMaker::NodeOf(then_branch, "Relu", {"x"}, {"t"});
  then_branch.add_output()->set_name("o");
  Branch(n, "else_branch").add_output()->set_name("t");  // the outer one, as it is
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  const Node& node = *r->graph->producer(r->graph->outputs()[0]);
  const Graph& then_graph = *node.subgraphs[0];
  const Node& abs = *then_graph.producer(then_graph.outputs()[0]);
  EXPECT_EQ(then_graph.producer(abs.inputs[0])->op->name, "Relu");
  EXPECT_EQ(node.captures, 2);
}

TEST(OnnxRobust, AttributesThatAreNotesOfAToolAreIgnored) {
  ModelMaker m;
  m.Input("x", {"2"});
  ModelMaker::Int(m.Node("Relu", {"x"}, {"y"}), "__note", 1);
  m.Output("y");
  EXPECT_TRUE(m.Import()) << ErrorOf(m.Import());
}

TEST(OnnxRobust, InputsThatAnOperatorNeedsMayNotBeLeftOut) {
  for (const auto& [op, inputs] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"Add", {"", "x"}}, {"Concat", {"x", "", "x"}}, {"Relu", {""}}}) {
    ModelMaker m;
    m.Input("x", {"2"});
    ModelMaker::Int(m.Node(op, inputs, {"y"}), op == "Concat" ? "axis" : "_note", 0);
    m.Output("y");
    EXPECT_THAT(ErrorOf(m.Import()),
                testing::AnyOf(HasSubstr("is left out"), HasSubstr("has 0 inputs")));
  }
}

// ---- versions ----

TEST(OnnxRobust, EveryIrVersionLoads) {
  for (int ir = 1; ir <= 13; ++ir) {
    ModelMaker m;
    m.model.set_ir_version(ir);
    m.Input("x", {"2"});
    m.Node("Relu", {"x"}, {"y"}).mutable_attribute();
    m.Output("y");
    EXPECT_TRUE(m.Import()) << ir << ErrorOf(m.Import());
    m.model.clear_opset_import();
    EXPECT_TRUE(m.Import()) << ir << ErrorOf(m.Import());
  }
}

TEST(OnnxRobust, OpsetsMayBeMissingDoubleUnknownOrNew) {
  ModelMaker m(18);
  m.Input("x", {"2", "3"});
  m.Node("ReduceMax", {"x", "axes"}, {"y"});  // axes are an input since opset 18
  m.Output("y");
  auto* axes = m.graph().add_initializer();
  axes->set_name("axes");
  axes->set_data_type(P::INT64);
  axes->add_dims(1);
  axes->add_int64_data(1);
  m.model.add_opset_import()->set_version(17);  // of one domain twice: the newer
  m.model.mutable_opset_import(1)->set_domain("ai.onnx");
  auto* other = m.model.add_opset_import();
  other->set_domain("nobody.knows");
  other->set_version(-1);
  EXPECT_TRUE(m.Import()) << ErrorOf(m.Import());
  m.model.clear_opset_import();
  m.model.set_ir_version(8);  // its newest opset is 18
  EXPECT_TRUE(m.Import()) << ErrorOf(m.Import());
  m.model.add_opset_import()->set_version(30);
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_THAT(r->metadata.at("note"), HasSubstr("opset 30 is newer than 24"));
  m.Node("InventedLater", {"x"}, {"z"});
  EXPECT_THAT(ErrorOf(m.Import()), HasSubstr("the model uses opset 30, operators are known up to"));
}

TEST(OnnxRobust, OtherFilesAreCalledByTheirName) {
  const auto error = [](std::string bytes) { return ErrorOf(ModelMaker::ImportBytes(bytes)); };
  EXPECT_THAT(error("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
              HasSubstr("a Git LFS pointer"));
  EXPECT_THAT(error("<!DOCTYPE html><html></html>"), HasSubstr("a web page"));
  EXPECT_THAT(error(std::string("PK\x03\x04\x14\0\0\0", 8)), HasSubstr("a zip archive"));
  EXPECT_THAT(error("\x1f\x8b\x08 rest"), HasSubstr("gzip"));
  EXPECT_THAT(error(std::string("\x18\0\0\0ORTM rest", 13)), HasSubstr("(.ort)"));
  EXPECT_THAT(error("ir_version: 8\ngraph { }"), HasSubstr("text form"));
  EXPECT_THAT(error(std::string("\x40\0\0\0\0\0\0\0{\"w\":{}}", 16)), HasSubstr("safetensors"));
  EXPECT_THAT(error(std::string(64, '\0')), HasSubstr("nothing but zeros"));
  EXPECT_THAT(error("no model"), HasSubstr("ONNX"));
}

// ---- tensors ----

struct Typed {
  int type;
  std::string raw;                // of three elements
  std::function<void(P&)> typed;  // the same in the typed field
};

std::vector<Typed> TypedCases() {
  const auto ints = [](std::vector<int> v) {
    return [v](P& t) {
      for (const int x : v) t.add_int32_data(x);
    };
  };
  const auto bytes = [](std::initializer_list<int> v) {
    std::string s;
    for (const int x : v) s += char(x);
    return s;
  };
  const auto wide = [](auto... v) {
    std::string s;
    (s.append(reinterpret_cast<const char*>(&v), sizeof v), ...);
    return s;
  };
  return {
      {P::FLOAT, wide(1.5f, -2.f, 0.f),
       [](P& t) {
         for (const float x : {1.5f, -2.f, 0.f}) t.add_float_data(x);
       }},
      {P::DOUBLE, wide(1.5, -2., 0.),
       [](P& t) {
         for (const double x : {1.5, -2., 0.}) t.add_double_data(x);
       }},
      {P::INT64, wide(int64_t{1}, int64_t{-2}, int64_t{1} << 40),
       [](P& t) {
         for (const int64_t x : {int64_t{1}, int64_t{-2}, int64_t{1} << 40}) t.add_int64_data(x);
       }},
      {P::UINT64, wide(uint64_t{1}, uint64_t{2}, ~uint64_t{0}),
       [](P& t) {
         for (const uint64_t x : {uint64_t{1}, uint64_t{2}, ~uint64_t{0}}) t.add_uint64_data(x);
       }},
      {P::UINT32, wide(1u, 2u, ~0u),
       [](P& t) {
         for (const uint64_t x : {1u, 2u, ~0u}) t.add_uint64_data(x);
       }},
      {P::INT32, wide(1, -2, 3), ints({1, -2, 3})},
      {P::INT16, wide(int16_t{1}, int16_t{-2}, int16_t{3}), ints({1, -2, 3})},
      {P::UINT16, wide(uint16_t{1}, uint16_t{65535}, uint16_t{3}), ints({1, 65535, 3})},
      {P::INT8, bytes({1, -2, 3}), ints({1, -2, 3})},
      {P::UINT8, bytes({1, 255, 3}), ints({1, 255, 3})},
      {P::BOOL, bytes({1, 0, 1}), ints({1, 0, 1})},
      // Half, bfloat16 and the 8-bit floats: their bits. 0x3c00 is the half 1, 0xbf80 the bfloat16
      // -1.
      {P::FLOAT16, wide(uint16_t{0x3c00}, uint16_t{0xc000}, uint16_t{0}),
       ints({0x3c00, 0xc000, 0})},
      {P::BFLOAT16, wide(uint16_t{0x3f80}, uint16_t{0xbf80}, uint16_t{0}),
       ints({0x3f80, 0xbf80, 0})},
      {P::FLOAT8E4M3FN, bytes({0x38, 0xb8, 0}), ints({0x38, 0xb8, 0})},
      {P::FLOAT8E5M2, bytes({0x3c, 0xbc, 0}), ints({0x3c, 0xbc, 0})},
      // Two to a byte, the first in the low half: 1, -2 and 3.
      {P::INT4, bytes({0xe1, 0x03}), ints({0xe1, 0x03})},
      {P::UINT4, bytes({0xe1, 0x03}), ints({0xe1, 0x03})},
  };
}

TEST(OnnxRobust, TypedFieldsHoldWhatRawDataHolds) {
  for (const Typed& c : TypedCases()) {
    const auto read = [&](bool typed, int64_t count, bool both) {
      ModelMaker m;
      auto* t = m.graph().add_initializer();
      t->set_name("w");
      t->set_data_type(c.type);
      t->add_dims(count);
      if (typed)
        c.typed(*t);
      else
        t->set_raw_data(c.raw);
      if (both) t->set_raw_data("");  // some writers set it always
      m.Output("w");
      return m.Import();
    };
    const auto raw = read(false, 3, false), typed = read(true, 3, false),
               both = read(true, 3, true);
    ASSERT_TRUE(raw) << c.type << ErrorOf(raw);
    ASSERT_TRUE(typed) << c.type << ErrorOf(typed);
    ASSERT_TRUE(both) << c.type << ErrorOf(both);
    for (const auto* r : {&raw, &typed, &both}) {
      const Tensor& w = ConstantOutput(*r);
      ASSERT_EQ(w.bytes(), int64_t(c.raw.size())) << c.type;
      EXPECT_EQ(std::memcmp(w.raw(), c.raw.data(), c.raw.size()), 0) << c.type;
    }
    EXPECT_THAT(ErrorOf(read(false, 9, false)), HasSubstr("the file holds")) << c.type;
    EXPECT_THAT(ErrorOf(read(true, 9, false)),
                testing::MatchesRegex(".*(data for 3|the file holds|no data for).*"))
        << c.type;
  }
}

TEST(OnnxRobust, ScalarsAndNothing) {
  ModelMaker m;
  m.Weight("scalar", {}, {7});
  m.Weight("empty", {0, 5}, {});
  auto* bare = m.graph().add_initializer();  // without any data field
  bare->set_name("bare");
  bare->set_data_type(P::STRING);
  bare->add_dims(0);
  for (const char* name : {"scalar", "empty", "bare"}) m.Output(name);
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_EQ(ConstantOutput(r, 0).as<float>()[0], 7);
  EXPECT_EQ(ConstantOutput(r, 1).dims(), (Dims{0, 5}));
  EXPECT_EQ(ConstantOutput(r, 2).count(), 0);
}

TEST(OnnxRobust, ExtentsWithoutDataAndSegmentsAreRefused) {
  ModelMaker m;
  auto& w = m.Weight("w", {1 << 30, 1 << 20}, {});
  w.clear_raw_data();
  m.Output("w");
  EXPECT_THAT(ErrorOf(m.Import()), HasSubstr("tensor 'w' f32[1073741824,1048576] has no data"));
  w.mutable_segment()->set_begin(0);
  EXPECT_THAT(ErrorOf(m.Import()), HasSubstr("stored in segments"));
}

// Weights stand in Constant nodes, too: those bytes stay in the file as well.
TEST(OnnxRobust, LargeConstantsOfNodesStayInTheFile) {
  ModelMaker m;
  constexpr int64_t kCount = 1 << 15;
  auto* a = m.Node("Constant", {}, {"w"}).add_attribute();
  a->set_name("value");
  a->set_type(onnx::AttributeProto::TENSOR);
  a->mutable_t()->set_data_type(P::FLOAT);
  a->mutable_t()->add_dims(kCount);
  const std::vector<float> values(kCount, 3);
  a->mutable_t()->set_raw_data(
      std::string(reinterpret_cast<const char*>(values.data()), kCount * 4));
  // What only the importer writes is not believed in a file.
  a->mutable_t()->set_stripped_offset(uint64_t{1} << 60);
  a->mutable_t()->set_stripped_bytes(kCount * 4);
  m.Output("w");
  const std::string bytes = m.model.SerializeAsString();
  auto buffer = *Buffer::Allocate(bytes.size());
  std::memcpy(buffer->data(), bytes.data(), bytes.size());
  const auto r = ImportOnnx({buffer->data(), bytes.size()}, buffer, "");
  ASSERT_TRUE(r) << ErrorOf(r);
  const Tensor& w = ConstantOutput(r);
  EXPECT_TRUE(w.source() > buffer->data() && w.source() < buffer->data() + bytes.size());
  EXPECT_EQ(w.as<float>()[kCount - 1], 3);
}

// ---- sparse tensors ----

onnx::SparseTensorProto Sparse(const std::vector<int64_t>& index_dims,
                               const std::vector<int64_t>& indices) {
  onnx::SparseTensorProto s;
  s.mutable_values()->set_name("w");
  s.mutable_values()->set_data_type(P::FLOAT);
  s.mutable_values()->add_dims(2);
  for (const float v : {5.f, 6.f}) s.mutable_values()->add_float_data(v);
  s.mutable_indices()->set_data_type(P::INT64);
  for (const int64_t d : index_dims) s.mutable_indices()->add_dims(d);
  for (const int64_t i : indices) s.mutable_indices()->add_int64_data(i);
  for (const int64_t d : {2, 3}) s.add_dims(d);
  return s;
}

TEST(OnnxRobust, SparseTensorsBecomeDense) {
  for (const auto& s : {Sparse({2}, {1, 5}), Sparse({2, 2}, {0, 1, 1, 2})})
    for (const bool node : {false, true}) {
      ModelMaker m;
      if (node) {
        auto* a = m.Node("Constant", {}, {"w"}).add_attribute();
        a->set_name("sparse_value");
        a->set_type(onnx::AttributeProto::SPARSE_TENSOR);
        *a->mutable_sparse_tensor() = s;
      } else {
        *m.graph().add_sparse_initializer() = s;
      }
      m.Output("w");
      const auto r = m.Import();
      ASSERT_TRUE(r) << ErrorOf(r);
      const Tensor& w = ConstantOutput(r);
      EXPECT_EQ(w.dims(), (Dims{2, 3}));
      const std::vector<float> expected = {0, 5, 0, 0, 0, 6};
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), w.as<float>()));
    }
}

TEST(OnnxRobust, SparseTensorsThatCannotBeAreRefused) {
  const auto error = [](const onnx::SparseTensorProto& s) {
    ModelMaker m;
    *m.graph().add_sparse_initializer() = s;
    m.Output("w");
    return ErrorOf(m.Import());
  };
  EXPECT_THAT(error(Sparse({2}, {1, 6})), HasSubstr("value 1 has an index outside"));
  EXPECT_THAT(error(Sparse({2, 2}, {0, 1, 1, 3})), HasSubstr("value 1 has an index outside"));
  EXPECT_THAT(error(Sparse({2}, {-1, 0})), HasSubstr("value 0 has an index outside"));
  EXPECT_THAT(error(Sparse({3}, {1, 2, 3})), HasSubstr("are needed"));
  auto huge = Sparse({2}, {1, 2});
  huge.set_dims(0, int64_t{1} << 40);
  EXPECT_THAT(error(huge), HasSubstr("in dense form"));
}

// ---- external data ----

class External : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("dunlin_robust_" + std::to_string(::getpid()));
    fs::create_directories(dir_ / "model" / "sub");
    Write(dir_ / "model" / "w.bin");
    Write(dir_ / "model" / "sub" / "w.bin");
    Write(dir_ / "secret.bin");
  }
  void TearDown() override { fs::remove_all(dir_); }
  static void Write(const fs::path& path) {
    const float values[] = {0, 1, 2, 3};
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(values), sizeof values);
  }
  static ModelMaker Model(const std::vector<std::pair<std::string, std::string>>& keys,
                          int64_t count = 3) {
    ModelMaker m;
    for (const char* name : {"w", "w2"}) {  // one file for both
      auto& w = m.Weight(name, {count}, {});
      w.clear_raw_data();
      w.set_data_location(P::EXTERNAL);
      for (const auto& [key, value] : keys) {
        auto* e = w.add_external_data();
        e->set_key(key);
        e->set_value(value);
      }
      m.Output(name);
    }
    return m;
  }
  Result<ImportedModel> Load(const ModelMaker& m, const fs::path& real_dir = {}) {
    return ModelMaker::ImportBytes(m.model.SerializeAsString(), (dir_ / "model").string(),
                                   {.real_dir = real_dir.string(), .fed = {}});
  }
  fs::path dir_;
};

TEST_F(External, LengthAndOffsetMayBeMissing) {
  for (const auto& keys : std::vector<std::vector<std::pair<std::string, std::string>>>{
           {{"location", "w.bin"}, {"offset", "4"}, {"length", "12"}, {"checksum", "none"}},
           {{"location", "./sub/w.bin"}, {"offset", "4"}},
           {{"location", "sub\\w.bin"}, {"offset", "4"}}}) {
    const auto r = Load(Model(keys));
    ASSERT_TRUE(r) << ErrorOf(r);
    EXPECT_EQ(ConstantOutput(r, 0).as<float>()[2], 3);
    EXPECT_EQ(ConstantOutput(r, 1).buffer(), ConstantOutput(r, 0).buffer());  // mapped once
  }
  EXPECT_EQ(ConstantOutput(Load(Model({{"location", "w.bin"}}))).as<float>()[2], 2);
}

TEST_F(External, WhatDoesNotFitIsRefusedWithFigures) {
  EXPECT_THAT(ErrorOf(Load(Model({{"location", "w.bin"}, {"offset", "8"}}))),
              HasSubstr("needs bytes 8 to 20 of external file 'w.bin', which ends before, at 16"));
  EXPECT_THAT(ErrorOf(Load(Model({{"location", "w.bin"}, {"length", "8"}}))),
              HasSubstr("needs 12 bytes, its external data has 8"));
  for (const char* offset : {"-4", "4x", "", "99999999999999999999", "9223372036854775807"})
    EXPECT_FALSE(Load(Model({{"location", "w.bin"}, {"offset", offset}}))) << offset;
  EXPECT_THAT(ErrorOf(Load(Model({{"location", "absent.bin"}}))), HasSubstr("absent.bin"));
}

TEST_F(External, NothingOutsideTheFolderIsOpened) {
  fs::create_symlink(dir_ / "secret.bin", dir_ / "model" / "link.bin");
  fs::create_symlink(dir_, dir_ / "model" / "up");
  for (const std::string location : {"../secret.bin", "sub/../../secret.bin", "link.bin",
                                     "up/secret.bin", "..\\secret.bin", "", "."})
    EXPECT_FALSE(Load(Model({{"location", location}}))) << location;
  EXPECT_THAT(ErrorOf(Load(Model({{"location", (dir_ / "secret.bin").string()}}))),
              HasSubstr("outside the model's folder"));
  EXPECT_THAT(ErrorOf(Load(Model({{"location", "link.bin"}}))),
              HasSubstr("outside the model's folder"));
  // A download cache links the model and its data to one other folder.
  EXPECT_TRUE(Load(Model({{"location", "link.bin"}}), dir_));
}

TEST_F(External, OffsetsBeyondFourGigabytesAreRead) {
  const fs::path path = dir_ / "model" / "large.bin";
  constexpr int64_t kOffset = (int64_t{5} << 30) + 64;
  std::ofstream file(path, std::ios::binary);
  const float values[] = {1, 2, 3};
  if (!file.seekp(kOffset).write(reinterpret_cast<const char*>(values), sizeof values).flush())
    GTEST_SKIP() << "the file system has no sparse files of 5 GiB";
  const auto r = Load(Model({{"location", "large.bin"}, {"offset", std::to_string(kOffset)}}));
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_EQ(ConstantOutput(r).as<float>()[2], 3);
}

// ---- more than 2 GiB in one file, which protobuf itself cannot read ----

TEST(OnnxRobust, InlineWeightsMayBeLargerThanTwoGigabytes) {
  // Written by hand: a model whose one weight has zeros for 2.5 GiB, in a sparse file.
  constexpr uint64_t kCount = uint64_t{5} << 27, kBytes = kCount * 4;
  const auto varint = [](std::string& out, uint64_t v) {
    for (; v >= 0x80; v >>= 7) out += char(v | 0x80);
    out += char(v);
  };
  ModelMaker m;
  m.Output("w");
  P head;
  head.set_name("w");
  head.set_data_type(P::FLOAT);
  head.add_dims(int64_t(kCount));
  std::string raw_tag = "\x4a";  // field 9, a length follows
  varint(raw_tag, kBytes);
  std::string tensor = head.SerializeAsString() + raw_tag;
  std::string tensor_tag = "\x2a";  // field 5 of the graph
  varint(tensor_tag, tensor.size() + kBytes);
  const std::string graph = m.graph().SerializeAsString() + tensor_tag + tensor;
  std::string graph_tag = "\x3a";  // field 7 of the model
  varint(graph_tag, graph.size() + kBytes);
  m.model.clear_graph();
  const std::string start = m.model.SerializeAsString() + graph_tag + graph;

  const fs::path path = fs::temp_directory_path() / ("dunlin_2g_" + std::to_string(::getpid()));
  std::ofstream file(path, std::ios::binary);
  file << start;
  if (!file.seekp(std::streamoff(start.size() + kBytes - 4)).write("\0\0\x80\x3f", 4).flush())
    GTEST_SKIP() << "the file system has no sparse files of 2.5 GiB";
  const auto mapped = Buffer::MapFile(path.string());
  fs::remove(path);
  ASSERT_TRUE(mapped);
  const auto r = ImportOnnx({(*mapped)->data(), (*mapped)->bytes()}, *mapped, "");
  ASSERT_TRUE(r) << ErrorOf(r);
  const Tensor& w = ConstantOutput(r);
  float last = 0;
  std::memcpy(&last, w.source() + kBytes - 4, 4);
  EXPECT_EQ(last, 1);
}

}  // namespace
}  // namespace dunlin
