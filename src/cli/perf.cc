#include "cli/perf.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "cli/files.h"
#include "cli/perf_probe.h"
#include "cli/perf_report.h"
#include "cli/perf_workload.h"
#include "cli/process.h"

namespace dunlin::cli {
namespace {

LoadPlan::Duration Seconds(double seconds) {
  return LoadPlan::Duration(std::llround(seconds * 1e9));
}

// What the command line asks for, level by level.
struct Levels {
  LoadKind kind = LoadKind::kConcurrency;
  std::vector<double> asked;
  std::vector<double> trace;  // of kTrace
  uint32_t slots = 1;         // the most that any level needs
};

constexpr double kMaxSlots = 100'000;
constexpr size_t kMaxLevels = 1000;

Result<Levels> LevelsOf(const PerfCommand& c) {
  Levels levels;
  Sweep sweep;
  if (!c.trace.empty()) {
    levels.kind = LoadKind::kTrace;
    const auto times = ParseTrace(TRY(ReadText(c.trace)));
    if (!times) return Fail(times.error().code, "--trace {}: {}", c.trace, times.error().message);
    levels.trace = *times;
    sweep = {c.speed, c.speed, 1};
  } else if (!c.request_rate.empty()) {
    levels.kind = LoadKind::kRate;
    sweep = TRY(ParseSweep(c.request_rate));
  } else {
    sweep = TRY(ParseSweep(c.concurrency.empty() ? "1" : c.concurrency));
    if (sweep.first != std::floor(sweep.first) || sweep.step != std::floor(sweep.step) ||
        sweep.last > kMaxSlots)
      return Fail(Code::kInvalidArgument, "--concurrency {}: give whole numbers up to {}",
                  c.concurrency, kMaxSlots);
  }
  // The last level is reached whatever rounding makes of the steps.
  for (int i = 0; sweep.first + i * sweep.step <= sweep.last * (1 + 1e-9); ++i) {
    if (levels.asked.size() == kMaxLevels)
      return Fail(Code::kInvalidArgument, "there would be more than {} levels", kMaxLevels);
    levels.asked.push_back(sweep.first + i * sweep.step);
  }
  levels.slots =
      levels.kind == LoadKind::kConcurrency ? uint32_t(levels.asked.back()) : c.max_outstanding;
  return levels;
}

LoadPlan PlanOf(const PerfCommand& c, const Levels& levels, double asked) {
  LoadPlan plan;
  plan.warmup = Seconds(c.warmup_seconds);
  plan.window = Seconds(c.seconds > 0 ? c.seconds : c.window_seconds);
  plan.max_windows = c.seconds > 0 ? 1 : c.max_windows;
  plan.stability = c.stability_percent / 100;
  plan.slots = levels.kind == LoadKind::kConcurrency ? uint32_t(asked) : levels.slots;
  if (levels.kind == LoadKind::kRate) {
    plan.arrivals = c.arrival == ArrivalKind::kConstant ? ConstantArrivals(asked)
                                                        : PoissonArrivals(asked, c.inputs.seed);
  } else if (levels.kind == LoadKind::kTrace) {
    // A trace is measured from its first request to its last.
    plan.arrivals = ReplayedArrivals(levels.trace, asked);
    plan.warmup = {};
    plan.max_windows = 1;
    if (c.seconds == 0) plan.window = std::chrono::hours(24 * 366);
  }
  return plan;
}

// A connection needs a descriptor.
Status AllowFiles(uint32_t slots) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t needed = slots + 64;
  if (limit.rlim_cur >= needed) return {};
  if (limit.rlim_max < needed)
    return Fail(Code::kInvalidArgument,
                "{} requests in flight need as many open files, of which this process may have {}; "
                "raise the limit (ulimit -n) or lower --max-outstanding",
                slots, limit.rlim_max);
  limit.rlim_cur = needed;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  return {};
}

// One line that is overwritten, for people who wait.
class Ticker {
 public:
  explicit Ticker(const std::string& level) : level_(level) {}
  ~Ticker() {
    if (shown_) fmt::print(stderr, "\r\x1b[K");
  }
  void Show(const LoadResult& now, int window) {
    if (!terminal_) return;
    shown_ = true;
    fmt::print(stderr, "\r\x1b[K{}: window {}, {} answers, p99 {:.3g} ms", level_, window,
               now.answered, double(now.latency.Percentile(99).count()) / 1e6);
  }

 private:
  std::string level_;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool shown_ = false;
};

Result<PerfLevel> RunLevel(const PerfCommand& c, const Levels& levels, double asked, Remote& remote,
                           Workload& workload, Interrupts& interrupts) {
  PerfLevel level;
  level.asked = asked;
  const auto probe = TRY(Probe::Start({.server = c.server,
                                       .model = c.model,
                                       .version = c.version,
                                       .pid = c.server_pid,
                                       .metrics_url = c.metrics_url}));
  LoadPlan plan = PlanOf(c, levels, asked);
  const auto client = TRY(remote.MakeLoadClient(plan.slots));
  Ticker ticker(fmt::format("{:g}", asked));
  LoadHooks hooks;
  hooks.at_boundary = [&probe](int) { probe->Sample(); };
  hooks.interrupted = [&interrupts] { return interrupts.Asked(); };
  hooks.progress = [&ticker](const LoadResult& now, int window) { ticker.Show(now, window); };
  level.run = TRY(RunLoad(*client, workload, std::move(plan), hooks));
  const std::vector<ProbeSample> samples = probe->Samples();
  const auto last = size_t(level.run.first + level.run.windows);
  if (last >= samples.size()) return level;
  const ProbeSample& before = samples[size_t(level.run.first)];
  const ProbeSample& after = samples[last];
  if (before.statistics && after.statistics)
    level.server = Difference(*after.statistics, *before.statistics);
  if (before.cpu_seconds && after.cpu_seconds)
    level.server_cpu_seconds = *after.cpu_seconds - *before.cpu_seconds;
  return level;
}

// Figures of a run in which nothing worked would mislead.
Status Judge(const PerfReport& report) {
  for (const PerfLevel& level : report.levels) {
    const LoadResult& r = level.run.total;
    if (r.wrong > 0)
      return Fail(Code::kInternal, "{} answers differ from the first answer to the same request",
                  r.wrong);
    if (r.latency.count() > 0) continue;
    const auto most =
        std::ranges::max_element(r.errors, {}, [](const auto& error) { return error.second; });
    return Fail(Code::kUnavailable, "no request was answered{}",
                most == r.errors.end() ? "" : ": " + most->first);
  }
  return {};
}

Status Show(const PerfReport& report, const PerfCommand& c) {
  fmt::print("{}", c.json ? PerfJson(report) : c.csv ? PerfCsv(report) : PerfText(report));
  if (!c.plot.empty()) TRY(WriteText(c.plot, PerfSvg(report)));
  return {};
}

}  // namespace

Result<Sweep> ParseSweep(const std::string& text) {
  Sweep sweep;
  double numbers[3] = {};
  size_t count = 0;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (bool more = true; more && count < 3; ++count) {
    const auto [next, error] = std::from_chars(at, end, numbers[count]);
    if (error != std::errc{}) break;
    more = next != end && *next == ':';
    at = more ? next + 1 : next;
    if (!more) {
      sweep = {numbers[0], count > 0 ? numbers[1] : numbers[0], count > 1 ? numbers[2] : 1};
      if (at == end && sweep.first > 0 && sweep.last >= sweep.first && sweep.step > 0 &&
          std::isfinite(sweep.last))
        return sweep;
    }
  }
  return Fail(Code::kInvalidArgument,
              "'{}' is neither a number above 0 nor FIRST:LAST nor FIRST:LAST:STEP", text);
}

Status Perf(const PerfCommand& c, Stage& stage) {
  const Levels levels = TRY(LevelsOf(c));
  CallParameters parameters = TRY(ParseParameters(c.parameters));
  TRY(AllowFiles(levels.slots));
  // Sleeping until a request is due must not take 50 us longer than that, the default.
  ::prctl(PR_SET_TIMERSLACK, 1);
  const auto remote = TRY(Remote::Connect(c.server));
  Interrupts interrupts;  // shared memory must be taken back
  stage = Stage::kServer;
  bool input_failed = false;
  auto made = PerfWorkload::Create(*remote,
                                   {.model = c.model,
                                    .version = c.version,
                                    .parameters = std::move(parameters),
                                    .wanted = c.wanted,
                                    .inputs = c.inputs,
                                    .payloads = c.payloads,
                                    .shared_memory = c.shared_memory,
                                    .slots = levels.slots,
                                    .check = c.check,
                                    .tolerance = c.tolerance},
                                   input_failed);
  if (input_failed) stage = Stage::kInput;
  const auto workload = TRY(std::move(made));
  for (const std::string& note : workload->notes()) fmt::print(stderr, "{}\n", note);
  PerfReport report{.url = c.server.url,
                    .model = c.model,
                    .kind = levels.kind,
                    .arrival = "",
                    .shared_memory = c.shared_memory,
                    .batch = workload->batch(),
                    .payloads = workload->payloads(),
                    .tensor_bytes = workload->tensor_bytes(),
                    .checked = c.check,
                    .levels = {}};
  if (levels.kind == LoadKind::kRate)
    report.arrival = c.arrival == ArrivalKind::kConstant ? "constant" : "poisson";
  for (const double asked : levels.asked)
    report.levels.push_back(TRY(RunLevel(c, levels, asked, *remote, *workload, interrupts)));
  report.rounded = workload->rounded();
  stage = Stage::kSetup;
  TRY(Show(report, c));
  stage = Stage::kServer;
  return Judge(report);
}

}  // namespace dunlin::cli
