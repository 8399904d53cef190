// `dunlin infer`: one request to a running server.
#pragma once

#include <string>

#include "cli/exit.h"
#include "cli/inputs.h"
#include "cli/run.h"

namespace dunlin::cli {

struct InferCommand {
  std::string url;
  std::string model;
  std::string version;  // empty: the server's choice
  double timeout_seconds = 60;
  InputOptions inputs;
  OutputOptions outputs;
};
Status Infer(const InferCommand& command, Stage& stage);

}  // namespace dunlin::cli
