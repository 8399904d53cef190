#include "cli/ops.h"

#include <algorithm>
#include <cstdio>

#include "base/json_writer.h"
#include "cli/text.h"
#include "dunlin/operators.h"

namespace dunlin::cli {
namespace {

bool Has(const std::vector<DType>& types, DType t) {
  return std::ranges::find(types, t) != types.end();
}

// "f32 f16 i8…i64": four integers of one kind as a range.
std::string TypesText(const std::vector<DType>& types) {
  std::string text;
  const auto add = [&](std::string_view name) {
    text += (text.empty() ? "" : " ") + std::string(name);
  };
  using Range = std::pair<std::vector<DType>, std::string_view>;
  static const Range kRanges[] = {
      {{DType::kI8, DType::kI16, DType::kI32, DType::kI64}, "i8…i64"},
      {{DType::kU8, DType::kU16, DType::kU32, DType::kU64}, "u8…u64"},
      {{DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ}, "f8"}};
  for (const DType t : types) {
    const Range* range = nullptr;
    for (const Range& r : kRanges)
      if (Has(r.first, t) && std::ranges::all_of(r.first, [&](DType x) { return Has(types, x); }))
        range = &r;
    if (range == nullptr)
      add(DTypeName(t));
    else if (range->first[0] == t)
      add(range->second);
  }
  return text;
}

std::string TypesText(const OperatorSupport& s) {
  std::string text = TypesText(s.types);
  if (!s.second_types.empty()) text += (text.empty() ? "" : "; ") + TypesText(s.second_types);
  return text;
}

std::string VersionsText(const OperatorSupport& s) {
  const auto list = [](const std::vector<int>& numbers) {
    std::string text;
    for (const int n : numbers) text += fmt::format("{}{}", text.empty() ? "" : " ", n);
    return text;
  };
  return list(s.versions) + (s.refused.empty() ? "" : ", not " + list(s.refused));
}

std::string PathsText(const OperatorSupport& s, std::string_view quote) {
  std::string text;
  for (const auto& [path, types] : s.paths)
    text += fmt::format("{}{}{}{}{}", text.empty() ? "" : "; ", quote, path, quote,
                        s.paths.size() > 1 ? " " + TypesText(types) : "");
  if (s.rewritten.empty()) return text;
  std::string as;
  for (const std::string& name : s.rewritten) as += (as.empty() ? "" : ", ") + name;
  return text + " (as " + as + ")";
}

std::string Text(const std::vector<OperatorSupport>& all) {
  Table table({"operator", "since opset", "element types", "path"});
  for (const OperatorSupport& s : all)
    table.Add({s.FullName(), VersionsText(s), TypesText(s), PathsText(s, "")});
  return table.Text();
}

constexpr std::string_view kMarkdownHead =
    "# Operators\n\n"
    "Written by `dunlin ops --markdown > docs/operators.md`, which runs a small model of every "
    "operator, version and type.\n\n"
    "- **opset**: in which its form or types changed. A model of any opset in between is read as "
    "well.\n"
    "- **types**: of elements, with which the newest version runs; behind a semicolon those of the "
    "second operand that may have another\n  type (indices, scales, exponents, or the result's "
    "where an attribute chooses it). They may be more than the specification allows; none where it "
    "leaves no choice. `f8` are all four 8-bit floats\n  with mantissas.\n"
    "- **path**: the kernel that the sample takes, which larger extents may change; `reference` is "
    "the plain implementation,\n  `view` and `left out` cost nothing, `at load` is computed when "
    "the "
    "model is read, `while running` is chosen when the\n  extents are known. Kernels named "
    "`….plain` are simple loops for all types. *as …*: the importer writes it "
    "with these operators.\n";

std::string Markdown(const std::vector<OperatorSupport>& all) {
  std::string text(kMarkdownHead);
  std::string_view domain = "none";
  for (const OperatorSupport& s : all) {
    if (s.domain != domain) {
      domain = s.domain;
      text += fmt::format("\n## {}\n\n| operator | opset | types | path |\n|---|---|---|---|\n",
                          domain.empty() ? "ai.onnx" : domain);
    }
    text += fmt::format("| {} | {} | {} | {} |\n", s.name, VersionsText(s), TypesText(s),
                        PathsText(s, "`"));
  }
  return text;
}

void NamesJson(JsonWriter& json, std::string_view key, const std::vector<DType>& types) {
  json.Key(key).BeginArray();
  for (const DType t : types) json.String(DTypeName(t));
  json.End();
}

std::string Json(const std::vector<OperatorSupport>& all) {
  JsonWriter json;
  json.BeginArray();
  for (const OperatorSupport& s : all) {
    json.BeginObject().Key("domain").String(s.domain.empty() ? "ai.onnx" : s.domain);
    json.Key("operator").String(s.name).Key("opsets").BeginArray();
    for (const int v : s.versions) json.Int(v);
    json.End().Key("refused_opsets").BeginArray();
    for (const int v : s.refused) json.Int(v);
    json.End();
    NamesJson(json, "types", s.types);
    NamesJson(json, "second_types", s.second_types);
    json.Key("paths").BeginObject();
    for (const auto& [path, types] : s.paths) NamesJson(json, path, types);
    json.End().Key("rewritten_as").BeginArray();
    for (const std::string& name : s.rewritten) json.String(name);
    json.End().End();
  }
  return json.End().text() + '\n';
}

}  // namespace

Status Ops(const OpsCommand& command, Stage&) {
  const std::vector<OperatorSupport> all = SupportedOperators(command.filter);
  if (all.empty())
    return Fail(Code::kNotFound, "no operator that is supported has '{}' in its name",
                command.filter);
  fmt::print("{}", command.json ? Json(all) : command.markdown ? Markdown(all) : Text(all));
  return {};
}

}  // namespace dunlin::cli
