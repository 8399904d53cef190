// Graph: a function in SSA form. Values have one definition (an input, a constant or a node's
// output); nodes name an operator, its typed attributes, inputs and outputs. Sub-graphs (If, Loop)
// see nothing of the outside but their inputs: values they capture are appended to the node's
// inputs, and to the inputs of each of its sub-graphs.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "ir/op_def.h"
#include "tensor/tensor.h"

namespace dunlin {

enum class ValueId : int32_t { kNone = -1 };
enum class NodeId : int32_t { kNone = -1 };

struct Use {
  NodeId node;
  int index;
  bool operator==(const Use&) const = default;
};

struct GraphValue {
  std::string name;
  Type type;
  NodeId producer = NodeId::kNone;
  int output_index = 0;
  Tensor constant;  // defined(): the value is known
  std::optional<Dims>
      shape_value;        // an integer vector or scalar whose entries are known or symbolic
  std::vector<Use> uses;  // by nodes; graph outputs are not listed
  bool is_input = false;

  bool is_constant() const { return constant.defined(); }
};

class Graph;

struct Node {
  NodeId id = NodeId::kNone;
  const OpDef* op = nullptr;
  std::string name;
  std::shared_ptr<const Attrs> attrs;
  std::vector<ValueId> inputs;   // kNone: an omitted optional
  std::vector<ValueId> outputs;  // kNone: nobody asked
  int captures = 0;              // that many of the last inputs are captured by the sub-graphs
  std::vector<std::unique_ptr<Graph>> subgraphs;
  double position = 0;  // where it stands among nodes that do not depend on each other

  int formal_inputs() const { return int(inputs.size()) - captures; }
  bool is(const OpDef* def) const { return op == def; }
};

// Names of symbolic extents, shared by a graph and its sub-graphs.
struct SymbolTable {
  std::vector<std::string> names;
  int64_t Intern(const std::string& name);  // the symbol's Dim
};

class Graph {
 public:
  explicit Graph(std::shared_ptr<SymbolTable> symbols = std::make_shared<SymbolTable>())
      : symbols_(std::move(symbols)) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  std::unique_ptr<Graph> Clone() const;  // shares constants and attributes

  SymbolTable& symbols() const { return *symbols_; }
  const std::shared_ptr<SymbolTable>& symbol_table() const { return symbols_; }

  ValueId AddInput(std::string name, Type type);
  ValueId AddConstant(std::string name, Tensor value);
  // The node's outputs get the given names ("" = nobody asked: kNone). Types are not inferred here.
  Node& AddNode(const OpDef& op, std::shared_ptr<const Attrs> attrs, std::vector<ValueId> inputs,
                std::span<const std::string> output_names, std::string name);
  // One output, named after the node.
  Node& AddNode(const OpDef& op, std::shared_ptr<const Attrs> attrs, std::vector<ValueId> inputs,
                std::string name);
  void AddOutput(ValueId v) { outputs_.push_back(v); }

  const std::vector<ValueId>& inputs() const { return inputs_; }
  const std::vector<ValueId>& outputs() const { return outputs_; }
  GraphValue& value(ValueId v) { return values_[size_t(v)]; }
  const GraphValue& value(ValueId v) const { return values_[size_t(v)]; }
  size_t value_count() const { return values_.size(); }
  Node& node(NodeId n) { return *nodes_[size_t(n)]; }
  const Node& node(NodeId n) const { return *nodes_[size_t(n)]; }
  bool alive(NodeId n) const { return nodes_[size_t(n)] != nullptr; }
  Node* producer(ValueId v) {
    return v == ValueId::kNone || value(v).producer == NodeId::kNone ? nullptr
                                                                     : &node(value(v).producer);
  }
  const Node* producer(ValueId v) const { return const_cast<Graph*>(this)->producer(v); }
  bool IsOutput(ValueId v) const;
  // Uses by nodes plus uses as graph output.
  size_t UseCount(ValueId v) const;

  void SetInput(Node& n, int index, ValueId v);
  void AppendInput(Node& n, ValueId v);
  void RemoveInput(Node& n, int index);
  void ReplaceAllUses(ValueId from, ValueId to);  // nodes and graph outputs
  void Erase(NodeId n);                           // its outputs must be unused
  void RemoveGraphInput(int index);               // must be unused
  // Turns a node's output into a constant; the node stays until it is erased.
  void MakeConstant(ValueId v, Tensor t);

  // Nodes in an order in which every value is defined before it is used; kInvalidArgument naming a
  // node on a cycle when there is none.
  Result<std::vector<NodeId>> Order() const;
  // Order() of a graph that is known to be sound.
  std::vector<NodeId> SoundOrder() const;

  // Nodes nobody needs are erased. Returns how many.
  int RemoveDeadNodes();

  // Every stated invariant; the first that is broken, by node and value name.
  Status Verify() const;
  // A readable form, one node a line.
  std::string ToText() const;

 private:
  ValueId NewValue(std::string name, Type type);
  void DropUse(ValueId v, NodeId n, int index);
  std::shared_ptr<SymbolTable> symbols_;
  std::vector<GraphValue> values_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<ValueId> inputs_, outputs_;
  double next_position_ = 0;
};

// Infers the types of one node's outputs from what is known of its inputs, and stores them. An
// error names the node. `keep_constants`: outputs whose shape_value is fully known also become
// constants.
Status InferNode(Graph& graph, Node& node);
// All nodes in order, sub-graphs included.
Status InferGraph(Graph& graph);

std::shared_ptr<Attrs> DefaultAttrs(const OpDef& op);
template <class A>
std::shared_ptr<const Attrs> MakeAttrs(A value) {
  return std::make_shared<AttrsOf<A>>(std::move(value));
}
// "axis=1 keepdims=false" in declaration order.
std::string ToString(const Attrs& attrs);
// Equal text of all attributes, tensors by bytes: for merging equal nodes.
std::string Fingerprint(const Attrs& attrs);

}  // namespace dunlin
