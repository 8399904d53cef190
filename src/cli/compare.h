// `dunlin compare`: how far a model's answers, and its layers' values, are from another's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/accuracy.h"
#include "cli/compare_data.h"
#include "cli/exit.h"
#include "cli/inputs.h"
#include "dunlin/engine.h"

namespace dunlin::cli {

// Of every output; not given: not checked.
struct CompareLimits {
  std::optional<double> max_error;      // absolute
  std::optional<double> min_sqnr;       // in dB
  std::optional<double> min_agreement;  // in percent of rows
};

struct CompareCommand {
  std::string a, b;  // the truth, and what is compared with it
  OptLevel opt_a = OptLevel::kDefault, opt_b = OptLevel::kDefault;
  Compute compute_b = Compute::kF32;
  InputOptions inputs;
  DataOptions data;
  int threads = 0;
  int layer_inputs = 4;  // sets of inputs on which layers are compared; 0: none
  bool all_layers = false;
  bool json = false;
  std::string json_file, svg;
  CompareLimits limits;
};
// An error, after the report, when a limit is not kept.
Status Compare(const CompareCommand& command, Stage& stage);

// What was compared: an output, or a value inside of each model.
struct Compared {
  std::string name, other;  // in a and in b
  std::string op;           // of the node that makes it; "" of an output
  Difference difference;
  std::string unlike;  // why it was not compared; else ""
};

// A sentence on the first limit that an output does not keep; "" when all are kept.
std::string BrokenLimit(const std::vector<Compared>& outputs, const CompareLimits& limits);

}  // namespace dunlin::cli
