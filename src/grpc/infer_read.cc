#include "grpc/infer_read.h"

#include <algorithm>
#include <limits>

#include "grpc/tensor_contents.h"
#include "serve/check_request.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::grpc {
namespace {

using serve::ModelSpec;

// More than any model has. They bound what a small message can make us allocate: an empty tensor
// takes two bytes in a message and some two hundred here.
constexpr size_t kMaxTensors = 4096;
constexpr size_t kMaxParameters = 1024;
constexpr size_t kMaxRank = 32;
constexpr int64_t kMaxTimeoutUs = int64_t{366} * 24 * 3600 * 1000000;  // beyond a year it is none
// Smaller tensors are copied: a view would keep the whole message alive.
constexpr size_t kViewFrom = 4096;

Status TooMany(std::string_view what, size_t most) {
  return Fail(Code::kInvalidArgument, "cannot read the request: it has more than {} {}", most,
              what);
}

Parameter ReadParameter(WireReader& reader) {
  Parameter value;
  while (reader.Next()) {
    if (reader.Is(1, WireType::kVarint))
      value = reader.Varint() != 0;
    else if (reader.Is(2, WireType::kVarint))
      value = int64_t(reader.Varint());
    else if (reader.Is(3, WireType::kBytes))
      value = reader.String();
    else if (reader.Is(4, WireType::kFixed64))
      value = std::bit_cast<double>(reader.Fixed64());
    else if (reader.Is(5, WireType::kVarint))
      value = reader.Varint();
    else
      reader.Skip();
  }
  return value;
}

// One entry of a map<string, InferParameter>. False when there are too many.
bool ReadEntry(WireReader& message, Parameters& out) {
  WireReader entry = message.Bytes();
  auto& [key, value] = out.emplace_back();
  while (entry.Next()) {
    if (entry.Is(1, WireType::kBytes)) {
      key = entry.String();
    } else if (entry.Is(2, WireType::kBytes)) {
      WireReader inner = entry.Bytes();
      if (Parameter p = ReadParameter(inner)) value = std::move(p);
      if (!inner.ok()) message.Invalidate();
    } else {
      entry.Skip();
    }
  }
  if (!entry.ok()) message.Invalidate();
  return out.size() <= kMaxParameters;
}

Status ReadShape(WireReader& message, Dims& shape) {
  const auto add = [&](uint64_t extent) -> Status {
    if (shape.size() == kMaxRank) return TooMany("dimensions in a shape", kMaxRank);
    shape.push_back(int64_t(extent));
    return {};
  };
  if (message.type() == WireType::kVarint) return add(message.Varint());
  for (WireReader packed = message.Bytes(); !packed.AtEnd();) {
    const uint64_t extent = packed.Varint();
    if (!packed.ok()) {
      message.Invalidate();
      break;
    }
    TRY(add(extent));
  }
  return {};
}

// InferInputTensor and InferRequestedOutputTensor, whose parameters have another number.
Result<WireTensor> ReadTensor(WireReader& message, bool is_input) {
  WireTensor tensor;
  WireReader reader = message.Bytes();
  const uint32_t parameters = is_input ? 4 : 2;
  while (reader.Next()) {
    if (reader.Is(1, WireType::kBytes)) {
      tensor.name = reader.String();
    } else if (reader.Is(parameters, WireType::kBytes)) {
      if (!ReadEntry(reader, tensor.parameters))
        return Fail(TooMany("parameters of one tensor", kMaxParameters).error());
    } else if (is_input && reader.Is(2, WireType::kBytes)) {
      tensor.datatype = reader.String();
    } else if (is_input && reader.field() == 3 &&
               (reader.type() == WireType::kBytes || reader.type() == WireType::kVarint)) {
      TRY(ReadShape(reader, tensor.shape));
    } else if (is_input && reader.Is(5, WireType::kBytes)) {
      if (tensor.contents.size() == kMaxTensors)
        return Fail(TooMany("contents of one tensor", kMaxTensors).error());
      tensor.contents.push_back(reader.Bytes());
    } else {
      reader.Skip();
    }
  }
  if (!reader.ok()) message.Invalidate();
  return tensor;
}

// The value of a parameter, which must hold a T; null when it is not there. `expected` ends the
// message.
template <class T>
Result<const T*> Get(const Parameters& parameters, std::string_view name,
                     std::string_view expected) {
  const Parameter* found = nullptr;
  for (const auto& [key, value] : parameters)
    if (key == name) found = &value;
  if (found == nullptr) return nullptr;
  if (*found)
    if (const T* value = std::get_if<T>(&**found)) return value;
  return Fail(Code::kInvalidArgument, "invalid value type for '{}' parameter{}", name, expected);
}

// The parameters that place a tensor in shared memory; nothing when there are none.
Result<std::optional<serve::SharedMemoryRange>> SharedRange(const WireTensor& tensor) {
  using Range = std::optional<serve::SharedMemoryRange>;
  if (tensor.parameters.empty()) return Range();
  const std::string place = fmt::format(" for tensor '{}', expected ", tensor.name);
  const auto* region =
      TRY(Get<std::string>(tensor.parameters, "shared_memory_region", place + "string_param."));
  Range range;
  if (region) range.emplace().region = *region;
  const auto number = [&](std::string_view name) -> Result<std::optional<uint64_t>> {
    const auto* value = TRY(Get<int64_t>(tensor.parameters, name, place + "int64_param."));
    if (!value) return std::nullopt;
    if (!range)
      return Fail(Code::kInvalidArgument,
                  "'{}' can not be specified without 'shared_memory_region' parameter for tensor "
                  "'{}'",
                  name, tensor.name);
    if (*value < 0)
      return Fail(Code::kInvalidArgument, "'{}' of tensor '{}' must not be negative, got {}", name,
                  tensor.name, *value);
    return uint64_t(*value);
  };
  const auto offset = TRY(number("shared_memory_offset"));
  const auto bytes = TRY(number("shared_memory_byte_size"));
  if (!range) return Range();
  if (!bytes)
    return Fail(Code::kInvalidArgument,
                "'shared_memory_byte_size' must be specified along with 'shared_memory_region' "
                "parameter for tensor '{}'",
                tensor.name);
  range->offset = offset.value_or(0);
  range->byte_size = *bytes;
  return range;
}

class Maker {
 public:
  Maker(const ModelSpec& model, WireRequest& wire, const serve::SharedMemory& shared_memory,
        const std::shared_ptr<const void>& owner)
      : model_(model), wire_(wire), shared_memory_(shared_memory), owner_(owner) {}

  Result<InferCall> Make() {
    request().id = std::move(wire_.id);
    TRY(RequestParameters());
    request().inputs.reserve(wire_.inputs.size());
    for (WireTensor& input : wire_.inputs) {
      Tensor tensor = TRY(Input(input));
      request().inputs.push_back({std::move(input.name), std::move(tensor)});
    }
    if (next_raw_ < wire_.raw.size())
      return Fail(Code::kInvalidArgument, "unexpected additional input data for model '{}'",
                  model_.name);
    for (WireTensor& output : wire_.outputs) TRY(Output(output));
    return std::move(call_);
  }

 private:
  serve::InferRequest& request() { return call_.request; }

  Status RequestParameters() {
    for (auto& parameter : wire_.parameters) {
      const std::string& key = parameter.first;
      Parameter& value = parameter.second;
      const auto wrong = [&key](std::string_view expected) -> Status {
        return Fail(Code::kInvalidArgument, "invalid value type for '{}' parameter, expected {}.",
                    key, expected);
      };
      const auto* number = value ? std::get_if<int64_t>(&*value) : nullptr;
      const auto* big = value ? std::get_if<uint64_t>(&*value) : nullptr;
      const auto* flag = value ? std::get_if<bool>(&*value) : nullptr;
      if (key == "priority") {
        if (!number && !big) return wrong("int64_param or uint64_param");
        if (number && *number < 0)
          return Fail(Code::kInvalidArgument, "invalid value for 'priority', expected value >= 0.");
        request().priority = number ? uint64_t(*number) : *big;
      } else if (key == "timeout") {
        if (!number) return wrong("int64_param");
        request().timeout =
            std::chrono::microseconds(std::clamp(*number, int64_t{0}, kMaxTimeoutUs));
      } else if (key == "triton_enable_empty_final_response") {
        if (!flag) return wrong("bool_param");
        call_.empty_final_response = *flag;
      } else if (key.substr(0, 7) == "triton_") {
        return Fail(Code::kInvalidArgument,
                    "parameter keys starting with 'triton_' are reserved for Triton usage. Only "
                    "the following keys starting with 'triton_' are allowed: "
                    "triton_enable_empty_final_response");
      } else {
        if ((key == "sequence_start" || key == "sequence_end") && !flag) return wrong("bool_param");
        if (key == "sequence_id" && !number && !big &&
            !(value && std::holds_alternative<std::string>(*value)))
          return wrong("int64_param or string_param");
        TRY(serve::CheckParameterName(key));
        if (!value) return wrong("int64_param, bool_param, or string_param");
        request().parameters[key] = std::move(*value);
      }
    }
    return {};
  }

  Result<Tensor> Input(const WireTensor& input) {
    const serve::TensorSpec* spec = model_.FindInput(input.name);
    const DType dtype = serve::FromProtocolName(input.datatype);
    if (dtype == DType::kUndefined)
      return Fail(Code::kInvalidArgument,
                  "{}inference input '{}' data-type is '{}', but model '{}' expects '{}'",
                  serve::RequestPrefix(request()), input.name, input.datatype, model_.name,
                  spec ? serve::ProtocolName(spec->dtype) : "a known type");
    const serve::InputPlace place{request().id, input.name, model_.name};
    if (const auto range = TRY(SharedRange(input))) {
      if (!input.contents.empty())
        return Fail(Code::kInvalidArgument,
                    "unexpected 'content' provided when using shared memory for input tensor '{}' "
                    "for model '{}'",
                    input.name, model_.name);
      return serve::ReadSharedMemory(place, dtype, input.shape, TRY(shared_memory_.Pin(*range)));
    }
    if (!input.contents.empty()) {
      if (!wire_.raw.empty())
        return Fail(Code::kInvalidArgument,
                    "contents field must not be specified when using raw_input_contents for '{}' "
                    "for model '{}'",
                    input.name, model_.name);
      return TensorFromContents(place, dtype, input.shape, input.contents);
    }
    if (next_raw_ == wire_.raw.size())
      return Fail(Code::kInvalidArgument,
                  "unable to find data for input tensor '{}' for model '{}' in request.",
                  input.name, model_.name);
    return Raw(place, dtype, input.shape, wire_.raw[next_raw_++]);
  }

  Result<Tensor> Raw(const serve::InputPlace& place, DType dtype, const Dims& shape,
                     WireReader bytes) {
    const std::string_view whole = bytes.Contiguous();
    if (bytes.AtEnd() || whole.data() != nullptr)
      return serve::InputFromBytes(place, dtype, shape, whole,
                                   whole.size() >= kViewFrom ? owner_ : nullptr);
    const size_t size = bytes.remaining();
    auto gathered = TRY(Buffer::Allocate(size));
    bytes.CopyTo(gathered->data(), size);
    const char* text = reinterpret_cast<const char*>(gathered->data());
    return serve::InputFromBytes(place, dtype, shape, {text, size}, std::move(gathered));
  }

  Status Output(WireTensor& output) {
    if (!output.parameters.empty()) {
      OutputForm form{.name = output.name, .classes = 0, .shared = {}};
      const auto* classes =
          TRY(Get<int64_t>(output.parameters, "classification", ", expected int64_param"));
      if (classes && *classes <= 0)
        return Fail(Code::kInvalidArgument,
                    "invalid value for 'classification' parameter, expected >= 1");
      const auto range = TRY(SharedRange(output));
      if (classes && range)
        return Fail(Code::kInvalidArgument,
                    "output can't set both 'shared_memory_region' and 'classification'");
      if (classes) form.classes = uint64_t(*classes);
      if (range) form.shared = TRY(shared_memory_.Pin(*range));
      if (classes || range) call_.forms.push_back(std::move(form));
    }
    request().outputs.push_back(std::move(output.name));
    return {};
  }

  const ModelSpec& model_;
  WireRequest& wire_;
  const serve::SharedMemory& shared_memory_;
  const std::shared_ptr<const void>& owner_;
  InferCall call_;
  size_t next_raw_ = 0;
};

}  // namespace

Result<WireRequest> ReadWireRequest(WireReader message) {
  WireRequest request;
  while (message.Next()) {
    if (message.type() != WireType::kBytes) {
      message.Skip();
      continue;
    }
    switch (message.field()) {
      case 1:
        request.model_name = message.String();
        break;
      case 2:
        request.model_version = message.String();
        break;
      case 3:
        request.id = message.String();
        break;
      case 4:
        if (!ReadEntry(message, request.parameters))
          return Fail(TooMany("parameters", kMaxParameters).error());
        break;
      case 5:
      case 6: {
        auto& tensors = message.field() == 5 ? request.inputs : request.outputs;
        if (tensors.size() == kMaxTensors) return Fail(TooMany("tensors", kMaxTensors).error());
        tensors.push_back(TRY(ReadTensor(message, message.field() == 5)));
        break;
      }
      case 7:
        if (request.raw.size() == kMaxTensors)
          return Fail(TooMany("raw_input_contents", kMaxTensors).error());
        request.raw.push_back(message.Bytes());
        break;
      default:
        message.Skip();
    }
  }
  if (!message.ok())
    return Fail(Code::kInvalidArgument,
                "cannot read the request: its bytes are no ModelInferRequest");
  return request;
}

Result<InferCall> MakeInferCall(const ModelSpec& model, WireRequest wire,
                                const serve::SharedMemory& shared_memory,
                                std::shared_ptr<const void> owner) {
  return Maker(model, wire, shared_memory, owner).Make();
}

}  // namespace dunlin::grpc
