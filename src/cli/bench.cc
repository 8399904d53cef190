#include "cli/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "base/json_writer.h"
#include "base/thread_pool.h"
#include "cli/files.h"
#include "cli/profile.h"
#include "cli/roofline.h"
#include "cli/stats.h"
#include "cli/text.h"
#include "cli/tune.h"

namespace dunlin::cli {
namespace {

using Clock = std::chrono::steady_clock;
double MillisSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

int64_t PeakRssBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

Result<LatencyStats> Measure(Session& session, std::span<const NamedTensor> inputs,
                             const BenchCommand& command) {
  for (int i = 0; i < command.warmup; ++i) (void)TRY(session.Run(inputs));
  constexpr size_t kFewestRuns = 5;
  std::vector<double> millis;
  const auto begin = Clock::now();
  while (millis.size() < kFewestRuns || MillisSince(begin) < command.seconds * 1000) {
    const auto start = Clock::now();
    (void)TRY(session.Run(inputs));
    millis.push_back(MillisSince(start));
  }
  return Summarise(std::move(millis));
}

// The run whose total is the median of several: a single one may have been disturbed.
Result<std::vector<StepProfile>> TypicalProfile(Session& session,
                                                std::span<const NamedTensor> inputs) {
  constexpr int kRuns = 9;
  std::vector<std::pair<double, std::vector<StepProfile>>> runs;
  for (int i = 0; i < kRuns; ++i) {
    auto steps = TRY(session.Profile(inputs));
    double total = 0;
    for (const StepProfile& s : steps) total += s.microseconds;
    runs.emplace_back(total, std::move(steps));
  }
  std::ranges::nth_element(runs, runs.begin() + kRuns / 2, {},
                           [](const auto& r) { return r.first; });
  return std::move(runs[kRuns / 2].second);
}

struct Report {
  LatencyStats latency;  // milliseconds
  double load_ms = 0;
  int64_t arena_bytes = 0;
  int64_t batch = 1;
  int threads = 0;
  double PerSecond() const { return latency.mean > 0 ? double(batch) * 1000 / latency.mean : 0; }
};

std::string ReportJson(const Report& r) {
  JsonWriter json;
  json.BeginObject();
  json.Key("median_ms").Double(r.latency.median).Key("min_ms").Double(r.latency.min);
  json.Key("p90_ms").Double(r.latency.p90).Key("p99_ms").Double(r.latency.p99);
  json.Key("runs").Int(r.latency.runs).Key("load_ms").Double(r.load_ms);
  json.Key("arena_bytes").Int(r.arena_bytes).Key("peak_rss_bytes").Int(PeakRssBytes());
  json.Key("mean_ms").Double(r.latency.mean).Key("max_ms").Double(r.latency.max);
  json.Key("batch").Int(r.batch).Key("throughput_per_s").Double(r.PerSecond());
  json.Key("threads")
      .Int(r.threads)
      .Key("simd")
      .String(SimdTarget())
      .Key("version")
      .String(Version());
  return json.End().text();
}

std::string ReportText(const Report& r) {
  Table table({"", "latency"});
  for (const auto& [name, value] : {std::pair{"minimum", r.latency.min},
                                    {"median", r.latency.median},
                                    {"mean", r.latency.mean},
                                    {"90 %", r.latency.p90},
                                    {"99 %", r.latency.p99},
                                    {"maximum", r.latency.max}})
    table.Add({name, HumanMillis(value)});
  return fmt::format(
      "{}runs {}, threads {}, {}\nthroughput {:.1f}/s (batch {})\nload {}, arena {}, peak resident "
      "{}\n",
      table.Text(), r.latency.runs, r.threads, SimdTarget(), r.PerSecond(), r.batch,
      HumanMillis(r.load_ms), HumanBytes(r.arena_bytes), HumanBytes(PeakRssBytes()));
}

}  // namespace

Status Bench(const BenchCommand& command, Stage& stage) {
  stage = Stage::kLoad;
  const auto start = Clock::now();
  const auto model = TRY(Model::Load(command.model, {.opt = command.opt,
                                                     .compute = command.compute,
                                                     .threads = command.threads,
                                                     .tune = ShowTuning(command.tune),
                                                     .external_data_dir = {}}));
  Report report;
  report.load_ms = MillisSince(start);
  report.threads = command.threads > 0 ? command.threads : UsableCpus();

  stage = Stage::kInput;
  const Inputs inputs = TRY(MakeInputs(model->inputs(), command.inputs));
  for (const std::string& note : inputs.notes) fmt::print(stderr, "{}\n", note);
  TRY(model->CheckInputs(inputs.tensors));
  if (command.inputs.batch > 0) {
    report.batch = command.inputs.batch;
    const auto& first = inputs.tensors.empty() ? Dims{} : inputs.tensors[0].tensor.dims();
    if (first.empty() || first[0] != report.batch)
      return Fail(Code::kInvalidArgument,
                  "the model's batch is fixed, it cannot run with --batch {}", report.batch);
  }

  stage = Stage::kRun;
  Session session = TRY(Session::Create(model, {.threads = command.threads}));
  TRY(session.Prepare(inputs.tensors));
  if (command.tune)
    fmt::print(command.json ? stderr : stdout, "{}",
               TuningText(TRY(session.Tuning(inputs.tensors))));
  report.latency = TRY(Measure(session, inputs.tensors, command));
  report.arena_bytes = session.arena_bytes();
  fmt::print("{}\n", command.json ? ReportJson(report) : ReportText(report));
  if (!command.profile && command.trace.empty() && command.roofline.empty()) return {};

  const auto steps = TRY(TypicalProfile(session, inputs.tensors));
  // With --json stdout is one line for programs; the tables go beside it.
  stage = Stage::kSetup;
  if (command.profile || !command.roofline.empty()) {
    const MachinePeak peak = MeasureMachine(report.threads);
    if (command.profile) fmt::print(command.json ? stderr : stdout, "{}", ProfileText(steps, peak));
    if (!command.roofline.empty())
      TRY(WriteText(
          command.roofline,
          RooflineSvg(steps, peak,
                      fmt::format("{}, {} thread(s), {}",
                                  std::filesystem::path(command.model).filename().string(),
                                  report.threads, SimdTarget()))));
  }
  if (!command.trace.empty()) TRY(WriteText(command.trace, TraceJson(steps, command.model)));
  return {};
}

}  // namespace dunlin::cli
