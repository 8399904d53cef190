// Traces of single requests: when each stage was reached and, if asked for, the tensors. Triton's
// settings, file form and names; or spans for an OpenTelemetry collector.
//
//   if (auto trace = tracer.Begin({.model = …}))   // null: not sampled, and that costs one branch
//     trace->Stamp(TracePoint::kHttpRecvStart, arrival);
//
// What was noted goes to the tracer's own thread when the last owner of the Trace lets go.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.h"
#include "dunlin/engine.h"
#include "serve/trace_options.h"

namespace dunlin::serve {

// In the order in which a request passes them.
enum class TracePoint : uint8_t {
  kHttpRecvStart,
  kHttpRecvEnd,
  kGrpcWaitreadStart,
  kGrpcWaitreadEnd,
  kRequestStart,  // accepted by the model
  kQueueStart,
  kComputeStart,  // taken from the queue
  kComputeInputEnd,
  kComputeOutputStart,
  kComputeEnd,
  kInferResponseComplete,
  kRequestEnd,
  kHttpSendStart,
  kHttpSendEnd,
  kGrpcSendStart,
  kGrpcSendEnd,
};
inline constexpr size_t kTracePoints = 16;
std::string_view TracePointName(TracePoint point);  // "HTTP_RECV_START"

enum class TraceTensor : uint8_t { kQueueInput, kBackendInput, kBackendOutput };

// What is known of a request once it is over.
struct TraceRecord {
  uint64_t id = 0, parent_id = 0;  // the parent is an ensemble's trace
  std::string model;
  int64_t version = 0;
  std::string request_id;
  std::array<uint8_t, 16> trace_id{};      // W3C's; an ensemble and its steps share it
  std::array<uint8_t, 8> parent_span{};    // all zero: none
  std::array<uint8_t, 8> request_span{};   // the parent of steps' spans
  std::array<int64_t, kTracePoints> ns{};  // steady clock; 0: not reached
  std::string tensors;                     // JSON objects, each followed by a comma
  std::string error;                       // why the request failed, "" if it did not
  uint64_t group = 0;                      // of the setting it was sampled by
  uint32_t log_frequency = 0;              // of that setting
  bool timestamps = true;                  // false: only the tensors are wanted
};

// Takes finished traces on the tracer's thread; may block.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  virtual void Write(std::vector<TraceRecord> records) = 0;
  // Traces lost on the way out so far.
  virtual uint64_t dropped() const = 0;
};

class Tracer;

class Trace {
 public:
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // Thread-safe.
  void Stamp(TracePoint point,
             std::chrono::steady_clock::time_point when = std::chrono::steady_clock::now()) {
    ns_[size_t(point)].store(when.time_since_epoch().count(), std::memory_order_relaxed);
  }
  // Whether Note does anything. A tensor's text is made at once, so it may change afterwards.
  bool wants_tensors() const { return wants_tensors_; }
  // Not thread-safe: one stage of a request after the other.
  void Note(TraceTensor what, const NamedTensor& tensor);
  void Failed(std::string_view message) { record_.error = message; }
  // For a step of an ensemble; always traced.
  std::shared_ptr<Trace> Child(const std::string& model, int64_t version) const;
  // 32 hexadecimal digits, for logs.
  std::string trace_id() const;

 private:
  friend class Tracer;
  Trace(Tracer& tracer, bool wants_tensors) : tracer_(tracer), wants_tensors_(wants_tensors) {}
  Tracer& tracer_;
  const bool wants_tensors_;
  std::array<std::atomic<int64_t>, kTracePoints> ns_{};
  TraceRecord record_;
};

class Tracer {
 public:
  Tracer() : Tracer(TraceOptions{}, nullptr) {}  // off until the settings say otherwise
  // `sink` gets what is traced; null: nothing is ever traced.
  Tracer(TraceOptions options, std::unique_ptr<TraceSink> sink);
  // Writes what is left. All Traces must be gone.
  ~Tracer();

  struct Request {
    const std::string& model;
    int64_t version = 0;
    std::string_view id = {};
    std::string_view traceparent = {};  // the W3C header, as sent; used in mode opentelemetry
  };
  // Null unless the request is sampled. Thread-safe.
  std::shared_ptr<Trace> Begin(const Request& request) {
    return active_.load(std::memory_order_relaxed) ? Sample(request) : nullptr;
  }

  // The trace extension's settings. `model` "" is the global ones, which models inherit; whether
  // the model exists is the caller's business. Values are lists of strings as gRPC has them;
  // trace_level is the only one with more than one.
  using Settings = std::vector<std::pair<std::string, std::vector<std::string>>>;
  Settings Get(const std::string& model) const;
  // A value without strings (JSON null, an empty list) clears: the model takes the global value
  // again, the global setting that of the command line. All or nothing. kUnimplemented: the trace
  // file; kInvalidArgument: the rest, in the protocol's words.
  Status Update(const std::string& model, const Settings& changes);

  // Traces that were sampled and lost, because they came faster than they could be written.
  uint64_t dropped() const;

 private:
  friend class Trace;
  struct Setting;
  std::shared_ptr<Trace> Sample(const Request& request);
  std::shared_ptr<Setting> SettingFor(const std::string& model) const;
  Status Check(const TraceValues& values) const;
  void Finish(TraceRecord record);
  void Loop();

  const TraceOptions options_;
  const std::unique_ptr<TraceSink> sink_;
  std::atomic<bool> active_{false};
  std::atomic<uint64_t> next_id_{1};

  mutable std::mutex mutex_;  // settings
  std::shared_ptr<Setting> global_;
  std::map<std::string, std::shared_ptr<Setting>> models_;
  uint64_t next_group_ = 1;

  std::mutex queue_mutex_;
  std::condition_variable wake_;
  std::deque<TraceRecord> queue_;
  size_t queued_bytes_ = 0;
  bool stopping_ = false;
  bool started_ = false;
  std::atomic<uint64_t> dropped_{0};
  std::thread thread_;  // from the first finished trace on
};

// From a W3C traceparent header; nothing when it is not one.
struct TraceParent {
  std::array<uint8_t, 16> trace_id;
  std::array<uint8_t, 8> span;
  bool sampled;
};
std::optional<TraceParent> ParseTraceParent(std::string_view header);

}  // namespace dunlin::serve
