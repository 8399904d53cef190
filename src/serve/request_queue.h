// RequestQueue: requests that wait for their turn, by priority and arrival, under the queue
// policies of the configuration. A data structure only: no lock, no clock, no thread.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "serve/infer.h"
#include "serve/spec.h"
#include "serve/stats.h"

namespace dunlin::serve {

// An accepted request on its way. Whoever holds it owes `done` one call.
struct Job {
  InferRequest request;
  InferCallback done;
  int64_t batch = 1;                     // items
  uint64_t shape = 0;                    // equal for requests that can run together
  TimePoint enqueued{}, started{};       // started: its execution
  TimePoint expires = TimePoint::max();  // its time-out in the queue
  uint64_t ticket = 0;                   // its place in the order of answers

  Result<InferResponse> answer = {};  // once it has run or was refused
  RequestTimes times = {};
  TimePoint ended{};                        // when the answer was there; not set: just now
  FailReason failure = FailReason::kOther;  // of an answer that is an error
};
using JobPtr = std::unique_ptr<Job>;

// Why a request left the queue without having run.
enum class Refusal : uint8_t { kCancelled, kTimeout, kDeadline };

class RequestQueue {
 public:
  explicit RequestQueue(const ModelSpec& spec);

  // False: that priority's queue is full. `extra`: requests that may wait beyond its size.
  bool Push(JobPtr& job, TimePoint now, size_t extra);
  // Takes out what is cancelled or expired: to be answered with that reason. Cheap when nothing can
  // be due.
  struct Refused {
    JobPtr job;
    Refusal reason;
  };
  std::vector<Refused> TakeRefused(TimePoint now);
  // When TakeRefused may next have something; max(): not before another Push. Requests that a
  // client may cancel are looked at every kCancelPoll.
  TimePoint next_check() const { return next_check_; }
  static constexpr std::chrono::milliseconds kCancelPoll{10};

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // In the order in which they run.
  template <class F>  // bool(Job&): whether to go on
  void ForEach(F&& f) const {
    for (const auto& [priority, level] : levels_) {
      for (const auto* jobs : {&level.jobs, &level.delayed})
        for (const JobPtr& job : *jobs)
          if (!f(*job)) return;
    }
  }
  // Takes the first `count` requests of that shape out, in order.
  std::vector<JobPtr> Take(uint64_t shape, size_t count);

 private:
  struct Level {
    std::deque<JobPtr> jobs;
    std::deque<JobPtr> delayed;  // expired, and to run after the others of this priority
  };
  const QueuePolicy& PolicyOf(uint64_t priority) const;
  void Watch(const Job& job, TimePoint now);

  const ModelSpec& spec_;
  std::map<uint64_t, Level> levels_;  // by priority, 1 is the highest
  size_t size_ = 0;
  TimePoint next_check_ = TimePoint::max();
};

}  // namespace dunlin::serve
