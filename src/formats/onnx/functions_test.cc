// Functions that models bring along are inlined: expected graphs follow from the bodies by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/onnx/testing.h"
#include "ir/graph.h"

namespace dunlin {
namespace {

using onnx_import::ErrorOf;
using onnx_import::ModelMaker;
using testing::ElementsAre;
using testing::HasSubstr;
using A = onnx::AttributeProto;

// The operators in order, with their attributes: "LeakyRelu(alpha=0.5)".
std::vector<std::string> Operators(const Graph& g) {
  std::vector<std::string> out;
  for (const NodeId id : g.SoundOrder()) {
    const Node& n = g.node(id);
    const std::string attrs = ToString(*n.attrs);
    out.push_back(std::string(n.op->name) + (attrs.empty() ? "" : "(" + attrs + ")"));
  }
  return out;
}

TEST(OnnxFunctions, ACallBecomesTheBody) {
  ModelMaker m;
  m.Input("x", {"2"});
  m.Input("w", {"2"});
  auto& f = m.Function("Swap", {"a", "b"}, {"first", "second"});
  ModelMaker::NodeOf(f, "Sub", {"b", "t"}, {"first"});  // not in order
  ModelMaker::NodeOf(f, "Neg", {"a"}, {"t"});
  ModelMaker::NodeOf(f, "Relu", {"a"}, {"second"});
  // Names of the function's values are its own: "t" and "first" exist outside as well.
  m.Call("Swap", {"x", "w"}, {"t", "first"});
  m.Call("Swap", {"t", "first"}, {"y", "z"});
  m.Output("y");
  m.Output("z");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_THAT(Operators(*r->graph), ElementsAre("Neg", "Sub", "Relu", "Neg", "Sub", "Relu"));
  const Graph& g = *r->graph;
  const Node& last = *g.producer(g.outputs()[0]);
  EXPECT_EQ(g.producer(last.inputs[0])->op->name, "Relu");
  EXPECT_EQ(g.value(last.inputs[0]).name, "Swap_1/second");
  EXPECT_EQ(g.value(g.outputs()[0]).type.dims, (Dims{2}));
}

TEST(OnnxFunctions, AttributesComeFromTheCallOrTheirDefault) {
  ModelMaker m;
  m.Input("x", {"2", "3"});
  auto& inner = m.Function("Inner", {"a"}, {"b"});
  inner.add_attribute("slope");
  auto* d = inner.add_attribute_proto();
  d->set_name("axis");
  d->set_type(A::INT);
  d->set_i(1);
  ModelMaker::Ref(ModelMaker::NodeOf(inner, "LeakyRelu", {"a"}, {"t"}), "alpha", "slope", A::FLOAT);
  ModelMaker::Ref(ModelMaker::NodeOf(inner, "Softmax", {"t"}, {"b"}), "axis", "axis", A::INT);
  auto& outer = m.Function("Outer", {"a"}, {"b"});
  outer.add_attribute("given");
  auto& call = ModelMaker::NodeOf(outer, "Inner", {"a"}, {"b"});
  call.set_domain("custom");
  ModelMaker::Ref(call, "slope", "given", A::FLOAT);
  ModelMaker::Ref(call, "axis", "missing", A::INT);
  auto* given = m.Call("Outer", {"x"}, {"y"}).add_attribute();
  given->set_name("given");
  given->set_type(A::FLOAT);
  given->set_f(0.5f);
  // Without `slope` the operator's own default holds.
  ModelMaker::Int(m.Call("Inner", {"y"}, {"z"}), "axis", 0);
  m.Output("z");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_THAT(Operators(*r->graph), ElementsAre("LeakyRelu(alpha=0.5)", "Softmax(axis=1)",
                                                "LeakyRelu(alpha=0.01)", "Softmax(axis=0)"));
}

TEST(OnnxFunctions, ReferencesReachIntoSubGraphs) {
  ModelMaker m;
  m.Input("x", {"2"});
  m.Input("c", {});
  m.graph().mutable_input(1)->mutable_type()->mutable_tensor_type()->set_elem_type(
      onnx::TensorProto::BOOL);
  auto& f = m.Function("Choose", {"a", "c"}, {"b"});
  f.add_attribute("slope");
  auto& n = ModelMaker::NodeOf(f, "If", {"c"}, {"b"});
  for (const char* branch : {"then_branch", "else_branch"}) {
    auto* a = n.add_attribute();
    a->set_name(branch);
    a->set_type(A::GRAPH);
    ModelMaker::Ref(ModelMaker::NodeOf(*a->mutable_g(), "LeakyRelu", {"a"}, {"o"}), "alpha",
                    "slope", A::FLOAT);
    a->mutable_g()->add_output()->set_name("o");
  }
  auto* slope = m.Call("Choose", {"x", "c"}, {"y"}).add_attribute();
  slope->set_name("slope");
  slope->set_type(A::FLOAT);
  slope->set_f(0.25f);
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  const Node& node = *r->graph->producer(r->graph->outputs()[0]);
  for (const auto& branch : node.subgraphs)
    EXPECT_THAT(Operators(*branch), ElementsAre("LeakyRelu(alpha=0.25)"));
}

TEST(OnnxFunctions, ANodeIsReadWithTheFunctionsOwnOpset) {
  ModelMaker m(13);  // here the axes of Squeeze are an input
  m.Input("x", {"1", "3"});
  auto& f = m.Function("Old", {"a"}, {"b"});
  f.add_opset_import()->set_version(11);
  ModelMaker::Ints(ModelMaker::NodeOf(f, "Squeeze", {"a"}, {"b"}), "axes", {0});
  m.Call("Old", {"x"}, {"y"});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_EQ(r->graph->value(r->graph->outputs()[0]).type.dims, (Dims{3}));
}

TEST(OnnxFunctions, InputsMayBeLeftOutAndOutputsUnwanted) {
  ModelMaker m;
  m.Input("x", {"2"});
  auto& f = m.Function("Bounded", {"a", "low", "high"}, {"b", "unused", "c"});
  ModelMaker::NodeOf(f, "Clip", {"a", "low", "high"}, {"b"});
  ModelMaker::NodeOf(f, "Neg", {"b"}, {"unused"});
  ModelMaker::NodeOf(f, "Abs", {"a"}, {"c"});
  m.Weight("h", {}, {3});
  m.Call("Bounded", {"x", "", "h"}, {"y", "", "z"});
  m.Call("Bounded", {"x"}, {"y2"});
  for (const char* y : {"y", "z", "y2"}) m.Output(y);
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  const Graph& g = *r->graph;
  const Node& first = *g.producer(g.outputs()[0]);
  ASSERT_EQ(first.inputs.size(), 3u);
  EXPECT_EQ(first.inputs[1], ValueId::kNone);
  EXPECT_NE(first.inputs[2], ValueId::kNone);
  EXPECT_EQ(g.producer(g.outputs()[2])->inputs.size(), 1u);
}

TEST(OnnxFunctions, OverloadsAreToldApart) {
  ModelMaker m;
  m.Input("x", {"2"});
  for (const char* overload : {"", "second"}) {
    auto& f = m.Function("F", {"a"}, {"b"});
    f.set_overload(overload);
    ModelMaker::NodeOf(f, *overload ? "Abs" : "Neg", {"a"}, {"b"});
  }
  m.Call("F", {"x"}, {"y"});
  m.Call("F", {"y"}, {"z"}).set_overload("second");
  m.Output("z");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_THAT(Operators(*r->graph), ElementsAre("Neg", "Abs"));
}

TEST(OnnxFunctions, AnOperatorThatExistsHereIsTakenBeforeAFunctionOfItsName) {
  ModelMaker m;
  m.Input("x", {"2"});
  auto& f = m.Function("Softplus", {"a"}, {"b"});
  f.set_domain("");
  ModelMaker::NodeOf(f, "Exp", {"a"}, {"b"});
  m.Node("Softplus", {"x"}, {"y"});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_TRUE(r) << ErrorOf(r);
  EXPECT_THAT(Operators(*r->graph), ElementsAre("Softplus"));
}

TEST(OnnxFunctions, RecursionIsRefused) {
  ModelMaker m;
  m.Input("x", {"2"});
  auto& f = m.Function("F", {"a"}, {"b"});
  ModelMaker::NodeOf(f, "G", {"a"}, {"b"}).set_domain("custom");
  auto& g = m.Function("G", {"a"}, {"b"});
  ModelMaker::NodeOf(g, "F", {"a"}, {"b"}).set_domain("custom");
  m.Call("F", {"x"}, {"y"});
  m.Output("y");
  EXPECT_THAT(ErrorOf(m.Import()), HasSubstr("function 'custom.F' calls itself"));
}

TEST(OnnxFunctions, ExponentialGrowthIsRefused) {
  ModelMaker m;
  m.Input("x", {"2"});
  constexpr int kLevels = 40;  // 2^40 nodes
  for (int i = 0; i < kLevels; ++i) {
    auto& f = m.Function("F" + std::to_string(i), {"a"}, {"b"});
    const std::string next = i + 1 < kLevels ? "F" + std::to_string(i + 1) : "Neg";
    for (const auto& [in, out] : {std::pair{"a", "t"}, std::pair{"t", "b"}}) {
      auto& n = ModelMaker::NodeOf(f, next, {in}, {out});
      if (i + 1 < kLevels) n.set_domain("custom");
    }
  }
  m.Call("F0", {"x"}, {"y"});
  m.Output("y");
  const auto r = m.Import();
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Code::kResourceExhausted);
  EXPECT_THAT(r.error().message, HasSubstr("too many calls in calls"));
}

TEST(OnnxFunctions, MissingOperatorsInsideAreListed) {
  ModelMaker m;
  m.Input("x", {"2"});
  auto& f = m.Function("F", {"a"}, {"b"});
  ModelMaker::NodeOf(f, "NoSuchThing", {"a"}, {"b"});
  m.Function("NeverCalled", {"a"}, {"b"}).add_node()->set_op_type("NorThis");
  m.Call("F", {"x"}, {"y"});
  m.Output("y");
  EXPECT_THAT(ErrorOf(m.Import()), testing::AllOf(HasSubstr("NoSuchThing ('NoSuchThing_1')"),
                                                  testing::Not(HasSubstr("NorThis"))));
}

TEST(OnnxFunctions, CallsThatDoNotFitAreRefused) {
  const auto with = [](const auto& change) {
    ModelMaker m;
    m.Input("x", {"2"});
    auto& f = m.Function("F", {"a"}, {"b"});
    ModelMaker::NodeOf(f, "Neg", {"a"}, {"b"});
    auto& call = m.Call("F", {"x"}, {"y"});
    m.Output("y");
    change(f, call);
    return ErrorOf(m.Import());
  };
  EXPECT_THAT(with([](auto&, auto& n) { n.add_input("x"); }), HasSubstr("2 inputs and 1 outputs"));
  EXPECT_THAT(with([](auto&, auto& n) { ModelMaker::Int(n, "k", 1); }),
              HasSubstr("it has no attribute 'k'"));
  EXPECT_THAT(with([](auto& f, auto&) { f.set_output(0, "ghost"); }),
              HasSubstr("output 'ghost' of function F is not defined"));
  EXPECT_THAT(with([](auto& f, auto&) { f.mutable_node(0)->set_input(0, "ghost"); }),
              testing::AllOf(HasSubstr("node 'F_1' (F)"), HasSubstr("node 'Neg_1' (Neg)"),
                             HasSubstr("'ghost'")));
  // The call's output is an input that the call leaves out.
  EXPECT_THAT(with([](auto& f, auto& n) {
                f.set_output(0, "a");
                f.clear_node();
                n.clear_input();
              }),
              HasSubstr("graph output 'y' is not defined"));
}

}  // namespace
}  // namespace dunlin
