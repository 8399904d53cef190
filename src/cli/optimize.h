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
  std::string output;                  // "": nothing is written
  int opset = 0;                       // 0: the model's own or the smallest that works
  std::string external_data = "auto";  // auto, always, never
};
Status Optimize(const OptimizeCommand& command, Stage& stage);

}  // namespace dunlin::cli
