#include "http/infer_parse.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "http/json_read.h"
#include "http/json_tensor.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

using serve::ModelSpec;

// More dimensions than any model has; bounds what one tensor's shape can cost.
constexpr size_t kMaxRank = 32;
constexpr uint64_t kMaxTimeoutUs = 366ull * 24 * 3600 * 1000000;  // beyond a year it is none

Status CheckInputSize(std::string_view what, uint64_t bytes, int64_t most) {
  if (bytes <= uint64_t(most)) return {};
  return Fail(Code::kInvalidArgument,
              "{} size of {} bytes exceeds the maximum allowed input size of {} bytes. Use "
              "--http-max-input-size to increase the limit.",
              what, bytes, most);
}

// The JSON part of a request whose tensors are all binary, read. A client that sends tensors of the
// same extents again sends the same text again: then it is compared, not parsed.
struct Repeated {
  static constexpr size_t kMaxBytes = 4096;
  struct Input {
    std::string name;
    DType dtype;
    Dims dims;
  };
  std::string json;
  ParsedInfer parsed;  // without its inputs
  std::vector<Input> inputs;
};
thread_local Repeated repeated;

// --- The parts of a request --------------------------------------------------------------------

class Parser {
 public:
  Parser(const ModelSpec& model, const serve::SharedMemory& shared_memory, ParsedInfer& out,
         std::string_view json, std::string_view tail, bool has_tail,
         std::shared_ptr<const void> owner, int64_t max_input_bytes)
      : model_(model),
        shared_memory_(shared_memory),
        out_(out),
        json_(json),
        tail_(tail),
        has_tail_(has_tail),
        owner_(std::move(owner)),
        max_input_bytes_(max_input_bytes) {}

  Status Run() {
    const bool again = has_tail_ && !json_.empty() && json_ == repeated.json;
    TRY(again ? Repeat() : Parse());
    if (!tail_.empty())
      return Fail(Code::kInvalidArgument, "unexpected additional input data for model '{}'",
                  model_.name);
    if (!again) Remember();
    return {};
  }

 private:
  Status Repeat() {
    out_ = repeated.parsed;
    out_.request.inputs.reserve(repeated.inputs.size());
    for (const Repeated::Input& in : repeated.inputs) {
      const auto size = uint64_t(ByteSize(in.dtype, CountOf(in.dims)));
      out_.request.inputs.push_back({in.name, TRY(Binary(in.name, in.dtype, in.dims, size))});
    }
    return {};
  }

  // A text with an id is not sent twice, and what lies in shared memory is looked up each time.
  void Remember() {
    if (!only_binary_ || json_.size() > Repeated::kMaxBytes || !out_.request.id.empty()) return;
    repeated.json.clear();  // until the rest is there
    repeated.parsed = {};
    repeated.parsed.request.priority = out_.request.priority;
    repeated.parsed.request.timeout = out_.request.timeout;
    repeated.parsed.request.parameters = out_.request.parameters;
    repeated.parsed.request.outputs = out_.request.outputs;
    repeated.parsed.forms = out_.forms;
    repeated.parsed.binary_default = out_.binary_default;
    repeated.inputs.clear();
    for (const NamedTensor& in : out_.request.inputs)
      repeated.inputs.push_back({in.name, in.tensor.dtype(), in.tensor.dims()});
    repeated.json = json_;
  }

  Status Parse() {
    JsonDocument document;
    const JsonElement root = TRY(document.Parse(json_));
    if (auto id = FindMember(root, "id")) {
      auto text = AsString(*id);
      if (!text) return UnableToParse("id", text.error());
      out_.request.id = *text;
    }
    if (auto parameters = FindMember(root, "parameters")) TRY(Parameters(*parameters));
    TRY(Inputs(root));
    if (auto outputs = FindMember(root, "outputs")) TRY(Outputs(*outputs));
    return {};
  }

  Status Parameters(JsonElement element) {
    auto object = AsObject(element);
    if (!object) return UnableToParse("parameters", object.error());
    serve::InferRequest& request = out_.request;
    for (const auto [key, value] : *object) {
      TRY(serve::CheckParameterName(key));
      if (key == "priority" || key == "timeout") {
        const uint64_t number = TRY(Unsigned(key, value));
        if (key == "priority")
          request.priority = number;
        else
          request.timeout = std::chrono::microseconds(std::min(number, kMaxTimeoutUs));
      } else if (key == "binary_data_output") {
        out_.binary_default = TRY(Flag(key, value));
      } else if (key == "sequence_start" || key == "sequence_end") {
        request.parameters[std::string(key)] = TRY(Flag(key, value));
      } else if (key == "sequence_id") {
        if (!value.is<uint64_t>() && !value.is<std::string_view>())
          return Fail(Code::kInvalidArgument,
                      "Unable to parse 'sequence_id': it must be an unsigned integer or a string");
        TRY(ParseParameter(key, value, request));
      } else {
        TRY(ParseParameter(key, value, request));
      }
    }
    return {};
  }

  static Result<uint64_t> Unsigned(std::string_view key, JsonElement value) {
    auto number = AsUnsigned(value);
    if (!number) return UnableToParse(key, number.error());
    return number;
  }
  static Result<bool> Flag(std::string_view key, JsonElement value) {
    auto flag = AsBool(value);
    if (!flag) return UnableToParse(key, flag.error());
    return flag;
  }

  Status Inputs(JsonElement root) {
    auto member = Member(root, "inputs");
    if (!member) return UnableToParse("inputs", member.error());
    auto array = AsArray(*member);
    if (!array) return UnableToParse("inputs", array.error());
    for (const JsonElement input : *array) {
      if (out_.request.inputs.size() == kMaxTensors)
        return Fail(Code::kInvalidArgument, "Unable to parse 'inputs': more than {}", kMaxTensors);
      TRY(Input(input));
    }
    return {};
  }

  static Result<std::string_view> Text(JsonElement object, std::string_view key) {
    auto member = Member(object, key);
    if (!member) return UnableToParse(key, member.error());
    auto text = AsString(*member);
    if (!text) return UnableToParse(key, text.error());
    return text;
  }

  Status Input(JsonElement input) {
    const std::string_view name = TRY(Text(input, "name"));
    const std::string_view type = TRY(Text(input, "datatype"));
    const DType dtype = serve::FromProtocolName(type);
    if (dtype == DType::kUndefined)
      return Fail(Code::kInvalidArgument,
                  "Unable to parse 'datatype': unknown datatype '{}' for input '{}'", type, name);
    const Dims dims = TRY(Shape(name, input));
    const auto elements = ElementCount(dims);
    if (!elements)
      return Fail(Code::kInvalidArgument, "byte size overflow for input '{}': shape {} of {}", name,
                  ToString(dims), type);
    std::optional<uint64_t> binary;
    std::optional<serve::SharedMemoryRange> range;
    if (auto parameters = FindMember(input, "parameters")) {
      auto object = AsObject(*parameters);
      if (!object) return UnableToParse("parameters", object.error());
      for (const auto [key, value] : *object)
        if (key == "binary_data_size") binary = TRY(Unsigned(key, value));
      range = TRY(Range(*object));
    }
    Tensor tensor;
    only_binary_ &= binary && !range && dtype != DType::kString;
    if (range) {
      if (binary)
        return Fail(Code::kInvalidArgument,
                    "must not specify 'binary_data_size' when using shared memory for input '{}'",
                    name);
      const auto span = TRY(shared_memory_.Pin(*range));
      tensor =
          TRY(serve::ReadSharedMemory({out_.request.id, name, model_.name}, dtype, dims, span));
    } else if (binary) {
      tensor = TRY(Binary(name, dtype, dims, *binary));
    } else if (const auto data = FindMember(input, "data")) {
      // What has more elements than characters is refused for that.
      if (dtype != DType::kString && *elements <= int64_t(json_.size()) &&
          ByteSize(dtype, *elements) > max_input_bytes_)
        return CheckInputSize(fmt::format("JSON tensor '{}'", name),
                              uint64_t(ByteSize(dtype, *elements)), max_input_bytes_);
      tensor = TRY(TensorFromJson(dtype, dims, *data, name, json_.size()));
    } else if (*elements == 0) {
      tensor = TRY(Tensor::Create(dtype, dims));
    } else {
      return Fail(Code::kInvalidArgument,
                  "Unable to parse 'data': attempt to access non-existing object member 'data'");
    }
    out_.request.inputs.push_back({std::string(name), std::move(tensor)});
    return {};
  }

  // The shared memory that the parameters of an input or output name, if they do.
  static Result<std::optional<serve::SharedMemoryRange>> Range(simdjson::dom::object parameters) {
    std::optional<serve::SharedMemoryRange> range;
    std::optional<uint64_t> byte_size;
    uint64_t offset = 0;
    for (const auto [key, value] : parameters) {
      if (key == "shared_memory_region") {
        auto text = AsString(value);
        if (!text) return UnableToParse(key, text.error());
        range.emplace().region = *text;
      } else if (key == "shared_memory_offset") {
        offset = TRY(Unsigned(key, value));
      } else if (key == "shared_memory_byte_size") {
        byte_size = TRY(Unsigned(key, value));
      }
    }
    if (!range) return range;
    if (!byte_size)
      return Fail(
          Code::kInvalidArgument,
          "Unable to parse 'shared_memory_byte_size': attempt to access non-existing object "
          "member 'shared_memory_byte_size'");
    range->offset = offset;
    range->byte_size = *byte_size;
    return range;
  }

  static Result<Dims> Shape(std::string_view name, JsonElement input) {
    auto member = Member(input, "shape");
    if (!member) return UnableToParse("shape", member.error());
    auto array = AsArray(*member);
    if (!array) return UnableToParse("shape", array.error());
    Dims dims;
    int64_t count = 1;
    for (const JsonElement e : *array) {
      auto extent = AsUnsigned(e);
      if (!extent) return UnableToParse("shape", extent.error());
      if (*extent > uint64_t(std::numeric_limits<int64_t>::max()) || dims.size() == kMaxRank)
        return Fail(Code::kInvalidArgument, "Unable to parse 'shape': {}",
                    dims.size() == kMaxRank ? fmt::format("more than {} dimensions", kMaxRank)
                                            : fmt::format("{} is out of range", *extent));
      dims.push_back(int64_t(*extent));
      if (*extent > 0 && __builtin_mul_overflow(count, int64_t(*extent), &count))
        return Fail(Code::kInvalidArgument,
                    "Unable to parse 'shape': {} of input '{}' causes total element count to "
                    "exceed maximum size of {}",
                    ToString(dims), name, std::numeric_limits<int64_t>::max());
    }
    return dims;
  }

  Result<Tensor> Binary(std::string_view name, DType dtype, const Dims& dims, uint64_t size) {
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
    return serve::InputFromBytes({out_.request.id, name, model_.name}, dtype, dims, bytes, owner_);
  }

  Status Outputs(JsonElement element) {
    auto array = AsArray(element);
    if (!array) return UnableToParse("outputs", array.error());
    for (const JsonElement output : *array) {
      if (out_.forms.size() == kMaxTensors)
        return Fail(Code::kInvalidArgument, "Unable to parse 'outputs': more than {}", kMaxTensors);
      const std::string_view name = TRY(Text(output, "name"));
      OutputForm form;
      if (auto parameters = FindMember(output, "parameters"))
        form = TRY(ParseForm(name, *parameters));
      out_.request.outputs.emplace_back(name);
      out_.forms.emplace_back(name, std::move(form));
    }
    return {};
  }

  Result<OutputForm> ParseForm(std::string_view name, JsonElement parameters) {
    auto object = AsObject(parameters);
    if (!object) return UnableToParse("parameters", object.error());
    OutputForm form;
    for (const auto [key, value] : *object) {
      if (key == "binary_data")
        form.binary = TRY(Flag(key, value));
      else if (key == "classification")
        form.classes = TRY(Unsigned(key, value));
    }
    if (auto range = TRY(Range(*object))) {
      if (form.classes > 0)
        return Fail(Code::kInvalidArgument,
                    "shared memory can't be set in 'parameters' for output '{}' with "
                    "'classification'",
                    name);
      only_binary_ = false;
      form.span = TRY(shared_memory_.Pin(*range));
      form.range = std::move(*range);
    }
    return form;
  }

  const ModelSpec& model_;
  const serve::SharedMemory& shared_memory_;
  ParsedInfer& out_;
  const std::string_view json_;
  std::string_view tail_;  // binary data not yet used
  bool only_binary_ = true;
  const bool has_tail_;  // the request says where its JSON ends
  const std::shared_ptr<const void> owner_;
  const int64_t max_input_bytes_;
};

// The whole body is the one input of the model.
Result<ParsedInfer> ParseRaw(const ModelSpec& model, std::string_view body,
                             std::shared_ptr<const void> owner) {
  if (model.inputs.size() != 1)
    return Fail(Code::kInvalidArgument,
                "[request id: <id_unknown>] Raw request must only have 1 input (found 1) to be "
                "deduced but got {} inputs in '{}' model configuration",
                model.inputs.size(), model.name);
  const serve::TensorSpec& input = model.inputs[0];
  const auto refuse = [&](std::string_view why) {
    return Fail(Code::kInvalidArgument,
                "[request id: <id_unknown>] The shape of the raw input '{}' can not be deduced "
                "because {}",
                input.name, why);
  };
  if (input.any_shape) return refuse("the model does not say how many dimensions it has");
  Dims dims = input.dims;
  int64_t known = 1;
  int variable = -1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] != -1) {
      if (__builtin_mul_overflow(known, dims[i], &known)) return refuse("it is too large");
    } else if (variable >= 0) {
      return refuse("there are more than one variable-sized dimension");
    } else {
      variable = int(i);
    }
  }
  if (input.dtype == DType::kString && (variable >= 0 || known != 1))
    return Fail(Code::kInvalidArgument,
                "[request id: <id_unknown>] For BYTE datatype raw input '{}', the model must have "
                "input shape [1]",
                input.name);
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
    if (body.size() > UINT32_MAX) return refuse("an element of BYTES has less than 4 GiB");
    const auto n = uint32_t(body.size());
    element.append(reinterpret_cast<const char*>(&n), sizeof n).append(body);
    bytes = element;
  }
  Tensor t = TRY(serve::InputFromBytes({{}, input.name, model.name}, input.dtype, dims, bytes,
                                       input.dtype == DType::kString ? nullptr : owner));
  parsed.request.inputs.push_back({input.name, std::move(t)});
  return parsed;
}

}  // namespace

Result<ParsedInfer> ParseInfer(const ModelSpec& model, const InferBody& body,
                               const serve::SharedMemory& shared_memory, int64_t max_input_bytes) {
  std::string_view json = body.bytes, tail;
  const std::string_view header_length = body.header_length;
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
    if (length < 0 || uint64_t(length) > json.size())
      return Fail(Code::kInvalidArgument,
                  "inference header size should be in range (0, {}), got: {}", json.size(),
                  header_length);
    if (length == 0) {
      TRY(CheckInputSize("raw request", body.bytes.size(), max_input_bytes));
      return ParseRaw(model, body.bytes, body.owner);
    }
    json = body.bytes.substr(0, size_t(length));
    tail = body.bytes.substr(size_t(length));
  }
  TRY(CheckInputSize("request JSON", json.size(), max_input_bytes));
  Result<ParsedInfer> parsed;
  TRY(Parser(model, shared_memory, *parsed, json, tail, !header_length.empty(), body.owner,
             max_input_bytes)
          .Run());
  return parsed;
}

}  // namespace dunlin::http
