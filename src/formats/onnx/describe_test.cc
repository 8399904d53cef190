#include <gtest/gtest.h>

#include "formats/onnx/messages.pb.h"
#include "formats/onnx_describe.h"
#include "formats/onnx_operators.h"

namespace dunlin {
namespace {

onnx::NodeProto* AddNode(onnx::GraphProto& g, const std::string& domain, const std::string& op,
                         const std::string& name) {
  auto* n = g.add_node();
  n->set_domain(domain);
  n->set_op_type(op);
  n->set_name(name);
  return n;
}

Result<OnnxDescription> Describe(const onnx::ModelProto& model) {
  const std::string bytes = model.SerializeAsString();
  return DescribeOnnx({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
}

onnx::ModelProto Model() {
  onnx::ModelProto m;
  m.set_ir_version(8);
  m.set_producer_name("maker");
  m.set_producer_version("2");
  auto* opset = m.add_opset_import();
  opset->set_domain("ai.onnx");
  opset->set_version(17);
  return m;
}

TEST(DescribeOnnx, TellsTheHeader) {
  const auto d = Describe(Model());
  ASSERT_TRUE(d) << d.error().message;
  EXPECT_EQ(d->ir_version, 8);
  EXPECT_EQ(d->producer, "maker 2");
  EXPECT_EQ(d->Opset(""), 17);
  EXPECT_EQ(d->Opset("com.example"), 0);
}

TEST(DescribeOnnx, CountsNodesOfSubGraphs) {
  onnx::ModelProto m = Model();
  auto* branch = AddNode(*m.mutable_graph(), "", "If", "choice")->add_attribute();
  branch->set_name("then_branch");
  AddNode(*branch->mutable_g(), "", "Relu", "inner");
  const auto d = Describe(m);
  ASSERT_TRUE(d) << d.error().message;
  ASSERT_EQ(d->nodes.size(), 2u);
  EXPECT_EQ(d->nodes[1].name, "inner");
  EXPECT_EQ(d->nodes[1].depth, 1);
}

TEST(DescribeOnnx, MissingOperatorsAreListedInTheirDomains) {
  onnx::ModelProto m = Model();
  AddNode(*m.mutable_graph(), "", "Relu", "known");
  AddNode(*m.mutable_graph(), "com.example", "Relu", "unknown");
  const auto d = Describe(m);
  ASSERT_TRUE(d) << d.error().message;
  const auto missing = d->Missing();
  ASSERT_EQ(missing.size(), 1u);
  EXPECT_EQ(missing[0]->Operator(), "com.example.Relu");
}

TEST(DescribeOnnx, AFunctionOfTheModelIsNotMissing) {
  onnx::ModelProto m = Model();
  AddNode(*m.mutable_graph(), "com.example", "Twice", "call");
  auto* f = m.add_functions();
  f->set_domain("com.example");
  f->set_name("Twice");
  auto* inner = f->add_node();
  inner->set_op_type("Add");
  const auto d = Describe(m);
  ASSERT_TRUE(d) << d.error().message;
  EXPECT_TRUE(d->Missing().empty());
  ASSERT_EQ(d->nodes.size(), 1u);
  EXPECT_EQ(d->nodes[0].op, "Add");
}

TEST(AdviceForMissing, NamesTheWayOut) {
  EXPECT_NE(AdviceForMissing("ai.onnx.contrib", "BertTokenizer", 1).find("onnxruntime-extensions"),
            std::string::npos);
  EXPECT_NE(AdviceForMissing("ai.onnx.preview.training", "Adam", 1).find("inference"),
            std::string::npos);
  EXPECT_NE(AdviceForMissing("", "NewThing", 99).find("lower opset"), std::string::npos);
}

TEST(SampleModels, TheFormFollowsTheVersion) {
  const OnnxOperator* squeeze = FindOnnxOperator("Squeeze", "");
  ASSERT_NE(squeeze, nullptr);
  const auto node = [&](int version) {
    const auto models = SampleModels(*squeeze, version, {});
    onnx::ModelProto m;
    EXPECT_TRUE(models && models->size() == 1 && m.ParseFromString(models->front()));
    EXPECT_EQ(m.opset_import(0).version(), version);
    return m.graph().node(0);
  };
  EXPECT_EQ(node(11).attribute_size(), 1);
  EXPECT_EQ(node(11).input_size(), 1);
  EXPECT_EQ(node(13).attribute_size(), 0);
  EXPECT_EQ(node(13).input_size(), 2);
}

TEST(SampleModels, TypesStandWhereTheFormSays) {
  const OnnxOperator pow{"", "Pow", "7 12", "T[2] U[3]"};
  EXPECT_TRUE(HasType(pow, 12, TypePlace::kU));
  const auto models = SampleModels(pow, 12, {DType::kI32, DType::kF16});
  ASSERT_TRUE(models) << models.error().message;
  onnx::ModelProto m;
  ASSERT_TRUE(m.ParseFromString(models->front()));
  EXPECT_EQ(m.graph().input(0).type().tensor_type().elem_type(), onnx::TensorProto::INT32);
  EXPECT_EQ(m.graph().input(1).type().tensor_type().elem_type(), onnx::TensorProto::FLOAT16);
  EXPECT_EQ(m.graph().input(1).type().tensor_type().shape().dim(0).dim_value(), 3);
}

TEST(SampleModels, ConstantsAttributesAndBodiesAreWritten) {
  const OnnxOperator op{"com.example", "X", "1",
                        "T{1,2} - i=3 f=0.5 s='x' fs=[1.0,2.0] to=U b=(a->a,x0) =>2"};
  EXPECT_TRUE(HasType(op, 1, TypePlace::kU));
  const auto models = SampleModels(op, 1, {DType::kI64, DType::kBool});
  ASSERT_TRUE(models) << models.error().message;
  onnx::ModelProto m;
  ASSERT_TRUE(m.ParseFromString(models->front()));
  EXPECT_EQ(m.graph().initializer(0).dims(0), 2);
  const onnx::NodeProto& n = m.graph().node(0);
  ASSERT_EQ(n.input_size(), 2);
  EXPECT_EQ(n.input(1), "");
  EXPECT_EQ(n.output_size(), 2);
  ASSERT_EQ(n.attribute_size(), 6);
  EXPECT_EQ(n.attribute(0).i(), 3);
  EXPECT_EQ(n.attribute(1).f(), 0.5f);
  EXPECT_EQ(n.attribute(2).s(), "x");
  EXPECT_EQ(n.attribute(3).floats(1), 2.0f);
  EXPECT_EQ(n.attribute(4).i(), onnx::TensorProto::BOOL);
  EXPECT_EQ(n.attribute(5).g().node_size(), 2);
}

}  // namespace
}  // namespace dunlin
