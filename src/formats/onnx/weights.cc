// Tensors of ONNX files: finding raw bytes without parsing them, and reading every storage form.

#include <algorithm>
#include <cstring>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"

namespace dunlin::onnx_import {
namespace {

// The messages on the way from a model to its tensors.
enum class Message : uint8_t {
  kOther,
  kModel,
  kGraph,
  kFunction,
  kNode,
  kAttribute,
  kSparse,
  kTensor
};
// What lies in a field of a message, by its number in messages.proto.
Message InField(Message in, uint32_t field) {
  struct Row {
    Message in;
    uint32_t field;
    Message child;
  };
  using enum Message;
  static constexpr Row kRows[] = {
      {kModel, 7, kGraph},         {kModel, 25, kFunction},   {kGraph, 1, kNode},
      {kGraph, 5, kTensor},        {kGraph, 15, kSparse},     {kFunction, 7, kNode},
      {kFunction, 11, kAttribute}, {kNode, 5, kAttribute},    {kAttribute, 5, kTensor},
      {kAttribute, 6, kGraph},     {kAttribute, 10, kTensor}, {kAttribute, 11, kGraph},
      {kAttribute, 22, kSparse},   {kAttribute, 23, kSparse}, {kSparse, 1, kTensor},
      {kSparse, 2, kTensor}};
  for (const Row& r : kRows)
    if (r.in == in && r.field == field) return r.child;
  return kOther;
}
constexpr uint32_t kModelTrainingInfo = 20, kTensorRawData = 9;
constexpr uint32_t kStrippedOffset = 100001, kStrippedBytes = 100002;
// Deeper than protobuf itself reads.
constexpr int kMaxNesting = 128;
// Smaller tensors are cheaper to parse than to patch around.
constexpr size_t kStripBytes = 1024;
// Smaller ones are copied: one that is read keeps a large page of the file in memory.
constexpr int64_t kMapBytes = 65536;

// Where the raw bytes of a tensor lie in the file.
struct RawSpan {
  size_t offset = 0, bytes = 0;
};

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

namespace {

// Writes the message in p[begin, end) to `out`, raw bytes of tensors left out.
Status Strip(const uint8_t* p, size_t begin, size_t end, Message kind, int depth,
             std::string& out) {
  Walker fields(p, begin, end);
  RawSpan raw;
  while (!fields.Done()) {
    const Field f = TRY(fields.Next());
    const Message child =
        f.wire == 2 && depth < kMaxNesting ? InField(kind, f.number) : Message::kOther;
    if (child != Message::kOther) {
      std::string body;
      TRY(Strip(p, f.payload, f.end, child, depth + 1, body));
      PutMessage(out, f.number, body);
      continue;
    }
    if (kind == Message::kModel && f.number == kModelTrainingInfo) continue;  // nobody reads it
    if (kind == Message::kTensor) {
      if (f.number == kStrippedOffset || f.number == kStrippedBytes) continue;  // ours alone
      if (f.number == kTensorRawData && f.wire == 2 && f.end - f.payload >= kStripBytes) {
        raw = {f.payload, f.end - f.payload};
        continue;
      }
    }
    out.append(reinterpret_cast<const char*>(p) + f.begin, f.end - f.begin);
  }
  if (raw.bytes > 0) {
    PutVarint(out, kStrippedOffset << 3);
    PutVarint(out, raw.offset);
    PutVarint(out, kStrippedBytes << 3);
    PutVarint(out, raw.bytes);
  }
  return {};
}

}  // namespace

Result<std::string> StripWeights(std::span<const std::byte> bytes) {
  std::string out;
  TRY(Strip(reinterpret_cast<const uint8_t*>(bytes.data()), 0, bytes.size(), Message::kModel, 0,
            out));
  return out;
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
      return Fail(Code::kInvalidArgument,
                  "tensor '{}' {}{} needs {} bytes of data, the file holds {}", t.name(),
                  DTypeName(out.dtype()), ToString(out.dims()), out.bytes(), t.int32_data_size());
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

}  // namespace

namespace {

// Raw bytes that were left in the file.
Result<Tensor> FromFile(const onnx::TensorProto& t, DType dtype, const Dims& dims,
                        const TensorSource& source) {
  const uint64_t offset = t.stripped_offset(), bytes = t.stripped_bytes();
  DUNLIN_CHECK(source.backing && offset <= source.backing->bytes() &&
                   bytes <= source.backing->bytes() - offset,
               "bytes the file does not have");
  if (dtype == DType::kBool || int64_t(bytes) < kMapBytes) {
    Tensor out = TRY(Tensor::Create(dtype, dims));
    std::memcpy(out.raw(), source.backing->data() + offset, bytes);
    return out;
  }
  const auto address = reinterpret_cast<uintptr_t>(source.backing->data() + offset);
  if (address % uintptr_t(std::max(1, DTypeBits(dtype) / 8)) == 0)
    return Tensor::Over(dtype, dims, source.backing, offset);
  return Tensor::Over(dtype, dims, Buffer::Unaligned(source.backing, offset, bytes));
}

// A C++ bool may hold only 0 or 1; in a file, anything but 0 is true.
void MakeBools(const Tensor& t) {
  if (t.dtype() != DType::kBool) return;
  for (int64_t i = 0; i < t.count(); ++i) t.raw()[i] = std::byte(t.raw()[i] != std::byte{0});
}

bool HasTypedData(const onnx::TensorProto& t) {
  return t.float_data_size() || t.int32_data_size() || t.string_data_size() ||
         t.int64_data_size() || t.double_data_size() || t.uint64_data_size();
}

}  // namespace

Result<Tensor> ReadTensor(const onnx::TensorProto& t, const TensorSource& source) {
  const auto dtype_result = ReadDType(t.data_type());
  if (!dtype_result) return FailAt(fmt::format("tensor '{}'", t.name()), dtype_result.error());
  const DType dtype = *dtype_result;
  const Dims dims(std::span<const int64_t>(t.dims().data(), size_t(t.dims_size())));
  const auto count = ElementCount(dims);
  if (!count)
    return Fail(Code::kInvalidArgument, "tensor '{}' has impossible extents {}", t.name(),
                ToString(dims));
  if (t.has_segment())
    return Fail(Code::kUnimplemented, "tensor '{}' is stored in segments; save it whole", t.name());
  const int64_t bytes = ByteSize(dtype, *count);
  if (t.data_location() == onnx::TensorProto::EXTERNAL) {
    if (dtype == DType::kString)
      return Fail(Code::kInvalidArgument, "tensor '{}': strings cannot be external", t.name());
    Tensor out = TRY(ReadExternal(t, dtype, dims, bytes, source));
    if (dtype == DType::kBool) out = TRY(out.Clone());  // the file's bytes may be anything
    MakeBools(out);
    return out;
  }
  const bool stripped = t.has_stripped_bytes();
  // Some writers set an empty raw_data beside the typed field.
  if (stripped || (t.has_raw_data() && !(t.raw_data().empty() && HasTypedData(t)))) {
    const size_t have = stripped ? size_t(t.stripped_bytes()) : t.raw_data().size();
    if (dtype == DType::kString || have != size_t(bytes))
      return Fail(Code::kInvalidArgument, "tensor '{}' {}{} needs {} bytes, the file holds {}",
                  t.name(), DTypeName(dtype), ToString(dims), bytes, have);
    Tensor out =
        stripped ? TRY(FromFile(t, dtype, dims, source)) : TRY(Tensor::Create(dtype, dims));
    if (!stripped && bytes > 0) std::memcpy(out.raw(), t.raw_data().data(), size_t(bytes));
    MakeBools(out);
    return out;
  }
  // Before memory is taken: the typed fields hold at least a byte an element, or a quarter (i2).
  if (*count > int64_t(t.ByteSizeLong()) * 4)
    return Fail(Code::kInvalidArgument, "tensor '{}' {}{} has no data for its {} elements",
                t.name(), DTypeName(dtype), ToString(dims), *count);
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
  if (p->has_map_type()) {
    const auto& map = p->map_type();
    out.key = TRY(ReadDType(map.key_type()));
    if (!IsInteger(out.key) && out.key != DType::kString)
      return Fail(Code::kInvalidArgument, "a map with keys of {}", DTypeName(out.key));
    if (!map.value_type().has_tensor_type())
      return Fail(Code::kUnimplemented, "maps to anything but numbers and strings");
    out.dtype = TRY(ReadDType(map.value_type().tensor_type().elem_type()));
    if (out.kind == Type::Kind::kTensor) out.kind = Type::Kind::kMap;
    return out;
  }
  if (!p->has_tensor_type()) {
    if (p->value_case() == onnx::TypeProto::VALUE_NOT_SET) return out;
    return Fail(Code::kUnimplemented, "sparse tensor types are not supported");
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
