#include "serve/stats.h"

#include "serve/metrics.h"

namespace dunlin::serve {

void StatsRecorder::Success(const RequestTimes& t, int64_t batch) {
  metrics_.Success(t, batch);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::lock_guard lock(mutex_);
  stats_.last_inference_ms =
      uint64_t(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
  stats_.inference_count += uint64_t(batch);
  ++stats_.execution_count;
  stats_.success.Add(t.total);
  stats_.queue.Add(t.queue);
  stats_.compute_input.Add(t.compute_input);
  stats_.compute_infer.Add(t.compute_infer);
  stats_.compute_output.Add(t.compute_output);
  BatchStat& b = stats_.batches[batch];
  b.compute_input.Add(t.compute_input);
  b.compute_infer.Add(t.compute_infer);
  b.compute_output.Add(t.compute_output);
}

void StatsRecorder::Failure(FailReason reason, std::chrono::nanoseconds total) {
  metrics_.Failure(reason);
  const std::lock_guard lock(mutex_);
  stats_.fail.Add(total);
}

ModelStatistics StatsRecorder::Snapshot() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace dunlin::serve
