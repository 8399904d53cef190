// When requests are due in an open loop: decided beforehand, whatever the server does.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/result.h"

namespace dunlin::cli {

// Times since the start, never decreasing.
class Arrivals {
 public:
  using Duration = std::chrono::nanoseconds;
  virtual ~Arrivals() = default;
  virtual std::optional<Duration> Next() = 0;  // nullopt: there are no more
};

// One every 1/rate seconds; the n-th is due n/rate after the start, so nothing drifts.
std::unique_ptr<Arrivals> ConstantArrivals(double rate);
// Independent of each other, `rate` per second on average.
std::unique_ptr<Arrivals> PoissonArrivals(double rate, uint64_t seed);
// As recorded, `speed` times as fast.
std::unique_ptr<Arrivals> ReplayedArrivals(std::vector<double> seconds, double speed);

// A trace: a request per line, its first column the time in seconds or as 2023-11-16 18:17:03.97.
// The first request is due at 0. A heading, empty lines and lines that begin with '#' are skipped.
// kInvalidArgument names the line that is no time or is earlier than the one before.
Result<std::vector<double>> ParseTrace(const std::string& text);

}  // namespace dunlin::cli
