// `dunlin perf`: load on a server of the Open Inference Protocol v2, and how it bore it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/exit.h"
#include "cli/infer_remote.h"
#include "cli/inputs.h"

namespace dunlin::cli {

// "4", "1:16" or "1:16:3": first, last, step.
struct Sweep {
  double first = 1, last = 1, step = 1;
};
Result<Sweep> ParseSweep(const std::string& text);

enum class ArrivalKind : uint8_t { kPoisson, kConstant };

struct PerfCommand {
  RemoteOptions server;
  std::string model, version;
  std::vector<std::string> parameters;  // NAME=VALUE
  std::vector<std::string> wanted;      // outputs; empty: all
  InputOptions inputs;                  // extents may be ranges: "ids=1,8-128"
  int payloads = 0;
  bool shared_memory = false;

  // One of these.
  std::string concurrency;   // closed loop; a sweep
  std::string request_rate;  // open loop, per second; a sweep
  std::string trace;         // open loop, as recorded in this file
  ArrivalKind arrival = ArrivalKind::kPoisson;
  double speed = 1;
  uint32_t max_outstanding = 1024;  // open loop

  double warmup_seconds = 1;
  double window_seconds = 1;
  double seconds = 0;  // > 0: measure just so long instead of until it is steady
  int max_windows = 10;
  double stability_percent = 10;

  bool check = true;
  double tolerance = 1e-4;
  int server_pid = 0;
  std::string metrics_url;
  bool json = false, csv = false;
  std::string plot;
};
Status Perf(const PerfCommand& command, Stage& stage);

}  // namespace dunlin::cli
