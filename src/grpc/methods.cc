#include "grpc/methods.h"

#include <google/protobuf/stubs/logging.h>

#include <algorithm>
#include <new>
#include <optional>

#include "base/log.h"
#include "health.pb.h"
#include "inference.pb.h"
#include "serve/config.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::grpc {
namespace {

using serve::ApiGroup;
using serve::Service;

Status Malformed() {
  return Fail(Code::kInvalidArgument, "cannot read the request: its bytes are none of this method");
}

// A method that answers at once: Result<Response> F(const Service&, const Request&).
template <auto F>
struct Sync;
template <class Request, class Response, Result<Response> (*F)(const Service&, const Request&)>
struct Sync<F> {
  static void Handle(const Service& service, std::string_view bytes, MethodDone done) {
    Request request;
    if (bytes.size() > INT32_MAX || !request.ParseFromArray(bytes.data(), int(bytes.size())))
      return done(Fail(Malformed().error()));
    auto response = F(service, request);
    if (!response) return done(Fail(std::move(response).error()));
    done(response->SerializeAsString());
  }
};

Result<inference::ServerLiveResponse> ServerLive(const Service&,
                                                 const inference::ServerLiveRequest&) {
  Result<inference::ServerLiveResponse> response;
  response->set_live(true);
  return response;
}

bool IsReady(const Service& service) {
  return !service.stopping.load(std::memory_order_relaxed) && service.repository.AllReady();
}

Result<inference::ServerReadyResponse> ServerReady(const Service& service,
                                                   const inference::ServerReadyRequest&) {
  Result<inference::ServerReadyResponse> response;
  response->set_ready(IsReady(service));
  return response;
}

Result<inference::ModelReadyResponse> ModelReady(const Service& service,
                                                 const inference::ModelReadyRequest& request) {
  const int64_t version = TRY(serve::ParseVersion(request.version()));
  Result<inference::ModelReadyResponse> response;
  // Clients ask for models that are not there, too, and take errors for failures of the call.
  response->set_ready(!service.stopping.load(std::memory_order_relaxed) &&
                      service.repository.IsReady(request.name(), version).value_or(false));
  return response;
}

Result<inference::ServerMetadataResponse> ServerMetadata(const Service&,
                                                         const inference::ServerMetadataRequest&) {
  Result<inference::ServerMetadataResponse> response;
  response->set_name(std::string(serve::kServerName));
  response->set_version(DUNLIN_VERSION);
  for (const std::string_view extension : serve::ServerExtensions())
    response->add_extensions(std::string(extension));
  return response;
}

Result<inference::ModelMetadataResponse> ModelMetadata(
    const Service& service, const inference::ModelMetadataRequest& request) {
  const int64_t version = TRY(serve::ParseVersion(request.version()));
  const auto model = TRY(service.repository.Find(request.name(), version));
  const serve::ModelSpec& spec = model->spec();
  Result<inference::ModelMetadataResponse> response;
  response->set_name(spec.name);
  response->set_platform(spec.platform);
  if (version > 0) {
    response->add_versions(std::to_string(version));
  } else {
    for (const auto& v : service.repository.Ready(request.name()))
      response->add_versions(std::to_string(v->spec().version));
  }
  const auto write = [&spec](const serve::TensorSpec& tensor, auto* out) {
    out->set_name(tensor.name);
    out->set_datatype(std::string(serve::ProtocolName(tensor.dtype)));
    for (const int64_t d : serve::FullDims(spec, tensor.dims)) out->add_shape(d);
  };
  for (const serve::TensorSpec& t : spec.inputs) write(t, response->add_inputs());
  for (const serve::TensorSpec& t : spec.outputs) write(t, response->add_outputs());
  return response;
}

Result<inference::ModelConfigResponse> ModelConfig(const Service& service,
                                                   const inference::ModelConfigRequest& request) {
  const int64_t version = TRY(serve::ParseVersion(request.version()));
  const auto model = TRY(service.repository.Find(request.name(), version));
  Result<inference::ModelConfigResponse> response;
  *response->mutable_config() = TRY(serve::ParseConfigJson(model->spec().config_json));
  return response;
}

void Write(const serve::DurationStat& from, inference::StatisticDuration* to) {
  to->set_count(from.count);
  to->set_ns(from.ns);
}

void WriteStatistics(const serve::ModelVersion& version, inference::ModelStatistics* out) {
  const serve::ModelStatistics s = version.Statistics();
  out->set_name(version.spec().name);
  out->set_version(std::to_string(version.spec().version));
  out->set_last_inference(s.last_inference_ms);
  out->set_inference_count(s.inference_count);
  out->set_execution_count(s.execution_count);
  auto* stats = out->mutable_inference_stats();
  Write(s.success, stats->mutable_success());
  Write(s.fail, stats->mutable_fail());
  Write(s.queue, stats->mutable_queue());
  Write(s.compute_input, stats->mutable_compute_input());
  Write(s.compute_infer, stats->mutable_compute_infer());
  Write(s.compute_output, stats->mutable_compute_output());
  Write(s.cache_hit, stats->mutable_cache_hit());
  Write(s.cache_miss, stats->mutable_cache_miss());
  for (const auto& [size, b] : s.batches) {
    auto* batch = out->add_batch_stats();
    batch->set_batch_size(uint64_t(size));
    Write(b.compute_input, batch->mutable_compute_input());
    Write(b.compute_infer, batch->mutable_compute_infer());
    Write(b.compute_output, batch->mutable_compute_output());
  }
  auto* memory = out->add_memory_usage();
  memory->set_type("CPU");
  memory->set_byte_size(uint64_t(s.memory_bytes));
}

Result<inference::ModelStatisticsResponse> ModelStatistics(
    const Service& service, const inference::ModelStatisticsRequest& request) {
  const int64_t version = TRY(serve::ParseVersion(request.version()));
  Result<inference::ModelStatisticsResponse> response;
  if (!request.name().empty()) {
    const auto model = TRY(service.repository.Find(request.name(), version));
    if (version > 0) {
      WriteStatistics(*model, response->add_model_stats());
      return response;
    }
  }
  for (const auto& v : service.repository.Ready(request.name()))
    WriteStatistics(*v, response->add_model_stats());
  return response;
}

Status NoRepositoryName(const std::string& name) {
  if (name.empty()) return {};
  return Fail(Code::kUnimplemented, "'repository_name' specification is not supported");
}

Result<inference::RepositoryIndexResponse> RepositoryIndex(
    const Service& service, const inference::RepositoryIndexRequest& request) {
  Result<inference::RepositoryIndexResponse> response;
  for (const serve::IndexEntry& e : TRY(service.repository.Index(request.ready()))) {
    auto* model = response->add_models();
    model->set_name(e.name);
    model->set_version(e.version);
    if (e.state == serve::VersionState::kUnknown) continue;
    model->set_state(std::string(serve::StateName(e.state)));
    model->set_reason(e.reason);
  }
  return response;
}

// KServe's definition of load and unload has the model's name where Triton's has the repository's.
template <class Request>
Result<std::string> ModelNameOf(const Request& request) {
  if (request.model_name().empty() && request.parameters().empty())
    return request.repository_name();
  TRY(NoRepositoryName(request.repository_name()));
  return request.model_name();
}

void RepositoryModelLoad(const Service& service, std::string_view bytes, MethodDone done) {
  inference::RepositoryModelLoadRequest request;
  serve::LoadOverrides overrides;
  const auto parse = [&]() -> Result<std::string> {
    if (bytes.size() > INT32_MAX || !request.ParseFromArray(bytes.data(), int(bytes.size())))
      return Fail(Malformed().error());
    for (const auto& [key, value] : request.parameters()) {
      if (key == "config") {
        if (!value.has_string_param())
          return Fail(Code::kInvalidArgument,
                      "invalid value type for load parameter '{}', expected string_param.", key);
        overrides.config_json = value.string_param();
      } else if (key.rfind("file:", 0) == 0) {
        if (!value.has_bytes_param())
          return Fail(Code::kInvalidArgument,
                      "invalid value type for load parameter '{}', expected bytes_param.", key);
        overrides.files[key.substr(5)] = value.bytes_param();
      } else {
        return Fail(Code::kInvalidArgument,
                    "unrecognized load parameter '{}', expecting 'config' or "
                    "'file:<version>/<file>'.",
                    key);
      }
    }
    return ModelNameOf(request);
  };
  auto model = parse();
  if (!model) return done(Fail(std::move(model).error()));
  service.repository.Load(*model, std::move(overrides),
                          [model = *model, done = std::move(done)](const Status& status) {
                            if (!status) return done(Fail(status.error()));
                            inference::RepositoryModelLoadResponse response;
                            response.set_model_name(model);
                            response.set_isloaded(true);
                            done(response.SerializeAsString());
                          });
}

void RepositoryModelUnload(const Service& service, std::string_view bytes, MethodDone done) {
  inference::RepositoryModelUnloadRequest request;
  const auto parse = [&]() -> Result<std::string> {
    if (bytes.size() > INT32_MAX || !request.ParseFromArray(bytes.data(), int(bytes.size())))
      return Fail(Malformed().error());
    for (const auto& [key, value] : request.parameters())
      if (key == "unload_dependents" && !value.has_bool_param())
        return Fail(Code::kInvalidArgument,
                    "invalid value type for 'unload_dependents' parameter, expected bool_param.");
    return ModelNameOf(request);
  };
  auto model = parse();
  if (!model) return done(Fail(std::move(model).error()));
  service.repository.Unload(*model, [model = *model, done = std::move(done)](const Status& status) {
    if (!status) return done(Fail(status.error()));
    inference::RepositoryModelUnloadResponse response;
    response.set_model_name(model);
    response.set_isunloaded(true);
    done(response.SerializeAsString());
  });
}

Result<inference::SystemSharedMemoryStatusResponse> SharedMemoryStatus(
    const Service& service, const inference::SystemSharedMemoryStatusRequest& request) {
  Result<inference::SystemSharedMemoryStatusResponse> response;
  for (const auto& region : TRY(service.shared_memory.List(request.name()))) {
    auto& out = (*response->mutable_regions())[region.name];
    out.set_name(region.name);
    out.set_key(region.key);
    out.set_offset(region.offset);
    out.set_byte_size(region.byte_size);
  }
  return response;
}

Result<inference::SystemSharedMemoryRegisterResponse> SharedMemoryRegister(
    const Service& service, const inference::SystemSharedMemoryRegisterRequest& request) {
  TRY(service.shared_memory.Register(request.name(), request.key(), request.offset(),
                                     request.byte_size()));
  return inference::SystemSharedMemoryRegisterResponse();
}

Result<inference::SystemSharedMemoryUnregisterResponse> SharedMemoryUnregister(
    const Service& service, const inference::SystemSharedMemoryUnregisterRequest& request) {
  service.shared_memory.Unregister(request.name());
  return inference::SystemSharedMemoryUnregisterResponse();
}

// There is no GPU, so no region can be registered: none has a status, none is left to unregister.
Result<inference::CudaSharedMemoryStatusResponse> CudaStatus(
    const Service&, const inference::CudaSharedMemoryStatusRequest& request) {
  if (!request.name().empty())
    return Fail(Code::kNotFound, "Unable to find cuda shared memory region: '{}'", request.name());
  return inference::CudaSharedMemoryStatusResponse();
}

Result<inference::CudaSharedMemoryRegisterResponse> CudaRegister(
    const Service&, const inference::CudaSharedMemoryRegisterRequest& request) {
  return Fail(Code::kInvalidArgument,
              "failed to register CUDA shared memory region: '{}', GPUs not supported",
              request.name());
}

Result<inference::CudaSharedMemoryUnregisterResponse> CudaUnregister(
    const Service&, const inference::CudaSharedMemoryUnregisterRequest&) {
  return inference::CudaSharedMemoryUnregisterResponse();
}

Result<inference::TraceSettingResponse> TraceSetting(
    const Service& service, const inference::TraceSettingRequest& request) {
  const std::string& model = request.model_name();
  TRY(service.CheckTracedModel(model));
  serve::Tracer::Settings changes;
  for (const auto& [key, value] : request.settings())
    changes.emplace_back(key, std::vector<std::string>(value.value().begin(), value.value().end()));
  if (!changes.empty()) TRY(service.tracer.Update(model, changes));
  Result<inference::TraceSettingResponse> response;
  for (const auto& [key, values] : service.tracer.Get(model)) {
    auto& out = (*response->mutable_settings())[key];
    for (const std::string& v : values) out.add_value(v);
  }
  return response;
}

Result<log::Change> LogChange(const inference::LogSettingsRequest& request) {
  Result<log::Change> change;
  for (const auto& [key, value] : request.settings()) {
    bool typed = false;
    if (key == "log_file") {
      typed = change->file = value.has_string_param();
    } else if (key == "log_format") {
      if ((typed = value.has_string_param())) change->format = value.string_param();
    } else if (key == "log_verbose_level") {
      if ((typed = value.has_uint32_param())) change->verbose_level = value.uint32_param();
    } else {
      auto* const flag = key == "log_info"      ? &change->info
                         : key == "log_warning" ? &change->warning
                         : key == "log_error"   ? &change->error
                                                : nullptr;
      if (!flag) return Fail(Code::kInvalidArgument, "unexpected log setting '{}'", key);
      if ((typed = value.has_bool_param())) *flag = value.bool_param();
    }
    if (!typed)
      return Fail(Code::kInvalidArgument, "the value of log setting '{}' has the wrong type", key);
  }
  return change;
}

Result<inference::LogSettingsResponse> LogSettings(const Service&,
                                                   const inference::LogSettingsRequest& request) {
  const log::Change change = TRY(LogChange(request));
  if (request.settings_size() > 0) TRY(log::Apply(change));
  const log::Options now = log::Current();
  Result<inference::LogSettingsResponse> response;
  auto& settings = *response->mutable_settings();
  settings["log_file"].set_string_param(log::FilePath());
  settings["log_info"].set_bool_param(now.info);
  settings["log_warning"].set_bool_param(now.warning);
  settings["log_error"].set_bool_param(now.error);
  settings["log_verbose_level"].set_uint32_param(uint32_t(now.verbose));
  settings["log_format"].set_string_param(std::string(log::FormatName(now.format)));
  return response;
}

void HealthCheck(const Service& service, std::string_view bytes, MethodDone done) {
  auto name = ParseHealthRequest(bytes);
  if (!name) return done(Fail(std::move(name).error()));
  auto serving = IsServing(service, *name);
  if (!serving) return done(Fail(std::move(serving).error()));
  done(HealthReply(*serving));
}

#define DUNLIN_METHOD(name) "/inference.GRPCInferenceService/" name
constexpr Method kMethods[] = {
    {DUNLIN_METHOD("ServerLive"), ApiGroup::kHealth, Sync<&ServerLive>::Handle},
    {DUNLIN_METHOD("ServerReady"), ApiGroup::kHealth, Sync<&ServerReady>::Handle},
    {DUNLIN_METHOD("ModelReady"), ApiGroup::kHealth, Sync<&ModelReady>::Handle},
    {"/grpc.health.v1.Health/Check", ApiGroup::kHealth, HealthCheck},
    {DUNLIN_METHOD("ServerMetadata"), ApiGroup::kMetadata, Sync<&ServerMetadata>::Handle},
    {DUNLIN_METHOD("ModelMetadata"), ApiGroup::kMetadata, Sync<&ModelMetadata>::Handle},
    {DUNLIN_METHOD("ModelConfig"), ApiGroup::kModelConfig, Sync<&ModelConfig>::Handle},
    {DUNLIN_METHOD("ModelStatistics"), ApiGroup::kStatistics, Sync<&ModelStatistics>::Handle},
    {DUNLIN_METHOD("RepositoryIndex"), ApiGroup::kModelRepository, Sync<&RepositoryIndex>::Handle},
    {DUNLIN_METHOD("RepositoryModelLoad"), ApiGroup::kModelRepository, RepositoryModelLoad},
    {DUNLIN_METHOD("RepositoryModelUnload"), ApiGroup::kModelRepository, RepositoryModelUnload},
    {DUNLIN_METHOD("SystemSharedMemoryStatus"), ApiGroup::kSharedMemory,
     Sync<&SharedMemoryStatus>::Handle},
    {DUNLIN_METHOD("SystemSharedMemoryRegister"), ApiGroup::kSharedMemory,
     Sync<&SharedMemoryRegister>::Handle},
    {DUNLIN_METHOD("SystemSharedMemoryUnregister"), ApiGroup::kSharedMemory,
     Sync<&SharedMemoryUnregister>::Handle},
    {DUNLIN_METHOD("CudaSharedMemoryStatus"), ApiGroup::kSharedMemory, Sync<&CudaStatus>::Handle},
    {DUNLIN_METHOD("CudaSharedMemoryRegister"), ApiGroup::kSharedMemory,
     Sync<&CudaRegister>::Handle},
    {DUNLIN_METHOD("CudaSharedMemoryUnregister"), ApiGroup::kSharedMemory,
     Sync<&CudaUnregister>::Handle},
    {DUNLIN_METHOD("TraceSetting"), ApiGroup::kTrace, Sync<&TraceSetting>::Handle},
    {DUNLIN_METHOD("LogSettings"), ApiGroup::kLogging, Sync<&LogSettings>::Handle},
};
#undef DUNLIN_METHOD

}  // namespace

std::span<const Method> Methods() { return kMethods; }

void RouteProtobufLog() {
  google::protobuf::SetLogHandler(
      [](google::protobuf::LogLevel, const char*, int, const std::string& text) {
        log::Verbose("protobuf", {{"text", text}});
      });
}

const Method* FindMethod(std::string_view path) {
  const auto* const end = std::end(kMethods);
  const auto* const it =
      std::find_if(kMethods, end, [path](const Method& m) { return m.path == path; });
  return it == end ? nullptr : it;
}

Result<bool> IsServing(const Service& service, std::string_view name) {
  if (name.empty() || name == "inference.GRPCInferenceService") return IsReady(service);
  return Fail(Code::kNotFound, "unknown service '{}'", name);
}

std::string HealthReply(bool serving) {
  using Response = ::grpc::health::v1::HealthCheckResponse;
  Response response;
  response.set_status(serving ? Response::SERVING : Response::NOT_SERVING);
  return response.SerializeAsString();
}

std::string UnknownServiceReply() {
  ::grpc::health::v1::HealthCheckResponse response;
  response.set_status(::grpc::health::v1::HealthCheckResponse::SERVICE_UNKNOWN);
  return response.SerializeAsString();
}

Result<std::string> ParseHealthRequest(std::string_view bytes) {
  ::grpc::health::v1::HealthCheckRequest request;
  if (bytes.size() > INT32_MAX || !request.ParseFromArray(bytes.data(), int(bytes.size())))
    return Fail(Malformed().error());
  return request.service();
}

}  // namespace dunlin::grpc
