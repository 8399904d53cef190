#include "cli/run.h"

#include <cstdio>

#include "cli/files.h"
#include "cli/outputs.h"
#include "cli/tune.h"

namespace dunlin::cli {

Status ShowOutputs(std::span<const NamedValue> outputs, const OutputOptions& options) {
  if (!options.output_dir.empty())
    for (const std::string& path : TRY(SaveOutputs(options.output_dir, outputs)))
      fmt::print("{}\n", path);
  if (options.top_k > 0) {
    const auto labels =
        options.labels.empty() ? std::vector<std::string>{} : TRY(ReadLines(options.labels));
    fmt::print("{}", TopKText(outputs, options.top_k, labels));
  } else if (options.output_dir.empty()) {
    fmt::print("{}", Summary(outputs));
  }
  return {};
}

Status Run(const RunCommand& command, Stage& stage) {
  stage = Stage::kLoad;
  LoadOptions options{.opt = command.opt,
                      .compute = command.compute,
                      .threads = command.threads,
                      .tune = ShowTuning(command.tune),
                      .allocator = {},
                      .external_data_dir = {}};
  auto model = TRY(Model::Load(command.model, options));
  options.fed_defaults = NamedPorts(model->default_inputs(), command.inputs);
  if (!options.fed_defaults.empty()) model = TRY(Model::Load(command.model, options));
  stage = Stage::kInput;
  InputOptions given = command.inputs;
  given.maps = true;
  const Inputs inputs = TRY(MakeInputs(model->inputs(), given));
  for (const std::string& note : inputs.notes) fmt::print(stderr, "{}\n", note);
  const std::vector<NamedValue> values = AllOf(inputs);
  TRY(model->CheckInputs(values));
  stage = Stage::kRun;
  Session session = TRY(Session::Create(model, {.threads = command.threads}));
  const auto outputs = TRY(session.RunValues(values));
  stage = Stage::kSetup;
  return ShowOutputs(outputs, command.outputs);
}

}  // namespace dunlin::cli
