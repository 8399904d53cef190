#include "cli/check.h"

#include <cstdio>

#include "base/json_writer.h"
#include "cli/ports.h"
#include "cli/text.h"
#include "dunlin/check.h"

namespace dunlin::cli {
namespace {

constexpr size_t kMostRows = 10;  // of steps that are slow
constexpr size_t kMostNodes = 4;  // of one missing operator

std::string Joined(std::span<const std::string> words, size_t most = SIZE_MAX) {
  std::string text;
  for (size_t i = 0; i < words.size() && i < most; ++i) text += (i ? ", " : "") + words[i];
  return words.size() > most ? text + fmt::format(" and {} more", words.size() - most) : text;
}

std::string HeaderText(const CheckCommand& command, const ModelCheck& check) {
  std::string opsets;
  for (const auto& [domain, version] : check.opsets)
    opsets += fmt::format("{}{} {}", opsets.empty() ? "" : ", ",
                          domain.empty() ? "ai.onnx" : domain, version);
  std::string text = fmt::format("{}: {}, ONNX IR version {}, opset {}", command.model,
                                 HumanBytes(check.file_bytes), check.ir_version,
                                 opsets.empty() ? "not declared" : opsets);
  if (!check.producer.empty()) text += ", from " + check.producer;
  text += fmt::format("\n{} nodes of {} operators", check.nodes, check.operators.size());
  if (check.functions > 0) text += fmt::format(", {} functions of its own", check.functions);
  text += "\n\n" + PortsText("input", check.inputs) + PortsText("output", check.outputs);
  return text;
}

std::string PathsText(const OperatorUse& use) {
  std::vector<std::pair<std::string, int>> paths(use.paths.begin(), use.paths.end());
  std::ranges::stable_sort(paths, [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (const auto& [path, count] : paths)
    text +=
        (text.empty() ? "" : ", ") + path + (paths.size() > 1 ? fmt::format(" ({})", count) : "");
  return text;
}

std::string OperatorsText(const ModelCheck& check) {
  Table table(check.planned ? std::vector<std::string>{"operator", "count", "types", "path"}
                            : std::vector<std::string>{"operator", "count"});
  for (const OperatorUse& use : check.operators) {
    std::vector<std::string> row = {use.name, fmt::format("{}", use.count)};
    if (check.planned) row.insert(row.end(), {Joined(use.types), PathsText(use)});
    table.Add(std::move(row));
  }
  return table.Text();
}

std::string MissingText(const ModelCheck& check) {
  Table table({"missing operator", "opset", "count", "nodes"});
  for (const MissingOperator& m : check.missing)
    table.Add({m.name, m.opset > 0 ? fmt::format("{}", m.opset) : "?", fmt::format("{}", m.count),
               Joined(m.nodes, kMostNodes)});
  std::string text = table.Text();
  for (const MissingOperator& m : check.missing) text += fmt::format("{}: {}.\n", m.name, m.advice);
  return text;
}

double Percent(int64_t part, int64_t whole) {
  return whole > 0 ? 100.0 * double(part) / double(whole) : 100.0;
}

std::string SharesText(const ModelCheck& check) {
  std::string text = "\nWith";
  for (const NamedTensor& i : check.used)
    text += fmt::format(" {} {}", i.name, ToString(i.tensor.dims()));
  if (check.used.empty()) text += " no inputs";
  text += fmt::format(", fast kernels take\n  {} of {} steps\n", check.fast_steps, check.steps);
  if (check.macs > 0)
    text += fmt::format("  {:.1f} % of {} multiply-accumulates\n",
                        Percent(check.fast_macs, check.macs), HumanCount(double(check.macs)));
  if (check.bytes > 0)
    text += fmt::format("  {:.1f} % of {} memory access\n", Percent(check.fast_bytes, check.bytes),
                        HumanBytes(check.bytes));
  return text;
}

std::string SlowText(const ModelCheck& check) {
  if (check.slow.empty()) return "";
  Table table({"on the reference", "node", "type", "shape", "MACs", "bytes", "because"});
  for (size_t i = 0; i < check.slow.size() && i < kMostRows; ++i) {
    const SlowStep& s = check.slow[i];
    table.Add(
        {s.op, s.name, s.type, s.shape, HumanCount(double(s.macs)), HumanBytes(s.bytes), s.why});
  }
  std::string text = "\n" + table.Text();
  if (check.slow.size() > kMostRows)
    text += fmt::format("and {} more\n", check.slow.size() - kMostRows);
  return text;
}

std::string Text(const CheckCommand& command, const ModelCheck& check) {
  std::string text = HeaderText(command, check);
  if (!check.missing.empty()) text += MissingText(check) + '\n';
  for (const Error& e : check.errors) text += fmt::format("error: {}\n", e.message);
  if (!check.errors.empty()) text += '\n';
  text += OperatorsText(check);
  if (check.planned) text += SharesText(check) + SlowText(check);
  for (const std::string& note : check.notes) text += fmt::format("note: {}\n", note);
  return text + (!check.runs()   ? "\nIt does not run.\n"
                 : check.planned ? "\nIt runs.\n"
                                 : "\nIt loads; give --shape to see how it runs.\n");
}

void MissingJson(JsonWriter& json, const ModelCheck& check) {
  json.Key("missing").BeginArray();
  for (const MissingOperator& m : check.missing) {
    json.BeginObject().Key("operator").String(m.name).Key("opset").Int(m.opset);
    json.Key("count").Int(m.count).Key("nodes").BeginArray();
    for (const std::string& n : m.nodes) json.String(n);
    json.End().Key("advice").String(m.advice).End();
  }
  json.End().Key("errors").BeginArray();
  for (const Error& e : check.errors) json.String(e.message);
  json.End().Key("notes").BeginArray();
  for (const std::string& n : check.notes) json.String(n);
  json.End();
}

void PlanJson(JsonWriter& json, const ModelCheck& check) {
  json.Key("shapes").BeginObject();
  for (const NamedTensor& i : check.used) {
    json.Key(i.name).BeginArray();
    for (const int64_t d : i.tensor.dims()) json.Int(d);
    json.End();
  }
  json.End().Key("steps").Int(check.steps).Key("fast_steps").Int(check.fast_steps);
  json.Key("macs").Int(check.macs).Key("fast_macs").Int(check.fast_macs);
  json.Key("memory_access_bytes").Int(check.bytes).Key("fast_bytes").Int(check.fast_bytes);
  json.Key("reference").BeginArray();
  for (const SlowStep& s : check.slow) {
    json.BeginObject().Key("node").String(s.name).Key("operator").String(s.op);
    json.Key("type").String(s.type).Key("shape").String(s.shape).Key("macs").Int(s.macs);
    json.Key("bytes").Int(s.bytes).Key("because").String(s.why).End();
  }
  json.End();
}

std::string Json(const ModelCheck& check) {
  JsonWriter json;
  json.BeginObject().Key("runs").Bool(check.runs()).Key("bytes").Int(check.file_bytes);
  json.Key("ir_version").Int(check.ir_version).Key("producer").String(check.producer);
  json.Key("graph").String(check.graph).Key("opsets").BeginObject();
  for (const auto& [domain, version] : check.opsets)
    json.Key(domain.empty() ? "ai.onnx" : domain).Int(version);
  json.End();
  PortsJson(json, "inputs", check.inputs);
  PortsJson(json, "outputs", check.outputs);
  json.Key("nodes").Int(check.nodes).Key("functions").Int(check.functions);
  json.Key("operators").BeginArray();
  for (const OperatorUse& use : check.operators) {
    json.BeginObject().Key("operator").String(use.name).Key("count").Int(use.count);
    json.Key("types").BeginArray();
    for (const std::string& t : use.types) json.String(t);
    json.End().Key("paths").BeginObject();
    for (const auto& [path, count] : use.paths) json.Key(path).Int(count);
    json.End().End();
  }
  json.End();
  MissingJson(json, check);
  if (check.planned) PlanJson(json, check);
  return json.End().text() + '\n';
}

}  // namespace

Status Check(const CheckCommand& command, Stage& stage) {
  stage = Stage::kLoad;
  const ModelCheck check = TRY(CheckModel(
      command.model, [&](std::span<const PortInfo> ports) -> Result<std::vector<NamedTensor>> {
        stage = Stage::kInput;
        auto inputs = MakeInputs(ports, command.inputs);
        if (!inputs) return Fail(inputs.error());
        return std::move(inputs->tensors);
      }));
  fmt::print("{}", command.json ? Json(check) : Text(command, check));
  if (!check.missing.empty())
    return Fail(Code::kUnimplemented, "{}: {} of its operators are not supported", command.model,
                check.missing.size());
  if (!check.errors.empty()) {
    // What is beyond a limit is wrong with the model, not with this command.
    const Error& first = check.errors[0];
    const bool limit = first.code == Code::kResourceExhausted;
    return Fail(limit ? Code::kInvalidArgument : first.code, "{}", first.message);
  }
  // With extents we chose ourselves there may be no plan, which is not the user's mistake.
  if (!check.planned && !command.inputs.shapes.empty())
    return Fail(Code::kInvalidArgument, "{}", check.notes.back());
  return {};
}

}  // namespace dunlin::cli
