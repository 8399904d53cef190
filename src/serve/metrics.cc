#include "serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <span>

#include "base/json_writer.h"
#include "serve/metrics_machine.h"
#include "serve/metrics_summary.h"

namespace dunlin::serve {
namespace {

// Milliseconds, as clients of nv_inference_first_response_histogram_ms know them.
const std::vector<double> kFirstResponseBuckets = {100, 500, 2000, 5000};

constexpr const char* kReasonNames[kFailReasons] = {"REJECTED", "CANCELED", "BACKEND", "OTHER"};

double Microseconds(uint64_t ns) { return double(ns) / 1e3; }
double Seconds(uint64_t ns) { return double(ns) / 1e9; }

struct CounterFamily {
  const char* name;
  const char* help;
  double (*value)(const ModelStatistics&);
};
constexpr CounterFamily kCounters[] = {
    {"nv_inference_request_success", "Number of successful inference requests, all batch sizes",
     [](const ModelStatistics& s) { return double(s.success.count); }},
    {"nv_inference_count", "Number of inferences performed (does not include cached requests)",
     [](const ModelStatistics& s) { return double(s.inference_count); }},
    {"nv_inference_exec_count",
     "Number of model executions performed (does not include cached requests)",
     [](const ModelStatistics& s) { return double(s.execution_count); }},
};
constexpr CounterFamily kLatencyCounters[] = {
    {"nv_inference_request_duration_us",
     "Cumulative inference request duration in microseconds (includes cached requests)",
     [](const ModelStatistics& s) { return Microseconds(s.success.ns); }},
    {"nv_inference_queue_duration_us",
     "Cumulative inference queuing duration in microseconds (does not include cached requests)",
     [](const ModelStatistics& s) { return Microseconds(s.queue.ns); }},
    {"nv_inference_compute_input_duration_us",
     "Cumulative compute input duration in microseconds (does not include cached requests)",
     [](const ModelStatistics& s) { return Microseconds(s.compute_input.ns); }},
    {"nv_inference_compute_infer_duration_us",
     "Cumulative compute inference duration in microseconds (does not include cached requests)",
     [](const ModelStatistics& s) { return Microseconds(s.compute_infer.ns); }},
    {"nv_inference_compute_output_duration_us",
     "Cumulative inference compute output duration in microseconds (does not include cached "
     "requests)",
     [](const ModelStatistics& s) { return Microseconds(s.compute_output.ns); }},
};
constexpr CounterFamily kCacheCounters[] = {
    {"nv_cache_num_hits_per_model", "Number of cache hits per model",
     [](const ModelStatistics& s) { return double(s.cache_hit.count); }},
    {"nv_cache_num_misses_per_model", "Number of cache misses per model",
     [](const ModelStatistics& s) { return double(s.cache_miss.count); }},
};
constexpr CounterFamily kCacheLatencyCounters[] = {
    {"nv_cache_hit_duration_per_model", "Total cache hit duration per model, in microseconds",
     [](const ModelStatistics& s) { return Microseconds(s.cache_hit.ns); }},
    {"nv_cache_miss_duration_per_model", "Total cache miss duration per model, in microseconds",
     [](const ModelStatistics& s) { return Microseconds(s.cache_miss.ns); }},
};

struct HistogramFamily {
  const char* name;
  const char* help;
  LatencyHistogram ModelStatistics::*counts;
  DurationStat ModelStatistics::*sum;
};
constexpr HistogramFamily kHistograms[] = {
    {"dunlin_request_duration_seconds", "Time from arrival to answer of successful requests",
     &ModelStatistics::total_time, &ModelStatistics::success},
    {"dunlin_queue_duration_seconds", "Time successful requests waited to be executed",
     &ModelStatistics::queue_time, &ModelStatistics::queue},
    {"dunlin_compute_duration_seconds", "Time successful requests spent in the engine",
     &ModelStatistics::compute_time, &ModelStatistics::compute_infer},
};

enum SummaryId {
  kRequestSummary,
  kQueueSummary,
  kInputSummary,
  kInferSummary,
  kOutputSummary,
  kHitSummary,
  kMissSummary,
  kSummaries
};
struct SummaryFamily {
  const char* name;
  const char* help;
  DurationStat ModelStatistics::*total;
};
constexpr SummaryFamily kSummaryFamilies[kSummaries] = {
    {"nv_inference_request_summary_us",
     "Summary of inference request duration in microseconds (includes cached requests)",
     &ModelStatistics::success},
    {"nv_inference_queue_summary_us", "Summary of inference queuing duration in microseconds",
     &ModelStatistics::queue},
    {"nv_inference_compute_input_summary_us", "Summary of compute input duration in microseconds",
     &ModelStatistics::compute_input},
    {"nv_inference_compute_infer_summary_us",
     "Summary of compute inference duration in microseconds", &ModelStatistics::compute_infer},
    {"nv_inference_compute_output_summary_us",
     "Summary of inference compute output duration in microseconds",
     &ModelStatistics::compute_output},
    {"nv_cache_hit_summary_per_model", "Summary of cache hit duration per model, in microseconds",
     &ModelStatistics::cache_hit},
    {"nv_cache_miss_summary_per_model", "Summary of cache miss duration per model, in microseconds",
     &ModelStatistics::cache_miss},
};

// A value between quotes. What is no UTF-8, or a control character, would spoil the whole page.
std::string LabelValue(std::string value) {
  for (char& c : value)
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') c = '?';
  return JsonQuoted(value);
}

// A name Prometheus allows and that is not one of ours.
std::string LabelName(std::string name) {
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') c = '_';
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0]))) name.insert(0, "_");
  if (name.rfind("__", 0) == 0 || name == "model" || name == "version" || name == "reason" ||
      name == "le" || name == "quantile")
    name.insert(0, "tag_");
  return name;
}

class Page {
 public:
  void Family(std::string_view name, std::string_view help, std::string_view type) {
    name_ = name;
    fmt::format_to(Out(), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  void Line(std::string_view labels, double value, std::string_view suffix = "",
            std::string_view extra = "") {
    text_ += name_;
    text_ += suffix;
    if (!labels.empty() || !extra.empty())
      fmt::format_to(Out(), "{{{}{}{}}}", labels, labels.empty() || extra.empty() ? "" : ",",
                     extra);
    if (std::isnan(value))
      text_ += " NaN\n";
    else
      fmt::format_to(Out(), " {}\n", value);
  }
  std::string Take() { return std::move(text_); }

 private:
  std::back_insert_iterator<std::string> Out() { return std::back_inserter(text_); }
  std::string text_;
  std::string_view name_;
};

}  // namespace

struct ModelMetrics::Details {
  explicit Details(const MetricsOptions& o, const ModelMetricsOptions& m) {
    if (o.histogram_latencies) {
      bounds = m.first_response_buckets.empty() ? kFirstResponseBuckets : m.first_response_buckets;
      buckets = std::make_unique<std::atomic<uint64_t>[]>(bounds.size() + 1);
    }
    if (o.summary_latencies) summaries = std::make_unique<Summary[]>(kSummaries);
  }
  // Of the first response; requests have one.
  void FirstResponse(std::chrono::nanoseconds total) {
    if (bounds.empty()) return;
    const double ms = double(total.count()) / 1e6;
    const size_t i = size_t(std::lower_bound(bounds.begin(), bounds.end(), ms) - bounds.begin());
    buckets[i].fetch_add(1, std::memory_order_relaxed);
    sum_ns.fetch_add(uint64_t(std::max<int64_t>(total.count(), 0)), std::memory_order_relaxed);
  }
  std::vector<double> bounds;  // empty: no histogram
  std::unique_ptr<std::atomic<uint64_t>[]> buckets;
  std::atomic<uint64_t> sum_ns{0};
  std::unique_ptr<Summary[]> summaries;  // null: none
};

ModelMetrics::ModelMetrics(std::string labels, const MetricsOptions& o,
                           const ModelMetricsOptions& m)
    : labels_(std::move(labels)),
      detailed_(o.histogram_latencies || o.summary_latencies),
      details_(detailed_ ? std::make_unique<Details>(o, m) : nullptr) {}

ModelMetrics::~ModelMetrics() = default;

void ModelMetrics::Attach(const StatsRecorder& recorder) {
  const std::lock_guard lock(mutex_);
  recorders_.push_back(&recorder);
}

void ModelMetrics::Detach(const StatsRecorder& recorder) {
  const std::lock_guard lock(mutex_);
  retired_.Merge(recorder.Snapshot());
  std::erase(recorders_, &recorder);
}

ModelStatistics ModelMetrics::Total() const {
  const std::lock_guard lock(mutex_);
  ModelStatistics sum = retired_;
  for (const StatsRecorder* r : recorders_) sum.Merge(r->Snapshot());
  return sum;
}

void ModelMetrics::ObserveDetails(const RequestTimes& t) {
  details_->FirstResponse(t.total);
  if (details_->summaries == nullptr) return;
  const auto now = std::chrono::steady_clock::now();
  Summary* const s = details_->summaries.get();
  s[kRequestSummary].Observe(t.total, now);
  s[kQueueSummary].Observe(t.queue, now);
  s[kInputSummary].Observe(t.compute_input, now);
  s[kInferSummary].Observe(t.compute_infer, now);
  s[kOutputSummary].Observe(t.compute_output, now);
}

void ModelMetrics::ObserveCacheHit(std::chrono::nanoseconds total,
                                   std::chrono::nanoseconds lookup) {
  if (details_ == nullptr) return;
  details_->FirstResponse(total);
  if (details_->summaries == nullptr) return;
  details_->summaries[kRequestSummary].Observe(total);
  details_->summaries[kHitSummary].Observe(lookup);
}

void ModelMetrics::ObserveCacheMiss(std::chrono::nanoseconds lookup_and_insert) {
  if (details_ && details_->summaries) details_->summaries[kMissSummary].Observe(lookup_and_insert);
}

struct Metrics::State {
  explicit State(const MetricsOptions& o) : options(o) {}

  const MetricsOptions options;
  Machine machine;

  // Who uses which counters. A count of our own rather than weak_ptr: between the end of the last
  // shared_ptr and the removal of its counters a newcomer would be handed counters about to go.
  struct Entry {
    std::unique_ptr<ModelMetrics> metrics;
    int users = 0;
  };
  std::mutex mutex;
  std::map<std::string, Entry> models;  // by their labels

  struct Number {
    Kind kind;
    std::string name, help;
    std::function<double()> read;
  };
  std::vector<Number> numbers;

  struct Row {
    const ModelMetrics* model;
    ModelStatistics stats;
  };
  template <class Select>
  void Counters(Page& page, std::span<const CounterFamily> families, const std::vector<Row>& rows,
                Select&& select) const;
  void Histograms(Page& page, const std::vector<Row>& rows) const;
  void FirstResponse(Page& page, const std::vector<Row>& rows) const;
  void Summaries(Page& page, const std::vector<Row>& rows) const;
  void Process(Page& page);
};

template <class Select>
void Metrics::State::Counters(Page& page, std::span<const CounterFamily> families,
                              const std::vector<Row>& rows, Select&& select) const {
  for (const CounterFamily& family : families) {
    page.Family(family.name, family.help, "counter");
    for (const Row& row : rows)
      if (select(*row.model)) page.Line(row.model->labels_, family.value(row.stats));
  }
}

void Metrics::State::Histograms(Page& page, const std::vector<Row>& rows) const {
  std::array<std::string, LatencyHistogram::kBuckets> le;
  for (size_t i = 0; i + 1 < le.size(); ++i)
    le[i] = fmt::format("le=\"{:.6g}\"", LatencyHistogram::UpperSeconds(i));
  le.back() = "le=\"+Inf\"";
  for (const HistogramFamily& family : kHistograms) {
    page.Family(family.name, family.help, "histogram");
    for (const Row& row : rows) {
      const auto& counts = (row.stats.*family.counts).counts();
      uint64_t below = 0;
      for (size_t i = 0; i < counts.size(); ++i)
        page.Line(row.model->labels_, double(below += counts[i]), "_bucket", le[i]);
      page.Line(row.model->labels_, Seconds((row.stats.*family.sum).ns), "_sum");
      page.Line(row.model->labels_, double(below), "_count");
    }
  }
}

void Metrics::State::FirstResponse(Page& page, const std::vector<Row>& rows) const {
  page.Family("nv_inference_first_response_histogram_ms",
              "Duration from request to first response in milliseconds", "histogram");
  for (const Row& row : rows) {
    const ModelMetrics::Details& d = *row.model->details_;
    uint64_t below = 0;
    for (size_t i = 0; i <= d.bounds.size(); ++i)
      page.Line(row.model->labels_, double(below += d.buckets[i].load(std::memory_order_relaxed)),
                "_bucket",
                i < d.bounds.size() ? fmt::format("le=\"{}\"", d.bounds[i]) : "le=\"+Inf\"");
    page.Line(row.model->labels_, double(d.sum_ns.load(std::memory_order_relaxed)) / 1e6, "_sum");
    page.Line(row.model->labels_, double(below), "_count");
  }
}

void Metrics::State::Summaries(Page& page, const std::vector<Row>& rows) const {
  for (int i = 0; i < kSummaries; ++i) {
    const SummaryFamily& family = kSummaryFamilies[i];
    page.Family(family.name, family.help, "summary");
    for (const Row& row : rows) {
      if (i >= kHitSummary && !row.model->cache_) continue;
      for (const double q : options.summary_quantiles)
        page.Line(row.model->labels_, row.model->details_->summaries[i].Quantile(q), "",
                  fmt::format("quantile=\"{}\"", q));
      const DurationStat& total = row.stats.*family.total;
      page.Line(row.model->labels_, Microseconds(total.ns), "_sum");
      page.Line(row.model->labels_, double(total.count), "_count");
    }
  }
}

void Metrics::State::Process(Page& page) {
  const auto gauge = [&page](const char* name, const char* help, double value,
                             const char* type = "gauge") {
    page.Family(name, help, type);
    page.Line("", value);
  };
  if (options.cpu) {
    const Machine::Memory memory = Machine::ReadMemory();
    gauge("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]",
          machine.CpuUtilization(options.interval));
    gauge("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", memory.total_bytes);
    gauge("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", memory.used_bytes);
  }
  gauge("process_resident_memory_bytes", "Resident memory of this process in bytes",
        Machine::ResidentBytes());
  gauge("process_cpu_seconds_total",
        "Total user and system CPU time spent by this process in seconds", Machine::CpuSeconds(),
        "counter");
  gauge("process_start_time_seconds", "Start time of this process since the epoch in seconds",
        Machine::StartSeconds());
  gauge("process_open_fds", "Open file descriptors of this process", Machine::OpenFiles());
  for (const Number& n : numbers)
    gauge(n.name.c_str(), n.help.c_str(), n.read(), n.kind == Kind::kCounter ? "counter" : "gauge");
}

Metrics::Metrics(const MetricsOptions& options) : state_(std::make_shared<State>(options)) {}
Metrics::~Metrics() = default;

std::shared_ptr<ModelMetrics> Metrics::ForModel(const std::string& model, int64_t version,
                                                const std::map<std::string, std::string>& tags,
                                                const ModelMetricsOptions& options) {
  std::map<std::string, std::string> all = {{"model", model}, {"version", std::to_string(version)}};
  for (const auto& [name, value] : tags) all.emplace(LabelName(name), value);
  std::string labels;
  for (const auto& [name, value] : all)
    labels += fmt::format("{}{}={}", labels.empty() ? "" : ",", name, LabelValue(value));
  const std::shared_ptr<State> state = state_;
  const std::lock_guard lock(state->mutex);
  State::Entry& entry = state->models[labels];
  if (entry.users++ == 0) entry.metrics.reset(new ModelMetrics(labels, state->options, options));
  if (options.cache) entry.metrics->cache_ = true;
  return {entry.metrics.get(), [state, labels](ModelMetrics*) {
            const std::lock_guard relock(state->mutex);
            const auto it = state->models.find(labels);
            if (--it->second.users == 0) state->models.erase(it);
          }};
}

void Metrics::Add(Kind kind, const std::string& name, const std::string& help,
                  std::function<double()> read) {
  const std::lock_guard lock(state_->mutex);
  state_->numbers.push_back({kind, name, help, std::move(read)});
}

std::string Metrics::Text() {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);  // who loads or unloads a model waits a moment
  std::vector<State::Row> rows;
  for (const auto& [labels, entry] : s.models)
    rows.push_back({entry.metrics.get(), entry.metrics->Total()});
  const auto every = [](const ModelMetrics&) { return true; };
  const auto cached = [](const ModelMetrics& m) { return m.cache_.load(); };
  Page page;
  s.Counters(page, kCounters, rows, every);
  page.Family("nv_inference_request_failure",
              "Number of failed inference requests, all batch sizes", "counter");
  for (const State::Row& row : rows)
    for (size_t i = 0; i < kFailReasons; ++i)
      page.Line(row.model->labels_, double(row.stats.failures[i]), "",
                fmt::format("reason=\"{}\"", kReasonNames[i]));
  if (s.options.counter_latencies) s.Counters(page, kLatencyCounters, rows, every);
  s.Counters(page, kCacheCounters, rows, cached);
  if (s.options.counter_latencies) s.Counters(page, kCacheLatencyCounters, rows, cached);
  page.Family("nv_inference_pending_request_count",
              "Instantaneous number of pending requests awaiting execution per-model.", "gauge");
  for (const State::Row& row : rows) page.Line(row.model->labels_, double(row.model->pending_));
  page.Family("nv_model_load_duration_secs", "Model load time in seconds", "gauge");
  for (const State::Row& row : rows)
    page.Line(row.model->labels_, Seconds(uint64_t(row.model->load_ns_.load())));
  s.Histograms(page, rows);
  if (s.options.histogram_latencies) s.FirstResponse(page, rows);
  if (s.options.summary_latencies) s.Summaries(page, rows);
  s.Process(page);
  return page.Take();
}

}  // namespace dunlin::serve
