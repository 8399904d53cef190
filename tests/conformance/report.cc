#include "conformance/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace dunlin::conformance {
namespace {

constexpr Outcome kOutcomes[] = {Outcome::kPass, Outcome::kPassTypesOnly, Outcome::kExcluded,
                                 Outcome::kUnsupported, Outcome::kFail};

std::string_view OutcomeName(Outcome o) {
  switch (o) {
    case Outcome::kPass:
      return "pass";
    case Outcome::kPassTypesOnly:
      return "pass-types-only";
    case Outcome::kExcluded:
      return "excluded";
    case Outcome::kUnsupported:
      return "unsupported";
    case Outcome::kFail:
      return "fail";
  }
  return "?";
}

std::map<std::string, std::map<Outcome, int>> CountsByGroup(
    const std::vector<CaseResult>& results) {
  std::map<std::string, std::map<Outcome, int>> counts;
  for (const CaseResult& r : results) ++counts[r.group][r.outcome];
  return counts;
}

// Most wanted first.
std::vector<std::pair<std::string, int>> MissingByCases(const std::vector<CaseResult>& results) {
  std::map<std::string, int> missing;
  for (const CaseResult& r : results)
    for (const std::string& what : r.unsupported) ++missing[what];
  std::vector<std::pair<std::string, int>> sorted(missing.begin(), missing.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return sorted;
}

std::string Quoted(std::string_view s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\')
      out += '\\', out += c;
    else if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", int(c));
    else
      out += c;
  }
  return out + "\"";
}

int Total(const std::map<Outcome, int>& counts) {
  int n = 0;
  for (const auto& [outcome, count] : counts) n += count;
  return n;
}

int At(const std::map<Outcome, int>& counts, Outcome o) {
  const auto it = counts.find(o);
  return it == counts.end() ? 0 : it->second;
}

}  // namespace

int Count(const std::vector<CaseResult>& results, Outcome outcome) {
  return int(std::count_if(results.begin(), results.end(),
                           [&](const auto& r) { return r.outcome == outcome; }));
}

void PrintSummary(const std::vector<CaseResult>& results) {
  fmt::print("{:<20} {:>6}", "group", "cases");
  for (const Outcome o : kOutcomes) fmt::print(" {:>15}", OutcomeName(o));
  fmt::print("\n");
  for (const auto& [group, counts] : CountsByGroup(results)) {
    fmt::print("{:<20} {:>6}", group, Total(counts));
    for (const Outcome o : kOutcomes) fmt::print(" {:>15}", At(counts, o));
    fmt::print("\n");
  }
}

void PrintUnsupported(const std::vector<CaseResult>& results) {
  const auto missing = MissingByCases(results);
  if (missing.empty()) return;
  fmt::print("\nunsupported, with the number of cases:\n");
  for (const auto& [what, count] : missing) fmt::print("{:>5}  {}\n", count, what);
}

void PrintFailures(const std::vector<CaseResult>& results) {
  for (const CaseResult& r : results)
    if (r.outcome == Outcome::kFail)
      fmt::print("FAIL {}/{}: {} (max abs error {:.3g}, rel {:.3g})\n", r.group, r.name, r.detail,
                 r.max_abs_error, r.max_rel_error);
}

std::string ToJson(const std::vector<CaseResult>& results) {
  std::string out = "[\n";
  for (size_t i = 0; i < results.size(); ++i) {
    const CaseResult& r = results[i];
    out += fmt::format(
        R"({{"group":{},"name":{},"outcome":{},"detail":{},"max_abs_error":{:g},"max_rel_error":{:g}}})",
        Quoted(r.group), Quoted(r.name), Quoted(OutcomeName(r.outcome)), Quoted(r.detail),
        r.max_abs_error, r.max_rel_error);
    out += i + 1 < results.size() ? ",\n" : "\n";
  }
  return out + "]\n";
}

std::string ToMarkdown(const std::vector<CaseResult>& results) {
  std::string out =
      "# Conformance with ONNX's own test data\n\n"
      "Written by `build/release/tests/conformance/conformance --markdown docs/conformance.md` "
      "over the cases of\n"
      "Debian's `libonnx-testdata`; do not edit. A case passes when every output has the expected "
      "type and extents\n"
      "and every element lies within 1e-7 + 1e-3·|expected| (integers, booleans and strings: is "
      "equal).\n\n"
      "| group | cases | pass | pass, types only | excluded | unsupported | wrong "
      "|\n|---|---|---|---|---|---|---|\n";
  for (const auto& [group, counts] : CountsByGroup(results)) {
    out += fmt::format("| {} | {} |", group, Total(counts));
    for (const Outcome o : kOutcomes) out += fmt::format(" {} |", At(counts, o));
    out += "\n";
  }
  out += "\n## Unsupported\n\n| what | cases |\n|---|---|\n";
  for (const auto& [what, count] : MissingByCases(results))
    out += fmt::format("| {} | {} |\n", what, count);
  out += "\n## Compared by type and extents only, or excluded\n\n| case | reason |\n|---|---|\n";
  for (const CaseResult& r : results)
    if (r.outcome == Outcome::kPassTypesOnly || r.outcome == Outcome::kExcluded)
      out += fmt::format("| {} | {} |\n", r.name, r.detail);
  if (Count(results, Outcome::kFail) > 0) {
    out += "\n## Wrong\n\n| case | what |\n|---|---|\n";
    for (const CaseResult& r : results)
      if (r.outcome == Outcome::kFail)
        out += fmt::format("| {}/{} | {} |\n", r.group, r.name, r.detail);
  }
  return out;
}

}  // namespace dunlin::conformance
