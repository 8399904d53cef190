// `dunlin run`: a model on given or generated inputs, once.
#pragma once

#include <string>
#include <vector>

#include "cli/exit.h"
#include "cli/inputs.h"
#include "dunlin/engine.h"

namespace dunlin::cli {

// What is done with results; shared with `dunlin infer`.
struct OutputOptions {
  std::string output_dir = {};  // empty: print instead
  int top_k = 0;                // > 0: print the best classes
  std::string labels = {};      // a file with one label per line
};
Status ShowOutputs(std::span<const NamedValue> outputs, const OutputOptions& options);

struct RunCommand {
  std::string model;
  InputOptions inputs;
  OutputOptions outputs;
  OptLevel opt = OptLevel::kDefault;
  Compute compute = Compute::kF32;
  int threads = 0;
  std::optional<TuneOptions> tune;
};
Status Run(const RunCommand& command, Stage& stage);

}  // namespace dunlin::cli
