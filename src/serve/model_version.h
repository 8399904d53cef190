// ModelVersion: one version of one model, loaded, warm and able to answer.
#pragma once

#include <memory>

#include "base/result.h"
#include "serve/backend.h"
#include "serve/infer.h"
#include "serve/metrics.h"
#include "serve/scheduler.h"
#include "serve/spec.h"
#include "serve/stats.h"

namespace dunlin::serve {

class ModelVersion {
 public:
  // Makes the instances and warms each of them up. Blocks as long as that takes.
  static Result<std::unique_ptr<ModelVersion>> Create(ModelSpec spec,
                                                      std::shared_ptr<LoadedModel> model,
                                                      std::shared_ptr<ModelMetrics> metrics);
  // Returns when everything that was accepted has been answered. Not to be called from a callback:
  // the threads that run callbacks end here.
  ~ModelVersion();

  const ModelSpec& spec() const { return spec_; }
  // Never blocks. `done` is called once: here, when the request does not fit the model or the queue
  // is full, else on one of this version's threads. Thread-safe.
  void Submit(InferRequest request, InferCallback done);
  ModelStatistics Statistics() const;

 private:
  ModelVersion(ModelSpec spec, std::shared_ptr<LoadedModel> model,
               std::shared_ptr<ModelMetrics> metrics);
  Status WarmUp(Instance& instance) const;
  void Execute(Instance& instance, Job job);
  void Refuse(const InferRequest& request, InferCallback& done, FailReason reason, Error error);

  const ModelSpec spec_;
  const std::shared_ptr<LoadedModel> model_;
  const std::shared_ptr<ModelMetrics> metrics_;
  StatsRecorder stats_;
  int64_t instance_bytes_ = 0;
  std::unique_ptr<Scheduler> scheduler_;  // last: its threads use all the others
};

}  // namespace dunlin::serve
