#include "conformance/test_data.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <set>

#include "formats/onnx/messages.pb.h"

namespace dunlin::conformance {
namespace {

using onnx::TensorProto;

DType FromOnnx(int type) {
  switch (type) {
    case TensorProto::FLOAT:
      return DType::kF32;
    case TensorProto::UINT8:
      return DType::kU8;
    case TensorProto::INT8:
      return DType::kI8;
    case TensorProto::UINT16:
      return DType::kU16;
    case TensorProto::INT16:
      return DType::kI16;
    case TensorProto::INT32:
      return DType::kI32;
    case TensorProto::INT64:
      return DType::kI64;
    case TensorProto::STRING:
      return DType::kString;
    case TensorProto::BOOL:
      return DType::kBool;
    case TensorProto::FLOAT16:
      return DType::kF16;
    case TensorProto::DOUBLE:
      return DType::kF64;
    case TensorProto::UINT32:
      return DType::kU32;
    case TensorProto::UINT64:
      return DType::kU64;
    case TensorProto::BFLOAT16:
      return DType::kBF16;
    case TensorProto::FLOAT8E4M3FN:
      return DType::kF8E4M3FN;
    case TensorProto::FLOAT8E4M3FNUZ:
      return DType::kF8E4M3FNUZ;
    case TensorProto::FLOAT8E5M2:
      return DType::kF8E5M2;
    case TensorProto::FLOAT8E5M2FNUZ:
      return DType::kF8E5M2FNUZ;
    case TensorProto::FLOAT8E8M0:
      return DType::kF8E8M0;
    case TensorProto::FLOAT4E2M1:
      return DType::kF4E2M1;
    case TensorProto::UINT4:
      return DType::kU4;
    case TensorProto::INT4:
      return DType::kI4;
    case TensorProto::UINT2:
      return DType::kU2;
    case TensorProto::INT2:
      return DType::kI2;
    default:
      return DType::kUndefined;
  }
}

// Narrow types travel one to an int32; each value's low bytes are the element.
template <class Field>
bool CopyField(const Field& field, int64_t count, size_t element_bytes, std::byte* to) {
  if (field.size() != count) return false;
  for (int64_t i = 0; i < count; ++i) {
    const auto v = field.Get(int(i));
    std::memcpy(to + size_t(i) * element_bytes, &v, element_bytes);
  }
  return true;
}

Result<Tensor> ToTensor(const TensorProto& p) {
  const DType dtype = FromOnnx(p.data_type());
  if (dtype == DType::kUndefined)
    return Fail(Code::kUnimplemented, "test data of ONNX element type {}", p.data_type());
  const Dims dims(std::span<const int64_t>(p.dims().data(), size_t(p.dims_size())));
  Tensor t = TRY(Tensor::Create(dtype, dims));
  const int64_t n = t.count();
  const auto broken = [&] {
    return Fail(Code::kInvalidArgument, "test data '{}' does not hold its {} elements", p.name(),
                n);
  };
  if (dtype == DType::kString) {
    if (p.string_data_size() != n) return broken();
    for (int64_t i = 0; i < n; ++i) t.mut<std::string>()[i] = p.string_data(int(i));
    return t;
  }
  if (p.has_raw_data() || n == 0) {
    if (int64_t(p.raw_data().size()) != t.bytes()) return broken();
    std::memcpy(t.raw(), p.raw_data().data(), p.raw_data().size());
    return t;
  }
  if (DTypeBits(dtype) <= 8) {  // a byte of storage in each entry
    if (!CopyField(p.int32_data(), t.bytes(), 1, t.raw())) return broken();
    return t;
  }
  const size_t width = size_t(DTypeBits(dtype)) / 8;
  bool ok = false;
  switch (dtype) {
    case DType::kF32:
      ok = CopyField(p.float_data(), n, width, t.raw());
      break;
    case DType::kF64:
      ok = CopyField(p.double_data(), n, width, t.raw());
      break;
    case DType::kI64:
      ok = CopyField(p.int64_data(), n, width, t.raw());
      break;
    case DType::kU32:
    case DType::kU64:
      ok = CopyField(p.uint64_data(), n, width, t.raw());
      break;
    default:
      ok = CopyField(p.int32_data(), n, width, t.raw());
      break;
  }
  if (!ok) return broken();
  return t;
}

Result<Value> ToSequence(const onnx::SequenceProto& p) {
  Value v;
  v.kind = Value::Kind::kSequence;
  if (p.elem_type() != onnx::SequenceProto::TENSOR && p.tensor_values_size() == 0 &&
      p.elem_type() != onnx::SequenceProto::UNDEFINED)
    return Fail(Code::kUnimplemented, "test data: a sequence of something other than tensors");
  for (const TensorProto& t : p.tensor_values()) v.sequence.push_back(TRY(ToTensor(t)));
  return v;
}

template <class Proto>
Result<Proto> Parse(const std::string& path) {
  const std::string bytes = TRY(ReadFile(path));
  Proto p;
  if (!p.ParseFromString(bytes))
    return Fail(Code::kInvalidArgument, "{}: not readable as {}", path, p.GetTypeName());
  return p;
}

ProtoKind KindOf(const onnx::TypeProto& t) {
  if (t.has_sequence_type()) return ProtoKind::kSequence;
  if (!t.has_optional_type()) return ProtoKind::kTensor;
  return t.optional_type().elem_type().has_sequence_type() ? ProtoKind::kOptionalSequence
                                                           : ProtoKind::kOptionalTensor;
}

Port PortOf(const onnx::ValueInfoProto& v) {
  return {v.name(), KindOf(v.type()), FromOnnx(v.type().tensor_type().elem_type())};
}

template <class Nodes>
void CollectOperators(const Nodes& nodes, std::set<std::string>& into) {
  for (const onnx::NodeProto& node : nodes) {
    into.insert(node.domain().empty() || node.domain() == "ai.onnx"
                    ? node.op_type()
                    : node.domain() + "." + node.op_type());
    for (const onnx::AttributeProto& a : node.attribute()) {
      if (a.has_g()) CollectOperators(a.g().node(), into);
      for (const onnx::GraphProto& g : a.graphs()) CollectOperators(g.node(), into);
    }
  }
}

}  // namespace

Result<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Fail(Code::kNotFound, "cannot open '{}'", path);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

Result<ModelFacts> ReadModelFacts(const std::string& path) {
  const auto model = TRY(Parse<onnx::ModelProto>(path));
  const onnx::GraphProto& graph = model.graph();
  ModelFacts facts;
  std::set<std::string> initialized;
  for (const TensorProto& t : graph.initializer()) initialized.insert(t.name());
  for (const auto& v : graph.input())
    if (!initialized.contains(v.name())) facts.inputs.push_back(PortOf(v));
  for (const auto& v : graph.output()) facts.outputs.push_back(PortOf(v));
  std::set<std::string> operators;
  CollectOperators(graph.node(), operators);
  for (const auto& f : model.functions()) CollectOperators(f.node(), operators);
  facts.operators.assign(operators.begin(), operators.end());
  return facts;
}

Result<Value> ReadValue(const std::string& path, const Port& port) {
  if (port.kind == ProtoKind::kTensor) {
    const auto proto = TRY(Parse<TensorProto>(path));
    const Tensor t = TRY(ToTensor(proto));
    if (port.dtype == DType::kBF16 && t.dtype() == DType::kU16)
      return Value(Tensor::Over(DType::kBF16, t.dims(), t.buffer()));
    return Value(t);
  }
  if (port.kind == ProtoKind::kSequence) {
    const auto sequence = TRY(Parse<onnx::SequenceProto>(path));
    return ToSequence(sequence);
  }
  const auto optional = TRY(Parse<onnx::OptionalProto>(path));
  if (optional.has_tensor_value()) return Value(TRY(ToTensor(optional.tensor_value())));
  if (optional.has_sequence_value()) return ToSequence(optional.sequence_value());
  return Value();
}

}  // namespace dunlin::conformance
