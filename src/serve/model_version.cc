#include "serve/model_version.h"

#include <algorithm>
#include <fstream>
#include <new>
#include <optional>
#include <random>
#include <sstream>

#include "base/log.h"
#include "serve/batcher.h"
#include "serve/check_request.h"
#include "serve/join.h"
#include "serve/trace.h"
#include "serve/wire.h"

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
  if (input.data == WarmupInput::Data::kFile) {
    std::ifstream in(input.file, std::ios::binary);
    std::stringstream bytes;
    bytes << in.rdbuf();
    auto t = TensorFromBytes(input.dtype, dims, bytes.view());
    if (!in || !t)
      return Fail(Code::kInvalidArgument, "warm-up file '{}': {}", input.file,
                  in ? t.error().message : "cannot be read");
    return t;
  }
  if (input.data == WarmupInput::Data::kZero || input.dtype == DType::kString)
    return Tensor::Zeros(input.dtype, dims);
  std::mt19937 random(1);  // the same at every start
  const bool fractions =
      IsFloat(input.dtype);  // integers are 0 and 1: legal where they are indices
  Tensor f = TRY(Tensor::Create(DType::kF32, dims));
  for (int64_t i = 0; i < f.count(); ++i)
    f.mut<float>()[i] =
        fractions ? std::uniform_real_distribution<float>(0.f, 1.f)(random) : float(random() & 1);
  return Convert(f, input.dtype);
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

// The outputs that at least one of the jobs wants; empty: all.
std::vector<std::string> WantedOutputs(std::span<Job* const> jobs) {
  std::vector<std::string> wanted;
  for (const Job* job : jobs) {
    if (job->request.outputs.empty()) return {};
    for (const std::string& name : job->request.outputs)
      if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) wanted.push_back(name);
  }
  return wanted;
}

// What a trace is told on the way; nothing for requests that are not traced.
void Stamp(const Job& job, TracePoint point, TimePoint when) {
  if (job.request.trace) job.request.trace->Stamp(point, when);
}
void Note(const Job& job, TraceTensor what, const std::vector<NamedTensor>& tensors) {
  if (!job.request.trace || !job.request.trace->wants_tensors()) return;
  for (const NamedTensor& t : tensors) job.request.trace->Note(what, t);
}

// Nobody waits for an answer any more.
bool Abandoned(std::span<Job* const> jobs) {
  std::optional<TimePoint> now;
  return std::all_of(jobs.begin(), jobs.end(), [&](const Job* job) {
    if (job->request.IsCancelled()) return true;
    if (job->request.deadline == TimePoint::max()) return false;
    if (!now) now = Clock::now();
    return *now >= job->request.deadline;
  });
}

}  // namespace

ModelVersion::ModelVersion(ModelSpec spec, std::shared_ptr<LoadedModel> model,
                           std::shared_ptr<ModelMetrics> metrics, Compute& compute)
    : spec_(std::move(spec)),
      model_(std::move(model)),
      metrics_(std::move(metrics)),
      compute_(compute),
      stats_(*metrics_),
      ragged_(spec_.batching && model_->ragged()) {}

ModelVersion::~ModelVersion() = default;

Result<std::unique_ptr<ModelVersion>> ModelVersion::Create(ModelSpec spec,
                                                           std::shared_ptr<LoadedModel> model,
                                                           std::shared_ptr<ModelMetrics> metrics,
                                                           Compute& compute) {
  // Where no input says it, all may be ragged: what can be packed is.
  if (std::none_of(spec.inputs.begin(), spec.inputs.end(),
                   [](const TensorSpec& in) { return in.ragged; }))
    for (TensorSpec& in : spec.inputs) in.ragged = true;
  auto version = std::unique_ptr<ModelVersion>(
      new ModelVersion(std::move(spec), std::move(model), std::move(metrics), compute));
  const int wanted = version->spec_.instances;
  std::vector<std::unique_ptr<Instance>> instances;
  for (int i = 0; i < std::max(1, wanted); ++i) {
    auto instance = TRY(version->CreateInstance());
    TRY(GuardMemory([&]() -> Status { return version->WarmUp(*instance); }));
    version->instance_bytes_ += instance->memory_bytes();
    instances.push_back(std::move(instance));
  }
  // When nobody said how many, as many as could compute at the same time.
  JobRunner& runner = *version;
  version->scheduler_ = std::make_unique<Batcher>(
      version->spec_, std::move(instances), wanted > 0 ? wanted : compute.slots(), runner, compute);
  return version;
}

Result<std::unique_ptr<Instance>> ModelVersion::CreateInstance() {
  const int slots = compute_.slots();
  return model_->CreateInstance(spec_.threads > 0 ? std::min(spec_.threads, slots) : slots);
}

Status ModelVersion::WarmUp(Instance& instance) const {
  for (const WarmupSample& sample : spec_.warmup) {
    InferRequest request;
    for (const WarmupInput& input : sample.inputs)
      request.inputs.push_back({input.name, TRY(WarmupTensor(spec_, sample, input))});
    TRY(CheckRequest(spec_, request));
    for (int i = 0; i < sample.count; ++i) {
      auto outputs = instance.Execute(request.inputs, {});
      if (!outputs)
        return FailAt(fmt::format("warm-up sample '{}' of model '{}'", sample.name, spec_.name),
                      outputs.error());
    }
  }
  if (!spec_.warmup.empty()) return {};
  InferRequest request = TRY(GuessedRequest(spec_));
  if (request.inputs.empty()) return {};
  TRY(CheckRequest(spec_, request));
  if (auto outputs = instance.Execute(request.inputs, {}); !outputs) {
    // Zeros may break what the model wants of its data, so this says nothing about real requests.
    log::Warning("warm-up with zeros failed",
                 {{"model", spec_.name}, {"error", outputs.error().message}});
  }
  return {};
}

void ModelVersion::Submit(InferRequest request, InferCallback done) {
  Job job{.request = std::move(request), .done = std::move(done), .enqueued = Clock::now()};
  if (job.request.arrival == TimePoint{}) job.request.arrival = job.enqueued;
  Stamp(job, TracePoint::kRequestStart, job.enqueued);
  Note(job, TraceTensor::kQueueInput, job.request.inputs);
  const auto batch = CheckRequest(spec_, job.request);
  if (!batch) {
    job.answer = Fail(batch.error());
    return Answer(job);
  }
  if (cache_ && cache_->Answer(spec_, job.request, job.done, stats_)) return;
  job.batch = *batch;
  job.shape = ShapeKey(spec_, job.request, ragged_);
  Stamp(job, TracePoint::kQueueStart, job.enqueued);
  if (scheduler_->Enqueue(job)) return;
  job.failure = FailReason::kRejected;
  job.answer = Fail(Code::kUnavailable, "{}Exceeds maximum queue size", RequestPrefix(job.request));
  Answer(job);
}

void ModelVersion::Refuse(Job& job, Refusal reason) {
  const std::string prefix = RequestPrefix(job.request);
  job.failure = reason == Refusal::kCancelled ? FailReason::kCancelled : FailReason::kRejected;
  switch (reason) {
    case Refusal::kCancelled:
      job.answer = Fail(Code::kCancelled, "{}request cancelled by the client", prefix);
      return;
    case Refusal::kTimeout:
      job.answer = Fail(Code::kUnavailable, "{}Request timeout expired", prefix);
      return;
    case Refusal::kDeadline:
      job.answer = Fail(Code::kDeadlineExceeded, "{}Deadline Exceeded", prefix);
      return;
  }
}

void ModelVersion::Answer(Job& job) {
  const TimePoint now = job.ended != TimePoint{} ? job.ended : Clock::now();
  job.times.total = now - job.request.arrival;
  if (job.answer)
    stats_.Success(job.times, job.batch);
  else
    stats_.Failure(job.failure, job.times.total);
  Stamp(job, TracePoint::kInferResponseComplete, now);
  Stamp(job, TracePoint::kRequestEnd, now);
  if (job.request.trace && !job.answer) job.request.trace->Failed(job.answer.error().message);
  // The request goes first: who is answered may expect its memory to be free.
  InferCallback done = std::move(job.done);
  Result<InferResponse> answer = std::move(job.answer);
  job.request.inputs.clear();
  done(std::move(answer));
}

Result<std::vector<ModelVersion::Outputs>> ModelVersion::RunBatch(Instance& instance,
                                                                  std::span<Job* const> jobs,
                                                                  const RunOptions& options,
                                                                  RequestTimes& times) {
  const TimePoint started = Clock::now();
  std::vector<std::span<const NamedTensor>> requests;
  for (const Job* job : jobs) requests.push_back(job->request.inputs);
  std::vector<Outputs> split;
  if (ragged_ && !SameShapes(requests)) {
    split = TRY(instance.ExecuteRagged(requests, options));
    times.compute_infer = Clock::now() - started;
    if (split.size() != jobs.size())
      return Fail(Code::kInternal, "{} requests gave the outputs of {}", jobs.size(), split.size());
    return split;
  }
  const std::vector<NamedTensor> inputs = TRY(JoinInputs(requests));
  const TimePoint joined = Clock::now();
  times.compute_input = joined - started;
  const Outputs outputs = TRY(instance.Execute(inputs, options));
  const TimePoint inferred = Clock::now();
  times.compute_infer = inferred - joined;
  const int64_t total = inputs.empty() ? 0 : inputs[0].tensor.dims()[0];
  int64_t first = 0;
  for (const Job* job : jobs) {
    Outputs mine;
    for (const NamedTensor& output : outputs) {
      Tensor part = Part(output.tensor, first, job->batch, total);
      if (!part.defined()) {
        splits_ = false;
        log::Warning("an output has no batch dimension, so requests run one by one",
                     {{"model", spec_.name}, {"output", output.name}});
        return std::vector<Outputs>();
      }
      mine.push_back({output.name, std::move(part)});
    }
    split.push_back(std::move(mine));
    first += job->batch;
  }
  times.compute_output = Clock::now() - inferred;
  return split;
}

std::chrono::nanoseconds ModelVersion::Execute(Instance& instance, std::span<Job* const> jobs,
                                               int threads) {
  const TimePoint started = jobs[0]->started;
  const RunOptions options{.outputs = WantedOutputs(jobs),
                           .cancelled = [&jobs] { return Abandoned(jobs); },
                           .threads = threads};
  RequestTimes times;
  int64_t items = 0;
  for (Job* job : jobs) {
    job->times.queue = started - job->enqueued;
    items += job->batch;
  }
  if (jobs.size() == 1) {
    Job& job = *jobs[0];
    auto outputs = GuardMemory(
        [&]() -> Result<Outputs> { return instance.Execute(job.request.inputs, options); });
    job.ended = Clock::now();
    job.times.compute_infer = job.ended - started;
    if (outputs) stats_.Executed(job.times, items);
    Finish(job, std::move(outputs));
    return job.answer ? job.times.compute() : std::chrono::nanoseconds(0);
  }
  Result<std::vector<Outputs>> split;
  if (splits_) split = GuardMemory([&] { return RunBatch(instance, jobs, options, times); });
  // Not to be run together; or one of them breaks what the model wants of its data, and the others
  // must not suffer for it.
  if (split ? split->empty() : split.error().code == Code::kInvalidArgument) {
    for (Job* job : jobs) {
      job->started = Clock::now();
      Execute(instance, {&job, 1}, threads);
    }
    return {};
  }
  if (split) stats_.Executed(times, items);
  for (size_t i = 0; i < jobs.size(); ++i) {
    times.queue = jobs[i]->times.queue;
    jobs[i]->times = times;
    if (split)
      Finish(*jobs[i], std::move((*split)[i]));
    else
      Finish(*jobs[i], Fail(split.error()));
  }
  return split ? times.compute() : std::chrono::nanoseconds(0);
}

void ModelVersion::Finish(Job& job, Result<Outputs> outputs) {
  if (job.request.trace) {
    const TimePoint started = job.enqueued + job.times.queue;
    const TimePoint joined = started + job.times.compute_input;
    Stamp(job, TracePoint::kComputeStart, started);
    Stamp(job, TracePoint::kComputeInputEnd, joined);
    Stamp(job, TracePoint::kComputeOutputStart, joined + job.times.compute_infer);
    Stamp(job, TracePoint::kComputeEnd, started + job.times.compute());
    Note(job, TraceTensor::kBackendInput, job.request.inputs);
    if (outputs) Note(job, TraceTensor::kBackendOutput, *outputs);
  }
  if (outputs) outputs = ArrangeOutputs(spec_, job.request.outputs, std::move(*outputs));
  if (outputs) {
    job.answer = InferResponse{.model = spec_.name,
                               .version = spec_.version,
                               .id = std::move(job.request.id),
                               .outputs = std::move(*outputs),
                               .parameters = {}};
    return;
  }
  const bool cancelled = outputs.error().code == Code::kCancelled;
  if (cancelled && !job.request.IsCancelled()) return Refuse(job, Refusal::kDeadline);
  job.failure = cancelled ? FailReason::kCancelled : FailReason::kBackend;
  job.answer =
      Fail(outputs.error().code, "{}{}", RequestPrefix(job.request), outputs.error().message);
}

ModelStatistics ModelVersion::Statistics() const {
  ModelStatistics s = stats_.Snapshot();
  s.memory_bytes = model_->memory_bytes() + instance_bytes_;
  return s;
}

}  // namespace dunlin::serve
