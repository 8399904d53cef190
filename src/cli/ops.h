// `dunlin ops`: which operators models may use.
#pragma once

#include <string>

#include "cli/exit.h"

namespace dunlin::cli {

struct OpsCommand {
  std::string filter;  // only names that hold this
  bool markdown = false, json = false;
};
Status Ops(const OpsCommand& command, Stage& stage);

}  // namespace dunlin::cli
