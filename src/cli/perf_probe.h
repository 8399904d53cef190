// What the server says of itself at chosen moments: statistics and CPU time. Asked by a thread of
// its own, so that load goes on meanwhile.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/infer_remote.h"

namespace dunlin::cli {

struct ProbeOptions {
  RemoteOptions server;
  std::string model, version;
  int pid = 0;              // > 0: CPU time of this process from /proc
  std::string metrics_url;  // else process_cpu_seconds_total from here, if not empty
};

struct ProbeSample {
  std::optional<serve::ModelStatistics> statistics;
  std::optional<double> cpu_seconds;  // of the server's process since it began
};

class Probe {
 public:
  // Makes one sample, to find out what can be had. What cannot be had though asked for is an error:
  // kNotFound (no such process), or of the metrics' URL.
  static Result<std::unique_ptr<Probe>> Start(const ProbeOptions& options);
  ~Probe();

  void Sample();  // soon, in the background
  // All samples so far, in order; waits for those that are being made.
  std::vector<ProbeSample> Samples();

 private:
  Probe(const ProbeOptions& options, std::unique_ptr<Remote> remote)
      : options_(options), remote_(std::move(remote)) {}
  ProbeSample Take();
  Result<double> CpuSeconds() const;
  void Work();

  ProbeOptions options_;
  std::unique_ptr<Remote> remote_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t wanted_ = 0;
  bool stopping_ = false;
  std::vector<ProbeSample> samples_;
  std::jthread thread_;
};

// User and system time of /proc/PID/stat, in seconds.
Result<double> ProcessCpuSeconds(int pid);
// The value of a metric without labels in Prometheus' text form.
std::optional<double> MetricValue(std::string_view text, std::string_view name);
// later - earlier, member by member.
serve::ModelStatistics Difference(const serve::ModelStatistics& later,
                                  const serve::ModelStatistics& earlier);

}  // namespace dunlin::cli
