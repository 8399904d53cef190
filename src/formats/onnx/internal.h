// Shared by the parts of the ONNX importer.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "formats/onnx.h"

namespace dunlin::onnx {
class AttributeProto;
class FunctionProto;
class GraphProto;
class ModelProto;
class NodeProto;
class SparseTensorProto;
class TensorProto;
class TypeProto;
}  // namespace dunlin::onnx
namespace google::protobuf {
template <class T>
class RepeatedPtrField;
}

namespace dunlin::onnx_import {

// Sub-graphs and calls of functions nested deeper than this are refused: recursion on hostile files
// must end, and no exporter nests so deep.
constexpr int kMaxDepth = 48;

// ---- the file ----

// What else the file is, when it is something that people mistake for an ONNX model: a sentence
// with what to do. Empty: nothing that is known.
std::string OtherFormat(std::span<const std::byte> bytes);
// The model's message without the raw bytes of large tensors, which stay in the file:
// TensorProto.stripped_offset and stripped_bytes say where.
Result<std::string> StripWeights(std::span<const std::byte> bytes);

// ---- tensors and types ----

// Where tensors find their bytes.
struct TensorSource {
  std::shared_ptr<Buffer> backing;
  std::string external_dir;
  std::string real_dir;  // where the model file really lies, when its path is a symbolic link
  std::map<std::string, std::shared_ptr<Buffer>>* external_files = nullptr;  // mapped once each
};
Result<Tensor> ReadTensor(const onnx::TensorProto& t, const TensorSource& source);
Result<Tensor> ReadExternal(const onnx::TensorProto& t, DType dtype, const Dims& dims,
                            int64_t bytes, const TensorSource& source);
// The dense form.
Result<Tensor> ReadSparse(const onnx::SparseTensorProto& t, const TensorSource& source);
Result<DType> ReadDType(int onnx_type);
// An absent type gives Type{} (nothing known).
Result<Type> ReadType(const onnx::TypeProto& t, SymbolTable& symbols);

// ---- attributes ----

using AttrValue =
    std::variant<int64_t, float, std::string, Tensor, std::vector<int64_t>, std::vector<float>,
                 std::vector<std::string>, const onnx::GraphProto*>;
using AttrMap = std::map<std::string, AttrValue, std::less<>>;

Result<AttrValue> ReadAttribute(const onnx::AttributeProto& a, const TensorSource& source);
// Fills the operator's attributes; an attribute nobody reads or of another type is an error.
Status FillAttrs(Attrs& attrs, const AttrMap& map);
// No operator's attribute begins so: a tool's note to itself, which changes no result.
inline bool IsAnnotation(std::string_view attribute) { return attribute.starts_with('_'); }

// ---- names ----

std::string NormalDomain(const std::string& d);  // "ai.onnx" is ""
std::string QualifiedName(const std::string& domain, const std::string& op);
std::string Place(const onnx::NodeProto& n);  // "node 'conv1' (Conv)"
using NodeList = google::protobuf::RepeatedPtrField<onnx::NodeProto>;
// Names a graph reads but does not define, sub-graphs included, each once, in first-use order.
std::vector<std::string> FreeNames(const onnx::GraphProto& g);
// Nodes in an order in which names are defined before use; files should be written so, not all are.
Result<std::vector<const onnx::NodeProto*>> SortedNodes(const NodeList& nodes);

// ---- functions of the model ----

using Opsets = std::map<std::string, int>;  // domain → version
// Of the model; a missing version of ai.onnx is guessed from the IR version.
Opsets ReadOpsets(const onnx::ModelProto& model);

struct Function {
  const onnx::FunctionProto* proto = nullptr;
  Opsets opsets;  // the model's, where it has none of its own
};

class FunctionTable {
 public:
  static Result<FunctionTable> Of(const onnx::ModelProto& model, const Opsets& opsets);
  const Function* Find(const onnx::NodeProto& n) const;  // nullptr when there is none

 private:
  std::map<std::string, Function> functions_;
};

// What nodes of the main graph, or of a function while it is inlined, refer to beside values.
struct CallFrame {
  const Opsets* opsets = nullptr;
  std::map<std::string, const onnx::AttributeProto*> attributes;  // of the call
  std::string prefix;         // of names, so that two calls' differ
  std::string function_name;  // "" in the main graph
  int calls = 0;              // how deep

  // The attribute that a reference means; nullptr when the call has none. Others mean themselves.
  const onnx::AttributeProto* Resolve(const onnx::AttributeProto& a) const;
  // Makes this the frame of a call made in `caller`.
  Status Bind(const Function& function, const onnx::NodeProto& call, const CallFrame& caller);
};

// ---- nodes ----

// A node on its way into the graph.
struct RawNode {
  std::string op, domain, name;
  AttrMap attrs;
  std::vector<ValueId> inputs;
  std::vector<std::string> outputs;  // "" = not wanted
  // Where the node has been rewritten into others, the value of each output; the node itself is
  // then not added.
  std::optional<std::vector<ValueId>> results = std::nullopt;
};

// Rewrites a node of `opset` into the internal form, adding helper nodes to the graph where a
// rewrite needs them. Types of the inputs have been inferred.
Status Upgrade(RawNode& node, int opset, Graph& graph);
// The internal operator that (op, domain) of any opset ends up as; for the list of missing
// operators.
std::string_view InternalName(std::string_view op);
// Whether (op, domain) of some opset can be read: it has an internal form or a rewrite.
bool IsKnownOperator(std::string_view op, std::string_view domain);
// "domain.op", and what to do where one can say.
std::string DescribeMissing(std::string_view op, std::string_view domain);

}  // namespace dunlin::onnx_import
