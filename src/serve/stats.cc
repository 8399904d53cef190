#include "serve/stats.h"

#include <ctime>

#include <algorithm>
#include <bit>
#include <thread>

#include "serve/metrics.h"

namespace dunlin::serve {
namespace {

// More than threads that count at once, so that a free one is found at the first or second try.
constexpr size_t kShards = 8;
// A model without a batch limit must not let clients fill the memory with batch sizes.
constexpr size_t kMaxBatchSizes = 1024;

size_t PreferredShard() {
  static std::atomic<size_t> next{0};
  thread_local const size_t mine = next.fetch_add(1, std::memory_order_relaxed);
  return mine % kShards;
}

// The coarse clock ticks every few milliseconds, which is what last_inference needs, and costs a
// few nanoseconds.
uint64_t NowMs() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return uint64_t(now.tv_sec) * 1000 + uint64_t(now.tv_nsec) / 1'000'000;
}

void AddSuccess(ModelStatistics& s, const RequestTimes& t, int64_t items) {
  s.last_inference_ms = NowMs();
  s.inference_count += uint64_t(items);
  s.success.Add(t.total);
  s.queue.Add(t.queue);
  s.compute_input.Add(t.compute_input);
  s.compute_infer.Add(t.compute_infer);
  s.compute_output.Add(t.compute_output);
  s.total_time.Add(t.total);
  s.queue_time.Add(t.queue);
  s.compute_time.Add(t.compute_infer);
}

void AddExecuted(ModelStatistics& s, const RequestTimes& t, int64_t items) {
  ++s.execution_count;
  auto it = s.batches.find(items);
  if (it == s.batches.end()) {
    if (s.batches.size() >= kMaxBatchSizes) return;
    it = s.batches.try_emplace(items).first;
  }
  it->second.compute_input.Add(t.compute_input);
  it->second.compute_infer.Add(t.compute_infer);
  it->second.compute_output.Add(t.compute_output);
}

}  // namespace

void LatencyHistogram::Add(std::chrono::nanoseconds d) {
  const uint64_t ns = uint64_t(std::max<int64_t>(d.count(), 1));
  // Bounds are inclusive: 10 µs is in the first bucket, 10 µs and 1 ns in the second.
  const size_t bucket = size_t(std::bit_width((ns - 1) / kFirstNs));
  ++counts_[std::min(bucket, kBuckets - 1)];
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
}

void ModelStatistics::Merge(const ModelStatistics& o) {
  last_inference_ms = std::max(last_inference_ms, o.last_inference_ms);
  inference_count += o.inference_count;
  execution_count += o.execution_count;
  success.Merge(o.success);
  fail.Merge(o.fail);
  queue.Merge(o.queue);
  compute_input.Merge(o.compute_input);
  compute_infer.Merge(o.compute_infer);
  compute_output.Merge(o.compute_output);
  cache_hit.Merge(o.cache_hit);
  cache_miss.Merge(o.cache_miss);
  for (const auto& [size, b] : o.batches) {
    BatchStat& mine = batches[size];
    mine.compute_input.Merge(b.compute_input);
    mine.compute_infer.Merge(b.compute_infer);
    mine.compute_output.Merge(b.compute_output);
  }
  for (size_t i = 0; i < kFailReasons; ++i) failures[i] += o.failures[i];
  total_time.Merge(o.total_time);
  queue_time.Merge(o.queue_time);
  compute_time.Merge(o.compute_time);
}

// On cache lines of its own, so that threads at different shards do not slow each other down.
struct alignas(64) StatsRecorder::Shard {
  std::atomic<bool> busy{false};
  ModelStatistics stats;

  bool TryTake() { return !busy.exchange(true, std::memory_order_acquire); }
  struct Release {
    Shard& shard;
    ~Release() { shard.busy.store(false, std::memory_order_release); }
  };
};

template <class F>
void StatsRecorder::Count(F&& f) {
  for (size_t i = PreferredShard();; i = (i + 1) % kShards) {
    Shard& shard = shards_[i];
    if (!shard.TryTake()) continue;
    const Shard::Release release{shard};
    return f(shard.stats);
  }
}

StatsRecorder::StatsRecorder(ModelMetrics& metrics)
    : metrics_(metrics), shards_(new Shard[kShards]) {
  metrics_.Attach(*this);
}

StatsRecorder::~StatsRecorder() { metrics_.Detach(*this); }

void StatsRecorder::Success(const RequestTimes& t, int64_t items) {
  Count([&](ModelStatistics& s) { AddSuccess(s, t, items); });
  metrics_.Observe(t);
}

void StatsRecorder::Executed(const RequestTimes& t, int64_t items) {
  Count([&](ModelStatistics& s) { AddExecuted(s, t, items); });
}

void StatsRecorder::Failure(FailReason reason, std::chrono::nanoseconds total) {
  Count([&](ModelStatistics& s) {
    s.fail.Add(total);
    ++s.failures[size_t(reason)];
  });
}

void StatsRecorder::CacheHit(std::chrono::nanoseconds total, std::chrono::nanoseconds lookup) {
  Count([&](ModelStatistics& s) {
    s.last_inference_ms = NowMs();
    s.success.Add(total);
    s.total_time.Add(total);
    s.cache_hit.Add(lookup);
  });
  metrics_.ObserveCacheHit(total, lookup);
}

void StatsRecorder::CacheMiss(std::chrono::nanoseconds lookup_and_insert) {
  Count([&](ModelStatistics& s) { s.cache_miss.Add(lookup_and_insert); });
  metrics_.ObserveCacheMiss(lookup_and_insert);
}

ModelStatistics StatsRecorder::Snapshot() const {
  ModelStatistics sum;
  for (size_t i = 0; i < kShards; ++i) {
    Shard& shard = shards_[i];
    // Those who count hold a shard for some tens of nanoseconds, unless they are preempted there.
    while (!shard.TryTake()) std::this_thread::yield();
    const Shard::Release release{shard};
    sum.Merge(shard.stats);
  }
  return sum;
}

}  // namespace dunlin::serve
