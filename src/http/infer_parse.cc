#include "http/infer_parse.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "http/json_read.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

using serve::ModelSpec;

// More dimensions than any model has; bounds what one tensor's shape can cost.
constexpr size_t kMaxRank = 32;
constexpr uint64_t kMaxTimeoutUs = 366ull * 24 * 3600 * 1000000;  // beyond a year it is none

constexpr std::string_view kShapeMismatch =
    "Unable to parse 'data': Shape does not match true shape of 'data' field";

// --- JSON data into a tensor ---------------------------------------------------------------------

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
    out = std::string(TRY(AsString(e)));
  } else {
    out = TRY(Number<T>(e));
  }
  return {};
}

// Nested or flat, row-major either way. The parser has bounded the depth.
template <class T>
Status Fill(simdjson::dom::array array, T* out, int64_t count, int64_t& next) {
  for (const JsonElement e : array) {
    if (e.type() == simdjson::dom::element_type::ARRAY) {
      simdjson::dom::array inner;
      if (e.get(inner) == simdjson::SUCCESS) TRY(Fill(inner, out, count, next));
      continue;
    }
    if (next >= count) return Fail(Code::kInvalidArgument, "{}", kShapeMismatch);
    if (Status s = StoreElement(e, out[next++]); !s) return UnableToParse("data", s.error());
  }
  return {};
}

Result<Tensor> TensorFromJson(DType dtype, const Dims& dims, JsonElement data,
                              const std::string& name, size_t json_bytes) {
  if (dtype == DType::kF16 || dtype == DType::kBF16)
    return Fail(Code::kInvalidArgument,
                "sending {} data via JSON is not supported. Please use the binary data format for "
                "input '{}'",
                serve::ProtocolName(dtype), name);
  auto array = AsArray(data);
  if (!array) return UnableToParse("data", array.error());
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
      TRY(Fill(*array, t.mut<T>(), *count, next));
      if (next != *count) return Fail(Code::kInvalidArgument, "{}", kShapeMismatch);
      return {};
    }
  });
  if (!filled) return Fail(filled.error());
  return t;
}

// --- The parts of a request --------------------------------------------------------------------

class Parser {
 public:
  Parser(const ModelSpec& model, ParsedInfer& out, std::string_view json, std::string_view tail,
         bool has_tail)
      : model_(model), out_(out), json_(json), tail_(tail), has_tail_(has_tail) {}

  Status Run() {
    JsonDocument document;
    const JsonElement root = TRY(document.Parse(json_));
    if (auto id = FindMember(root, "id")) {
      auto text = AsString(*id);
      if (!text) return UnableToParse("id", text.error());
      out_.request.id = *text;
    }
    if (auto parameters = FindMember(root, "parameters")) TRY(Parameters(*parameters));
    TRY(Inputs(root));
    if (!tail_.empty())
      return Fail(Code::kInvalidArgument, "unexpected additional input data for model '{}'",
                  model_.name);
    if (auto outputs = FindMember(root, "outputs")) TRY(Outputs(*outputs));
    return {};
  }

 private:
  Status Parameters(JsonElement element) {
    auto object = AsObject(element);
    if (!object) return UnableToParse("parameters", object.error());
    serve::InferRequest& request = out_.request;
    for (const auto [key, value] : *object) {
      TRY(serve::CheckParameterName(key));
      if (key == "priority" || key == "timeout") {
        auto number = AsUnsigned(value);
        if (!number) return UnableToParse(key, number.error());
        if (key == "priority")
          request.priority = *number;
        else
          request.timeout = std::chrono::microseconds(std::min(*number, kMaxTimeoutUs));
      } else if (key == "binary_data_output") {
        auto on = AsBool(value);
        if (!on) return UnableToParse(key, on.error());
        out_.binary_default = *on;
      } else {
        TRY(Custom(std::string(key), value));
      }
    }
    return {};
  }

  Status Custom(std::string key, JsonElement value) {
    auto& slot = out_.request.parameters[key];
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
        return Fail(
            Code::kInvalidArgument,
            "parameter '{}' has invalid type. It should be either 'int', 'bool', 'double' or "
            "'string'.",
            key);
    }
  }

  static Status RefuseSharedMemory(JsonElement parameters) {
    if (!FindMember(parameters, "shared_memory_region")) return {};
    return Fail(Code::kUnimplemented, "shared memory is not supported");
  }

  Status Inputs(JsonElement root) {
    auto member = Member(root, "inputs");
    if (!member) return UnableToParse("inputs", member.error());
    auto array = AsArray(*member);
    if (!array) return UnableToParse("inputs", array.error());
    for (const JsonElement input : *array) TRY(Input(input));
    return {};
  }

  Status Input(JsonElement input) {
    const auto field = [&](std::string_view key) -> Result<std::string_view> {
      auto member = Member(input, key);
      if (!member) return UnableToParse(key, member.error());
      auto text = AsString(*member);
      if (!text) return UnableToParse(key, text.error());
      return text;
    };
    const std::string name(TRY(field("name")));
    const std::string_view type = TRY(field("datatype"));
    const DType dtype = serve::FromProtocolName(type);
    if (dtype == DType::kUndefined)
      return Fail(Code::kInvalidArgument,
                  "Unable to parse 'datatype': unknown datatype '{}' for input '{}'", type, name);
    const Dims dims = TRY(Shape(input));
    std::optional<uint64_t> binary;
    if (auto parameters = FindMember(input, "parameters")) {
      if (auto object = AsObject(*parameters); !object)
        return UnableToParse("parameters", object.error());
      TRY(RefuseSharedMemory(*parameters));
      if (auto size = FindMember(*parameters, "binary_data_size")) {
        auto number = AsUnsigned(*size);
        if (!number) return UnableToParse("binary_data_size", number.error());
        binary = *number;
      }
    }
    Tensor tensor;
    if (binary) {
      tensor = TRY(Binary(name, dtype, dims, *binary));
    } else {
      const auto data = FindMember(input, "data");
      if (!data && ElementCount(dims) == 0) {
        tensor = TRY(Tensor::Create(dtype, dims));
      } else if (!data) {
        return Fail(Code::kInvalidArgument,
                    "Unable to parse 'data': attempt to access non-existing object member 'data'");
      } else {
        tensor = TRY(TensorFromJson(dtype, dims, *data, name, json_.size()));
      }
    }
    out_.request.inputs.push_back({name, std::move(tensor)});
    return {};
  }

  Result<Dims> Shape(JsonElement input) {
    auto member = Member(input, "shape");
    if (!member) return UnableToParse("shape", member.error());
    auto array = AsArray(*member);
    if (!array) return UnableToParse("shape", array.error());
    Dims dims;
    for (const JsonElement e : *array) {
      auto extent = AsUnsigned(e);
      if (!extent) return UnableToParse("shape", extent.error());
      if (*extent > uint64_t(std::numeric_limits<int64_t>::max()) || dims.size() == kMaxRank)
        return Fail(Code::kInvalidArgument, "Unable to parse 'shape': {}",
                    dims.size() == kMaxRank ? fmt::format("more than {} dimensions", kMaxRank)
                                            : fmt::format("{} is out of range", *extent));
      dims.push_back(int64_t(*extent));
    }
    if (!ElementCount(dims))
      return Fail(Code::kInvalidArgument, "Unable to parse 'shape': {} has too many elements",
                  ToString(dims));
    return dims;
  }

  Result<Tensor> Binary(const std::string& name, DType dtype, const Dims& dims, uint64_t size) {
    if (!has_tail_)
      return Fail(Code::kInvalidArgument,
                  "must specify valid 'Infer-Header-Content-Length' in request header and "
                  "'binary_data_size' when passing inputs in binary data format");
    if (size > tail_.size())
      return Fail(Code::kInvalidArgument,
                  "unexpected size for input '{}', expecting {} additional bytes for model '{}'",
                  name, size - tail_.size(), model_.name);
    const std::string_view bytes = tail_.substr(0, size);
    tail_.remove_prefix(size);
    return serve::InputFromBytes({out_.request.id, name, model_.name}, dtype, dims, bytes);
  }

  Status Outputs(JsonElement element) {
    auto array = AsArray(element);
    if (!array) return UnableToParse("outputs", array.error());
    for (const JsonElement output : *array) {
      auto member = Member(output, "name");
      if (!member) return UnableToParse("name", member.error());
      auto text = AsString(*member);
      if (!text) return UnableToParse("name", text.error());
      OutputForm form;
      if (auto parameters = FindMember(output, "parameters")) {
        if (auto object = AsObject(*parameters); !object)
          return UnableToParse("parameters", object.error());
        TRY(RefuseSharedMemory(*parameters));
        if (auto binary = FindMember(*parameters, "binary_data")) {
          auto on = AsBool(*binary);
          if (!on) return UnableToParse("binary_data", on.error());
          form.binary = *on;
        }
        if (auto classes = FindMember(*parameters, "classification")) {
          auto number = AsUnsigned(*classes);
          if (!number) return UnableToParse("classification", number.error());
          form.classes = *number;
        }
      }
      out_.request.outputs.emplace_back(*text);
      out_.forms[std::string(*text)] = form;
    }
    return {};
  }

  const ModelSpec& model_;
  ParsedInfer& out_;
  const std::string_view json_;
  std::string_view tail_;  // binary data not yet used
  const bool has_tail_;    // the request says where its JSON ends
};

// The whole body is the one input of the model.
Result<ParsedInfer> ParseRaw(const ModelSpec& model, std::string_view body) {
  const auto refuse = [&](std::string_view why) {
    return Fail(Code::kInvalidArgument,
                "raw binary request for model '{}' is not possible: the model {}", model.name, why);
  };
  if (model.inputs.size() != 1) return refuse("must have exactly one input");
  const serve::TensorSpec& input = model.inputs[0];
  if (input.any_shape) return refuse("does not say how many dimensions its input has");
  Dims dims = input.dims;
  if (input.dtype == DType::kString) {
    if (dims.size() != 1 || (dims[0] != 1 && dims[0] != -1))
      return refuse("has a BYTES input whose shape is not [1]");
    dims[0] = 1;
  }
  int64_t known = 1;
  int variable = -1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] != -1) {
      if (__builtin_mul_overflow(known, dims[i], &known)) return refuse("has too large an input");
    } else if (variable >= 0) {
      return refuse("has more than one variable-size dimension");
    } else {
      variable = int(i);
    }
  }
  if (variable >= 0) {
    const int64_t step = ByteSize(input.dtype, known);
    if (step == 0 || int64_t(body.size()) % step != 0)
      return Fail(
          Code::kInvalidArgument,
          "input byte size mismatch for input '{}' for model '{}'. Expected a multiple of {}, "
          "got {}",
          input.name, model.name, step, body.size());
    dims[size_t(variable)] = int64_t(body.size()) / step;
  }
  if (model.max_batch_size > 0) dims.insert(0, 1);
  ParsedInfer parsed;
  parsed.binary_default = true;
  std::string element;
  std::string_view bytes = body;
  if (input.dtype == DType::kString) {  // the body is the element; the length is implied
    if (body.size() > UINT32_MAX) return refuse("cannot take a BYTES element of more than 4 GiB");
    const auto n = uint32_t(body.size());
    element.append(reinterpret_cast<const char*>(&n), sizeof n).append(body);
    bytes = element;
  }
  Tensor t = TRY(serve::InputFromBytes({{}, input.name, model.name}, input.dtype, dims, bytes));
  parsed.request.inputs.push_back({input.name, std::move(t)});
  return parsed;
}

}  // namespace

Result<ParsedInfer> ParseInfer(const ModelSpec& model, std::string_view body,
                               std::string_view header_length, int64_t max_json_bytes) {
  std::string_view json = body, tail;
  if (!header_length.empty()) {
    int64_t length = 0;
    const char* end = header_length.data() + header_length.size();
    const auto [stop, error] = std::from_chars(header_length.data(), end, length);
    if (error == std::errc::result_out_of_range) {
      length = -1;
    } else if (error != std::errc() || stop != end) {
      return Fail(Code::kInvalidArgument,
                  "Unable to parse Inference-Header-Content-Length, got: {}", header_length);
    }
    if (length < 0 || uint64_t(length) > body.size())
      return Fail(Code::kInvalidArgument,
                  "inference header size should be in range (0, {}), got: {}", body.size(),
                  header_length);
    if (length == 0) return ParseRaw(model, body);
    json = body.substr(0, size_t(length));
    tail = body.substr(size_t(length));
  }
  if (int64_t(json.size()) > max_json_bytes)
    return Fail(Code::kInvalidArgument,
                "request JSON size of {} bytes exceeds the maximum allowed input size of {} bytes. "
                "Use --http-max-input-size to increase the limit.",
                json.size(), max_json_bytes);
  ParsedInfer parsed;
  TRY(Parser(model, parsed, json, tail, !header_length.empty()).Run());
  return parsed;
}

}  // namespace dunlin::http
