// ModelVersion: one version of one model, loaded, warm and able to answer.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "serve/backend.h"
#include "serve/cache.h"
#include "serve/compute.h"
#include "serve/infer.h"
#include "serve/metrics.h"
#include "serve/scheduler.h"
#include "serve/spec.h"
#include "serve/stats.h"

namespace dunlin::serve {

class ModelVersion final : private JobRunner {
 public:
  // Makes the instances the configuration asks for, one if it does not say, and warms each of them
  // up. Blocks as long as that takes.
  static Result<std::unique_ptr<ModelVersion>> Create(ModelSpec spec,
                                                      std::shared_ptr<LoadedModel> model,
                                                      std::shared_ptr<ModelMetrics> metrics,
                                                      Compute& compute = Compute::Process());
  // Returns when everything that was accepted has been answered. Not to be called from a callback.
  ~ModelVersion() override;

  // Answers from now on from this cache where it can; before the first request.
  void UseCache(std::unique_ptr<VersionCache> cache) { cache_ = std::move(cache); }

  const ModelSpec& spec() const { return spec_; }
  // Never waits. `done` is called once: here, when the request does not fit the model, the queue is
  // full, or the model is short enough to run in place; else on a compute thread. Thread-safe.
  void Submit(InferRequest request, InferCallback done);
  ModelStatistics Statistics() const;

 private:
  ModelVersion(ModelSpec spec, std::shared_ptr<LoadedModel> model,
               std::shared_ptr<ModelMetrics> metrics, Compute& compute);
  Status WarmUp(Instance& instance) const;

  Result<std::unique_ptr<Instance>> CreateInstance() override;
  std::chrono::nanoseconds Execute(Instance& instance, std::span<Job* const> jobs,
                                   int threads) override;
  void Pending(int change) override { metrics_->PendingChanged(change); }
  void Refuse(Job& job, Refusal reason) override;
  void Answer(Job& job) override;

  // The outputs of each job, or the one error of all.
  using Outputs = std::vector<NamedTensor>;
  Result<std::vector<Outputs>> RunBatch(Instance& instance, std::span<Job* const> jobs,
                                        const RunOptions& options, RequestTimes& times);
  void Finish(Job& job, Result<Outputs> outputs);

  const ModelSpec spec_;
  const std::shared_ptr<LoadedModel> model_;
  const std::shared_ptr<ModelMetrics> metrics_;
  Compute& compute_;
  StatsRecorder stats_;
  const bool ragged_;
  std::atomic<int64_t> instance_bytes_{0};
  std::atomic<bool> splits_{true};        // false: an output was found to have no batch dimension
  std::unique_ptr<VersionCache> cache_;   // null: answers are not kept
  std::unique_ptr<Scheduler> scheduler_;  // last: it uses all the others
};

}  // namespace dunlin::serve
