#include "http/json_tensor.h"

#include <limits>
#include <type_traits>

#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

constexpr std::string_view kShapeMismatch =
    "Unable to parse 'data': Shape does not match true shape of 'data' field";

template <class T>
Result<T> Number(JsonElement e) {
  if constexpr (std::is_same_v<T, bool>) {
    return AsBool(e);
  } else if constexpr (std::is_floating_point_v<T>) {
    double v = 0;
    if (e.get_double().get(v) != simdjson::SUCCESS)
      return Fail(Code::kInvalidArgument, "attempt to access JSON non-number as double");
    return T(v);
  } else if constexpr (std::is_unsigned_v<T>) {
    const uint64_t v = TRY(AsUnsigned(e));
    if (v > std::numeric_limits<T>::max())
      return Fail(Code::kInvalidArgument, "{} is out of range", v);
    return T(v);
  } else {
    int64_t v = 0;
    if (e.get_int64().get(v) != simdjson::SUCCESS)
      return Fail(Code::kInvalidArgument,
                  "attempt to access JSON non-signed-integer as signed-integer");
    if (v < std::numeric_limits<T>::min() || v > std::numeric_limits<T>::max())
      return Fail(Code::kInvalidArgument, "{} is out of range", v);
    return T(v);
  }
}

template <class T>
Status StoreElement(JsonElement e, T& out) {
  if constexpr (std::is_same_v<T, std::string>) {
    // TensorFlow Serving's way to write bytes: {"b64": "…"}.
    const auto encoded = FindMember(e, "b64");
    const std::string_view text = TRY(AsString(encoded ? *encoded : e));
    out = encoded ? TRY(serve::DecodeBase64(text)) : std::string(text);
  } else {
    out = TRY(Number<T>(e));
  }
  return {};
}

// A value, or values nested or flat, row-major either way. The parser has bounded the depth.
template <class T>
Status Fill(JsonElement value, T* out, int64_t count, int64_t& next) {
  simdjson::dom::array array;
  if (value.get(array) == simdjson::SUCCESS) {
    for (const JsonElement e : array) TRY(Fill(e, out, count, next));
    return {};
  }
  if (next >= count) return Fail(Code::kInvalidArgument, "{}", kShapeMismatch);
  if (Status s = StoreElement(value, out[next++]); !s) return UnableToParse("data", s.error());
  return {};
}

}  // namespace

Result<Tensor> TensorFromJson(DType dtype, const Dims& dims, JsonElement data,
                              std::string_view name, size_t json_bytes) {
  if (auto array = AsArray(data); !array) return UnableToParse("data", array.error());
  return TensorFromValues(dtype, dims, {&data, 1}, name, json_bytes);
}

Result<Tensor> TensorFromValues(DType dtype, const Dims& dims, std::span<const JsonElement> values,
                                std::string_view name, size_t json_bytes) {
  if (dtype == DType::kF16 || dtype == DType::kBF16)
    return Fail(Code::kInvalidArgument,
                "sending {} data via JSON is not supported. Please use the binary data format for "
                "input '{}'",
                serve::ProtocolName(dtype), name);
  // An element takes a character and a comma, so more cannot be there: checked before memory is
  // taken.
  const auto count = ElementCount(dims);
  if (!count || *count > int64_t(json_bytes))
    return Fail(Code::kInvalidArgument, "{}", kShapeMismatch);
  Tensor t = TRY(Tensor::Create(dtype, dims));
  const Status filled = VisitDType(dtype, name, [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (kIsHalf<T>) {
      return {};
    } else {
      int64_t next = 0;
      for (const JsonElement& value : values) TRY(Fill(value, t.mut<T>(), *count, next));
      if (next != *count) return Fail(Code::kInvalidArgument, "{}", kShapeMismatch);
      return {};
    }
  });
  if (!filled) return Fail(filled.error());
  return t;
}

Status ParseParameter(std::string_view key, JsonElement value, serve::InferRequest& request) {
  auto& slot = request.parameters[std::string(key)];
  switch (value.type()) {
    case simdjson::dom::element_type::BOOL:
      slot = bool(value.get_bool().value_unsafe());
      return {};
    case simdjson::dom::element_type::INT64:
      slot = value.get_int64().value_unsafe();
      return {};
    case simdjson::dom::element_type::UINT64:
      slot = value.get_uint64().value_unsafe();
      return {};
    case simdjson::dom::element_type::DOUBLE:
      slot = value.get_double().value_unsafe();
      return {};
    case simdjson::dom::element_type::STRING:
      slot = std::string(value.get_string().value_unsafe());
      return {};
    default:
      return Fail(Code::kInvalidArgument,
                  "parameter '{}' has invalid type. It should be either 'int', 'bool', 'double' or "
                  "'string'.",
                  key);
  }
}

namespace {

// Elements [begin, end), each a value.
Status WriteElements(JsonWriter& json, std::string_view name, const Tensor& t, int64_t begin,
                     int64_t end) {
  if (t.dtype() == DType::kF16 || t.dtype() == DType::kBF16)
    return Fail(Code::kInvalidArgument,
                "sending {} data via JSON is not supported. Please use the binary data format for "
                "output '{}'",
                serve::ProtocolName(t.dtype()), name);
  return VisitDType(t.dtype(), name, [&]<class T>(TypeTag<T>) -> Status {
    for (const T& v : t.values<T>().subspan(size_t(begin), size_t(end - begin))) {
      if constexpr (std::is_same_v<T, std::string>) {
        if (!simdjson::validate_utf8(v.data(), v.size()))
          return Fail(
              Code::kInvalidArgument,
              "output '{}' holds bytes that are not UTF-8, which JSON cannot carry. Please use "
              "the binary data format for output '{}'",
              name, name);
        json.String(v);
      } else if constexpr (std::is_same_v<T, bool>) {
        json.Bool(v);
      } else if constexpr (!kIsHalf<T>) {
        json.Number(v);
      }
    }
    return {};
  });
}

}  // namespace

Status WriteData(JsonWriter& json, std::string_view name, const Tensor& t) {
  json.BeginArray();
  TRY(WriteElements(json, name, t, 0, t.count()));
  json.End();
  return {};
}

Status WriteNested(JsonWriter& json, std::string_view name, const Tensor& t, int axis,
                   int64_t begin) {
  if (axis == t.rank()) return WriteElements(json, name, t, begin, begin + 1);
  const std::span<const int64_t> dims = t.dims();
  const int64_t step = CountOf(Dims(dims.subspan(size_t(axis) + 1)));
  json.BeginArray();
  if (axis + 1 == t.rank()) {
    TRY(WriteElements(json, name, t, begin, begin + dims[size_t(axis)]));
  } else {
    for (int64_t i = 0; i < dims[size_t(axis)]; ++i)
      TRY(WriteNested(json, name, t, axis + 1, begin + i * step));
  }
  json.End();
  return {};
}

}  // namespace dunlin::http
