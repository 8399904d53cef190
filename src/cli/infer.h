// `dunlin infer`: one request to a running server.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/exit.h"
#include "cli/infer_remote.h"
#include "cli/inputs.h"
#include "cli/run.h"

namespace dunlin::cli {

struct InferCommand {
  RemoteOptions server;
  std::string model;
  std::string version;  // empty: the server's choice
  std::string request_id;
  std::vector<std::string> parameters;  // NAME=VALUE
  std::vector<std::string> wanted;      // outputs; empty: all
  uint64_t classes = 0;                 // > 0: the server answers with so many best classes
  bool shared_memory = false;
  InputOptions inputs;
  OutputOptions outputs;
};
Status Infer(const InferCommand& command, Stage& stage);

}  // namespace dunlin::cli
