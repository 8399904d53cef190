// Batcher: the scheduler of one model. Joins waiting requests into batches as dynamic_batching
// says, or runs one request per execution where the model has none, on as many instances as there
// may be.
//
// An execution needs an instance and a compute slot (serve/compute.h). A short one whose instance
// and slot are free runs on the thread that brought the request.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "serve/batch_size.h"
#include "serve/compute.h"
#include "serve/ordered_answers.h"
#include "serve/scheduler.h"

namespace dunlin::serve {

class Batcher final : public Scheduler, private ComputeClient {
 public:
  // `instances`: those there are. Further ones are made when they are needed, up to
  // `max_instances`. `spec`, `runner` and `compute` must outlive it.
  Batcher(const ModelSpec& spec, std::vector<std::unique_ptr<Instance>> instances,
          int max_instances, JobRunner& runner, Compute& compute);
  ~Batcher() override;
  bool Enqueue(Job& job) override;

 private:
  // What to run next: `count` requests of that shape; 0: nothing before `when`.
  struct Pick {
    uint64_t shape = 0;
    size_t count = 0;
    TimePoint when = TimePoint::max();
  };
  // All of these need mutex_.
  Pick PickBatch(TimePoint now, int threads);
  Pick PickAutomatic(TimePoint now, int threads);
  Pick PickConfigured(TimePoint now) const;
  bool Waits(const Job& job) const;
  int64_t Largest() const {
    const auto& sizes = batching_->preferred_sizes;
    return sizes.empty() ? spec_.max_batch_size : sizes.back();
  }
  int FreeInstances() const { return int(idle_.size()) + max_instances_ - made_; }
  std::unique_ptr<Instance> TakeIdle();
  void Dispatch(TimePoint now);
  void Leave(std::unique_lock<std::mutex>& lock);

  // These need it not.
  void Run(int slots) override;
  void OnTime() override;
  int TryInPlace(const Job& job, std::unique_ptr<Instance>& instance);
  void RunInPlace(Job& job, std::unique_ptr<Instance> instance, int slots);
  void Execute(std::unique_ptr<Instance> instance, std::vector<JobPtr> jobs, int slots);
  void Refuse(std::vector<RequestQueue::Refused> refused);
  void Answer(JobPtr job);

  const ModelSpec& spec_;
  const BatchingSpec* const batching_;  // null: one request per execution
  const int max_instances_;
  JobRunner& runner_;
  Compute& compute_;

  std::mutex mutex_;
  std::condition_variable idle_again_;
  RequestQueue queue_;
  BatchSizer sizer_;
  ComputeDemand demand_;
  std::vector<std::unique_ptr<Instance>> idle_;
  int made_;           // instances, idle or not
  int announced_ = 0;  // calls of Run that compute_ owes
  int running_ = 0;    // threads in here that will still touch this
  TimePoint call_at_ = TimePoint::max();
  bool stopping_ = false;
  OrderedAnswers order_;
};

}  // namespace dunlin::serve
