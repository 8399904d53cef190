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
class GraphProto;
class ModelProto;
class TensorProto;
class TypeProto;
}  // namespace dunlin::onnx

namespace dunlin::onnx_import {

// Where the raw bytes of the main graph's large initialisers lie in the file; they are left out of
// the parsed message so that weights are never copied through protobuf.
struct RawSpan {
  size_t offset = 0, bytes = 0;
  bool stripped = false;
};
struct StrippedModel {
  std::string message;           // the model without those bytes
  std::vector<RawSpan> weights;  // per initializer of the main graph, in order
};
Result<StrippedModel> StripWeights(std::span<const std::byte> bytes);

struct TensorSource {
  std::shared_ptr<Buffer> backing;
  std::string external_dir;
  std::map<std::string, std::shared_ptr<Buffer>>* external_files = nullptr;  // mapped once each
};
// raw: the stripped bytes, or nullptr.
Result<Tensor> ReadTensor(const onnx::TensorProto& t, const TensorSource& source,
                          const RawSpan* raw = nullptr);
Result<DType> ReadDType(int onnx_type);
// An absent type gives Type{} (nothing known).
Result<Type> ReadType(const onnx::TypeProto& t, SymbolTable& symbols);

using AttrValue =
    std::variant<int64_t, float, std::string, Tensor, std::vector<int64_t>, std::vector<float>,
                 std::vector<std::string>, const onnx::GraphProto*>;
using AttrMap = std::map<std::string, AttrValue, std::less<>>;

Result<AttrValue> ReadAttribute(const onnx::AttributeProto& a, const TensorSource& source);
// Fills the operator's attributes; an attribute nobody reads or of another type is an error.
Status FillAttrs(Attrs& attrs, const AttrMap& map);

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
