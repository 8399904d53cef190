// What a model version has done so far: the numbers of the statistics route and of the metrics
// page, counted once.
//
// Counting costs well under 200 ns and never waits: each thread has a shard it prefers and takes
// another when somebody is at it; whoever reads adds the shards up.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

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
  void Merge(const DurationStat& other) {
    count += other.count;
    ns += other.ns;
  }
};

struct BatchStat {
  DurationStat compute_input, compute_infer, compute_output;
};

enum class FailReason : uint8_t { kRejected, kCancelled, kBackend, kOther };
inline constexpr size_t kFailReasons = 4;

// Upper bounds of 10 µs · 2^i, from what the smallest model takes to what nobody waits for; the
// last bucket is what lies beyond 10.5 s.
class LatencyHistogram {
 public:
  static constexpr size_t kBuckets = 22;
  static constexpr uint64_t kFirstNs = 10'000;
  static double UpperSeconds(size_t bucket) { return 1e-5 * double(uint64_t{1} << bucket); }

  void Add(std::chrono::nanoseconds d);
  void Merge(const LatencyHistogram& other);
  const std::array<uint64_t, kBuckets>& counts() const { return counts_; }

 private:
  std::array<uint64_t, kBuckets> counts_{};
};

struct ModelStatistics {
  uint64_t last_inference_ms = 0;  // since the epoch; 0: never
  uint64_t inference_count = 0;    // items, a batch of n counts n; answers from the cache do not
  uint64_t execution_count = 0;    // calls of the engine
  // queue and compute_* are of the requests that the engine answered: a cached one counts in
  // success and cache_hit only. A request's share of a batch is the whole batch's time.
  DurationStat success, fail, queue, compute_input, compute_infer, compute_output;
  DurationStat cache_hit, cache_miss;    // look-up; look-up and insertion
  std::map<int64_t, BatchStat> batches;  // by batch size, counted by execution
  std::array<uint64_t, kFailReasons> failures{};
  LatencyHistogram total_time, queue_time, compute_time;
  int64_t memory_bytes = 0;

  void Merge(const ModelStatistics& other);  // all but memory_bytes
};

// Where the time of one request went.
struct RequestTimes {
  std::chrono::nanoseconds total{0}, queue{0}, compute_input{0}, compute_infer{0},
      compute_output{0};
  std::chrono::nanoseconds compute() const {
    return compute_input + compute_infer + compute_output;
  }
};

// Thread-safe. What was counted stays in the metrics when the recorder ends.
class StatsRecorder {
 public:
  explicit StatsRecorder(ModelMetrics& metrics);
  ~StatsRecorder();
  StatsRecorder(const StatsRecorder&) = delete;
  StatsRecorder& operator=(const StatsRecorder&) = delete;

  // A request of so many items was answered by the engine.
  void Success(const RequestTimes& times, int64_t items);
  // The engine was called once for so many items, of one request or several. `total` and `queue`
  // are not looked at.
  void Executed(const RequestTimes& times, int64_t items);
  void Failure(FailReason reason, std::chrono::nanoseconds total);
  // A request was answered from the response cache.
  void CacheHit(std::chrono::nanoseconds total, std::chrono::nanoseconds lookup);
  // Was looked for in vain; the request itself is counted when it is answered.
  void CacheMiss(std::chrono::nanoseconds lookup_and_insert);
  ModelStatistics Snapshot() const;

 private:
  struct Shard;
  template <class F>
  void Count(F&& f);

  ModelMetrics& metrics_;
  const std::unique_ptr<Shard[]> shards_;
};

}  // namespace dunlin::serve
