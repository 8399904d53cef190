// conformance: runs ONNX's own test cases through the engine's public API.
// Exit codes: 0 no wrong answer, 1 a wrong answer or too few passes, 2 bad usage, 77 no test data
// here.
#include <fmt/format.h>
#include <fnmatch.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "conformance/compare.h"
#include "conformance/known_cases.h"
#include "conformance/report.h"
#include "conformance/test_data.h"

namespace dunlin::conformance {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kUsage =
    "usage: conformance [options]\n"
    "  --data DIR           folder of groups (default /usr/share/libonnx-testdata/data)\n"
    "  --group NAME         node, simple, pytorch-converted or pytorch-operator; may be repeated "
    "(default all)\n"
    "  --filter PATTERN     only cases whose name matches, as for a file name: 'test_lstm*'\n"
    "  --opt none|default   how much the engine optimises (default: default)\n"
    "  --threads N          threads of a session (default 1)\n"
    "  --min-pass N         fewer passes are a failure\n"
    "  --list-unsupported   print what each unsupported case lacks\n"
    "  --verbose            print each case before it runs\n"
    "  --round-trip DIR     write each model as ONNX into DIR, CASE.onnx, and run what was "
    "written\n"
    "  --opset N            of what --round-trip writes (default: the model's)\n"
    "  --json FILE          write every result\n"
    "  --markdown FILE      write the summary as a document\n";

struct Options {
  std::string data = "/usr/share/libonnx-testdata/data";
  std::vector<std::string> groups;
  std::string filter = "*";
  OptLevel opt = OptLevel::kDefault;
  int threads = 1;
  int min_pass = 0;
  bool list_unsupported = false;
  bool verbose = false;
  std::string round_trip;  // "": models run as they are
  int opset = 0;
  std::string json, markdown;
};

// The case under way, for the message of a crash.
char current_case[256];

void OnCrash(int signal) {
  constexpr char kText[] = "\ncrashed in case ";
  (void)!write(STDERR_FILENO, kText, sizeof kText - 1);
  (void)!write(STDERR_FILENO, current_case, strlen(current_case));
  (void)!write(STDERR_FILENO, "\n", 1);
  ::signal(signal, SIG_DFL);
  raise(signal);
}

std::vector<fs::path> Sorted(const fs::path& folder, std::string_view prefix) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().filename().string().starts_with(prefix)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

const KnownCase* FindKnownCase(const std::string& name) {
  for (const KnownCase& k : kKnownCases)
    if (fnmatch(std::string(k.pattern).c_str(), name.c_str(), 0) == 0) return &k;
  return nullptr;
}

bool IsWordIn(std::string_view word, std::string_view text) {
  const auto is_name = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  };
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !is_name(text[at - 1])) && (end == text.size() || !is_name(text[end])))
      return true;
  }
  return false;
}

// What a refusal refuses: operators of the model that its text names, else the text itself.
std::vector<std::string> Refused(const Error& error, const ModelFacts& facts,
                                 const std::string& case_name) {
  std::string text = error.message;
  // The path of the case names its operator; it says nothing of what is missing.
  for (size_t at; (at = text.find(case_name)) != text.npos;) text.erase(at, case_name.size());
  std::vector<std::string> found;
  for (const std::string& op : facts.operators)
    if (IsWordIn(op.substr(op.rfind('.') + 1), text)) found.push_back("operator " + op);
  if (found.empty()) found.push_back(text);
  return found;
}

Result<std::vector<NamedValue>> ReadInputs(const fs::path& set, const ModelFacts& facts) {
  std::vector<NamedValue> inputs;
  for (size_t i = 0; i < facts.inputs.size(); ++i) {
    const Port& port = facts.inputs[i];
    const fs::path file = set / fmt::format("input_{}.pb", i);
    if (!fs::exists(file)) continue;
    inputs.push_back({port.name, TRY(ReadValue(file.string(), port))});
  }
  return inputs;
}

// One data set against one session; throws nothing, fails with the engine's error or sets r's
// outcome.
Status RunDataSet(const fs::path& set, const ModelFacts& facts, bool types_only, Session& session,
                  CaseResult& r) {
  const auto inputs = TRY(ReadInputs(set, facts));
  auto outputs = TRY(session.RunValues(inputs));
  for (size_t i = 0; i < facts.outputs.size(); ++i) {
    const Port& port = facts.outputs[i];
    const fs::path file = set / fmt::format("output_{}.pb", i);
    if (!fs::exists(file)) continue;
    const Value want = TRY(ReadValue(file.string(), port));
    const auto got = std::find_if(outputs.begin(), outputs.end(),
                                  [&](const auto& o) { return o.name == port.name; });
    if (got == outputs.end()) return Fail(Code::kInternal, "output '{}' is missing", port.name);
    Comparison c;
    if (types_only && got->value.kind == Value::Kind::kTensor &&
        want.kind == Value::Kind::kTensor && got->value.tensor.dtype() == want.tensor.dtype() &&
        got->value.tensor.dims() == want.tensor.dims())
      continue;
    c = Compare(got->value, want);
    r.max_abs_error = std::max(r.max_abs_error, c.max_abs_error);
    r.max_rel_error = std::max(r.max_rel_error, c.max_rel_error);
    if (!c.equal) return Fail(Code::kInternal, "output '{}': {}", port.name, c.difference);
  }
  return {};
}

Result<std::string> ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  if (!in) return Fail(Code::kInternal, "cannot read '{}'", path.string());
  return bytes;
}

Status RunAllSets(const fs::path& folder, const Options& options, const ModelFacts& facts,
                  bool types_only, CaseResult& r) {
  fs::path file = folder / "model.onnx";
  if (!options.round_trip.empty()) {
    const fs::path written = fs::path(options.round_trip) / (r.name + ".onnx");
    ExportOptions how;
    how.opset = options.opset;
    TRY(WriteOptimized(file.string(), written.string(), how));
    const fs::path again = fs::path(options.round_trip) / "again";
    TRY(WriteOptimized(written.string(), again.string()));
    // In another opset, nodes were added whose types become known when they are read.
    if (options.opset == 0 && TRY(ReadFile(again)) != TRY(ReadFile(written)))
      return Fail(Code::kInternal, "what was written is written otherwise when it is read");
    file = written;
  }
  const auto model = TRY(Model::Load(file.string(), {.opt = options.opt, .external_data_dir = {}}));
  Session session = TRY(Session::Create(model, {.threads = options.threads}));
  for (const fs::path& set : Sorted(folder, "test_data_set_"))
    TRY(RunDataSet(set, facts, types_only, session, r));
  return {};
}

CaseResult RunCase(const fs::path& folder, const Options& options) {
  CaseResult r;
  r.name = folder.filename().string();
  r.group = folder.parent_path().filename().string();
  const auto facts = ReadModelFacts((folder / "model.onnx").string());
  if (!facts.has_value()) {
    r.detail = facts.error().message;
    return r;
  }
  const KnownCase* known = FindKnownCase(r.name);
  if (known != nullptr && known->demand == Demand::kNothing) {
    r.outcome = Outcome::kExcluded;
    r.detail = known->reason;
    return r;
  }
  const Status s = RunAllSets(folder, options, *facts, known != nullptr, r);
  if (s.has_value()) {
    r.outcome = known != nullptr ? Outcome::kPassTypesOnly : Outcome::kPass;
    if (known != nullptr) r.detail = known->reason;
    return r;
  }
  r.detail = s.error().message;
  if (s.error().code == Code::kUnimplemented) {
    r.outcome = Outcome::kUnsupported;
    r.unsupported = Refused(s.error(), *facts, r.name);
  }
  return r;
}

std::optional<Options> ParseOptions(std::span<char*> args) {
  Options o;
  for (size_t i = 1; i < args.size(); ++i) {
    const std::string_view arg = args[i];
    if (arg == "--list-unsupported") {
      o.list_unsupported = true;
      continue;
    }
    if (arg == "--verbose") {
      o.verbose = true;
      continue;
    }
    if (i + 1 == args.size()) return std::nullopt;
    const std::string value = args[++i];
    const auto number = [&](int& into) {
      return std::from_chars(value.data(), value.data() + value.size(), into).ec == std::errc();
    };
    if (arg == "--data")
      o.data = value;
    else if (arg == "--group")
      o.groups.push_back(value);
    else if (arg == "--filter")
      o.filter = value;
    else if (arg == "--opt" && value == "none")
      o.opt = OptLevel::kNone;
    else if (arg == "--opt" && value == "default")
      o.opt = OptLevel::kDefault;
    else if (arg == "--threads" && number(o.threads))
      continue;
    else if (arg == "--min-pass" && number(o.min_pass))
      continue;
    else if (arg == "--round-trip")
      o.round_trip = value;
    else if (arg == "--opset" && number(o.opset))
      continue;
    else if (arg == "--json")
      o.json = value;
    else if (arg == "--markdown")
      o.markdown = value;
    else
      return std::nullopt;
  }
  if (o.groups.empty()) o.groups = {"node", "simple", "pytorch-converted", "pytorch-operator"};
  return o;
}

bool WriteTo(const std::string& path, const std::string& text) {
  if (path.empty()) return true;
  std::ofstream out(path);
  out << text;
  if (out.flush()) return true;
  fmt::print(stderr, "cannot write '{}'\n", path);
  return false;
}

int Main(std::span<char*> args) {
  const auto options = ParseOptions(args);
  if (!options) {
    fmt::print(stderr, "{}", kUsage);
    return 2;
  }
  for (const int s : {SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGBUS}) signal(s, OnCrash);
  std::vector<CaseResult> results;
  for (const std::string& group : options->groups) {
    const fs::path folder = fs::path(options->data) / group;
    if (!fs::is_directory(folder)) {
      fmt::print("skipped: no test data at {} (Debian package libonnx-testdata)\n",
                 folder.string());
      return 77;
    }
    for (const fs::path& c : Sorted(folder, "test_")) {
      const std::string name = c.filename().string();
      if (fnmatch(options->filter.c_str(), name.c_str(), 0) != 0) continue;
      strncpy(current_case, name.c_str(), sizeof current_case - 1);
      if (options->verbose) fmt::print("{}/{}\n", group, name), fflush(stdout);
      results.push_back(RunCase(c, *options));
    }
  }
  PrintSummary(results);
  PrintUnsupported(results);
  if (options->list_unsupported)
    for (const CaseResult& r : results)
      if (r.outcome == Outcome::kUnsupported)
        fmt::print("unsupported {}/{}: {}\n", r.group, r.name, r.detail);
  PrintFailures(results);
  const bool written =
      WriteTo(options->json, options->json.empty() ? "" : ToJson(results)) &&
      WriteTo(options->markdown, options->markdown.empty() ? "" : ToMarkdown(results));
  const int passes = Count(results, Outcome::kPass) + Count(results, Outcome::kPassTypesOnly);
  if (passes < options->min_pass)
    fmt::print("only {} passes, {} are asked for\n", passes, options->min_pass);
  return written && Count(results, Outcome::kFail) == 0 && passes >= options->min_pass ? 0 : 1;
}

}  // namespace
}  // namespace dunlin::conformance

int main(int argc, char** argv) { return dunlin::conformance::Main({argv, size_t(argc)}); }
