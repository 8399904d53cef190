// For tests of rewrites: one node is read as from a file, and what it becomes is computed by the
// references. Only for *_test.cc files.
//
//   RewriteTest t("com.microsoft", "QuickGelu");
//   t.Attr("alpha", 1.0f).Input(x);
//   EXPECT_TRUE(Near(t.Run()[0], expected));
#pragma once

#include "formats/onnx/internal.h"
#include "ops/evaluate.h"
#include "ops/testing.h"

namespace dunlin::onnx_import {

class RewriteTest {
 public:
  RewriteTest(std::string domain, std::string op, int opset = 1) : opset_(opset) {
    raw_.domain = std::move(domain);
    raw_.op = std::move(op);
    raw_.name = "node";
    Outputs(1);
  }
  RewriteTest& Attr(std::string name, AttrValue v) {
    raw_.attrs.emplace(std::move(name), std::move(v));
    return *this;
  }
  RewriteTest& Input(Tensor t) {
    inputs_.push_back(std::move(t));
    return *this;
  }
  RewriteTest& Absent() { return Input(Tensor()); }
  RewriteTest& Outputs(int n) {
    raw_.outputs.clear();
    for (int i = 0; i < n; ++i) raw_.outputs.push_back("y" + std::to_string(i));
    return *this;
  }
  RewriteTest& Unwanted(int output) {
    raw_.outputs[size_t(output)].clear();
    return *this;
  }

  // The outputs; those that are not wanted are undefined. `open`: the reader knows the ranks of the
  // inputs and no extent.
  Result<std::vector<Tensor>> Try(bool open = false) const {
    Graph g;
    RawNode node = raw_;
    std::map<ValueId, Tensor> values;
    for (const Tensor& t : inputs_) {
      node.inputs.push_back(ValueId::kNone);
      if (!t.defined()) continue;
      Type type = Type::Of(t.dtype(), t.dims());
      for (size_t d = 0; open && d < type.dims.size(); ++d) type.dims[d] = kUnknownDim;
      node.inputs.back() = g.AddInput("x" + std::to_string(values.size()), type);
      values[node.inputs.back()] = t;
    }
    TRY(Upgrade(node, opset_, g));
    if (!node.results) return Fail(Code::kInternal, "the node was not rewritten");
    const auto value = [&](ValueId v) {
      return v == ValueId::kNone        ? Tensor()
             : g.value(v).is_constant() ? g.value(v).constant
                                        : values[v];
    };
    for (const NodeId id : TRY(g.Order())) {
      const Node& n = g.node(id);
      std::vector<Tensor> in;
      for (const ValueId v : n.inputs) in.push_back(value(v));
      const auto out = Evaluate(*n.op, *n.attrs, in, int(n.outputs.size()));
      if (!out) return FailAt(n.op->name, out.error());
      for (size_t i = 0; i < n.outputs.size(); ++i)
        if (n.outputs[i] != ValueId::kNone) values[n.outputs[i]] = (*out)[i];
    }
    std::vector<Tensor> results;
    for (const ValueId v : *node.results) results.push_back(value(v));
    return results;
  }
  // The same, once with and once without known extents, which must not change anything.
  std::vector<Tensor> Run() const {
    const auto known = Try(false), open = Try(true);
    for (const auto* r : {&known, &open})
      EXPECT_TRUE(r->has_value()) << raw_.op << ": " << r->error().message;
    std::vector<Tensor> none(raw_.outputs.size(), Tensor::Scalar<float>(0));
    if (!known || !open) return none;
    for (size_t i = 0; i < known->size(); ++i)
      if ((*known)[i].defined()) {
        EXPECT_TRUE(testing::Near((*open)[i], (*known)[i], {.abs = 1e-6}))
            << raw_.op << ", output " << i << " without known extents";
      }
    return *known;
  }
  std::string Error() const {
    const auto r = Try();
    return r ? "no error" : r.error().message;
  }

 private:
  RawNode raw_;
  int opset_;
  std::vector<Tensor> inputs_;
};

}  // namespace dunlin::onnx_import
