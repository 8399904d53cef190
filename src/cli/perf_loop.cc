#include "cli/perf_loop.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <deque>
#include <optional>
#include <utility>

namespace dunlin::cli {
namespace {

using Time = http::LoadClient::Time;
using Duration = LoadPlan::Duration;

constexpr std::chrono::milliseconds kTick{
    100};  // how often interrupts and the terminal are looked at
// A connection that failed is tried again after this, so that a server that is gone costs no CPU.
constexpr std::chrono::milliseconds kRetry{10};
constexpr int kSendsInARow = 64;       // then answers get their turn
constexpr size_t kMaxErrorTexts = 50;  // more are counted together

double ThreadCpuSeconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

// Whether all values are within `share` of their mean.
bool IsStable(const std::vector<double>& values, double share) {
  double mean = 0;
  for (const double v : values) mean += v / double(values.size());
  return std::ranges::all_of(values, [&](double v) { return std::abs(v - mean) <= share * mean; });
}

class Loop {
 public:
  Loop(http::LoadClient& client, Workload& workload, LoadPlan plan, const LoadHooks& hooks)
      : client_(client),
        workload_(workload),
        plan_(std::move(plan)),
        hooks_(hooks),
        slots_(plan_.slots) {}

  Result<LoadRun> Run() {
    start_ = client_.Now();
    next_tick_ = start_;
    boundary_ = start_ + plan_.warmup;
    for (uint32_t slot = plan_.slots; slot-- > 0;) free_.push_back(slot);
    if (open()) due_ = plan_.arrivals->Next();
    while (!stopping_) Step();
    // Who interrupts does not want to wait for a server that is stuck.
    const Time patience = interrupted_ ? client_.Now() + 10 * kTick : Time::max();
    while (free_.size() + retries_.size() < slots_.size() && client_.Now() < patience)
      client_.Wait(client_.Now() + kTick, [this](const http::LoadAnswer& a) { OnAnswer(a); });
    if (interrupted_) return Fail(Code::kCancelled, "interrupted");
    return Finish();
  }

 private:
  struct Slot {
    Time due, sent;
    int window = -1;  // of the open loop; -1: warm-up
  };

  bool open() const { return plan_.arrivals != nullptr; }
  LoadResult* WindowAt(int i) {
    return i >= 0 && i < int(windows_.size()) ? &windows_[size_t(i)] : nullptr;
  }

  void Step() {
    const Time now = client_.Now();
    if (now >= next_tick_) {
      next_tick_ = now + kTick;
      interrupted_ = hooks_.interrupted();
      stopping_ = stopping_ || interrupted_;
      if (!windows_.empty()) hooks_.progress(windows_.back(), int(windows_.size()));
    }
    Time until = std::min(next_tick_, boundary_);
    bool more = false;
    if (open()) {
      // All that was due in a window is sent before it ends, however late that is.
      const Time last = std::min(now, boundary_ - Duration(1));
      const Time next = SendDue(last);
      more = next <= last;
      until = more ? now : std::min(until, next);
    }
    if (stopping_) return;
    if (now >= boundary_ && !more) return Boundary();
    if (!open()) until = std::min(until, SendFree(now));
    client_.Wait(until, [this](const http::LoadAnswer& a) { OnAnswer(a); });
    if (open() && IsSteady()) stopping_ = true;
  }

  // A window ends, the next begins.
  void Boundary() {
    const double cpu = ThreadCpuSeconds();
    if (!windows_.empty()) windows_.back().client_cpu_seconds = cpu - cpu_;
    cpu_ = cpu;
    hooks_.at_boundary(int(windows_.size()));
    if (int(windows_.size()) == plan_.max_windows || (!open() && IsSteady())) {
      stopping_ = true;
      return;
    }
    windows_.emplace_back().seconds = std::chrono::duration<double>(plan_.window).count();
    window_start_ = boundary_;
    boundary_ += plan_.window;
  }

  // Closed loop: every free slot gets a request. Returns when a slot may try again.
  Time SendFree(Time now) {
    while (!retries_.empty() && retries_.front().first <= now) {
      free_.push_back(retries_.front().second);
      retries_.pop_front();
    }
    while (!free_.empty()) Send(Take(), now, -1);
    return retries_.empty() ? Time::max() : retries_.front().first;
  }

  // Open loop: sends what was due until `last`, or the first of it, and returns when the next is.
  Time SendDue(Time last) {
    for (int n = 0; due_ && start_ + *due_ <= last && n < kSendsInARow; ++n) {
      const Time due = start_ + *due_;
      const auto since = *due_ - plan_.warmup;
      const int window = since < Duration(0) ? -1 : int(since / plan_.window);
      due_ = plan_.arrivals->Next();
      if (!free_.empty())
        Send(Take(), due, window);
      else if (LoadResult* w = WindowAt(window))
        ++w->not_sent;
    }
    if (due_) return start_ + *due_;
    // The end of the arrivals is the end of the measurement.
    if (free_.size() == slots_.size()) EndEarly(last);
    return Time::max();
  }

  void EndEarly(Time now) {
    stopping_ = true;
    if (windows_.empty()) return;
    windows_.back().seconds = std::chrono::duration<double>(now - window_start_).count();
    windows_.back().client_cpu_seconds = ThreadCpuSeconds() - cpu_;
    hooks_.at_boundary(int(windows_.size()));
  }

  uint32_t Take() {
    const uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }

  void Send(uint32_t slot, Time due, int window) {
    Slot& s = slots_[slot];
    s.due = due;
    s.sent = client_.Now();
    s.window = window;
    LoadResult* w = open() ? WindowAt(window) : windows_.empty() ? nullptr : &windows_.back();
    if (w != nullptr) {
      ++w->sent;
      if (open()) ++w->pending;
    }
    client_.Send(slot, workload_.Next(slot));
  }

  void OnAnswer(const http::LoadAnswer& answer) {
    const Slot& s = slots_[answer.slot];
    const bool right = answer.ok && workload_.IsRight(answer);
    // After the last window nobody counts.
    LoadResult* now_in =
        windows_.empty() || answer.at >= boundary_ || stopping_ ? nullptr : &windows_.back();
    LoadResult* w = open() ? WindowAt(s.window) : now_in;
    if (now_in != nullptr && right) ++now_in->answered;
    if (w != nullptr) Count(answer, right, s, *w);
    if (!open() && answer.failure != nullptr)
      retries_.emplace_back(answer.at + kRetry, answer.slot);
    else if (!open() && !stopping_)
      Send(answer.slot, answer.at, -1);
    else
      free_.push_back(answer.slot);
  }

  void Count(const http::LoadAnswer& answer, bool right, const Slot& s, LoadResult& w) {
    if (right) {
      w.latency.Add(answer.at - (open() ? s.due : s.sent));
      if (open()) w.from_sent.Add(answer.at - s.sent);
    } else if (answer.ok) {
      ++w.wrong;
    } else {
      ++w.failed;
      std::string text = workload_.ErrorText(answer);
      if (w.errors.size() >= kMaxErrorTexts && !w.errors.contains(text)) text = "other errors";
      ++w.errors[text];
    }
    if (open()) {
      w.lag.Add(s.sent - s.due);
      --w.pending;
    }
  }

  // The last windows that are over, requests and all. Open loop: a window is over when the last
  // request that was due in it is.
  bool IsSteady() {
    const int ended = int(windows_.size()) - (client_.Now() < boundary_ ? 1 : 0);
    if (plan_.max_windows == 1 || ended < kStableWindows || ended == judged_) return false;
    std::vector<double> throughput, p99;
    for (int i = ended - kStableWindows; i < ended; ++i) {
      const LoadResult& w = windows_[size_t(i)];
      if (w.pending > 0) return false;
      throughput.push_back(double(w.answered));
      p99.push_back(double(w.latency.Percentile(99).count()));
    }
    judged_ = ended;
    steady_ = IsStable(throughput, plan_.stability) && IsStable(p99, plan_.stability);
    return steady_;
  }

  LoadRun Finish() {
    LoadRun run;
    if (!steady_) IsSteady();
    // Of several windows the last ones count, of a steady run those that were judged.
    run.windows = std::min<int>(int(windows_.size()), kStableWindows);
    run.first = (steady_ ? judged_ : int(windows_.size())) - run.windows;
    run.stable = steady_ || plan_.max_windows == 1;
    for (int i = 0; i < run.windows; ++i) run.total.Add(windows_[size_t(run.first + i)]);
    run.all = std::move(windows_);
    return run;
  }

  http::LoadClient& client_;
  Workload& workload_;
  LoadPlan plan_;
  const LoadHooks& hooks_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  std::deque<std::pair<Time, uint32_t>> retries_;
  std::vector<LoadResult> windows_;
  std::optional<Duration> due_;  // of the next arrival, since start_
  Time start_, boundary_, window_start_, next_tick_;
  double cpu_ = 0;
  int judged_ = 0;  // after so many windows it was last asked whether they are steady
  bool steady_ = false, stopping_ = false, interrupted_ = false;
};

}  // namespace

void LoadResult::Add(const LoadResult& other) {
  latency.Add(other.latency);
  from_sent.Add(other.from_sent);
  lag.Add(other.lag);
  sent += other.sent;
  answered += other.answered;
  wrong += other.wrong;
  failed += other.failed;
  not_sent += other.not_sent;
  for (const auto& [text, count] : other.errors) errors[text] += count;
  seconds += other.seconds;
  client_cpu_seconds += other.client_cpu_seconds;
  pending += other.pending;
}

Result<LoadRun> RunLoad(http::LoadClient& client, Workload& workload, LoadPlan plan,
                        const LoadHooks& hooks) {
  return Loop(client, workload, std::move(plan), hooks).Run();
}

}  // namespace dunlin::cli
