#include "http/client_wire.h"

#include <simdjson.h>

#include <algorithm>

#include "base/json_writer.h"
#include "http/json_read.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

// A path segment: everything but the unreserved characters of RFC 3986 as %XX.
std::string Escaped(std::string_view segment) {
  std::string out;
  for (const char c : segment) {
    if (std::isalnum(static_cast<unsigned char>(c)) ||
        std::string_view("-._~").find(c) != std::string_view::npos)
      out += c;
    else
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

Code CodeOf(int status) {
  switch (status) {
    case 404:
      return Code::kNotFound;
    case 501:
      return Code::kUnimplemented;
    case 503:
      return Code::kUnavailable;
    default:
      return status < 500 ? Code::kInvalidArgument : Code::kInternal;
  }
}

Result<std::string> Text(JsonElement from, std::string_view key) {
  const JsonElement member = TRY(Member(from, key));
  return std::string(TRY(AsString(member)));
}

Result<simdjson::dom::array> Array(JsonElement from, std::string_view key) {
  const JsonElement member = TRY(Member(from, key));
  return AsArray(member);
}

Result<Dims> Shape(JsonElement from) {
  Dims dims;
  for (const JsonElement e : TRY(Array(from, "shape"))) {
    int64_t extent = 0;
    if (e.get(extent) != simdjson::SUCCESS)
      return Fail(Code::kInternal, "a shape is not of integers");
    dims.push_back(extent < 0 ? kUnknownDim : extent);
  }
  return dims;
}

Result<DType> Datatype(JsonElement from) {
  const std::string text = TRY(Text(from, "datatype"));
  const DType dtype = serve::FromProtocolName(text);
  if (dtype == DType::kUndefined) return Fail(Code::kInternal, "datatype '{}' is not known", text);
  return dtype;
}

Result<std::vector<PortInfo>> Ports(JsonElement metadata, std::string_view key) {
  std::vector<PortInfo> ports;
  for (const JsonElement e : TRY(Array(metadata, key))) {
    PortInfo port;
    port.name = TRY(Text(e, "name"));
    port.dtype = TRY(Datatype(e));
    port.dims = TRY(Shape(e));
    port.has_shape = true;
    port.dim_names.resize(port.dims.size());
    ports.push_back(std::move(port));
  }
  return ports;
}

// One JSON value into element `index`; false when it is not of type T.
template <class T>
bool Store(JsonElement e, T& to) {
  if constexpr (std::is_same_v<T, std::string>) {
    std::string_view v;
    if (e.get(v) != simdjson::SUCCESS) return false;
    to = std::string(v);
  } else if constexpr (std::is_same_v<T, bool>) {
    return e.get(to) == simdjson::SUCCESS;
  } else if constexpr (std::is_integral_v<T>) {
    std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t> v = 0;
    if (e.get(v) != simdjson::SUCCESS || v != decltype(v)(T(v))) return false;
    to = T(v);
  } else {
    double v = 0;
    if (e.get(v) != simdjson::SUCCESS) return false;
    if constexpr (kIsHalf<T>)
      to = T(float(v));
    else
      to = T(v);
  }
  return true;
}

template <class T>
bool StoreAll(simdjson::dom::array array, T* to, int64_t& at, int64_t count) {
  for (const JsonElement e : array) {
    simdjson::dom::array inner;
    if (e.get(inner) == simdjson::SUCCESS) {
      if (!StoreAll(inner, to, at, count)) return false;
    } else if (at == count || !Store(e, to[at++])) {
      return false;
    }
  }
  return true;
}

Result<Tensor> FromJson(DType dtype, const Dims& dims, JsonElement output, size_t json_bytes) {
  const auto bad = [&] {
    return Fail(Code::kInternal, "data are not {} of {}", ToString(dims), DTypeName(dtype));
  };
  const simdjson::dom::array data = TRY(Array(output, "data"));
  // Every element takes at least two bytes of the text: no shape can claim more than was sent.
  const auto count = ElementCount(dims);
  if (!count || *count > int64_t(json_bytes / 2)) return bad();
  const Tensor t = TRY(Tensor::Create(dtype, dims));
  int64_t stored = 0;
  TRY(VisitDType(dtype, "data", [&]<class T>(TypeTag<T>) -> Status {
    if (!StoreAll(data, t.mut<T>(), stored, *count) || stored != *count) return bad();
    return {};
  }));
  return t;
}

// Member `key` of `from` as a count; 0 when there is none.
uint64_t Count(JsonElement from, std::string_view key) {
  uint64_t value = 0;
  return from[key].get(value) == simdjson::SUCCESS ? value : 0;
}

void AddDuration(JsonElement from, std::string_view key, serve::DurationStat& to) {
  JsonElement duration;
  if (from[key].get(duration) != simdjson::SUCCESS) return;
  to.Merge({Count(duration, "count"), Count(duration, "ns")});
}

void WriteMemory(const serve::SharedMemoryRange& range, JsonWriter& json) {
  json.Key("shared_memory_region").String(range.region);
  json.Key("shared_memory_offset").Number(range.offset);
  json.Key("shared_memory_byte_size").Number(range.byte_size);
}

void WriteParameters(const serve::InferCall& call, JsonWriter& json) {
  json.Key("parameters").BeginObject();
  if (call.outputs.empty()) json.Key("binary_data_output").Bool(true);
  for (const auto& [name, value] : call.parameters) {
    json.Key(name);
    if (const auto* text = std::get_if<std::string>(&value))
      json.String(*text);
    else if (const auto* flag = std::get_if<bool>(&value))
      json.Bool(*flag);
    else if (const auto* real = std::get_if<double>(&value))
      json.Number(*real);
    else if (const auto* natural = std::get_if<uint64_t>(&value))
      json.Number(*natural);
    else
      json.Number(std::get<int64_t>(value));
  }
  json.End();
}

Status WriteInput(const serve::CallInput& input, JsonWriter& json, std::string& binary) {
  const Tensor& t = input.tensor;
  const std::string_view datatype = serve::ProtocolName(t.dtype());
  if (datatype.empty())
    return Fail(Code::kInvalidArgument, "input '{}': the protocol has no type for {}", input.name,
                DTypeName(t.dtype()));
  json.BeginObject().Key("name").String(input.name).Key("datatype").String(datatype);
  json.Key("shape").BeginArray();
  for (const int64_t extent : t.dims()) json.Number(extent);
  json.End().Key("parameters").BeginObject();
  if (input.memory) {
    WriteMemory(*input.memory, json);
  } else {
    const size_t before = binary.size();
    if (t.dtype() == DType::kString)
      binary += serve::StringBytes(t);
    else
      binary.append(reinterpret_cast<const char*>(t.raw()), size_t(t.bytes()));
    json.Key("binary_data_size").Number(binary.size() - before);
  }
  json.End().End();
  return {};
}

void WriteOutput(const serve::CallOutput& output, JsonWriter& json) {
  json.BeginObject().Key("name").String(output.name).Key("parameters").BeginObject();
  if (output.memory)
    WriteMemory(*output.memory, json);
  else
    json.Key("binary_data").Bool(true);
  if (output.classes > 0) json.Key("classification").Number(output.classes);
  json.End().End();
}

Result<serve::RemoteModel> ReadMetadata(std::string_view json) {
  JsonDocument document;
  const JsonElement root = TRY(document.Parse(json));
  serve::RemoteModel remote;
  remote.name = TRY(Text(root, "name"));
  remote.inputs = TRY(Ports(root, "inputs"));
  remote.outputs = TRY(Ports(root, "outputs"));
  return remote;
}

Result<std::vector<serve::CallResult>> ReadOutputs(std::string_view json, std::string_view binary) {
  JsonDocument document;
  const JsonElement root = TRY(document.Parse(json));
  std::vector<serve::CallResult> results;
  for (const JsonElement e : TRY(Array(root, "outputs"))) {
    serve::CallResult result;
    result.name = TRY(Text(e, "name"));
    result.dtype = TRY(Datatype(e));
    result.dims = TRY(Shape(e));
    std::string_view region;
    uint64_t bytes = 0;
    if (e["parameters"]["binary_data_size"].get(bytes) == simdjson::SUCCESS) {
      if (bytes > binary.size())
        return Fail(Code::kInternal, "output '{}' is cut short", result.name);
      auto tensor = serve::TensorFromBytes(result.dtype, result.dims, binary.substr(0, bytes));
      if (!tensor) return FailAt(fmt::format("output '{}'", result.name), tensor.error());
      result.tensor = std::move(*tensor);
      binary.remove_prefix(bytes);
    } else if (e["parameters"]["shared_memory_region"].get(region) != simdjson::SUCCESS) {
      result.tensor = TRY(FromJson(result.dtype, result.dims, e, json.size()));
    }
    results.push_back(std::move(result));
  }
  return results;
}

Result<serve::ModelStatistics> ReadStatistics(std::string_view json) {
  JsonDocument document;
  const JsonElement root = TRY(document.Parse(json));
  serve::ModelStatistics sum;
  for (const JsonElement e : TRY(Array(root, "model_stats"))) {
    sum.inference_count += Count(e, "inference_count");
    sum.execution_count += Count(e, "execution_count");
    JsonElement stats;
    if (e["inference_stats"].get(stats) == simdjson::SUCCESS) {
      AddDuration(stats, "success", sum.success);
      AddDuration(stats, "fail", sum.fail);
      AddDuration(stats, "queue", sum.queue);
      AddDuration(stats, "compute_input", sum.compute_input);
      AddDuration(stats, "compute_infer", sum.compute_infer);
      AddDuration(stats, "compute_output", sum.compute_output);
    }
    simdjson::dom::array batches;
    if (e["batch_stats"].get(batches) != simdjson::SUCCESS) continue;
    for (const JsonElement batch : batches) {
      serve::BatchStat& to = sum.batches[int64_t(Count(batch, "batch_size"))];
      AddDuration(batch, "compute_input", to.compute_input);
      AddDuration(batch, "compute_infer", to.compute_infer);
      AddDuration(batch, "compute_output", to.compute_output);
    }
  }
  return sum;
}

// What a server says that does not speak the protocol.
template <class T>
Result<T> Understood(Result<T> parsed) {
  if (!parsed)
    return Fail(Code::kInternal, "the server's answer makes no sense: {}", parsed.error().message);
  return parsed;
}

}  // namespace

std::string ModelPath(const std::string& model, const std::string& version) {
  return "/v2/models/" + Escaped(model) + (version.empty() ? "" : "/versions/" + Escaped(version));
}

Result<EncodedCall> EncodeInfer(const serve::InferCall& call) {
  JsonWriter json;
  std::string binary;
  json.BeginObject();
  if (!call.id.empty()) json.Key("id").String(call.id);
  json.Key("inputs").BeginArray();
  for (const serve::CallInput& input : call.inputs) TRY(WriteInput(input, json, binary));
  json.End();
  if (!call.outputs.empty()) {
    json.Key("outputs").BeginArray();
    for (const serve::CallOutput& output : call.outputs) WriteOutput(output, json);
    json.End();
  }
  WriteParameters(call, json);
  EncodedCall encoded;
  encoded.body = json.End().Take();
  encoded.json_bytes = encoded.body.size();
  encoded.body += binary;
  return encoded;
}

Headers InferHeaders(const EncodedCall& call) {
  return {{"Inference-Header-Content-Length", std::to_string(call.json_bytes)},
          {"Content-Type", "application/octet-stream"}};
}

Result<serve::RemoteModel> ParseMetadata(std::string_view json) {
  return Understood(ReadMetadata(json));
}

Result<std::vector<serve::CallResult>> ParseOutputs(std::string_view body, size_t json_bytes) {
  return Understood(ReadOutputs(body.substr(0, json_bytes), body.substr(json_bytes)));
}

Result<serve::ModelStatistics> ParseStatistics(std::string_view json) {
  return Understood(ReadStatistics(json));
}

Error ErrorOf(int status, std::string_view body) {
  std::string text = body.empty() ? "no explanation" : std::string(body.substr(0, 200));
  JsonDocument document;
  if (const auto root = document.Parse(body); root) {
    std::string_view message;
    if ((*root)["error"].get(message) == simdjson::SUCCESS) text = std::string(message);
  }
  return {CodeOf(status), std::move(text)};
}

}  // namespace dunlin::http
