// Keeps a server busy and notes how long each request took, either way round:
//   closed loop  a fixed number of requests in flight; an answer is followed by the next request.
//                Requests wait for slow answers, so a stall hides the requests that would have
//                come.
//   open loop    requests are due when they are due. One that is late because the server or this
//                process was busy counts from when it was due: no stall is hidden.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cli/perf_arrivals.h"
#include "cli/perf_histogram.h"
#include "http/load_client.h"

namespace dunlin::cli {

// What is sent and what may come back.
class Workload {
 public:
  virtual ~Workload() = default;
  // The slot's next request. The bytes stay until the slot's next call.
  virtual std::string_view Next(uint32_t slot) = 0;
  // Whether an answer that is no error holds what it should.
  virtual bool IsRight(const http::LoadAnswer& answer) = 0;
  // Under which text an answer that is an error, or a failure, is counted.
  virtual std::string ErrorText(const http::LoadAnswer& answer) = 0;
};

struct LoadPlan {
  using Duration = std::chrono::nanoseconds;
  uint32_t slots = 1;                  // closed: requests in flight; open: at most so many
  std::unique_ptr<Arrivals> arrivals;  // null: closed loop
  Duration warmup{0};                  // of the same load, not counted
  // Measuring ends when throughput and p99 of the last kStableWindows windows are within
  // `stability` (a share) of their mean, at the latest after max_windows; with max_windows 1 after
  // just that.
  Duration window = std::chrono::seconds(1);
  int max_windows = 1;
  double stability = 0.1;
};
inline constexpr int kStableWindows = 3;

// One window, or several together.
struct LoadResult {
  Histogram latency;  // of right answers; open loop: from when they were due, closed: from sending
  Histogram from_sent;  // open loop only, likewise the next
  Histogram lag;        // from when a request was due until it was sent
  uint64_t sent = 0;
  uint64_t answered = 0;  // right answers that came within the time, whenever they were sent
  uint64_t wrong = 0;     // answers that hold something else than the first one did
  uint64_t failed = 0;    // refused by the server, or without answer
  uint64_t not_sent = 0;  // open loop: due when all slots were taken
  std::map<std::string, uint64_t> errors;  // how often which
  double seconds = 0;
  double client_cpu_seconds = 0;  // of the thread that runs the loop
  uint64_t pending = 0;           // sent or due in this window, and not over yet

  void Add(const LoadResult& other);
};

struct LoadRun {
  LoadResult total;            // of the windows that count
  int first = 0, windows = 0;  // which those are
  bool stable = true;
  std::vector<LoadResult> all;
};

struct LoadHooks {
  std::function<void(int)> at_boundary = [](int) {};  // window i begins; the last one: ends
  std::function<bool()> interrupted = [] { return false; };
  std::function<void(const LoadResult&, int)> progress = [](const LoadResult&, int) {};
};

// kCancelled when interrupted; else nothing is in flight afterwards.
Result<LoadRun> RunLoad(http::LoadClient& client, Workload& workload, LoadPlan plan,
                        const LoadHooks& hooks);

}  // namespace dunlin::cli
