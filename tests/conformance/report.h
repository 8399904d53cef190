// What came of each case, and the ways to print it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dunlin::conformance {

enum class Outcome : uint8_t { kPass, kPassTypesOnly, kExcluded, kUnsupported, kFail };

struct CaseResult {
  std::string group;
  std::string name;
  Outcome outcome = Outcome::kFail;
  std::string detail;  // the error or difference; the reason of kPassTypesOnly and kExcluded
  std::vector<std::string> unsupported;  // operators, or the refusal's text when it names none
  double max_abs_error = 0;
  double max_rel_error = 0;
};

int Count(const std::vector<CaseResult>& results, Outcome outcome);
void PrintSummary(const std::vector<CaseResult>& results);      // counts per group
void PrintUnsupported(const std::vector<CaseResult>& results);  // what is missing, with case counts
void PrintFailures(const std::vector<CaseResult>& results);
std::string ToJson(const std::vector<CaseResult>& results);
std::string ToMarkdown(const std::vector<CaseResult>& results);

}  // namespace dunlin::conformance
