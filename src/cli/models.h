// `dunlin models`: sample models by pinned version and checksum, into a model repository.
#pragma once

#include <string>
#include <vector>

#include "cli/exit.h"

namespace dunlin::cli {

struct ModelsCommand {
  std::string dir = "models";
  std::string manifest;  // a file in place of the built-in list
  std::vector<std::string> names;
  bool all = false;
  bool json = false;
};
Status ListModels(const ModelsCommand& command, Stage& stage);
Status FetchModels(const ModelsCommand& command, Stage& stage);

}  // namespace dunlin::cli
