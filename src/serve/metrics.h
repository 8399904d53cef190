// Prometheus metrics of the process and of every model version.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "serve/stats.h"

namespace dunlin::serve {

// The counters of one model version. They outlive a reload: whoever loads the same version while
// the old one is still there gets the same counters, so that they never run backwards.
class ModelMetrics {
 public:
  ~ModelMetrics();  // takes them out of the metrics page
  ModelMetrics(const ModelMetrics&) = delete;
  ModelMetrics& operator=(const ModelMetrics&) = delete;

  void Success(const RequestTimes& times, int64_t batch);
  void Failure(FailReason reason);
  void PendingChanged(int delta);
  void LoadTook(std::chrono::nanoseconds duration);

 private:
  friend class Metrics;
  struct Impl;
  explicit ModelMetrics(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class Metrics {
 public:
  Metrics();
  ~Metrics();
  // `tags` become labels beside model and version.
  std::shared_ptr<ModelMetrics> ForModel(const std::string& model, int64_t version,
                                         const std::map<std::string, std::string>& tags);
  // The text format; reads the machine's gauges on the way.
  std::string Text();

  struct Families;

 private:
  std::shared_ptr<Families> families_;
};

}  // namespace dunlin::serve
