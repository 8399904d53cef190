// The routes about the server's state: repository, shared memory, and the first protocol's models.
#include "base/json_writer.h"
#include "http/api.h"
#include "http/json_read.h"
#include "http/predict.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

using serve::VersionState;

// TensorFlow Serving's names.
std::string_view V1State(VersionState state) {
  switch (state) {
    case VersionState::kReady:
      return "AVAILABLE";
    case VersionState::kLoading:
      return "LOADING";
    case VersionState::kUnloading:
      return "UNLOADING";
    default:
      return "END";
  }
}

Result<uint64_t> UnsignedMember(JsonElement root, std::string_view key) {
  const auto member = FindMember(root, key);
  if (!member)
    return Fail(Code::kInvalidArgument, "Shared memory register request has no '{}' field", key);
  auto number = AsUnsigned(*member);
  if (!number) return UnableToParse(key, number.error());
  return number;
}

}  // namespace

Result<Reply> Api::SharedMemory(const Route& route, const Request& request) const {
  serve::SharedMemory& memory = service_.shared_memory;
  if (route.endpoint == Endpoint::kSharedMemoryStatus) {
    JsonWriter json;
    json.BeginArray();
    for (const auto& region : TRY(memory.List(route.region))) {
      json.BeginObject().Key("name").String(region.name).Key("key").String(region.key);
      json.Key("offset").Number(region.offset).Key("byte_size").Number(region.byte_size).End();
    }
    json.End();
    return JsonReply(json.Take());
  }
  if (route.endpoint == Endpoint::kSharedMemoryUnregister) {
    memory.Unregister(route.region);
    return Reply{};
  }
  if (route.region.empty())
    return Fail(Code::kInvalidArgument,
                "'region name' is necessary to register system shared memory region");
  JsonDocument document;
  const JsonElement root = TRY(document.Parse(request.body));
  const auto key = FindMember(root, "key");
  if (!key)
    return Fail(Code::kInvalidArgument, "Shared memory register request has no 'key' field");
  const std::string name(TRY(AsString(*key)));
  const uint64_t offset = FindMember(root, "offset") ? TRY(UnsignedMember(root, "offset")) : 0;
  const uint64_t byte_size = TRY(UnsignedMember(root, "byte_size"));
  TRY(memory.Register(route.region, name, offset, byte_size));
  return Reply{};
}

// There is no GPU. Clients look at and clear what they never registered, so that is no error.
Result<Reply> Api::CudaSharedMemory(const Route& route, const Request& request) const {
  const bool status = request.method != "POST";
  const bool registers =
      !status && request.target.substr(0, request.target.find('?')).ends_with("/register");
  if (status && !route.region.empty())
    return Fail(Code::kNotFound, "Unable to find cuda shared memory region: '{}'", route.region);
  if (registers && route.region.empty())
    return Fail(Code::kInvalidArgument,
                "'region name' is necessary to register cuda shared memory region");
  if (registers)
    return Fail(Code::kInvalidArgument,
                "failed to register CUDA shared memory region: '{}', GPUs not supported",
                route.region);
  JsonWriter json;
  if (!status) return Reply{};
  json.BeginArray().End();
  return JsonReply(json.Take());
}

Result<Reply> Api::V1(const Route& route) const {
  if (!route.label.empty())
    return Fail(Code::kUnimplemented, "version labels are not supported ('{}')", route.label);
  if (route.endpoint == Endpoint::kV1Other)
    return Fail(Code::kUnimplemented, "only ':predict' is supported for model '{}'", route.model);
  JsonWriter json;
  if (route.endpoint == Endpoint::kV1Models) {
    std::string_view last;
    json.BeginObject().Key("models").BeginArray();
    const auto ready = repository_.Ready("");
    for (const auto& version : ready) {
      if (version->spec().name != last) json.String(version->spec().name);
      last = version->spec().name;
    }
    json.End().End();
    return JsonReply(json.Take());
  }
  if (route.endpoint == Endpoint::kV1Metadata) {
    return JsonReply(PredictMetadata(TRY(FindModel(route))->spec()));
  }
  // What either protocol's client looks for.
  const int64_t wanted = TRY(serve::ParseVersion(route.version));
  const bool ready = TRY(repository_.IsReady(route.model, wanted));
  json.BeginObject().Key("name").String(route.model).Key("ready").Bool(ready);
  json.Key("model_version_status").BeginArray();
  for (const serve::IndexEntry& e : TRY(repository_.Index(false))) {
    if (e.name != route.model || e.version.empty()) continue;
    if (wanted > 0 && e.version != std::to_string(wanted)) continue;
    const bool failed = e.state == VersionState::kUnavailable && e.reason != "unloaded";
    json.BeginObject().Key("version").String(e.version).Key("state").String(V1State(e.state));
    json.Key("status").BeginObject();
    json.Key("error_code").String(failed ? "UNKNOWN" : "OK");
    json.Key("error_message").String(failed ? e.reason : "").End().End();
  }
  json.End().End();
  return JsonReply(json.Take());
}

}  // namespace dunlin::http
