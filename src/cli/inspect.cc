#include "cli/inspect.h"

#include <cstdio>

#include "base/json_writer.h"
#include "cli/ports.h"
#include "cli/profile.h"
#include "cli/text.h"

namespace dunlin::cli {
namespace {

std::string ModelText(const Model& model) {
  std::string text = PortsText("input", model.inputs()) + PortsText("output", model.outputs());
  Table operators({"operator", "count"});
  int total = 0;
  for (const OperatorCount& op : model.operators()) {
    operators.Add({op.name, fmt::format("{}", op.count)});
    total += op.count;
  }
  text += operators.Text() + fmt::format("{} operators after optimisation\n\n", total);
  if (!model.metadata().empty()) {
    Table metadata({"metadata", ""});
    for (const auto& [key, value] : model.metadata()) {
      std::string line = value.substr(0, 100);
      for (char& c : line)
        if (static_cast<unsigned char>(c) < ' ') c = ' ';
      metadata.Add({key, line + (value.size() > 100 ? "…" : "")});
    }
    text += metadata.Text() + '\n';
  }
  return text;
}

std::string CostText(const CostReport& cost, std::span<const NamedTensor> inputs) {
  std::string text = "Cost with";
  for (const NamedTensor& i : inputs)
    text += fmt::format(" {} {}", i.name, ToString(i.tensor.dims()));
  text += fmt::format(
      "\n  parameters             {} ({})\n  multiply-accumulates   {}\n  memory access          "
      "{}\n"
      "  activations at once    {}  planned arena\n                         {}  if nothing were "
      "reused\n"
      "                         {}  lower bound of any plan\n",
      HumanCount(double(cost.parameters)), HumanBytes(cost.parameter_bytes),
      HumanCount(double(cost.macs)), HumanBytes(cost.memory_access_bytes),
      HumanBytes(cost.arena_bytes), HumanBytes(cost.naive_bytes), HumanBytes(cost.max_live_bytes));
  return text;
}

std::string Json(const Model& model, const Result<CostReport>& cost, bool layers) {
  JsonWriter json;
  json.BeginObject();
  PortsJson(json, "inputs", model.inputs());
  PortsJson(json, "outputs", model.outputs());
  json.Key("operators").BeginObject();
  for (const OperatorCount& op : model.operators()) json.Key(op.name).Int(op.count);
  json.End().Key("metadata").BeginObject();
  for (const auto& [key, value] : model.metadata()) json.Key(key).String(value);
  json.End().Key("parameters").Int(model.parameters());
  if (cost) {
    json.Key("parameter_bytes").Int(cost->parameter_bytes).Key("macs").Int(cost->macs);
    json.Key("memory_access_bytes")
        .Int(cost->memory_access_bytes)
        .Key("arena_bytes")
        .Int(cost->arena_bytes);
    json.Key("naive_bytes").Int(cost->naive_bytes).Key("max_live_bytes").Int(cost->max_live_bytes);
    if (layers) {
      json.Key("layers").BeginArray();
      for (const StepProfile& s : cost->steps) {
        json.BeginObject().Key("name").String(s.name).Key("op").String(s.op).Key("kernel").String(
            s.kernel);
        json.Key("shape")
            .String(s.shape)
            .Key("parameters")
            .Int(s.parameters)
            .Key("macs")
            .Int(s.macs);
        json.Key("bytes").Int(s.bytes).End();
      }
      json.End();
    }
  }
  return json.End().text() + '\n';
}

Result<CostReport> CostOf(const Model& model, const InputOptions& options,
                          std::vector<NamedTensor>& used) {
  const Inputs inputs = TRY(MakeInputs(model.inputs(), options));
  used = inputs.tensors;
  TRY(model.CheckInputs(used));
  return model.Cost(used);
}

}  // namespace

Status Inspect(const InspectCommand& command, Stage& stage) {
  stage = Stage::kLoad;
  const auto model = TRY(Model::Load(command.model, {.opt = command.opt, .external_data_dir = {}}));
  if (command.text) {
    fmt::print("{}", model->Text());
    return {};
  }
  stage = Stage::kInput;
  std::vector<NamedTensor> used;
  const auto cost = CostOf(*model, command.inputs, used);
  if (command.json) {
    fmt::print("{}", Json(*model, cost, command.layers));
  } else {
    fmt::print("{}", ModelText(*model));
    if (cost && command.layers) fmt::print("{}\n", LayersText(cost->steps));
    if (cost) fmt::print("{}", CostText(*cost, used));
  }
  if (cost) return {};
  // With extents we chose ourselves there may be no answer, which is not the user's mistake.
  if (!command.inputs.shapes.empty() || !command.inputs.files.empty()) return Fail(cost.error());
  fmt::print(stderr, "no costs for open extents taken as 1 ({}); give --shape\n",
             cost.error().message);
  return {};
}

}  // namespace dunlin::cli
