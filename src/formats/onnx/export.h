// Shared by the parts of the ONNX exporter.
//
// A graph is written in two steps. ExpandFor replaces nodes whose operator the wanted opset does
// not have (or no opset has: the domain "dunlin") by others, in the graph. Then each node is
// written, and ToOpset gives it the form that its operator has in that opset.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "formats/onnx.h"
#include "formats/onnx/export_wire.h"
#include "formats/onnx/internal.h"

namespace dunlin::onnx_export {

using onnx_import::AttrMap;
using onnx_import::AttrValue;

inline constexpr int kMinOpset = 7, kMaxOpset = 24;
inline constexpr int kNever = 1000;  // the "least opset" of what no opset has

// The Scan of opset 8, which no other opset has, is an operator of its own inside.
inline constexpr std::string_view kBatchScan = "BatchScan";
inline constexpr int kBatchScanOpset = 8;

// What an opset cannot express.
struct Refusal {
  std::string place;  // "node 'x' (Gelu)"
  std::string what;
  int least = kNever;  // the smallest opset that can
};
std::string Place(const Node& n);

// ---- expansion, in the graph ----
// Sub-graphs included. What cannot be expanded is added to `refusals`; an error is a bug or a
// resource that ran out.
Status ExpandFor(Graph& graph, int opset, std::vector<Refusal>& refusals);
// The first opset of ai.onnx that has the operator.
int FirstOpset(std::string_view op);

// ---- writing ----

// An input of a node on its way out: a value of the graph, or what a helper node made; neither: not
// given.
struct Operand {
  ValueId value = ValueId::kNone;
  std::string name;
  bool present() const { return value != ValueId::kNone || !name.empty(); }
};
struct OutNode {
  std::string op, domain, name;
  AttrMap attrs;
  std::vector<Operand> inputs;
  std::vector<std::string> outputs;  // "" = not wanted
  std::vector<std::pair<std::string, Message>> bodies;
};

class GraphWriter;

// A node and what the rules that change its form need to know.
struct NodeForm {
  OutNode& n;
  const Graph& g;
  const Node& node;
  int opset;
  int source_opset;  // the model's own
  GraphWriter& writer;

  // The node cannot be written below that opset, because of `what`.
  void Need(int least, std::string what);
  const Type* InputType(size_t i) const;  // nullptr: not given
  const Tensor* Constant(size_t i) const;
  int Rank(size_t input) const;  // -1: not known
  // A node in front of this one; its output.
  Operand Insert(std::string_view op, std::vector<Operand> inputs, AttrMap attrs,
                 std::string_view what);
  Operand Const(Tensor t, std::string_view what);
};

// From the internal form to that of `f.opset`.
void ToOpset(NodeForm& f);
// Refuses element types that the operator took later.
void CheckTypes(NodeForm& f);

// Attributes that differ from the operator's defaults, and those ONNX demands.
AttrMap WrittenAttrs(const Node& n);
int OnnxDType(DType t);

// Everything that is shared by a model's graphs while they are written.
struct ModelWriter {
  int opset = 0, source_opset = 0;
  std::vector<Refusal> refusals;
  std::set<std::string> names;       // of values, in all graphs
  std::set<std::string> node_names;  // the same of nodes
  std::set<std::string> domains;     // used
  int nodes = 0;
  int ir_version = 4;  // that element types and kinds of values ask for, at least
  // Large constants, which all graphs share: by where their bytes lie.
  struct Shared {
    std::string name;
    Tensor tensor;
  };
  std::vector<Shared> shared;
  std::map<std::string, size_t> shared_index;

  static std::string Unique(std::set<std::string>& taken, const std::string& wish);
  std::string ValueName(const std::string& wish) { return Unique(names, wish); }
  const std::string& SharedConstant(const std::string& wish, const Tensor& t);
  void NeedType(DType t);
};

// Weights beside the model: which go there and where.
struct DataFile {
  std::string name;  // as the model names it; "": none
  std::vector<Tensor> tensors;
  std::vector<uint64_t> offsets;
  uint64_t bytes = 0;
  uint64_t Add(const Tensor& t);  // its offset
};
// The message TensorProto. `data`: where large elements go, or nullptr.
Message TensorMessage(const std::string& name, const Tensor& t, DataFile* data);
// optional_sequence: an optional holds sequences of what the type says.
Message TypeMessage(const Type& t, const SymbolTable& symbols, bool optional_sequence = false);
Message AttributeMessage(const std::string& name, const AttrValue& v);

}  // namespace dunlin::onnx_export
