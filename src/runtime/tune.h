// Measures on this machine which of several kernels is fastest for a step, instead of believing the
// cost models.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/execution.h"

namespace dunlin {

struct WayTime {
  std::string way;
  double microseconds = 0;
};

// What was found for the steps of one key.
struct Measured {
  std::string way;             // the one to take
  std::vector<WayTime> times;  // the cost model's choice first
};

// A measured way must beat the cost model's by this much: less is noise, and the next machine of
// this kind would decide otherwise.
inline constexpr double kLeastGain = 0.03;

// Measurements by Choice::key. Thread-safe.
class MeasuredWays : public WayPolicy {
 public:
  // The measured way's place; 0, the cost model's, where nothing was measured or there is no such
  // way.
  size_t First(const std::string& key, std::span<const std::string> ways) const override;
  std::optional<Measured> Find(const std::string& key) const;
  void Put(const std::string& key, Measured m);
  std::map<std::string, Measured> All() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Measured> found_;
};

struct TuneProgress {
  int done = 0, total = 0;  // runs of the model
};

// The choices of a run's steps, sub-graphs included, that `known` does not know.
std::vector<Choice> UnknownChoices(const RunTimes& times, const MeasuredWays& known);

// Measures all ways of these choices of `program` and puts them into `known`. Every way runs at its
// place among the other steps, on these inputs, so its caches are as warm as they will be; chains
// are not formed meanwhile. Takes a handful of runs for each way.
Status MeasureWays(const Program& program, std::span<const Choice> choices,
                   std::span<const RunInput> inputs, const RunEnvironment& env, MeasuredWays& known,
                   const std::function<void(TuneProgress)>& progress);

}  // namespace dunlin
