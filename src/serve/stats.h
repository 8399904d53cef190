// What a model version has done so far, in the counts and durations the statistics route reports.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>

#include "base/result.h"

namespace dunlin::serve {

class ModelMetrics;

struct DurationStat {
  uint64_t count = 0;
  uint64_t ns = 0;
  void Add(std::chrono::nanoseconds d) {
    ++count;
    ns += uint64_t(d.count() > 0 ? d.count() : 0);
  }
};

struct BatchStat {
  DurationStat compute_input, compute_infer, compute_output;
};

struct ModelStatistics {
  uint64_t last_inference_ms = 0;  // since the epoch; 0: never
  uint64_t inference_count = 0;    // items, a batch of n counts n
  uint64_t execution_count = 0;    // calls of the engine
  DurationStat success, fail, queue, compute_input, compute_infer, compute_output;
  std::map<int64_t, BatchStat> batches;  // by batch size
  int64_t memory_bytes = 0;
};

// Where the time of one request went.
struct RequestTimes {
  std::chrono::nanoseconds total{0}, queue{0}, compute_input{0}, compute_infer{0},
      compute_output{0};
};

enum class FailReason : uint8_t { kRejected, kCancelled, kBackend, kOther };

// Thread-safe. Also feeds the metrics, so that both tell the same story.
class StatsRecorder {
 public:
  explicit StatsRecorder(ModelMetrics& metrics) : metrics_(metrics) {}
  void Success(const RequestTimes& times, int64_t batch);
  void Failure(FailReason reason, std::chrono::nanoseconds total);
  ModelStatistics Snapshot() const;

 private:
  ModelMetrics& metrics_;
  mutable std::mutex mutex_;
  ModelStatistics stats_;
};

}  // namespace dunlin::serve
