// Writes one graph, and those inside it.
#pragma once

#include <unordered_map>

#include "formats/onnx/export.h"

namespace dunlin::onnx_export {

class GraphWriter {
 public:
  // Names of the values of `outer` that the graph captures are given to Bind before Write.
  GraphWriter(ModelWriter& model, const Graph& g, bool main) : model_(model), g_(g), main_(main) {}
  void Bind(ValueId v, std::string name) { names_[v] = std::move(name); }

  // All nodes, into the message GraphProto. Outputs have their names from Bind or of their own.
  void WriteNodes();
  // A value that a node, an input or an initialiser of this graph or an outer one gives.
  std::string NameOf(ValueId v);
  // An output of the graph: a value that a node of this graph makes, under a name of its own.
  std::string OutputName(ValueId v, const std::string& wish);

  Operand InsertNode(const OutNode& at, std::string_view op, std::vector<Operand> inputs,
                     AttrMap attrs, std::string_view what);
  Operand NewConstant(const OutNode& at, Tensor t, std::string_view what);
  void Refuse(const Node& n, int least, std::string what);

  Message TakeNodes() { return std::move(nodes_); }
  const std::vector<ModelWriter::Shared>& constants() const { return constants_; }
  // Types of what the nodes make, for value_info.
  void WriteValueInfo(Message& out) const;

 private:
  void WriteNode(const Node& n);
  void WriteBodies(const Node& n, OutNode& out);
  Message WriteBody(const Node& n, const Graph& body, const std::string& name);
  void Put(OutNode&& n);

  ModelWriter& model_;
  const Graph& g_;
  const bool main_;
  std::unordered_map<ValueId, std::string> names_;
  std::set<ValueId> made_;         // by nodes of this graph
  std::vector<ValueId> in_order_;  // the same
  std::vector<ModelWriter::Shared> constants_;
  std::set<std::string> outputs_;
  Message nodes_;
};

// A name and what is known of its type, the message ValueInfoProto.
Message ValueInfo(const std::string& name, const Type* type, const SymbolTable& symbols,
                  bool optional_sequence = false);

}  // namespace dunlin::onnx_export
