#include "grpc/tensor_contents.h"

#include <fmt/format.h>

#include <bit>

#include "serve/datatype.h"

namespace dunlin::grpc {
namespace {

// A field of InferTensorContents: how its elements stand on the wire and which types it is for.
struct Field {
  WireType element;    // kBytes: strings, which are never packed
  DType natural;       // what it holds if the input's type is none of those
  DType also[2] = {};  // narrower types that it carries, too
  bool Fits(DType t) const { return t == natural || t == also[0] || t == also[1]; }
};
constexpr Field kFields[] = {
    {WireType::kVarint, DType::kBool}, {WireType::kVarint, DType::kI32, {DType::kI8, DType::kI16}},
    {WireType::kVarint, DType::kI64},  {WireType::kVarint, DType::kU32, {DType::kU8, DType::kU16}},
    {WireType::kVarint, DType::kU64},  {WireType::kFixed32, DType::kF32},
    {WireType::kFixed64, DType::kF64}, {WireType::kBytes, DType::kString},
};

template <class T>
T Element(WireReader& reader) {
  if constexpr (std::is_same_v<T, float>)
    return std::bit_cast<float>(reader.Fixed32());
  else if constexpr (std::is_same_v<T, double>)
    return std::bit_cast<double>(reader.Fixed64());
  else if constexpr (std::is_same_v<T, bool>)
    return reader.Varint() != 0;
  else
    return T(reader.Varint());  // narrower types take the low bytes
}

// Reads the elements of one occurrence of a field. Counts all, stores the first `room`.
template <class T>
void ReadElements(WireReader& reader, T* out, int64_t room, int64_t& count) {
  if constexpr (std::is_same_v<T, std::string>) {
    WireReader bytes = reader.Bytes();
    if (count < room) {
      out[count].resize(bytes.remaining());
      bytes.CopyTo(out[count].data(), bytes.remaining());
    }
    ++count;
  } else if (reader.type() != WireType::kBytes) {
    const T value = Element<T>(reader);
    if (count < room) out[count] = value;
    ++count;
  } else {
    WireReader packed = reader.Bytes();
    if constexpr (std::is_floating_point_v<T>) {  // as they lie in memory
      const auto n =
          int64_t(std::min(packed.remaining() / sizeof(T), size_t(room - std::min(room, count))));
      packed.CopyTo(out + count, size_t(n) * sizeof(T));
      count += n;
    }
    while (!packed.AtEnd()) {
      const T value = Element<T>(packed);
      if (count < room) out[count] = value;
      ++count;
    }
    if (!packed.ok()) reader.Invalidate();
  }
}

}  // namespace

Result<Tensor> TensorFromContents(const serve::InputPlace& place, DType dtype, const Dims& shape,
                                  const std::vector<WireReader>& contents) {
  const auto mismatch = [&](int64_t expected, int64_t got) {
    return Fail(Code::kInvalidArgument,
                "[request id: {}] input byte size mismatch for input '{}' for model '{}'. Expected "
                "{}, got {}",
                place.request_id.empty() ? "<id_unknown>" : place.request_id, place.input,
                place.model, expected, got);
  };
  const auto malformed = [] {
    return Fail(Code::kInvalidArgument,
                "cannot read the request: its bytes are no ModelInferRequest");
  };
  const auto elements = ElementCount(shape);
  if (!elements)
    return Fail(Code::kInvalidArgument, "input '{}' for model '{}': shape {} is not possible",
                place.input, place.model, ToString(shape));
  // Which field is there, and whether the elements can be: one takes a byte at least.
  const Field* present = nullptr;
  size_t bytes = 0;
  for (WireReader reader : contents) {
    bytes += reader.remaining();
    for (; reader.Next(); reader.Skip()) {
      const Field* field = reader.field() >= 1 && reader.field() <= std::size(kFields)
                               ? &kFields[reader.field() - 1]
                               : nullptr;
      if (!field || (reader.type() != field->element && reader.type() != WireType::kBytes))
        continue;
      if (present && present != field)
        return Fail(Code::kInvalidArgument,
                    "unexpected explicit tensor data for input tensor '{}' for model '{}', binary "
                    "data was already supplied.",
                    place.input, place.model);
      present = field;
    }
    if (!reader.ok()) return malformed();
  }
  if (present && !present->Fits(dtype))
    return Fail(
        Code::kInvalidArgument,
        "unexpected explicit tensor data for input tensor '{}' for model '{}' of type '{}', "
        "expected datatype '{}'",
        place.input, place.model, serve::ProtocolName(present->natural),
        serve::ProtocolName(dtype));
  const bool possible = *elements <= int64_t(bytes);
  Tensor tensor = TRY(Tensor::Create(dtype, possible ? shape : Dims{0}));
  int64_t count = 0;
  bool ok = true;
  TRY(VisitDType(dtype, place.input, [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (!kIsHalf<T>) {
      if (!present) return {};
      for (WireReader reader : contents) {
        while (reader.Next()) {
          if (reader.field() == uint32_t(present - kFields) + 1 &&
              (reader.type() == present->element || reader.type() == WireType::kBytes))
            ReadElements(reader, tensor.mut<T>(), tensor.count(), count);
          else
            reader.Skip();
        }
        ok = ok && reader.ok();
      }
    }
    return {};
  }));
  if (!ok) return malformed();
  if (count != *elements) {
    if (dtype == DType::kString) return mismatch(*elements, count);
    return mismatch(ByteSize(dtype, *elements), ByteSize(dtype, count));
  }
  return tensor;
}

}  // namespace dunlin::grpc
