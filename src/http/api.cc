#include "http/api.h"

#include "base/json_writer.h"
#include "http/json_read.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

using serve::ModelVersion;

void WriteTensors(JsonWriter& json, const serve::ModelSpec& model,
                  const std::vector<serve::TensorSpec>& tensors) {
  json.BeginArray();
  for (const serve::TensorSpec& t : tensors) {
    json.BeginObject();
    json.Key("name").String(t.name);
    json.Key("datatype").String(serve::ProtocolName(t.dtype));
    json.Key("shape").BeginArray();
    for (const int64_t d : serve::FullDims(model, t.dims)) json.Number(d);
    json.End().End();
  }
  json.End();
}

void WriteDuration(JsonWriter& json, std::string_view key, const serve::DurationStat& d) {
  json.Key(key).BeginObject().Key("count").Number(d.count).Key("ns").Number(d.ns).End();
}

void WriteStatistics(JsonWriter& json, const ModelVersion& version) {
  const serve::ModelStatistics s = version.Statistics();
  json.BeginObject();
  json.Key("name").String(version.spec().name);
  json.Key("version").String(std::to_string(version.spec().version));
  json.Key("last_inference").Number(s.last_inference_ms);
  json.Key("inference_count").Number(s.inference_count);
  json.Key("execution_count").Number(s.execution_count);
  json.Key("inference_stats").BeginObject();
  WriteDuration(json, "success", s.success);
  WriteDuration(json, "fail", s.fail);
  WriteDuration(json, "queue", s.queue);
  WriteDuration(json, "compute_input", s.compute_input);
  WriteDuration(json, "compute_infer", s.compute_infer);
  WriteDuration(json, "compute_output", s.compute_output);
  WriteDuration(json, "cache_hit", s.cache_hit);
  WriteDuration(json, "cache_miss", s.cache_miss);
  json.End();
  json.Key("response_stats").BeginObject().End();  // of models that answer more than once
  json.Key("batch_stats").BeginArray();
  for (const auto& [size, b] : s.batches) {
    json.BeginObject().Key("batch_size").Number(size);
    WriteDuration(json, "compute_input", b.compute_input);
    WriteDuration(json, "compute_infer", b.compute_infer);
    WriteDuration(json, "compute_output", b.compute_output);
    json.End();
  }
  json.End();
  json.Key("memory_usage").BeginArray().BeginObject();
  json.Key("type").String("CPU").Key("id").Number(0).Key("byte_size").Number(s.memory_bytes);
  json.End().End();
  json.End();
}

Reply ServerMetadata() {
  JsonWriter json;
  json.BeginObject().Key("name").String(serve::kServerName).Key("version").String(DUNLIN_VERSION);
  json.Key("extensions").BeginArray();
  for (const std::string_view e : serve::ServerExtensions()) json.String(e);
  json.End().End();
  return JsonReply(json.Take());
}

serve::ApiGroup GroupOf(Endpoint endpoint) {
  using serve::ApiGroup;
  switch (endpoint) {
    case Endpoint::kLive:
    case Endpoint::kReady:
    case Endpoint::kModelReady:
      return ApiGroup::kHealth;
    case Endpoint::kInfer:
    case Endpoint::kGenerate:
    case Endpoint::kGenerateStream:
    case Endpoint::kV1Predict:
    case Endpoint::kV1Other:
      return ApiGroup::kInference;
    case Endpoint::kModelConfig:
      return ApiGroup::kModelConfig;
    case Endpoint::kModelStats:
    case Endpoint::kAllStats:
      return ApiGroup::kStatistics;
    case Endpoint::kIndex:
    case Endpoint::kLoad:
    case Endpoint::kUnload:
      return ApiGroup::kModelRepository;
    case Endpoint::kSharedMemoryStatus:
    case Endpoint::kSharedMemoryRegister:
    case Endpoint::kSharedMemoryUnregister:
    case Endpoint::kCudaSharedMemory:
      return ApiGroup::kSharedMemory;
    case Endpoint::kTraceSetting:
      return ApiGroup::kTrace;
    case Endpoint::kLogging:
      return ApiGroup::kLogging;
    default:
      return ApiGroup::kMetadata;
  }
}

// ParseRoute; clients mostly ask for the same thing again.
const Route& RouteOf(const Request& request) {
  constexpr size_t kMaxKept = 1024;
  thread_local std::string method, target;
  thread_local Route route;
  if (request.target != target || request.method != method || target.empty()) {
    target.clear();  // should memory run out below
    route = ParseRoute(request.method, request.target);
    if (request.target.size() > kMaxKept) return route;
    method = request.method;
    target = request.target;
  }
  return route;
}

}  // namespace

void Api::Handle(const Request& request, ReplyFn done) {
  const Route& route = RouteOf(request);
  if (route.endpoint == Endpoint::kNotFound) return done(ErrorReply(404, "Not Found"));
  if (!route.method_allowed) return done(ErrorReply(405, "Method Not Allowed"));
  if (Status allowed = service_.access.Check(
          GroupOf(route.endpoint),
          {.header = [&](std::string_view name) { return request.Header(name); },
           .peer_identity = request.peer_identity});
      !allowed)
    return done(ErrorReply(allowed.error()));
  if (!route.repository.empty() && route.endpoint != Endpoint::kIndex)
    return done(ErrorReply(501, "'repository_name' specification is not supported"));
  if (route.label.empty() &&
      (route.endpoint == Endpoint::kInfer || route.endpoint == Endpoint::kGenerate ||
       route.endpoint == Endpoint::kGenerateStream || route.endpoint == Endpoint::kV1Predict))
    return Infer(route, request, std::move(done));
  if (route.endpoint == Endpoint::kLoad || route.endpoint == Endpoint::kUnload)
    return LoadOrUnload(route, request, std::move(done));
  auto reply = Answer(route, request);
  done(reply ? std::move(*reply) : ErrorReply(reply.error()));
}

Result<Reply> Api::Answer(const Route& route, const Request& request) const {
  switch (route.endpoint) {
    case Endpoint::kServer:
      return ServerMetadata();
    case Endpoint::kLive:
      return Reply{};
    case Endpoint::kReady:
      return Ready();
    case Endpoint::kModelReady:
      return ModelReady(route);
    case Endpoint::kModel:
      return Metadata(route);
    case Endpoint::kModelConfig:
      return Config(route);
    case Endpoint::kModelStats:
    case Endpoint::kAllStats:
      return Statistics(route);
    case Endpoint::kIndex:
      return Index(route, request);
    case Endpoint::kSharedMemoryStatus:
    case Endpoint::kSharedMemoryRegister:
    case Endpoint::kSharedMemoryUnregister:
      return SharedMemory(route, request);
    case Endpoint::kCudaSharedMemory:
      return CudaSharedMemory(route, request);
    case Endpoint::kTraceSetting:
      return TraceSetting(route, request);
    case Endpoint::kLogging:
      return Logging(request);
    case Endpoint::kV1Models:
    case Endpoint::kV1Model:
    case Endpoint::kV1Metadata:
    case Endpoint::kV1Predict:  // with a label
    case Endpoint::kV1Other:
      return V1(route);
    default:
      return Fail(Code::kUnimplemented, "{} is not supported", request.target);
  }
}

Result<std::shared_ptr<ModelVersion>> Api::FindModel(const Route& route) const {
  const int64_t version = TRY(serve::ParseVersion(route.version));
  return repository_.Find(route.model, version);
}

Result<Reply> Api::Ready() const {
  if (Stopping()) return Fail(Code::kUnavailable, "Server is stopping");
  if (!repository_.AllReady()) return ErrorReply(400, "Server not ready");
  return Reply{};
}

Result<Reply> Api::ModelReady(const Route& route) const {
  if (Stopping()) return Fail(Code::kUnavailable, "Server is stopping");
  const int64_t version = TRY(serve::ParseVersion(route.version));
  if (!TRY(repository_.IsReady(route.model, version)))
    return ErrorReply(400, "Model version not ready");
  return Reply{};
}

Result<Reply> Api::Metadata(const Route& route) const {
  const int64_t version = TRY(serve::ParseVersion(route.version));
  const auto model = TRY(repository_.Find(route.model, version));
  const serve::ModelSpec& spec = model->spec();
  JsonWriter json;
  json.BeginObject().Key("name").String(spec.name);
  json.Key("versions").BeginArray();
  if (version > 0) {
    json.String(std::to_string(version));
  } else {
    for (const auto& v : repository_.Ready(route.model))
      json.String(std::to_string(v->spec().version));
  }
  json.End();
  json.Key("platform").String(spec.platform);
  json.Key("inputs");
  WriteTensors(json, spec, spec.inputs);
  json.Key("outputs");
  WriteTensors(json, spec, spec.outputs);
  json.End();
  return JsonReply(json.Take());
}

Result<Reply> Api::Config(const Route& route) const {
  return JsonReply(TRY(FindModel(route))->spec().config_json);
}

Result<Reply> Api::Statistics(const Route& route) const {
  JsonWriter json;
  json.BeginObject().Key("model_stats").BeginArray();
  const int64_t version = TRY(serve::ParseVersion(route.version));
  if (route.endpoint == Endpoint::kModelStats) {
    const auto model = TRY(repository_.Find(route.model, version));  // unknown names are errors
    if (version > 0) {
      WriteStatistics(json, *model);
    } else {
      for (const auto& v : repository_.Ready(route.model)) WriteStatistics(json, *v);
    }
  } else {
    for (const auto& v : repository_.Ready("")) WriteStatistics(json, *v);
  }
  json.End().End();
  return JsonReply(json.Take());
}

Result<Reply> Api::Index(const Route&, const Request& request) const {
  bool only_ready = false;
  if (!request.body.empty()) {
    JsonDocument document;
    const JsonElement root = TRY(document.Parse(request.body));
    if (auto ready = FindMember(root, "ready")) {
      auto value = AsBool(*ready);
      if (!value) return UnableToParse("ready", value.error());
      only_ready = *value;
    }
  }
  JsonWriter json;
  json.BeginArray();
  for (const serve::IndexEntry& e : TRY(repository_.Index(only_ready))) {
    json.BeginObject().Key("name").String(e.name);
    if (!e.version.empty()) json.Key("version").String(e.version);
    if (e.state != serve::VersionState::kUnknown) {
      json.Key("state").String(serve::StateName(e.state));
      if (!e.reason.empty()) json.Key("reason").String(e.reason);
    }
    json.End();
  }
  json.End();
  return JsonReply(json.Take());
}

void Api::LoadOrUnload(const Route& route, const Request& request, ReplyFn done) {
  const bool load = route.endpoint == Endpoint::kLoad;
  serve::LoadOverrides overrides;
  const auto parse = [&]() -> Status {
    if (request.body.empty()) return {};
    JsonDocument document;
    const JsonElement root = TRY(document.Parse(request.body));
    const auto parameters = FindMember(root, "parameters");
    if (!parameters) return {};
    auto object = AsObject(*parameters);
    if (!object) return UnableToParse("parameters", object.error());
    for (const auto [key, value] : *object) {
      if (!load && key == "unload_dependents") {
        if (auto flag = AsBool(value); !flag) return UnableToParse(key, flag.error());
      } else if (load && key == "config") {
        auto text = AsString(value);
        if (!text) return UnableToParse(key, text.error());
        overrides.config_json = *text;
      } else if (load && key.substr(0, 5) == "file:") {
        auto text = AsString(value);
        if (!text) return UnableToParse(key, text.error());
        auto bytes = serve::DecodeBase64(*text);
        if (!bytes) return UnableToParse(key, bytes.error());
        overrides.files[std::string(key.substr(5))] = std::move(*bytes);
      } else {
        return Fail(Code::kInvalidArgument, "unexpected parameter '{}', expecting {}.", key,
                    load ? "'config' or 'file:<version>/<file>'" : "'unload_dependents'");
      }
    }
    return {};
  };
  if (const Status status = parse(); !status) return done(ErrorReply(status.error()));
  auto reply = [done = std::move(done)](const Status& status) {
    done(status ? Reply{} : ErrorReply(status.error()));
  };
  if (load)
    repository_.Load(route.model, std::move(overrides), std::move(reply));
  else
    repository_.Unload(route.model, std::move(reply));
}

}  // namespace dunlin::http
