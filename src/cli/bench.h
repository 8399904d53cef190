// `dunlin bench`: how long one inference takes, and where the time goes.
#pragma once

#include <string>

#include "cli/exit.h"
#include "cli/inputs.h"
#include "dunlin/engine.h"

namespace dunlin::cli {

struct BenchCommand {
  std::string model;
  InputOptions inputs;
  OptLevel opt = OptLevel::kDefault;
  Compute compute = Compute::kF32;
  int threads = 0;
  double seconds = 3;  // of measuring; at least five runs are made however long they take
  int warmup = 3;      // runs before measuring
  std::optional<TuneOptions> tune;
  bool json = false;
  bool profile = false;
  std::string roofline;  // file for an SVG
  std::string trace;     // file for a Chrome/Perfetto trace of one run
};
Status Bench(const BenchCommand& command, Stage& stage);

}  // namespace dunlin::cli
