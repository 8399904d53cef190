// Tensors of ONNX files: finding raw bytes without parsing them, and reading every storage form.
#include <google/protobuf/io/coded_stream.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"

namespace dunlin::onnx_import {
namespace {

using google::protobuf::io::CodedInputStream;

// Field numbers of onnx.proto.
constexpr uint32_t kModelGraph = 7, kGraphInitializer = 5, kTensorRawData = 9;
// Smaller tensors are cheaper to parse than to patch around.
constexpr size_t kStripBytes = 1024;
// Smaller ones are copied: one that is read keeps a large page of the file in memory.
constexpr int64_t kMapBytes = 65536;

struct Field {
  uint32_t number = 0;
  int wire = 0;
  size_t begin = 0;    // of the tag
  size_t payload = 0;  // of the contents (after the length, for length-delimited fields)
  size_t end = 0;
};

// One message's fields by position in the file, without interpreting them.
class Walker {
 public:
  Walker(const uint8_t* base, size_t begin, size_t end) : p_(base), at_(begin), end_(end) {}
  bool Done() const { return at_ == end_; }
  Result<Field> Next() {
    Field f;
    f.begin = at_;
    const uint64_t tag = TRY(Varint());
    f.number = uint32_t(tag >> 3);
    f.wire = int(tag & 7);
    uint64_t size = 0;
    switch (f.wire) {
      case 0:
        f.payload = at_;
        TRY(Varint());
        break;
      case 1:
        size = 8;
        f.payload = at_;
        break;
      case 5:
        size = 4;
        f.payload = at_;
        break;
      case 2:
        size = TRY(Varint());
        f.payload = at_;
        break;
      default:
        return Fail(Code::kInvalidArgument, "not an ONNX file: unknown wire type {} at byte {}",
                    f.wire, f.begin);
    }
    if (f.wire != 0) {
      if (size > end_ - at_)
        return Fail(Code::kInvalidArgument,
                    "the file is cut short: field {} at byte {} claims {} bytes, {} are left",
                    f.number, f.begin, size, end_ - at_);
      at_ += size;
    }
    f.end = at_;
    return f;
  }

 private:
  Result<uint64_t> Varint() {
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == end_) return Fail(Code::kInvalidArgument, "the file is cut short at byte {}", at_);
      const uint8_t b = p_[at_++];
      v |= uint64_t(b & 0x7f) << shift;
      if (!(b & 0x80)) return v;
    }
    return Fail(Code::kInvalidArgument, "not an ONNX file: a number too long before byte {}", at_);
  }
  const uint8_t* p_;
  size_t at_, end_;
};

void PutVarint(std::string& out, uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += char(v | 0x80);
  out += char(v);
}
void PutMessage(std::string& out, uint32_t number, const std::string& body) {
  PutVarint(out, (number << 3) | 2);
  PutVarint(out, body.size());
  out += body;
}

}  // namespace

Result<StrippedModel> StripWeights(std::span<const std::byte> bytes) {
  const auto* p = reinterpret_cast<const uint8_t*>(bytes.data());
  const auto copy = [&](std::string& out, const Field& f) {
    out.append(reinterpret_cast<const char*>(p) + f.begin, f.end - f.begin);
  };
  StrippedModel result;
  Walker model(p, 0, bytes.size());
  while (!model.Done()) {
    const Field f = TRY(model.Next());
    if (f.number != kModelGraph || f.wire != 2) {
      copy(result.message, f);
      continue;
    }
    std::string graph;
    Walker fields(p, f.payload, f.end);
    while (!fields.Done()) {
      const Field g = TRY(fields.Next());
      if (g.number != kGraphInitializer || g.wire != 2) {
        copy(graph, g);
        continue;
      }
      std::string tensor;
      RawSpan raw;
      Walker parts(p, g.payload, g.end);
      while (!parts.Done()) {
        const Field t = TRY(parts.Next());
        if (t.number == kTensorRawData && t.wire == 2 && t.end - t.payload >= kStripBytes)
          raw = {t.payload, t.end - t.payload, true};
        else
          copy(tensor, t);
      }
      result.weights.push_back(raw);
      PutMessage(graph, kGraphInitializer, tensor);
    }
    PutMessage(result.message, kModelGraph, graph);
  }
  return result;
}

Result<DType> ReadDType(int t) {
  // TensorProto.DataType; the numbers are those of the ONNX specification, newer than Debian's
  // enum.
  static constexpr DType kTypes[] = {DType::kUndefined,
                                     DType::kF32,
                                     DType::kU8,
                                     DType::kI8,
                                     DType::kU16,
                                     DType::kI16,
                                     DType::kI32,
                                     DType::kI64,
                                     DType::kString,
                                     DType::kBool,
                                     DType::kF16,
                                     DType::kF64,
                                     DType::kU32,
                                     DType::kU64,
                                     DType::kUndefined /* complex64 */,
                                     DType::kUndefined /* complex128 */,
                                     DType::kBF16,
                                     DType::kF8E4M3FN,
                                     DType::kF8E4M3FNUZ,
                                     DType::kF8E5M2,
                                     DType::kF8E5M2FNUZ,
                                     DType::kU4,
                                     DType::kI4,
                                     DType::kF4E2M1,
                                     DType::kF8E8M0,
                                     DType::kU2,
                                     DType::kI2};
  if (t < 0 || t >= int(std::size(kTypes)) || kTypes[t] == DType::kUndefined)
    return Fail(Code::kUnimplemented, "ONNX element type {} is not supported", t);
  return kTypes[t];
}

namespace {

// The typed fields: T elements stored one a slot of a wider repeated field.
template <class T, class Field>
Status FromField(const Field& field, const Tensor& out) {
  T* y = out.mut<T>();
  for (int i = 0; i < field.size(); ++i) {
    if constexpr (kIsHalf<T>)
      y[i].bits = uint16_t(field.Get(i));
    else
      y[i] = T(field.Get(i));
  }
  return {};
}

Status FillTyped(const onnx::TensorProto& t, const Tensor& out, int64_t count) {
  const auto fits = [&](int n) -> Status {
    if (n != count)
      return Fail(Code::kInvalidArgument, "tensor '{}' of {} elements has data for {}", t.name(),
                  count, n);
    return {};
  };
  if (IsNarrow(out.dtype())) {  // a byte of storage in each entry
    if (t.int32_data_size() != out.bytes())
      return Fail(Code::kInvalidArgument, "tensor '{}' of {} elements has {} bytes of data, not {}",
                  t.name(), count, t.int32_data_size(), out.bytes());
    for (int i = 0; i < t.int32_data_size(); ++i)
      out.raw()[i] = std::byte(uint8_t(t.int32_data(i)));
    return {};
  }
  switch (out.dtype()) {
    case DType::kF32:
      TRY(fits(t.float_data_size()));
      return FromField<float>(t.float_data(), out);
    case DType::kF64:
      TRY(fits(t.double_data_size()));
      return FromField<double>(t.double_data(), out);
    case DType::kI64:
      TRY(fits(t.int64_data_size()));
      return FromField<int64_t>(t.int64_data(), out);
    case DType::kU64:
      TRY(fits(t.uint64_data_size()));
      return FromField<uint64_t>(t.uint64_data(), out);
    case DType::kU32:
      TRY(fits(t.uint64_data_size()));
      return FromField<uint32_t>(t.uint64_data(), out);
    case DType::kString: {
      TRY(fits(t.string_data_size()));
      for (int i = 0; i < t.string_data_size(); ++i) out.mut<std::string>()[i] = t.string_data(i);
      return {};
    }
    default:
      break;
  }
  TRY(fits(t.int32_data_size()));
  return VisitDType(out.dtype(), "tensor", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (std::is_same_v<T, std::string>)
      return {};
    else
      return FromField<T>(t.int32_data(), out);
  });
}

Result<Tensor> ReadExternal(const onnx::TensorProto& t, DType dtype, const Dims& dims,
                            int64_t bytes, const TensorSource& source) {
  std::string location;
  int64_t offset = 0, length = -1;
  for (const auto& e : t.external_data()) {
    const std::string& v = e.value();
    int64_t* number = e.key() == "offset" ? &offset : e.key() == "length" ? &length : nullptr;
    if (e.key() == "location") location = v;
    if (number != nullptr &&
        std::from_chars(v.data(), v.data() + v.size(), *number).ec != std::errc())
      return Fail(Code::kInvalidArgument, "tensor '{}': external data {} is '{}', not a number",
                  t.name(), e.key(), v);
  }
  if (source.external_dir.empty())
    return Fail(Code::kInvalidArgument,
                "tensor '{}' lies in file '{}', but the model's folder is not known; load the "
                "model from a file",
                t.name(), location);
  // The file may only name things beside it: no absolute path, no way up.
  if (location.empty() || location.front() == '/' || location.find("..") != std::string::npos ||
      location.find('\0') != std::string::npos)
    return Fail(Code::kInvalidArgument,
                "tensor '{}': external data location '{}' is outside the model's folder", t.name(),
                location);
  std::shared_ptr<Buffer>& file = (*source.external_files)[location];
  if (!file) {
    auto mapped = Buffer::MapFile(source.external_dir + "/" + location);
    if (!mapped) return FailAt(fmt::format("tensor '{}': external data", t.name()), mapped.error());
    file = std::move(*mapped);
  }
  if (length >= 0 && length != bytes)
    return Fail(Code::kInvalidArgument, "tensor '{}': external data has {} bytes, {} are needed",
                t.name(), length, bytes);
  if (offset < 0 || uint64_t(offset) > file->bytes() ||
      uint64_t(bytes) > file->bytes() - uint64_t(offset))
    return Fail(Code::kInvalidArgument, "tensor '{}': external file '{}' ends before byte {}",
                t.name(), location, offset + bytes);
  if (bytes > 0 && offset % (DTypeBits(dtype) / 8 ? DTypeBits(dtype) / 8 : 1) == 0)
    return Tensor::Over(dtype, dims, file, size_t(offset));
  return Tensor::Over(dtype, dims, Buffer::Unaligned(file, size_t(offset), size_t(bytes)));
}

}  // namespace

Result<Tensor> ReadTensor(const onnx::TensorProto& t, const TensorSource& source,
                          const RawSpan* raw) {
  const auto dtype_result = ReadDType(t.data_type());
  if (!dtype_result) return FailAt(fmt::format("tensor '{}'", t.name()), dtype_result.error());
  const DType dtype = *dtype_result;
  Dims dims;
  for (const int64_t d : t.dims()) dims.push_back(d);
  const auto count = ElementCount(dims);
  if (!count)
    return Fail(Code::kInvalidArgument, "tensor '{}' has impossible extents {}", t.name(),
                ToString(dims));
  const int64_t bytes = ByteSize(dtype, *count);
  if (t.data_location() == onnx::TensorProto::EXTERNAL) {
    if (dtype == DType::kString)
      return Fail(Code::kInvalidArgument, "tensor '{}': strings cannot be external", t.name());
    return ReadExternal(t, dtype, dims, bytes, source);
  }
  const bool stripped = raw != nullptr && raw->stripped;
  if (stripped || t.has_raw_data()) {
    const size_t have = stripped ? raw->bytes : t.raw_data().size();
    if (dtype == DType::kString || have != size_t(bytes))
      return Fail(Code::kInvalidArgument, "tensor '{}' {}{} needs {} bytes, the file holds {}",
                  t.name(), DTypeName(dtype), ToString(dims), bytes, have);
    if (stripped && dtype != DType::kBool && bytes >= kMapBytes) {
      const auto address = reinterpret_cast<uintptr_t>(source.backing->data() + raw->offset);
      if (address % uintptr_t(std::max(1, DTypeBits(dtype) / 8)) == 0)
        return Tensor::Over(dtype, dims, source.backing, raw->offset);
      return Tensor::Over(dtype, dims,
                          Buffer::Unaligned(source.backing, raw->offset, size_t(bytes)));
    }
    Tensor out = TRY(Tensor::Create(dtype, dims));
    const void* from = stripped ? static_cast<const void*>(source.backing->data() + raw->offset)
                                : t.raw_data().data();
    if (dtype == DType::kBool)  // anything but 0 is true; a C++ bool may hold only 0 or 1
      for (int64_t i = 0; i < bytes; ++i)
        out.raw()[i] = std::byte(static_cast<const uint8_t*>(from)[i] != 0);
    else if (bytes > 0)
      std::memcpy(out.raw(), from, size_t(bytes));
    return out;
  }
  // Before memory is taken: the typed fields hold at least a byte an element, or a quarter (i2).
  if (*count > int64_t(t.ByteSizeLong()) * 4)
    return Fail(Code::kInvalidArgument, "tensor '{}' {} has no data", t.name(), ToString(dims));
  Tensor out = TRY(Tensor::Create(dtype, dims));
  TRY(FillTyped(t, out, *count));
  return out;
}

Result<Type> ReadType(const onnx::TypeProto& t, SymbolTable& symbols) {
  Type out;
  const onnx::TypeProto* p = &t;
  if (p->has_sequence_type()) out.kind = Type::Kind::kSequence;
  // Optional of whatever: what it holds shows when it is there.
  if (p->has_optional_type()) {
    out.kind = Type::Kind::kOptional;
    p = &p->optional_type().elem_type();
  }
  if (p->has_sequence_type()) p = &p->sequence_type().elem_type();
  if (!p->has_tensor_type()) {
    if (p->value_case() == onnx::TypeProto::VALUE_NOT_SET) return out;
    return Fail(Code::kUnimplemented, "map and sparse tensor types are not supported");
  }
  const auto& tensor = p->tensor_type();
  if (tensor.elem_type() != 0) out.dtype = TRY(ReadDType(tensor.elem_type()));
  if (!tensor.has_shape()) return out;
  out.ranked = true;
  for (const auto& d : tensor.shape().dim()) {
    if (d.has_dim_value())
      out.dims.push_back(d.dim_value() >= 0 ? d.dim_value() : kUnknownDim);
    else if (d.has_dim_param() && !d.dim_param().empty())
      out.dims.push_back(symbols.Intern(d.dim_param()));
    else
      out.dims.push_back(kUnknownDim);
  }
  return out;
}

}  // namespace dunlin::onnx_import
