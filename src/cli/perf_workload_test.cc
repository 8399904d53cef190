#include "cli/perf_workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cli/perf.h"
#include "cli/perf_probe.h"
#include "cli/perf_report.h"

namespace dunlin::cli {
namespace {

using testing::HasSubstr;

TEST(DrawShape, RangesAreDrawnAndEqualOnesDrawEqual) {
  std::set<std::string> seen;
  for (uint64_t draw = 0; draw < 200; ++draw) {
    const auto ids = DrawShape("ids=1,8-10", draw);
    const auto mask = DrawShape("a-b=1,8-10", draw);
    ASSERT_TRUE(ids && mask);
    EXPECT_EQ(ids->substr(4), mask->substr(4));
    seen.insert(*ids);
  }
  EXPECT_THAT(seen, testing::ElementsAre("ids=1,10", "ids=1,8", "ids=1,9"));
  EXPECT_EQ(*DrawShape("1,3", 7), "1,3");
}

TEST(DrawShape, WhatIsNoRangeIsRefused) {
  for (const char* shape : {"x=8-", "x=9-8", "x=a-b", "x=-1", "x=1,2-3-4"})
    EXPECT_THAT(DrawShape(shape, 1).error().message, HasSubstr("no range")) << shape;
  EXPECT_FALSE(HasRange("a-b=1,2"));
}

TEST(SameResults, FloatsMayRoundAndNothingElseMay) {
  const auto of = [](float v, int64_t i) {
    std::vector<serve::CallResult> results(2);
    results[0].name = "y";
    results[0].tensor = Tensor::Of<float>({1}, {v});
    results[1].name = "i";
    results[1].tensor = Tensor::Of<int64_t>({1}, {i});
    return results;
  };
  EXPECT_TRUE(SameResults(of(1000.0f, 1), of(1000.05f, 1), 1e-4));
  EXPECT_FALSE(SameResults(of(1000.0f, 1), of(1000.5f, 1), 1e-4));
  EXPECT_FALSE(SameResults(of(1.0f, 1), of(1.0f, 2), 1e-4));
  EXPECT_FALSE(SameResults(of(1.0f, 1), {}, 1e-4));
}

TEST(Sweep, FirstLastStep) {
  const auto one = ParseSweep("4"), two = ParseSweep("1:16"), three = ParseSweep("0.5:2:0.5");
  ASSERT_TRUE(one && two && three);
  EXPECT_EQ(one->last, 4);
  EXPECT_EQ(two->last, 16);
  EXPECT_EQ(two->step, 1);
  EXPECT_EQ(three->step, 0.5);
  for (const char* text : {"", "0", "-1", "a", "4:", "4:2", "1:4:0", "1:2:3:4", "1:inf", "4 "})
    EXPECT_FALSE(ParseSweep(text)) << text;
}

TEST(Probe, ReadsCpuTimeOfAProcessAndOfMetrics) {
  EXPECT_TRUE(ProcessCpuSeconds(1));
  EXPECT_EQ(ProcessCpuSeconds(1 << 30).error().code, Code::kNotFound);
  const char* text = "# HELP a_total x\na_total{b=\"c\"} 1\na_total_more 2\na_total 3.5\n";
  EXPECT_EQ(MetricValue(text, "a_total"), 3.5);
  EXPECT_EQ(MetricValue(text, "b_total"), std::nullopt);
}

TEST(Probe, DifferencesLeaveWhatHappenedBetween) {
  serve::ModelStatistics before, after;
  before.success = {10, 1000};
  after.success = {15, 4000};
  before.batches[1].compute_infer = {10, 500};
  after.batches[1].compute_infer = {10, 500};
  after.batches[4].compute_infer = {2, 900};
  const auto d = Difference(after, before);
  EXPECT_EQ(d.success.count, 5u);
  EXPECT_EQ(d.success.ns, 3000u);
  ASSERT_EQ(d.batches.size(), 1u);
  EXPECT_EQ(d.batches.at(4).compute_infer.count, 2u);
}

PerfReport OneLevel(LoadKind kind) {
  PerfReport report{.url = "http://h", .model = "m<", .kind = kind, .arrival = "", .levels = {}};
  PerfLevel level;
  level.asked = 8;
  LoadResult& r = level.run.total;
  for (int i = 1; i <= 100; ++i) {
    r.latency.Add(std::chrono::microseconds(i * 10));
    r.from_sent.Add(std::chrono::microseconds(i));
  }
  r.answered = 100;
  r.seconds = 2;
  r.client_cpu_seconds = 0.0005;
  r.not_sent = 3;
  r.failed = 7;
  r.errors["503 Exceeds maximum queue size"] = 7;
  report.levels.push_back(level);
  return report;
}

TEST(Report, SaysWhichLoopItWasAndWhatIsMissing) {
  EXPECT_THAT(PerfText(OneLevel(LoadKind::kConcurrency)), HasSubstr("Closed loop: service times"));
  const std::string open = PerfText(OneLevel(LoadKind::kRate));
  EXPECT_THAT(open, HasSubstr("Open loop: 'due' counts from when a request was due"));
  EXPECT_THAT(open, HasSubstr("3 requests were due and not sent"));
  EXPECT_THAT(open, HasSubstr("7 x 503 Exceeds maximum queue size"));
}

TEST(Report, FormsAgree) {
  const PerfReport report = OneLevel(LoadKind::kRate);
  EXPECT_THAT(PerfJson(report), HasSubstr(R"("answers_per_s":50)"));
  EXPECT_THAT(PerfJson(report), HasSubstr(R"("client_cpu_us":5)"));
  EXPECT_THAT(PerfJson(report), HasSubstr(R"("not_sent":3)"));
  EXPECT_THAT(PerfCsv(report), HasSubstr("\n8,50.0,"));
  EXPECT_THAT(PerfSvg(report), HasSubstr("m&lt;"));
}

}  // namespace
}  // namespace dunlin::cli
