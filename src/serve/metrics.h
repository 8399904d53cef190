// The Prometheus page: Triton's nv_* families and Dunlin's own, of the process and of every model
// version.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "serve/stats.h"

namespace dunlin::serve {

struct MetricsOptions {
  bool counter_latencies = true;     // the nv_*_duration_us counters
  bool histogram_latencies = false;  // nv_inference_first_response_histogram_ms
  bool summary_latencies = false;    // the nv_*_summary_us summaries
  std::vector<double> summary_quantiles = {0.5, 0.9, 0.95, 0.99, 0.999};
  bool cpu = true;                           // nv_cpu_*
  std::chrono::milliseconds interval{2000};  // nv_cpu_utilization is measured over at least this
};
// --metrics-config's values: counter_latencies=, histogram_latencies=,
// summary_latencies=true|false, summary_quantiles=<quantile>:<error>,…; Triton also writes
// "summary,…" in front.
Status ParseMetricsConfig(const std::vector<std::string>& flags, MetricsOptions& options);

struct ModelMetricsOptions {
  bool cache = false;                            // show the response cache's families
  std::vector<double> first_response_buckets{};  // ms, ascending; empty: Triton's
};

class Summary;

// The counters of one model version. They outlive a reload: whoever loads the same version while
// the old one is still there gets the same counters, so that they never run backwards. All of it
// thread-safe.
class ModelMetrics {
 public:
  ~ModelMetrics();
  ModelMetrics(const ModelMetrics&) = delete;
  ModelMetrics& operator=(const ModelMetrics&) = delete;

  void PendingChanged(int delta) { pending_.fetch_add(delta, std::memory_order_relaxed); }
  void LoadTook(std::chrono::nanoseconds duration) { load_ns_ = duration.count(); }

  // For StatsRecorder: whose counts belong to these metrics, and what is not counted in shards.
  void Attach(const StatsRecorder& recorder);
  void Detach(const StatsRecorder& recorder);
  void Observe(const RequestTimes& times) {
    if (detailed_) ObserveDetails(times);
  }
  void ObserveCacheHit(std::chrono::nanoseconds total, std::chrono::nanoseconds lookup);
  void ObserveCacheMiss(std::chrono::nanoseconds lookup_and_insert);

 private:
  friend class Metrics;
  struct Details;
  ModelMetrics(std::string labels, const MetricsOptions& options, const ModelMetricsOptions& model);
  void ObserveDetails(const RequestTimes& times);
  ModelStatistics Total() const;

  const std::string labels_;  // as they stand between braces
  std::atomic<bool> cache_{false};
  std::atomic<int64_t> pending_{0}, load_ns_{0};
  const bool detailed_;
  const std::unique_ptr<Details> details_;  // what has to be asked for; null: nothing was
  mutable std::mutex mutex_;
  std::vector<const StatsRecorder*> recorders_;  // under mutex_
  ModelStatistics retired_;                      // under mutex_: of recorders that ended
};

class Metrics {
 public:
  explicit Metrics(const MetricsOptions& options = {});
  ~Metrics();
  // `tags` become labels beside model and version.
  std::shared_ptr<ModelMetrics> ForModel(const std::string& model, int64_t version,
                                         const std::map<std::string, std::string>& tags,
                                         const ModelMetricsOptions& options = {});
  // A number of the process, read whenever the page is. `read` must outlive the last Text().
  enum class Kind : uint8_t { kCounter, kGauge };
  void Add(Kind kind, const std::string& name, const std::string& help,
           std::function<double()> read);
  // The text format.
  std::string Text();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace dunlin::serve
