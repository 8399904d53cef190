// `dunlin optimize`: what graph transformation makes of a model.
#pragma once

#include <string>

#include "cli/exit.h"
#include "cli/inputs.h"

namespace dunlin::cli {

struct OptimizeCommand {
  std::string model;
  InputOptions inputs;   // extents, for what depends on them
  bool explain = false;  // a row per rule that fired
  bool json = false;
};
Status Optimize(const OptimizeCommand& command, Stage& stage);

}  // namespace dunlin::cli
