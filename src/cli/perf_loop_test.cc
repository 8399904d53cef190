#include "cli/perf_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <optional>

namespace dunlin::cli {
namespace {

using namespace std::chrono_literals;
using Time = http::LoadClient::Time;
using Duration = LoadPlan::Duration;

// A server that works on one request at a time, in time that only passes when somebody waits.
class FakeServer final : public http::LoadClient {
 public:
  Duration service = 100us;
  Duration stall_begin{-1}, stall_end{-1};  // nothing is finished in between
  Duration send_cost{0};                    // of the client's own time
  Duration oversleep{0};                    // how late the client wakes up
  std::function<void(http::LoadAnswer&)> edit = [](http::LoadAnswer&) {};

  Time Now() override { return now_; }
  void Send(uint32_t slot, std::string_view) override {
    now_ += send_cost;
    Time begin = std::max(now_, busy_until_);
    const auto stalled = [this](Time t) { return t > Time(stall_begin) && t < Time(stall_end); };
    if (stalled(begin + service)) begin = Time(stall_end);
    busy_until_ = begin + service;
    answers_.push_back({busy_until_, slot});
    ++sent;
  }
  void Wait(Time until, const OnAnswer& on_answer) override {
    if (answers_.empty() || answers_.front().first > until) {
      now_ = std::max(now_, until + oversleep);
      return;
    }
    const auto [at, slot] = answers_.front();
    answers_.erase(answers_.begin());
    now_ = std::max(now_, at);
    http::LoadAnswer answer;
    answer.slot = slot;
    answer.at = now_;
    answer.status = 200;
    answer.ok = true;
    edit(answer);
    on_answer(answer);
  }

  int sent = 0;

 private:
  Time now_{};
  Time busy_until_{};
  std::vector<std::pair<Time, uint32_t>> answers_;
};

class AnyWork final : public Workload {
 public:
  std::string_view Next(uint32_t) override { return "request"; }
  bool IsRight(const http::LoadAnswer& answer) override { return answer.body != "wrong"; }
  std::string ErrorText(const http::LoadAnswer& answer) override {
    return answer.failure != nullptr ? answer.failure->message : std::string(answer.body);
  }
};

LoadRun Measure(FakeServer& server, LoadPlan plan) {
  AnyWork work;
  auto run = RunLoad(server, work, std::move(plan), {});
  EXPECT_TRUE(run);
  return std::move(*run);
}

LoadPlan Open(double rate, Duration seconds, uint32_t slots = 4096) {
  LoadPlan plan;
  plan.slots = slots;
  plan.arrivals = ConstantArrivals(rate);
  plan.window = seconds;
  return plan;
}

LoadPlan Closed(uint32_t slots, Duration seconds) {
  LoadPlan plan;
  plan.slots = slots;
  plan.window = seconds;
  return plan;
}

// A second in which nothing is answered, of ten, with 1 000 requests due per second: a tenth of
// them waits up to a second, so p95 is half of that.
TEST(OpenLoop, AStallIsNotHidden) {
  FakeServer server;
  server.stall_begin = 5s;
  server.stall_end = 6s;
  const LoadRun run = Measure(server, Open(1'000, 10s));
  EXPECT_EQ(run.total.sent, 10'000u);
  EXPECT_EQ(run.total.not_sent, 0u);
  EXPECT_NEAR(double(run.total.latency.Percentile(95).count()), 0.56e9, 0.03e9);
  EXPECT_GE(run.total.latency.max(), 1s);
  EXPECT_LT(run.total.latency.Percentile(50), 1ms);
}

// What the same stall looks like to a closed loop, which sends nothing meanwhile: one slow answer.
TEST(ClosedLoop, AStallIsOneSlowAnswer) {
  FakeServer server;
  server.stall_begin = 5s;
  server.stall_end = 6s;
  const LoadRun run = Measure(server, Closed(1, 10s));
  EXPECT_LT(run.total.latency.Percentile(99.9), 1ms);
  EXPECT_GE(run.total.latency.max(), 1s);
  EXPECT_NEAR(double(run.total.answered), 90'000, 2);
}

TEST(OpenLoop, WhatDoesNotFitIsCountedAsNotSent) {
  FakeServer server;
  server.stall_begin = 5s;
  server.stall_end = 6s;
  const LoadRun run = Measure(server, Open(1'000, 10s, 10));
  EXPECT_NEAR(double(run.total.not_sent), 990, 3);
  EXPECT_EQ(run.total.sent + run.total.not_sent, 10'000u);
}

// A client that needs 2 ms for what is due every millisecond falls behind; that, too, counts.
TEST(OpenLoop, TheClientsOwnDelayCountsFromWhenARequestWasDue) {
  FakeServer server;
  server.send_cost = 2ms;
  const LoadRun run = Measure(server, Open(1'000, 1s));
  EXPECT_GT(run.total.latency.Percentile(99), 900ms);
  EXPECT_GT(run.total.lag.Percentile(99), 900ms);
}

// However late the loop comes round, no request that was due is left out.
TEST(OpenLoop, NothingThatWasDueIsLeftOutAtTheEnd) {
  FakeServer server;
  server.oversleep = 70ms;
  const LoadRun run = Measure(server, Open(1'000, 1s));
  EXPECT_EQ(run.total.sent, 1'000u);
  EXPECT_GT(run.total.latency.Percentile(99), 60ms);
}

TEST(OpenLoop, RequestsBelongToTheWindowTheyWereDueIn) {
  FakeServer server;
  LoadPlan plan = Open(100, 1s);
  plan.warmup = 500ms;
  plan.max_windows = 5;
  plan.stability = 0;  // no p99 is that steady, but a constant one is
  const LoadRun run = Measure(server, std::move(plan));
  EXPECT_TRUE(run.stable);
  EXPECT_EQ(run.windows, 3);
  for (const LoadResult& w : run.all) EXPECT_EQ(w.pending, 0u);
  EXPECT_EQ(run.total.sent, 300u);
  EXPECT_EQ(run.total.latency.count(), 300u);
}

TEST(OpenLoop, EndsWithTheTrace) {
  FakeServer server;
  LoadPlan plan;
  plan.slots = 8;
  plan.arrivals = ReplayedArrivals({0, 0.5, 0.5, 3}, 1);
  plan.window = std::chrono::hours(1000);
  const LoadRun run = Measure(server, std::move(plan));
  EXPECT_EQ(run.total.latency.count(), 4u);
  EXPECT_NEAR(run.total.seconds, 3, 0.2);
}

TEST(Windows, AServerThatSlowsDownIsNotSteady) {
  FakeServer server;
  server.edit = [&server](http::LoadAnswer&) { server.service += 1us; };
  LoadPlan plan = Closed(1, 1s);
  plan.max_windows = 6;
  plan.stability = 0.01;
  const LoadRun run = Measure(server, std::move(plan));
  EXPECT_FALSE(run.stable);
  EXPECT_EQ(run.all.size(), 6u);
  EXPECT_EQ(run.first, 3);
}

TEST(Windows, ASteadyServerIsMeasuredForThree) {
  FakeServer server;
  LoadPlan plan = Closed(2, 1s);
  plan.max_windows = 10;
  const LoadRun run = Measure(server, std::move(plan));
  EXPECT_TRUE(run.stable);
  EXPECT_EQ(run.all.size(), 3u);
  EXPECT_NEAR(double(run.total.answered), 30'000, 3);
  EXPECT_DOUBLE_EQ(run.total.seconds, 3);
}

TEST(Answers, ErrorsAndWrongOnesAreNotLatencies) {
  FakeServer server;
  int n = 0;
  server.edit = [&n](http::LoadAnswer& answer) {
    ++n;
    if (n % 10 == 0) answer.body = "wrong";
    if (n % 10 == 1) {
      answer.ok = false;
      answer.body = "queue is full";
    }
  };
  const LoadRun run = Measure(server, Closed(1, 1s));
  EXPECT_NEAR(double(run.total.wrong), 1'000, 1);
  EXPECT_NEAR(double(run.total.failed), 1'000, 1);
  EXPECT_NEAR(double(run.total.latency.count()), 8'000, 2);
  EXPECT_EQ(run.total.errors.at("queue is full"), run.total.failed);
}

TEST(Answers, AServerThatIsGoneIsNotAskedWithoutPause) {
  FakeServer server;
  const Error gone{Code::kUnavailable, "connecting: Connection refused"};
  server.service = 1us;
  server.edit = [&gone](http::LoadAnswer& answer) {
    answer.ok = false;
    answer.failure = &gone;
  };
  const LoadRun run = Measure(server, Closed(1, 1s));
  EXPECT_LE(run.total.failed, 101u);
  EXPECT_GE(run.total.failed, 90u);
}

TEST(Loop, AnInterruptEndsIt) {
  FakeServer server;
  AnyWork work;
  LoadHooks hooks;
  hooks.interrupted = [&server] { return server.sent > 1'000; };
  const auto run = RunLoad(server, work, Closed(1, 1000s), hooks);
  ASSERT_FALSE(run);
  EXPECT_EQ(run.error().code, Code::kCancelled);
  EXPECT_LT(server.sent, 3'000);
}

}  // namespace
}  // namespace dunlin::cli
