// How an operator is written by others, when the wanted opset does not have it.
#pragma once

#include "formats/onnx/export.h"
#include "ops/op.h"

namespace dunlin::onnx_export {

// One node that is being replaced; its attributes are read from `node()`.
class ExpandContext {
 public:
  ExpandContext(Graph& graph, NodeId node_id, int target) : g(graph), id(node_id), opset(target) {}
  Graph& g;
  const NodeId id;
  const int opset;
  std::string why;  // for an expansion that says no
  Status status;

  const Node& node() const { return g.node(id); }
  ValueId In(size_t i) const;  // kNone: not given
  const Type& type(ValueId v) const { return g.value(v).type; }
  bool No(std::string reason) {
    why = std::move(reason);
    return false;
  }

  // A node in front of it, its types inferred. After an error, which `status` keeps, nothing more
  // is made.
  ValueId Op(std::string_view op, std::vector<ValueId> inputs, const AttrMap& attrs = {});
  ValueId Const(Tensor t);
  ValueId Number(double v, DType dtype);
  ValueId Ints(std::vector<int64_t> v) { return Const(Tensor::Ints(v)); }
  // Whoever read output 0 reads v; the node is gone.
  bool Become(ValueId v);
  // Before that: whoever read another output reads v.
  void BecomesToo(size_t output, ValueId v);

 private:
  int made_ = 0;
};

struct Expansion {
  std::string_view op, domain;
  // True: the node is gone. False: it cannot be done, `why` may say why; nothing depends on what
  // was added.
  bool (*expand)(ExpandContext&);
  // Whether a node must be expanded though the opset has its operator; nullptr: never.
  bool (*also)(const Graph&, const Node&, int opset) = nullptr;
};
std::span<const Expansion> Expansions();       // of standard operators
std::span<const Expansion> FusedExpansions();  // of the engine's own

}  // namespace dunlin::onnx_export
