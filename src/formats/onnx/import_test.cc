// Models made by hand: what is well formed loads into the internal form, what is not says where and
// why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "formats/onnx/testing.h"

namespace dunlin {
namespace {

using onnx_import::ErrorOf;
using onnx_import::ModelMaker;
using testing::HasSubstr;

TEST(OnnxImport, KeepsSymbolicExtentsThroughNodes) {
  ModelMaker m;
  m.Input("x", {"batch", "3"});
  m.Node("Relu", {"x"}, {"y"});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  const Graph& g = *r->graph;
  EXPECT_EQ(g.value(g.outputs()[0]).type, g.value(g.inputs()[0]).type);
  EXPECT_EQ(g.symbols().names, (std::vector<std::string>{"batch"}));
}

TEST(OnnxImport, AxesOfOldOpsetsBecomeInputs) {
  ModelMaker m(11);
  m.Input("x", {"1", "3"});
  ModelMaker::Ints(m.Node("Squeeze", {"x"}, {"y"}), "axes", {0});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_EQ(r->graph->value(r->graph->outputs()[0]).type.dims, (Dims{3}));
}

TEST(OnnxImport, SoftmaxBefore13FlattensToAMatrix) {
  ModelMaker m(11);
  m.Input("x", {"2", "3", "4"});
  m.Node("Softmax", {"x"}, {"y"});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_EQ(r->graph->producer(r->graph->outputs()[0])->op->name, "Reshape");
}

TEST(OnnxImport, UnsortedNodesAreSorted) {
  ModelMaker m;
  m.Input("x", {"2"});
  m.Node("Relu", {"a"}, {"y"});
  m.Node("Neg", {"x"}, {"a"});
  m.Output("y");
  EXPECT_TRUE(m.Import()) << ErrorOf(m.Import());
}

TEST(OnnxImport, ACycleIsNamed) {
  ModelMaker m;
  m.Input("x", {"2"});
  m.Node("Add", {"x", "b"}, {"a"});
  m.Node("Neg", {"a"}, {"b"});
  m.Output("b");
  EXPECT_THAT(ErrorOf(m.Import()), HasSubstr("cycle through node 'Add_1'"));
}

TEST(OnnxImport, ListsEveryMissingOperatorAtOnce) {
  ModelMaker m;
  m.Input("x", {"2"});
  m.Node("NoSuchThing", {"x"}, {"a"});
  m.Node("NorThis", {"a"}, {"b"});
  m.Node("NoSuchThing", {"b"}, {"y"});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::kUnimplemented);
  EXPECT_THAT(r.error().message,
              testing::AllOf(HasSubstr("NoSuchThing ('NoSuchThing_1', 'NoSuchThing_3')"),
                             HasSubstr("NorThis ('NorThis_2')")));
}

TEST(OnnxImport, SaysWhichNodeReadsWhatNobodyDefines) {
  ModelMaker m;
  m.Node("Relu", {"ghost"}, {"y"});
  m.Output("y");
  EXPECT_THAT(ErrorOf(m.Import()), testing::AllOf(HasSubstr("Relu_1"), HasSubstr("ghost")));
}

TEST(OnnxImport, UnknownAttributesAreNotIgnored) {
  ModelMaker m;
  m.Input("x", {"2"});
  ModelMaker::Ints(m.Node("Relu", {"x"}, {"y"}), "slope", {1});
  m.Output("y");
  EXPECT_THAT(ErrorOf(m.Import()), HasSubstr("attribute 'slope'"));
}

TEST(OnnxImport, LargeWeightsStayInTheFileUntilTheyAreReadUnaligned) {
  ModelMaker m;
  constexpr int64_t kCount = 1 << 14;
  m.Input("x", {std::to_string(kCount)});
  m.Weight("w", {kCount}, std::vector<float>(kCount, 2));
  m.Node("Add", {"x", "w"}, {"y"});
  m.Output("y");
  // The alignment inside the file depends on what stands before: shift until it fits.
  bool mapped = false, waiting = false;
  for (int shift = 0; shift < 4; ++shift) {
    m.model.set_producer_name(std::string(size_t(shift + 1), 'p'));
    const std::string bytes = m.model.SerializeAsString();
    auto buffer = *Buffer::Allocate(bytes.size());
    std::memcpy(buffer->data(), bytes.data(), bytes.size());
    const auto r = ImportOnnx({buffer->data(), bytes.size()}, buffer, "");
    ASSERT_TRUE(r) << ErrorOf(r);
    const Node& add = *r->graph->producer(r->graph->outputs()[0]);
    const Tensor& w = r->graph->value(add.inputs[1]).constant;
    mapped |= w.buffer() == buffer;
    waiting |= w.buffer()->unaligned();
    float last = 0;
    std::memcpy(&last, w.source() + (kCount - 1) * 4, 4);
    EXPECT_EQ(last, 2);
    EXPECT_EQ(w.as<float>()[kCount - 1], 2);
    EXPECT_FALSE(w.buffer()->unaligned());
  }
  EXPECT_TRUE(mapped);
  EXPECT_TRUE(waiting);
}

TEST(OnnxImport, WeightsOfTheWrongSizeAreRefused) {
  ModelMaker m;
  m.Input("x", {"1024"});
  m.Weight("w", {1025}, std::vector<float>(1024, 2));
  m.Node("Add", {"x", "w"}, {"y"});
  m.Output("y");
  EXPECT_THAT(ErrorOf(m.Import()), HasSubstr("needs 4100 bytes, the file holds 4096"));
}

TEST(OnnxImport, ExtentsThatCannotBeAreRefused) {
  ModelMaker m;
  m.Weight("w", {-5}, {});
  m.Output("w");
  EXPECT_THAT(ErrorOf(m.Import()), HasSubstr("impossible extents"));
}

TEST(OnnxImport, EveryTruncationGivesAnErrorAndNoCrash) {
  ModelMaker m;
  m.Input("x", {"1024"});
  m.Weight("w", {1024}, std::vector<float>(1024, 2));
  m.Node("Add", {"x", "w"}, {"y"});
  m.Output("y");
  const std::string whole = m.model.SerializeAsString();
  ASSERT_TRUE(ModelMaker::ImportBytes(whole));
  for (size_t n = 0; n < whole.size(); n += n < 64 || n + 64 > whole.size() ? 1 : 97) {
    const auto r = ModelMaker::ImportBytes(whole.substr(0, n));
    // A cut between two fields can leave a sound model: one without a graph's contents, or, behind
    // the graph, one without its opset (the last few bytes).
    if (r) {
      EXPECT_TRUE(r->outputs.empty() || n + 8 > whole.size()) << n;
    }
  }
}

TEST(OnnxImport, ExternalDataIsReadBesideTheModelAndNowhereElse) {
  const auto dir =
      std::filesystem::temp_directory_path() / ("dunlin_external_" + std::to_string(::getpid()));
  std::filesystem::create_directories(dir);
  const float values[] = {0, 0, 1, 2, 3};
  std::ofstream(dir / "w.bin", std::ios::binary)
      .write(reinterpret_cast<const char*>(values), sizeof values);
  ModelMaker m;
  m.Input("x", {"3"});
  auto& w = m.Weight("w", {3}, {});
  w.clear_raw_data();
  w.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto add = [&](const char* k, const std::string& v) {
    auto* e = w.add_external_data();
    e->set_key(k);
    e->set_value(v);
  };
  add("location", "w.bin");
  add("offset", "8");
  add("length", "12");
  m.Node("Add", {"x", "w"}, {"y"});
  m.Output("y");
  const auto r = m.Import(dir.string());
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_EQ(r->graph->value(r->graph->producer(r->graph->outputs()[0])->inputs[1])
                .constant.as<float>()[2],
            3);
  w.mutable_external_data(0)->set_value("../w.bin");
  EXPECT_THAT(ErrorOf(m.Import(dir.string())), HasSubstr("outside the model's folder"));
  w.mutable_external_data(0)->set_value("missing.bin");
  EXPECT_THAT(ErrorOf(m.Import(dir.string())), HasSubstr("missing.bin"));
  w.mutable_external_data(0)->set_value("w.bin");
  w.mutable_external_data(1)->set_value("12");
  EXPECT_THAT(ErrorOf(m.Import(dir.string())), HasSubstr("ends before"));
  std::filesystem::remove_all(dir);
}

TEST(OnnxImport, SubGraphsSeeOuterValues) {
  ModelMaker m;
  m.Input("x", {"2"});
  auto* c = m.graph().add_input();
  ModelMaker::Describe(c, "c", {});
  c->mutable_type()->mutable_tensor_type()->set_elem_type(onnx::TensorProto::BOOL);
  auto& n = m.Node("If", {"c"}, {"y"});
  for (const char* branch : {"then_branch", "else_branch"}) {
    auto* a = n.add_attribute();
    a->set_name(branch);
    a->set_type(onnx::AttributeProto::GRAPH);
    auto* node = a->mutable_g()->add_node();
    node->set_op_type(branch[0] == 't' ? "Neg" : "Abs");
    node->add_input("x");
    node->add_output("out");
    a->mutable_g()->add_output()->set_name("out");
  }
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  const Node& node = *r->graph->producer(r->graph->outputs()[0]);
  EXPECT_EQ(node.captures, 1);
  EXPECT_EQ(r->graph->value(node.outputs[0]).type.dims, (Dims{2}));
}

}  // namespace
}  // namespace dunlin
