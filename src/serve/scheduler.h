// Schedulers: from accepted requests to calls of instances. InstanceScheduler runs one request per
// call; a scheduler that forms batches goes behind the same interface.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "serve/backend.h"
#include "serve/infer.h"
#include "serve/spec.h"

namespace dunlin::serve {

// An accepted request on its way. Whoever holds it owes `done` one call.
struct Job {
  InferRequest request;
  InferCallback done;
  int64_t batch = 1;
  TimePoint enqueued{};
  TimePoint deadline = TimePoint::max();  // of the wait in the queue
};

class Scheduler {
 public:
  virtual ~Scheduler() = default;  // returns when everything that was accepted has been answered
  // True: taken, answered later on another thread. False: the queue is full; `job` is untouched.
  virtual bool Enqueue(Job& job) = 0;
};

// One thread per instance, one bounded queue for all, first come first served.
class InstanceScheduler : public Scheduler {
 public:
  // Executes or refuses one job and answers it.
  using Execute = std::function<void(Instance&, Job)>;
  InstanceScheduler(std::vector<std::unique_ptr<Instance>> instances, int max_queue_size,
                    Execute execute);
  ~InstanceScheduler() override;
  bool Enqueue(Job& job) override;

 private:
  void Loop(Instance& instance);

  const std::vector<std::unique_ptr<Instance>> instances_;
  const size_t max_queue_size_;
  const Execute execute_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  int idle_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace dunlin::serve
