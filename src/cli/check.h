// `dunlin check`: will this model run here, on which path, and what is missing.
#pragma once

#include <string>

#include "cli/exit.h"
#include "cli/inputs.h"

namespace dunlin::cli {

struct CheckCommand {
  std::string model;
  InputOptions inputs;  // extents, where the model leaves them open
  bool json = false;
};
// An error, after the report, when the model does not run.
Status Check(const CheckCommand& command, Stage& stage);

}  // namespace dunlin::cli
