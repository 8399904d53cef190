// `dunlin inspect`: what a model is and what it costs.
#pragma once

#include <string>

#include "cli/exit.h"
#include "cli/inputs.h"

namespace dunlin::cli {

struct InspectCommand {
  std::string model;
  InputOptions inputs;  // extents for the costs
  OptLevel opt = OptLevel::kDefault;
  bool text = false;    // the optimised graph instead of the summary
  bool layers = false;  // a row per executed step
  bool json = false;
};
Status Inspect(const InspectCommand& command, Stage& stage);

}  // namespace dunlin::cli
