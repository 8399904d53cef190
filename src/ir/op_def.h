// OpDef: what the graph needs to know of an operator. The operators themselves are declared in
// ops/; nothing here names one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace dunlin {

struct OpImpl;  // ops/op.h: how it is computed

// What is known of a value before it is computed.
struct Type {
  enum class Kind : uint8_t { kTensor, kSequence, kOptional, kMap };
  Kind kind = Kind::kTensor;
  DType dtype = DType::kUndefined;  // of the elements; kUndefined: not known
  bool ranked = false;              // false: dims mean nothing
  Dims dims;
  // Of a map, or of the maps that a sequence or an optional holds: the type of its keys, where
  // dtype is that of its values. kUndefined: there are no maps.
  DType key = DType::kUndefined;

  static Type Of(DType t, Dims d) { return {Kind::kTensor, t, true, std::move(d)}; }
  static Type Unranked(DType t) { return {Kind::kTensor, t, false, {}}; }
  static Type Map(DType key, DType value) { return {Kind::kMap, value, false, {}, key}; }
  static Type SequenceOfMaps(DType key, DType value) {
    return {Kind::kSequence, value, false, {}, key};
  }
  bool IsStatic() const {
    return kind == Kind::kTensor && dtype != DType::kUndefined && ranked && AllKnown(dims);
  }
  bool operator==(const Type&) const = default;
};
std::string ToString(const Type& t);
// With the text of its elements' type and extents in place of t's own: "seq(f32[n])".
std::string ToString(const Type& t, std::string elements);

// Walks the attributes of an operator; parsing, printing, hashing and comparing are visitors.
// The name is ONNX's where ONNX has one.
class AttrVisitor {
 public:
  virtual ~AttrVisitor() = default;
  virtual void operator()(std::string_view name, int64_t& v) = 0;
  virtual void operator()(std::string_view name, float& v) = 0;
  virtual void operator()(std::string_view name, bool& v) = 0;  // an int on the wire
  virtual void operator()(std::string_view name, std::string& v) = 0;
  virtual void operator()(std::string_view name, Tensor& v) = 0;
  virtual void operator()(std::string_view name, std::vector<int64_t>& v) = 0;
  virtual void operator()(std::string_view name, std::vector<float>& v) = 0;
  virtual void operator()(std::string_view name, std::vector<std::string>& v) = 0;
  virtual void operator()(std::string_view name, std::optional<int64_t>& v) = 0;
  virtual void operator()(std::string_view name, std::optional<float>& v) = 0;
  virtual void operator()(std::string_view name,
                          DType& v) = 0;  // ONNX's TensorProto.DataType on the wire
};

// The attributes of one node, of a type only its operator knows.
class Attrs {
 public:
  virtual ~Attrs() = default;
  virtual void Visit(AttrVisitor& v) = 0;
  virtual std::unique_ptr<Attrs> Clone() const = 0;
};

template <class A>
class AttrsOf final : public Attrs {
 public:
  AttrsOf() = default;
  explicit AttrsOf(A v) : value(std::move(v)) {}
  void Visit(AttrVisitor& v) override { value.Visit(v); }
  std::unique_ptr<Attrs> Clone() const override { return std::make_unique<AttrsOf>(value); }
  A value;
};

// For operators without attributes.
struct NoAttrs {
  template <class V>
  void Visit(V&) {}
};

// What shape inference sees and fills. Total: it must cope with any types and return a Result.
class InferContext {
 public:
  virtual ~InferContext() = default;
  virtual int input_count() const = 0;
  virtual int output_count() const = 0;
  virtual bool has(int i) const = 0;           // false for an omitted optional input
  virtual bool wants(int output) const = 0;    // false for an output nobody named
  virtual const Type& input(int i) const = 0;  // only when has(i)
  virtual const Tensor* value(
      int i) const = 0;  // the input's value when it is constant, else nullptr
  // An integer scalar or vector whose entries are known or symbolic (a computed shape); nullopt:
  // unknown.
  virtual std::optional<Dims> shape_value(int i) const = 0;
  virtual void Set(int output, Type type) = 0;
  virtual void SetShapeValue(int output, Dims entries) = 0;
  // Outputs of sub-graph `branch` when its formal inputs (without captures) have these types.
  virtual Result<std::vector<Type>> InferSubgraph(int branch, std::span<const Type> formal) = 0;

  DType dtype(int i) const { return input(i).dtype; }
  // The ints of a constant input; nullopt when not constant or not integers.
  std::optional<std::vector<int64_t>> ints(int i) const;
};

struct OpDef {
  std::string_view name;                 // "Conv"
  std::string_view domain = "";          // "": ai.onnx; else "com.microsoft", "dunlin", …
  int min_inputs = 0, max_inputs = 0;    // -1: any number
  int min_outputs = 1, max_outputs = 1;  // -1: any number
  // The output holds the input's bytes under other extents (Reshape, Squeeze …): no step is
  // executed.
  bool is_view = false;
  // Same inputs, other results (random numbers): never folded or merged.
  bool nondeterministic = false;
  int subgraphs = 0;
  std::unique_ptr<Attrs> (*make_attrs)() = nullptr;
  Status (*infer)(const Attrs&, InferContext&) = nullptr;
  const OpImpl* impl = nullptr;
};

// The attributes of a node as the operator's own struct. The caller knows the operator.
template <class A>
const A& As(const Attrs& a) {
  return static_cast<const AttrsOf<A>&>(a).value;
}
template <class A>
A& As(Attrs& a) {
  return static_cast<AttrsOf<A>&>(a).value;
}

}  // namespace dunlin
