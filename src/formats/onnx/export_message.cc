// Tensors, types and attributes as ONNX's messages.
#include "formats/onnx/export.h"

namespace dunlin::onnx_export {
namespace {

// Field numbers and values of onnx.proto.
namespace tensor {
constexpr uint32_t kDims = 1, kDataType = 2, kStringData = 6, kName = 8, kRawData = 9,
                   kExternalData = 13, kDataLocation = 14;
constexpr int64_t kExternal = 1;
}  // namespace tensor
namespace type {
constexpr uint32_t kTensor = 1, kSequence = 4, kMap = 5, kOptional = 9, kElemType = 1, kShape = 2,
                   kDim = 1, kDimValue = 1, kDimParam = 2, kKeyType = 1, kValueType = 2;
}
namespace attribute {
constexpr uint32_t kName = 1, kF = 2, kI = 3, kS = 4, kT = 5, kFloats = 7, kInts = 8, kStrings = 9,
                   kType = 20;
enum : int64_t { kFloat = 1, kInt, kString, kTensor, kGraph, kFloatList, kIntList, kStringList };
}  // namespace attribute

// Readers can map what begins at a multiple of the page size.
constexpr uint64_t kPage = 4096;
// Smaller tensors stay in the model file: shape inference of other engines wants their values.
constexpr int64_t kExternalBytes = 1024;

Message Entry(std::string_view key, std::string_view value) {
  return Message().Text(1, key).Text(2, value);
}

}  // namespace

uint64_t DataFile::Add(const Tensor& t) {
  const uint64_t at = (bytes + kPage - 1) / kPage * kPage;
  tensors.push_back(t);
  offsets.push_back(at);
  bytes = at + uint64_t(t.bytes());
  return at;
}

int OnnxDType(DType t) {
  constexpr int kLast = 64;  // above every number that ONNX has given
  for (int i = 1; i < kLast; ++i)
    if (const auto read = onnx_import::ReadDType(i); read && *read == t) return i;
  return 0;
}

Message TensorMessage(const std::string& name, const Tensor& t, DataFile* data) {
  Message m;
  for (const int64_t d : t.dims()) m.Int(tensor::kDims, d);
  m.Int(tensor::kDataType, OnnxDType(t.dtype()));
  if (!name.empty()) m.Text(tensor::kName, name);
  if (t.dtype() == DType::kString) {
    for (const std::string& s : t.values<std::string>()) m.Text(tensor::kStringData, s);
  } else if (data != nullptr && t.bytes() >= kExternalBytes) {
    const uint64_t offset = data->Add(t);
    m.Sub(tensor::kExternalData, Entry("location", data->name));
    m.Sub(tensor::kExternalData, Entry("offset", std::to_string(offset)));
    m.Sub(tensor::kExternalData, Entry("length", std::to_string(t.bytes())));
    m.Int(tensor::kDataLocation, tensor::kExternal);
  } else if (t.bytes() > 0) {
    m.Elements(tensor::kRawData, t);
  }
  return m;
}

Message TypeMessage(const Type& t, const SymbolTable& symbols, bool optional_sequence) {
  Message tensor;
  if (t.dtype != DType::kUndefined) tensor.Int(type::kElemType, OnnxDType(t.dtype));
  if (t.ranked) {
    Message shape;
    for (const int64_t d : t.dims) {
      Message dim;
      if (IsKnown(d)) dim.Int(type::kDimValue, d);
      if (IsSymbol(d)) dim.Text(type::kDimParam, symbols.names[size_t(SymbolIndex(d))]);
      shape.Sub(type::kDim, std::move(dim));
    }
    tensor.Sub(type::kShape, std::move(shape));
  }
  Message m;
  m.Sub(type::kTensor, std::move(tensor));
  if (t.key != DType::kUndefined) {
    Message map;
    map.Int(type::kKeyType, OnnxDType(t.key)).Sub(type::kValueType, std::move(m));
    m = Message();
    m.Sub(type::kMap, std::move(map));
  }
  if (t.kind == Type::Kind::kTensor || t.kind == Type::Kind::kMap) return m;
  if (t.kind == Type::Kind::kOptional && optional_sequence) {
    Message sequence;
    sequence.Sub(type::kSequence, Message().Sub(type::kElemType, std::move(m)));
    m = std::move(sequence);
  }
  Message outer;
  outer.Sub(t.kind == Type::Kind::kSequence ? type::kSequence : type::kOptional,
            Message().Sub(type::kElemType, std::move(m)));
  return outer;
}

Message AttributeMessage(const std::string& name, const AttrValue& v) {
  Message m;
  m.Text(attribute::kName, name);
  if (const auto* i = std::get_if<int64_t>(&v)) {
    m.Int(attribute::kI, *i).Int(attribute::kType, attribute::kInt);
  } else if (const auto* f = std::get_if<float>(&v)) {
    m.Float(attribute::kF, *f).Int(attribute::kType, attribute::kFloat);
  } else if (const auto* s = std::get_if<std::string>(&v)) {
    m.Text(attribute::kS, *s).Int(attribute::kType, attribute::kString);
  } else if (const auto* t = std::get_if<Tensor>(&v)) {
    m.Sub(attribute::kT, TensorMessage("", *t, nullptr)).Int(attribute::kType, attribute::kTensor);
  } else if (const auto* is = std::get_if<std::vector<int64_t>>(&v)) {
    for (const int64_t x : *is) m.Int(attribute::kInts, x);
    m.Int(attribute::kType, attribute::kIntList);
  } else if (const auto* fs = std::get_if<std::vector<float>>(&v)) {
    for (const float x : *fs) m.Float(attribute::kFloats, x);
    m.Int(attribute::kType, attribute::kFloatList);
  } else if (const auto* ss = std::get_if<std::vector<std::string>>(&v)) {
    for (const std::string& x : *ss) m.Text(attribute::kStrings, x);
    m.Int(attribute::kType, attribute::kStringList);
  }
  return m;
}

}  // namespace dunlin::onnx_export
