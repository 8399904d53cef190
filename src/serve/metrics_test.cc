#include "serve/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <future>
#include <set>
#include <sstream>
#include <thread>

#include "serve/metrics_summary.h"

namespace dunlin::serve {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

RequestTimes Times(int us) {
  return {.total = microseconds(10 * us),
          .queue = microseconds(us),
          .compute_input = microseconds(2 * us),
          .compute_infer = microseconds(3 * us),
          .compute_output = microseconds(4 * us)};
}

// A request that was executed alone.
void CountAlone(StatsRecorder& stats, const RequestTimes& times, int64_t items) {
  stats.Executed(times, items);
  stats.Success(times, items);
}

// The value of a line that begins so; NaN when there is none.
double ValueOf(const std::string& page, const std::string& series) {
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);)
    if (line.rfind(series + ' ', 0) == 0) return std::strtod(line.c_str() + series.size(), nullptr);
  return std::nan("");
}

TEST(Stats, CountsRequestsAndExecutions) {
  Metrics metrics;
  const auto model = metrics.ForModel("m", 1, {});
  StatsRecorder stats(*model);
  stats.Success(Times(100), 2);
  stats.Success(Times(300), 3);
  stats.Executed(Times(200), 5);
  CountAlone(stats, Times(10), 1);
  stats.Failure(FailReason::kRejected, milliseconds(1));
  stats.CacheHit(microseconds(50), microseconds(7));
  stats.CacheMiss(microseconds(9));
  const ModelStatistics s = stats.Snapshot();
  EXPECT_EQ(s.inference_count, 6u);
  EXPECT_EQ(s.execution_count, 2u);
  EXPECT_EQ(s.success.count, 4u);
  EXPECT_EQ(s.success.ns, 4'150'000u);
  EXPECT_EQ(s.queue.count, 3u);
  EXPECT_EQ(s.fail.count, 1u);
  EXPECT_EQ(s.cache_hit.ns, 7000u);
  EXPECT_EQ(s.cache_miss.count, 1u);
  ASSERT_EQ(s.batches.size(), 2u);
  EXPECT_EQ(s.batches.at(5).compute_infer.count, 1u);
  EXPECT_EQ(s.batches.at(5).compute_infer.ns, 600'000u);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  EXPECT_NEAR(double(s.last_inference_ms), double(now / milliseconds(1)), 10'000);
}

TEST(Stats, NothingIsLostBetweenThreadsAndReaders) {
  Metrics metrics;
  const auto model = metrics.ForModel("m", 1, {});
  StatsRecorder stats(*model);
  constexpr int kThreads = 12, kEach = 5000;  // more threads than shards
  std::atomic<bool> done{false};
  std::thread reader([&] {
    while (!done) EXPECT_LE(stats.Snapshot().success.count, uint64_t(kThreads * kEach));
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < kEach; ++k) CountAlone(stats, Times(1), 1 + k % 3);
    });
  for (std::thread& t : threads) t.join();
  done = true;
  reader.join();
  const ModelStatistics s = stats.Snapshot();
  EXPECT_EQ(s.success.count, uint64_t(kThreads * kEach));
  EXPECT_EQ(s.batches.at(1).compute_infer.count + s.batches.at(2).compute_infer.count +
                s.batches.at(3).compute_infer.count,
            uint64_t(kThreads * kEach));
}

TEST(Stats, BatchSizesCannotFillTheMemory) {
  Metrics metrics;
  const auto model = metrics.ForModel("m", 1, {});
  StatsRecorder stats(*model);
  for (int i = 1; i <= 5000; ++i) stats.Executed(Times(1), i);
  EXPECT_EQ(stats.Snapshot().batches.size(), 1024u);
  EXPECT_EQ(stats.Snapshot().execution_count, 5000u);
}

TEST(Stats, HistogramBoundsAreInclusive) {
  LatencyHistogram h;
  h.Add(nanoseconds(-5));
  h.Add(nanoseconds(10'000));
  h.Add(nanoseconds(10'001));
  h.Add(nanoseconds(20'000));
  h.Add(nanoseconds(20'001));
  h.Add(std::chrono::hours(1));
  EXPECT_EQ(h.counts()[0], 2u);
  EXPECT_EQ(h.counts()[1], 2u);
  EXPECT_EQ(h.counts()[2], 1u);
  EXPECT_EQ(h.counts()[LatencyHistogram::kBuckets - 1], 1u);
}

TEST(MetricsPage, HasTritonsFamilies) {
  Metrics metrics;
  const auto model = metrics.ForModel("m", 3, {{"team", "vision"}});
  StatsRecorder stats(*model);
  CountAlone(stats, Times(100), 4);
  stats.Failure(FailReason::kCancelled, milliseconds(1));
  model->PendingChanged(2);
  model->LoadTook(milliseconds(1500));
  const std::string page = metrics.Text();
  const std::string labels = R"({model="m",team="vision",version="3"})";
  EXPECT_EQ(ValueOf(page, "nv_inference_request_success" + labels), 1);
  EXPECT_EQ(ValueOf(page, "nv_inference_count" + labels), 4);
  EXPECT_EQ(ValueOf(page, "nv_inference_exec_count" + labels), 1);
  EXPECT_EQ(ValueOf(page, "nv_inference_request_duration_us" + labels), 1000);
  EXPECT_EQ(ValueOf(page, "nv_inference_queue_duration_us" + labels), 100);
  EXPECT_EQ(ValueOf(page, "nv_inference_compute_infer_duration_us" + labels), 300);
  EXPECT_EQ(ValueOf(page, "nv_inference_pending_request_count" + labels), 2);
  EXPECT_EQ(ValueOf(page, "nv_model_load_duration_secs" + labels), 1.5);
  EXPECT_EQ(
      ValueOf(
          page,
          R"(nv_inference_request_failure{model="m",team="vision",version="3",reason="CANCELED"})"),
      1);
  EXPECT_EQ(
      ValueOf(
          page,
          R"(dunlin_request_duration_seconds_bucket{model="m",team="vision",version="3",le="0.00064"})"),
      0);
  EXPECT_EQ(
      ValueOf(
          page,
          R"(dunlin_request_duration_seconds_bucket{model="m",team="vision",version="3",le="0.00128"})"),
      1);
  EXPECT_EQ(ValueOf(page, "dunlin_request_duration_seconds_sum" + labels), 0.001);
  EXPECT_GT(ValueOf(page, "nv_cpu_memory_total_bytes"), 1e6);
  EXPECT_GT(ValueOf(page, "process_start_time_seconds"), 1e9);
  // Not asked for, or not there.
  for (const char* absent :
       {"_summary_us", "first_response", "nv_gpu", "pinned", "nv_cache_num_hits_per_model{"})
    EXPECT_EQ(page.find(absent), std::string::npos) << absent;
}

TEST(MetricsPage, OptionalFamilies) {
  MetricsOptions options;
  ASSERT_TRUE(ParseMetricsConfig({"counter_latencies=false", "histogram_latencies=true",
                                  "summary_latencies=true", "summary_quantiles=0.5:0.05,0.9:0.01"},
                                 options));
  options.cpu = false;
  Metrics metrics(options);
  const auto model =
      metrics.ForModel("m", 1, {}, {.cache = true, .first_response_buckets = {1, 5}});
  StatsRecorder stats(*model);
  const std::string before = metrics.Text();
  EXPECT_NE(
      before.find("nv_inference_queue_summary_us{model=\"m\",version=\"1\",quantile=\"0.5\"} NaN"),
      std::string::npos);
  for (int i = 0; i < 10; ++i) CountAlone(stats, Times(100), 1);
  stats.CacheHit(milliseconds(3), microseconds(20));
  const std::string page = metrics.Text();
  EXPECT_EQ(page.find("_duration_us"), std::string::npos);
  EXPECT_EQ(page.find("nv_cpu"), std::string::npos);
  const std::string l = R"({model="m",version="1")";
  EXPECT_NEAR(ValueOf(page, "nv_inference_queue_summary_us" + l + R"(,quantile="0.9"})"), 100, 4);
  EXPECT_EQ(ValueOf(page, "nv_inference_queue_summary_us_count" + l + "}"), 10);
  EXPECT_EQ(ValueOf(page, "nv_cache_num_hits_per_model" + l + "}"), 1);
  EXPECT_NEAR(ValueOf(page, "nv_cache_hit_summary_per_model" + l + R"(,quantile="0.5"})"), 20, 1);
  const std::string first = "nv_inference_first_response_histogram_ms_bucket" + l;
  EXPECT_EQ(ValueOf(page, first + R"(,le="1"})"), 10);
  EXPECT_EQ(ValueOf(page, first + R"(,le="5"})"), 11);
  EXPECT_EQ(ValueOf(page, first + R"(,le="+Inf"})"), 11);
}

TEST(MetricsPage, CountersSurviveAReloadAndGoWithTheModel) {
  Metrics metrics;
  auto first = metrics.ForModel("m", 1, {});
  auto old_stats = std::make_unique<StatsRecorder>(*first);
  old_stats->Success(Times(1), 1);
  const auto second = metrics.ForModel("m", 1, {});
  StatsRecorder new_stats(*second);
  CountAlone(new_stats, Times(1), 1);
  const std::string series = R"(nv_inference_request_success{model="m",version="1"})";
  EXPECT_EQ(ValueOf(metrics.Text(), series), 2);
  old_stats.reset();
  first.reset();
  EXPECT_EQ(ValueOf(metrics.Text(), series), 2);
  EXPECT_EQ(new_stats.Snapshot().success.count, 1u);
  {
    const auto other = metrics.ForModel("other", 1, {});
    EXPECT_NE(metrics.Text().find("other"), std::string::npos);
  }
  EXPECT_EQ(metrics.Text().find("other"), std::string::npos);
}

TEST(MetricsPage, NamesCannotBreakTheFormat) {
  Metrics metrics;
  const auto model = metrics.ForModel(
      "a\"b\\c\nd\te\xff", 1,
      {{"model", "x"}, {"9 to 5", "y"}, {"__hidden", "z"}, {"a-b", "1"}, {"a.b", "2"}});
  const std::string page = metrics.Text();
  EXPECT_NE(
      page.find(
          "nv_inference_count{_9_to_5=\"y\",a_b=\"1\",model=\"a\\\"b\\\\c\\nd?e\xef\xbf\xbd\","
          "tag___hidden=\"z\",tag_model=\"x\",version=\"1\"} 0\n"),
      std::string::npos)
      << page.substr(0, 600);
}

TEST(MetricsPage, ProcessNumbersCanBeAdded) {
  Metrics metrics;
  metrics.Add(Metrics::Kind::kCounter, "dunlin_x_total", "What x is", [] { return 42.0; });
  EXPECT_NE(metrics.Text().find("# HELP dunlin_x_total What x is\n# TYPE dunlin_x_total counter\n"
                                "dunlin_x_total 42\n"),
            std::string::npos);
}

TEST(MetricsConfig, MistakesAreNamed) {
  for (const char* bad : {"", "counter_latencies", "counter_latencies=maybe", "colour=red",
                          "summary_quantiles=", "summary_quantiles=2:0.1",
                          "summary_quantiles=0.5:x", "summary_quantiles=0.5:0.1,0.5:0.2"}) {
    MetricsOptions options;
    EXPECT_FALSE(ParseMetricsConfig({bad}, options)) << bad;
  }
}

TEST(SummaryTest, QuantilesOfTheLastMinute) {
  const auto summary = std::make_unique<Summary>();
  const std::chrono::steady_clock::time_point start{std::chrono::hours(100)};
  EXPECT_TRUE(std::isnan(summary->Quantile(0.5, start)));
  for (int us = 1; us <= 1000; ++us) summary->Observe(microseconds(us), start);
  for (const double q : {0.01, 0.5, 0.9, 0.99, 1.0})
    EXPECT_NEAR(summary->Quantile(q, start), q * 1000, q * 1000 * 0.032) << q;
  EXPECT_NEAR(summary->Quantile(0.5, start + std::chrono::seconds(30)), 500, 16);
  EXPECT_TRUE(std::isnan(summary->Quantile(0.5, start + std::chrono::seconds(80))));
  summary->Observe(nanoseconds(3), start + std::chrono::seconds(80));
  EXPECT_NEAR(summary->Quantile(1, start + std::chrono::seconds(80)), 0.003, 1e-9);
  summary->Observe(std::chrono::hours(100), start + std::chrono::seconds(80));
  EXPECT_GT(summary->Quantile(1, start + std::chrono::seconds(80)), 1e9);
}

}  // namespace
}  // namespace dunlin::serve
