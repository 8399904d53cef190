// Schedulers: from accepted requests to calls of instances.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>

#include "serve/backend.h"
#include "serve/request_queue.h"

namespace dunlin::serve {

class Scheduler {
 public:
  virtual ~Scheduler() = default;  // returns when everything that was accepted has been answered
  // True: taken; it is answered here, when it can run in place at once, or later on another thread.
  // False: the queue is full; `job` is untouched.
  virtual bool Enqueue(Job& job) = 0;
};

// What a scheduler does with jobs whose turn has come: a model. Thread-safe.
class JobRunner {
 public:
  virtual ~JobRunner() = default;
  virtual Result<std::unique_ptr<Instance>> CreateInstance() = 0;
  // Runs jobs of equal shape as one execution with so many threads and fills in their answers. How
  // long that took; zero when it says nothing about other executions of this size.
  virtual std::chrono::nanoseconds Execute(Instance& instance, std::span<Job* const> jobs,
                                           int threads) = 0;
  // So many more requests wait.
  virtual void Pending(int change) = 0;
  // The answer of a job that leaves the queue without having run.
  virtual void Refuse(Job& job, Refusal reason) = 0;
  // Counts the job and calls its callback with its answer.
  virtual void Answer(Job& job) = 0;
};

}  // namespace dunlin::serve
