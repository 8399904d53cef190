// One inference as serving sees it: native tensors, no wire form.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "dunlin/engine.h"

namespace dunlin::serve {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;

class Trace;

using Parameter = std::variant<bool, int64_t, uint64_t, double, std::string>;

struct InferRequest {
  std::string id;  // the client's, may be empty
  std::vector<NamedTensor> inputs;
  std::vector<std::string> outputs;      // empty: all
  uint64_t priority = 0;                 // 0: the model's default, 1: highest
  std::chrono::microseconds timeout{0};  // longest wait in a queue; 0: the model's default
  std::map<std::string, Parameter> parameters;
  TimePoint arrival{};                    // not set: when it is submitted
  TimePoint deadline = TimePoint::max();  // past it nobody wants the answer, queued or running
  std::shared_ptr<Trace> trace;           // null: not traced
  // Set by the front end when the client has gone; the request then ends early. May be null.
  std::shared_ptr<std::atomic<bool>> cancelled;

  bool IsCancelled() const { return cancelled && cancelled->load(std::memory_order_relaxed); }
};

struct InferResponse {
  std::string model;
  int64_t version = 0;
  std::string id;
  std::vector<NamedTensor> outputs;  // as asked for, else in the configuration's order
  std::map<std::string, Parameter> parameters;
};

// Called exactly once.
using InferCallback = std::function<void(Result<InferResponse>)>;

}  // namespace dunlin::serve
