// What a model with LoadOptions::tune keeps: its measurements and where they are stored.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "dunlin/engine.h"
#include "runtime/tune.h"
#include "runtime/weight_cache.h"

namespace dunlin {

class Tuner {
 public:
  // Reads the file.
  explicit Tuner(const TuneOptions& options);
  const std::shared_ptr<MeasuredWays>& ways() const { return ways_; }
  bool measures() const { return options_.measure; }
  // Measures these choices of `program` with these inputs, stores what was found, and drops plans
  // made before. Thread-safe; others wait.
  Status Measure(const Program& program, PackedWeights& weights, std::span<const Choice> choices,
                 std::span<const RunInput> inputs, const RunEnvironment& env);

 private:
  // Measurements of another build or instruction set are kept in the file under their own keys.
  static std::string Suffix();
  void Warn(const Error& error, std::string_view consequence) const;

  TuneOptions options_;
  std::string file_;  // empty: none can be used
  std::mutex mutex_;
  std::shared_ptr<MeasuredWays> ways_ = std::make_shared<MeasuredWays>();
};

}  // namespace dunlin
