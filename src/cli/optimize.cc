#include "cli/optimize.h"

#include <cstdio>
#include <optional>

#include "base/json_writer.h"
#include "cli/process.h"
#include "cli/progress.h"
#include "cli/text.h"

namespace dunlin::cli {
namespace {

std::string ReportText(const OptimizationReport& report, bool explain) {
  Table table({"stage", "pass", "rule", "fired", "nodes", "constants"});
  const auto size_row = [&](std::string stage, std::string pass, const GraphSize& size) {
    table.Add({std::move(stage), std::move(pass), "", "", fmt::format("{}", size.nodes),
               HumanBytes(size.constant_bytes)});
  };
  size_row("before", "", report.before);
  for (const PassReport& p : report.passes) {
    size_row(p.stage, p.pass, p.after);
    if (!explain) continue;
    for (const RuleCount& r : p.rules)
      table.Add({"", "", r.rule, fmt::format("{}", r.count), "", ""});
  }
  return table.Text();
}

// What the plan does after the graph is final: copies between layouts, and memory.
struct PlanSummary {
  int steps = 0, reorders = 0;
  int64_t reorder_bytes = 0;
};
PlanSummary Summarise(const CostReport& cost) {
  PlanSummary p;
  for (const StepProfile& s : cost.steps) {
    ++p.steps;
    if (s.op != "reorder" && s.op != "copy") continue;
    ++p.reorders;
    p.reorder_bytes += s.bytes;
  }
  return p;
}

std::string PlanText(const CostReport& cost, std::span<const NamedTensor> inputs) {
  std::string text = "\nWith";
  for (const NamedTensor& i : inputs)
    text += fmt::format(" {} {}", i.name, ToString(i.tensor.dims()));
  const PlanSummary p = Summarise(cost);
  const double over = cost.max_live_bytes > 0
                          ? 100.0 * double(cost.arena_bytes) / double(cost.max_live_bytes) - 100
                          : 0;
  return text + fmt::format(
                    ", post, layout: {} steps, of them {} copies between layouts ({})\n"
                    "post, memory: arena {}, {:.1f} % above the lower bound {}; {} if nothing were "
                    "reused\n",
                    p.steps, p.reorders, HumanBytes(p.reorder_bytes), HumanBytes(cost.arena_bytes),
                    over, HumanBytes(cost.max_live_bytes), HumanBytes(cost.naive_bytes));
}

void SizeJson(JsonWriter& json, std::string_view key, const GraphSize& size) {
  json.Key(key).BeginObject().Key("nodes").Int(size.nodes);
  json.Key("constant_bytes").Int(size.constant_bytes).End();
}

void ReportJson(JsonWriter& json, std::string_view key, const OptimizationReport& report) {
  json.Key(key).BeginObject();
  SizeJson(json, "before", report.before);
  SizeJson(json, "after", report.after());
  json.Key("passes").BeginArray();
  for (const PassReport& p : report.passes) {
    json.BeginObject().Key("stage").String(p.stage).Key("pass").String(p.pass);
    SizeJson(json, "after", p.after);
    json.Key("rules").BeginObject();
    for (const RuleCount& r : p.rules) json.Key(r.rule).Int(r.count);
    json.End().End();
  }
  json.End().End();
}

std::string Json(const Model& model, const Result<CostReport>& cost) {
  JsonWriter json;
  json.BeginObject();
  ReportJson(json, "model", model.optimization());
  if (cost) {
    ReportJson(json, "shapes", cost->optimization);
    const PlanSummary p = Summarise(*cost);
    json.Key("layout").BeginObject().Key("steps").Int(p.steps).Key("reorders").Int(p.reorders);
    json.Key("reorder_bytes").Int(p.reorder_bytes).End();
    json.Key("memory").BeginObject().Key("arena_bytes").Int(cost->arena_bytes);
    json.Key("max_live_bytes").Int(cost->max_live_bytes);
    json.Key("naive_bytes").Int(cost->naive_bytes).End();
  }
  return json.End().text() + '\n';
}

Result<CostReport> CostOf(const Model& model, std::span<const NamedTensor> inputs) {
  TRY(model.CheckInputs(inputs));
  return model.Cost(inputs);
}

// The report of what was written, in place of that of the model as it runs.
Status Write(const OptimizeCommand& command) {
  ExportOptions options;
  options.opset = command.opset;
  options.external_data = command.external_data == "always"  ? ExternalData::kAlways
                          : command.external_data == "never" ? ExternalData::kNever
                                                             : ExternalData::kAuto;
  Interrupts interrupts;
  std::optional<Progress> progress;
  int64_t shown = 0;
  options.progress = [&](int64_t done, int64_t total) {
    if (!progress) progress.emplace(stderr, total);
    progress->Add(done - shown);
    shown = done;
    progress->Show("writing");
    return !interrupts.Asked();
  };
  const auto written = WriteOptimized(command.model, command.output, options);
  progress.reset();
  if (!written) return Fail(written.error());
  const ExportReport& file = written->file;
  if (command.json) {
    JsonWriter json;
    json.BeginObject();
    ReportJson(json, "model", written->optimization);
    json.Key("written").BeginObject().Key("file").String(command.output);
    json.Key("opset").Int(file.opset).Key("ir_version").Int(file.ir_version);
    json.Key("nodes").Int(file.nodes).Key("bytes").Int(file.model_bytes);
    json.Key("external_data").String(file.data_file).Key("external_bytes").Int(file.data_bytes);
    fmt::print("{}\n", json.End().End().text());
    return {};
  }
  fmt::print("{}\n{}: opset {}, {} nodes, {}", ReportText(written->optimization, command.explain),
             command.output, file.opset, file.nodes, HumanBytes(file.model_bytes));
  if (!file.data_file.empty())
    fmt::print("; weights in {}, {}", file.data_file, HumanBytes(file.data_bytes));
  fmt::print("\n");
  return {};
}

}  // namespace

Status Optimize(const OptimizeCommand& command, Stage& stage) {
  stage = Stage::kLoad;
  if (!command.output.empty()) return Write(command);
  const auto model = TRY(Model::Load(command.model));
  stage = Stage::kInput;
  const Inputs inputs = TRY(MakeInputs(model->inputs(), command.inputs));
  const auto cost = CostOf(*model, inputs.tensors);
  // With extents we chose ourselves there may be no answer, which is not the user's mistake.
  if (!cost && !command.inputs.shapes.empty()) return Fail(cost.error());
  if (command.json) {
    fmt::print("{}", Json(*model, cost));
  } else {
    fmt::print("When the model is loaded:\n{}", ReportText(model->optimization(), command.explain));
    if (cost) {
      fmt::print("\nWhen the shapes are known:\n{}",
                 ReportText(cost->optimization, command.explain));
      fmt::print("{}", PlanText(*cost, inputs.tensors));
    }
  }
  if (!cost)
    fmt::print(stderr, "nothing for open extents taken as 1 ({}); give --shape\n",
               cost.error().message);
  return {};
}

}  // namespace dunlin::cli
