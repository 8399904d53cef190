#include "serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

namespace dunlin::serve {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;

// Seconds. From what the smallest model takes to what nobody waits for, about 2.5 steps per decade.
const Histogram::BucketBoundaries& LatencyBuckets() {
  static const Histogram::BucketBoundaries buckets = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                                      0.01,   0.025,   0.05,   0.1,   0.25,   0.5,
                                                      1,      2.5,     5,      10};
  return buckets;
}
// Milliseconds, as clients of nv_inference_first_response_histogram_ms know them.
const Histogram::BucketBoundaries& FirstResponseBuckets() {
  static const Histogram::BucketBoundaries buckets = {100, 500, 2000, 5000};
  return buckets;
}

constexpr const char* kFailReasons[] = {"REJECTED", "CANCELED", "BACKEND", "OTHER"};

double Microseconds(std::chrono::nanoseconds d) { return double(d.count()) / 1e3; }
double Seconds(std::chrono::nanoseconds d) { return double(d.count()) / 1e9; }

enum CounterId {
  kSuccess,
  kCount,
  kExecCount,
  kRequestUs,
  kQueueUs,
  kComputeInputUs,
  kComputeInferUs,
  kComputeOutputUs,
  kCounters
};
struct CounterText {
  const char* name;
  const char* help;
};
constexpr CounterText kCounterTexts[kCounters] = {
    {"nv_inference_request_success", "Number of successful inference requests, all batch sizes"},
    {"nv_inference_count", "Number of inferences performed (does not include cached requests)"},
    {"nv_inference_exec_count",
     "Number of model executions performed (does not include cached requests)"},
    {"nv_inference_request_duration_us", "Cumulative inference request duration in microseconds"},
    {"nv_inference_queue_duration_us", "Cumulative inference queuing duration in microseconds"},
    {"nv_inference_compute_input_duration_us", "Cumulative compute input duration in microseconds"},
    {"nv_inference_compute_infer_duration_us",
     "Cumulative compute inference duration in microseconds"},
    {"nv_inference_compute_output_duration_us",
     "Cumulative inference compute output duration in microseconds"},
};

enum HistogramId { kRequestSeconds, kQueueSeconds, kComputeSeconds, kHistograms };
constexpr CounterText kHistogramTexts[kHistograms] = {
    {"dunlin_request_duration_seconds", "Time from arrival to answer of successful requests"},
    {"dunlin_queue_duration_seconds", "Time successful requests waited for an instance"},
    {"dunlin_compute_duration_seconds", "Time successful requests spent in the engine"},
};

// First number after `key` in a file such as /proc/meminfo.
double ReadKey(const char* path, std::string_view key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) == 0) return std::strtod(line.c_str() + key.size(), nullptr);
  }
  return 0;
}

}  // namespace

struct Metrics::Families {
  prometheus::Registry registry;
  Family<Counter>* counters[kCounters];
  Family<Counter>* failure;
  Family<Histogram>* histograms[kHistograms];
  Family<Histogram>* first_response;
  Family<Gauge>* pending;
  Family<Gauge>* load_seconds;
  Gauge *cpu_utilization, *memory_total, *memory_used, *rss, *cpu_seconds;

  // Who uses which counters. A count of our own rather than weak_ptr: between the end of the last
  // shared_ptr and the removal of its counters a newcomer would be handed counters about to go.
  struct Entry {
    std::unique_ptr<ModelMetrics> metrics;
    int users = 0;
  };
  std::mutex models_mutex;
  std::map<std::string, Entry> models;

  // /proc/stat at the last scrape, for utilisation since then.
  std::mutex cpu_mutex;
  double last_busy = 0, last_total = 0;

  Families() {
    for (int i = 0; i < kCounters; ++i)
      counters[i] = &prometheus::BuildCounter()
                         .Name(kCounterTexts[i].name)
                         .Help(kCounterTexts[i].help)
                         .Register(registry);
    failure = &prometheus::BuildCounter()
                   .Name("nv_inference_request_failure")
                   .Help("Number of failed inference requests, all batch sizes")
                   .Register(registry);
    for (int i = 0; i < kHistograms; ++i)
      histograms[i] = &prometheus::BuildHistogram()
                           .Name(kHistogramTexts[i].name)
                           .Help(kHistogramTexts[i].help)
                           .Register(registry);
    first_response = &prometheus::BuildHistogram()
                          .Name("nv_inference_first_response_histogram_ms")
                          .Help("Duration from request to first response in milliseconds")
                          .Register(registry);
    pending = &prometheus::BuildGauge()
                   .Name("nv_inference_pending_request_count")
                   .Help("Instantaneous number of pending requests awaiting execution per-model.")
                   .Register(registry);
    load_seconds = &prometheus::BuildGauge()
                        .Name("nv_model_load_duration_secs")
                        .Help("Model load time in seconds")
                        .Register(registry);
    const auto gauge = [&](const char* name, const char* help) {
      return &prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
    };
    cpu_utilization = gauge("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]");
    memory_total = gauge("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes");
    memory_used = gauge("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes");
    rss = gauge("process_resident_memory_bytes", "Resident memory of this process in bytes");
    cpu_seconds = gauge("process_cpu_seconds_total",
                        "Total user and system CPU time spent by this process in seconds");
  }

  void ReadMachine() {
    const double total = ReadKey("/proc/meminfo", "MemTotal:") * 1024;
    memory_total->Set(total);
    memory_used->Set(total - ReadKey("/proc/meminfo", "MemAvailable:") * 1024);
    long pages = 0, resident = 0;
    if (std::ifstream statm("/proc/self/statm"); statm >> pages >> resident)
      rss->Set(double(resident) * double(::sysconf(_SC_PAGESIZE)));
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    cpu_seconds->Set(double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                     double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    std::ifstream stat("/proc/stat");
    std::string cpu;
    double all = 0, idle = 0, value = 0;
    std::string line;
    std::getline(stat, line);
    std::istringstream fields(line);
    fields >> cpu;
    for (int i = 0; i < 8 && fields >> value;
         ++i) {  // user nice system idle iowait irq softirq steal
      all += value;
      if (i == 3 || i == 4) idle += value;
    }
    const std::lock_guard lock(cpu_mutex);
    const double busy = all - idle;
    if (all > last_total) cpu_utilization->Set((busy - last_busy) / (all - last_total));
    last_busy = busy;
    last_total = all;
  }
};

struct ModelMetrics::Impl {
  Metrics::Families* families;
  Counter* counters[kCounters];
  Counter* failure[4];
  Histogram* histograms[kHistograms];
  Histogram* first_response;
  Gauge *pending, *load_seconds;
};

ModelMetrics::ModelMetrics(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

ModelMetrics::~ModelMetrics() {
  Metrics::Families& f = *impl_->families;
  for (int i = 0; i < kCounters; ++i) f.counters[i]->Remove(impl_->counters[i]);
  for (Counter* c : impl_->failure) f.failure->Remove(c);
  for (int i = 0; i < kHistograms; ++i) f.histograms[i]->Remove(impl_->histograms[i]);
  f.first_response->Remove(impl_->first_response);
  f.pending->Remove(impl_->pending);
  f.load_seconds->Remove(impl_->load_seconds);
}

void ModelMetrics::Success(const RequestTimes& t, int64_t batch) {
  Counter* const* c = impl_->counters;
  c[kSuccess]->Increment();
  c[kCount]->Increment(double(batch));
  c[kExecCount]->Increment();
  c[kRequestUs]->Increment(Microseconds(t.total));
  c[kQueueUs]->Increment(Microseconds(t.queue));
  c[kComputeInputUs]->Increment(Microseconds(t.compute_input));
  c[kComputeInferUs]->Increment(Microseconds(t.compute_infer));
  c[kComputeOutputUs]->Increment(Microseconds(t.compute_output));
  impl_->histograms[kRequestSeconds]->Observe(Seconds(t.total));
  impl_->histograms[kQueueSeconds]->Observe(Seconds(t.queue));
  impl_->histograms[kComputeSeconds]->Observe(Seconds(t.compute_infer));
  impl_->first_response->Observe(Seconds(t.total) * 1e3);
}

void ModelMetrics::Failure(FailReason reason) { impl_->failure[size_t(reason)]->Increment(); }
void ModelMetrics::PendingChanged(int delta) { impl_->pending->Increment(delta); }
void ModelMetrics::LoadTook(std::chrono::nanoseconds d) { impl_->load_seconds->Set(Seconds(d)); }

Metrics::Metrics() : families_(std::make_shared<Families>()) {}
Metrics::~Metrics() = default;

std::shared_ptr<ModelMetrics> Metrics::ForModel(const std::string& model, int64_t version,
                                                const std::map<std::string, std::string>& tags) {
  Labels labels = {{"model", model}, {"version", std::to_string(version)}};
  std::string key = model + '\0' + std::to_string(version);
  for (const auto& [k, v] : tags) {
    // A label name prometheus does not allow would end the process there, so it becomes one it
    // does.
    std::string name = k;
    for (char& c : name)
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') c = '_';
    if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0]))) name.insert(0, "_");
    if (name.rfind("__", 0) == 0 || name == "model" || name == "version" || name == "reason" ||
        name == "le")
      name.insert(0, "tag_");
    labels[name] = v;
    key += '\0' + name + '\0' + v;
  }
  std::shared_ptr<Families> families = families_;
  Families& f = *families;
  const std::lock_guard lock(f.models_mutex);
  Families::Entry& entry = f.models[key];
  if (entry.users++ == 0) {
    auto impl = std::make_unique<ModelMetrics::Impl>();
    impl->families = &f;
    for (int i = 0; i < kCounters; ++i) impl->counters[i] = &f.counters[i]->Add(labels);
    for (int i = 0; i < 4; ++i) {
      Labels with_reason = labels;
      with_reason["reason"] = kFailReasons[i];
      impl->failure[i] = &f.failure->Add(with_reason);
    }
    for (int i = 0; i < kHistograms; ++i)
      impl->histograms[i] = &f.histograms[i]->Add(labels, LatencyBuckets());
    impl->first_response = &f.first_response->Add(labels, FirstResponseBuckets());
    impl->pending = &f.pending->Add(labels);
    impl->load_seconds = &f.load_seconds->Add(labels);
    entry.metrics.reset(new ModelMetrics(std::move(impl)));
  }
  return {entry.metrics.get(), [families, key](ModelMetrics*) {
            const std::lock_guard relock(families->models_mutex);
            const auto it = families->models.find(key);
            if (--it->second.users == 0) families->models.erase(it);
          }};
}

std::string Metrics::Text() {
  families_->ReadMachine();
  return prometheus::TextSerializer().Serialize(families_->registry.Collect());
}

}  // namespace dunlin::serve
