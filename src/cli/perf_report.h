// What `dunlin perf` found, as tables for people, JSON, CSV and a picture.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/perf_loop.h"
#include "serve/stats.h"

namespace dunlin::cli {

enum class LoadKind : uint8_t { kConcurrency, kRate, kTrace };

struct PerfLevel {
  double asked = 1;  // concurrency, requests per second, or the speed of a trace
  LoadRun run;
  std::optional<serve::ModelStatistics> server;  // while the windows that count lasted
  std::optional<double> server_cpu_seconds;
};

struct PerfReport {
  std::string url, model;
  LoadKind kind = LoadKind::kConcurrency;
  std::string arrival;  // of kRate: "poisson" or "constant"
  bool shared_memory = false;
  int64_t batch = 1;
  size_t payloads = 1;
  uint64_t tensor_bytes = 0;  // of a request's inputs
  uint64_t rounded = 0;       // right answers of other bytes than the first
  bool checked = true;
  std::vector<PerfLevel> levels;
};

std::string PerfText(const PerfReport& report);
std::string PerfJson(const PerfReport& report);  // one line
std::string PerfCsv(const PerfReport& report);   // a heading and a line per level
std::string PerfSvg(const PerfReport& report);   // a histogram of latencies per level

}  // namespace dunlin::cli
