#include "cli/infer.h"

#include <chrono>
#include <cstdio>

#include "http/client.h"

namespace dunlin::cli {

Status Infer(const InferCommand& command, Stage& stage) {
  stage = Stage::kServer;
  const auto timeout = std::chrono::milliseconds(int64_t(command.timeout_seconds * 1000));
  http::Client client = TRY(http::Client::Connect(command.url, {.timeout = timeout}));
  const http::RemoteModel model = TRY(client.Metadata(command.model, command.version));
  stage = Stage::kInput;
  const Inputs inputs = TRY(MakeInputs(model.inputs, command.inputs));
  for (const std::string& note : inputs.notes) fmt::print(stderr, "{}\n", note);
  stage = Stage::kServer;
  std::vector<NamedValue> outputs;
  for (NamedTensor& t : TRY(client.Infer(command.model, command.version, inputs.tensors)))
    outputs.push_back({std::move(t.name), std::move(t.tensor)});
  stage = Stage::kSetup;
  return ShowOutputs(outputs, command.outputs);
}

}  // namespace dunlin::cli
