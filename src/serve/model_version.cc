#include "serve/model_version.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <new>
#include <random>

#include "base/log.h"
#include "serve/check_request.h"

namespace dunlin::serve {
namespace {

// The engine reports what it cannot allocate, but a library below it may throw.
template <class F>
auto GuardMemory(F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return Fail(Code::kResourceExhausted, "not enough memory to run the request");
  }
}

Result<Tensor> WarmupTensor(const ModelSpec& model, const WarmupSample& sample,
                            const WarmupInput& input) {
  const TensorSpec* spec = model.FindInput(input.name);
  if (spec == nullptr)
    return Fail(Code::kInvalidArgument, "unexpected inference input '{}' for model '{}'",
                input.name, model.name);
  Dims dims = input.dims;
  if (model.max_batch_size > 0) dims.insert(0, sample.batch_size);
  Tensor t = TRY(Tensor::Zeros(input.dtype, dims));
  if (input.dtype == DType::kString) return t;
  const size_t bytes = size_t(t.bytes());
  if (input.data == WarmupInput::Data::kRandom && IsFloat(input.dtype)) {
    std::mt19937 random(1);  // the same at every start
    Tensor f = TRY(Tensor::Create(DType::kF32, dims));
    for (int64_t i = 0; i < f.count(); ++i)
      f.mut<float>()[i] = std::uniform_real_distribution<float>(0.f, 1.f)(random);
    return Convert(f, input.dtype);
  }
  if (input.data == WarmupInput::Data::kFile) {
    std::ifstream in(input.file, std::ios::binary);
    if (!in.read(reinterpret_cast<char*>(t.raw()), std::streamsize(bytes)) || in.get() != EOF)
      return Fail(Code::kInvalidArgument, "warm-up file '{}' does not hold exactly {} bytes",
                  input.file, bytes);
  }
  return t;
}

// Zeros for every input, one item; nothing when an extent is unknown, for no guess is sure to be
// legal.
Result<InferRequest> GuessedRequest(const ModelSpec& model) {
  InferRequest request;
  for (const TensorSpec& s : model.inputs) {
    if (s.any_shape || !AllKnown(s.dims) || s.dtype == DType::kString) return InferRequest{};
    Dims dims = s.dims;
    if (model.max_batch_size > 0) dims.insert(0, 1);
    request.inputs.push_back({s.name, TRY(Tensor::Zeros(s.dtype, dims))});
  }
  return request;
}

}  // namespace

ModelVersion::ModelVersion(ModelSpec spec, std::shared_ptr<LoadedModel> model,
                           std::shared_ptr<ModelMetrics> metrics)
    : spec_(std::move(spec)),
      model_(std::move(model)),
      metrics_(std::move(metrics)),
      stats_(*metrics_) {}

ModelVersion::~ModelVersion() = default;

Result<std::unique_ptr<ModelVersion>> ModelVersion::Create(ModelSpec spec,
                                                           std::shared_ptr<LoadedModel> model,
                                                           std::shared_ptr<ModelMetrics> metrics) {
  auto version = std::unique_ptr<ModelVersion>(
      new ModelVersion(std::move(spec), std::move(model), std::move(metrics)));
  std::vector<std::unique_ptr<Instance>> instances;
  for (int i = 0; i < version->spec_.instances; ++i) {
    auto instance = TRY(version->model_->CreateInstance(version->spec_.threads));
    TRY(GuardMemory([&]() -> Status { return version->WarmUp(*instance); }));
    version->instance_bytes_ += instance->memory_bytes();
    instances.push_back(std::move(instance));
  }
  ModelVersion* self = version.get();
  version->scheduler_ = std::make_unique<InstanceScheduler>(
      std::move(instances), version->spec_.queue.max_size,
      [self](Instance& instance, Job job) { self->Execute(instance, std::move(job)); });
  return version;
}

Status ModelVersion::WarmUp(Instance& instance) const {
  for (const WarmupSample& sample : spec_.warmup) {
    InferRequest request;
    for (const WarmupInput& input : sample.inputs)
      request.inputs.push_back({input.name, TRY(WarmupTensor(spec_, sample, input))});
    TRY(CheckRequest(spec_, request));
    for (int i = 0; i < sample.count; ++i) {
      auto outputs = instance.Execute(request.inputs, {}, {});
      if (!outputs)
        return FailAt(fmt::format("warm-up sample '{}' of model '{}'", sample.name, spec_.name),
                      outputs.error());
    }
  }
  if (!spec_.warmup.empty()) return {};
  InferRequest request = TRY(GuessedRequest(spec_));
  if (request.inputs.empty()) return {};
  TRY(CheckRequest(spec_, request));
  if (auto outputs = instance.Execute(request.inputs, {}, {}); !outputs) {
    // Zeros may break what the model wants of its data, so this says nothing about real requests.
    log::Warning("warm-up with zeros failed",
                 {{"model", spec_.name}, {"error", outputs.error().message}});
  }
  return {};
}

void ModelVersion::Refuse(const InferRequest& request, InferCallback& done, FailReason reason,
                          Error error) {
  stats_.Failure(reason, Clock::now() - request.arrival);
  done(Fail(std::move(error)));
}

void ModelVersion::Submit(InferRequest request, InferCallback done) {
  auto batch = CheckRequest(spec_, request);
  if (!batch) return Refuse(request, done, FailReason::kOther, std::move(batch).error());
  Job job{.request = std::move(request),
          .done = std::move(done),
          .batch = *batch,
          .enqueued = Clock::now()};
  std::chrono::microseconds timeout = spec_.queue.default_timeout;
  const std::chrono::microseconds wanted = job.request.timeout;
  if (spec_.queue.allow_timeout_override && wanted.count() > 0 &&
      (timeout.count() == 0 || wanted < timeout))
    timeout = wanted;
  if (timeout.count() > 0) job.deadline = job.enqueued + timeout;
  metrics_->PendingChanged(1);
  if (!scheduler_->Enqueue(job)) {
    metrics_->PendingChanged(-1);
    Refuse(job.request, job.done, FailReason::kRejected,
           {Code::kUnavailable, RequestPrefix(job.request) + "Exceeds maximum queue size"});
  }
}

void ModelVersion::Execute(Instance& instance, Job job) {
  metrics_->PendingChanged(-1);
  InferRequest& request = job.request;
  const TimePoint started = Clock::now();
  if (request.IsCancelled())
    return Refuse(request, job.done, FailReason::kCancelled,
                  {Code::kCancelled, RequestPrefix(request) + "request cancelled by the client"});
  if (started > job.deadline)
    return Refuse(request, job.done, FailReason::kRejected,
                  {Code::kUnavailable, RequestPrefix(request) + "Request timeout expired"});

  RequestTimes times;
  times.queue = started - job.enqueued;
  times.compute_input = std::chrono::nanoseconds(0);
  using Outputs = Result<std::vector<NamedTensor>>;
  const std::function<bool()> cancelled = [&request] { return request.IsCancelled(); };
  Outputs raw = GuardMemory(
      [&]() -> Outputs { return instance.Execute(request.inputs, request.outputs, cancelled); });
  const TimePoint inferred = Clock::now();
  times.compute_infer = inferred - started;
  if (!raw) {
    const FailReason reason =
        raw.error().code == Code::kCancelled ? FailReason::kCancelled : FailReason::kBackend;
    return Refuse(request, job.done, reason,
                  {raw.error().code, RequestPrefix(request) + raw.error().message});
  }
  Outputs outputs = ArrangeOutputs(spec_, request.outputs, std::move(*raw));
  if (!outputs)
    return Refuse(request, job.done, FailReason::kBackend,
                  {outputs.error().code, RequestPrefix(request) + outputs.error().message});
  const TimePoint end = Clock::now();
  times.compute_output = end - inferred;
  times.total = end - request.arrival;
  stats_.Executed(times, job.batch);
  stats_.Success(times, job.batch);
  job.done(InferResponse{.model = spec_.name,
                         .version = spec_.version,
                         .id = std::move(request.id),
                         .outputs = std::move(*outputs)});
}

ModelStatistics ModelVersion::Statistics() const {
  ModelStatistics s = stats_.Snapshot();
  s.memory_bytes = model_->memory_bytes() + instance_bytes_;
  return s;
}

}  // namespace dunlin::serve
