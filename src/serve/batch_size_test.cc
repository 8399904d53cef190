#include "serve/batch_size.h"

#include <gtest/gtest.h>

#include <random>

namespace dunlin::serve {
namespace {

using Us = BatchSizer::Microseconds;
constexpr Us kPatient{1e9f};

// Serves a queue that is always full for a while; the size it settles on.
template <class F>
int64_t Settled(BatchSizer& sizer, const F& latency, Us slack = kPatient) {
  int64_t last = 0;
  for (int i = 0; i < 300; ++i) {
    const int64_t b = sizer.Choose(1, 1, 100, slack);
    sizer.Record(1, 1, b, Us(latency(b)));
    if (i % 64 > 1) last = b;
  }
  return last;
}

TEST(BatchSizer, AModelThatGainsNothingIsServedOneByOne) {
  BatchSizer sizer(64, Us(0));
  EXPECT_EQ(Settled(sizer, [](int64_t b) { return 1000.f * float(b); }), 1);
  EXPECT_FALSE(sizer.MayGain(1, 1));
  BatchSizer worse(64, Us(0));
  EXPECT_EQ(Settled(worse, [](int64_t b) { return 1000.f * float(b) * (b > 1 ? 1.2f : 1.f); }), 1);
}

TEST(BatchSizer, GrowsAsLongAsItPays) {
  BatchSizer sizer(64, Us(0));
  EXPECT_EQ(Settled(sizer, [](int64_t b) { return 1000.f + 10.f * float(b); }), 64);
  EXPECT_TRUE(sizer.MayGain(1, 1));
  EXPECT_EQ(sizer.Choose(1, 1, 5, kPatient), 4) << "no larger than what waits";
  EXPECT_EQ(sizer.Choose(1, 1, 1, kPatient), 1);
  BatchSizer bent(64, Us(0));  // all is gained at 8
  EXPECT_EQ(Settled(bent, [](int64_t b) { return b <= 8 ? 1000.f : 125.f * float(b); }), 8);
}

TEST(BatchSizer, KeepsTheLatencyTarget) {
  BatchSizer sizer(64, Us(4000));
  const auto latency = [](int64_t b) { return 1000.f + 100.f * float(b); };
  EXPECT_EQ(Settled(sizer, latency), 8) << "2 * 1800 us fit, 2 * 2200 us do not";
  EXPECT_EQ(sizer.Choose(1, 1, 8, Us(1450)), 4) << "the first would be late";
  EXPECT_EQ(sizer.Choose(1, 1, 100, Us(1450)), 8) << "many others would be late";
  EXPECT_GE(sizer.Choose(1, 1, 100, Us(-5)), 8) << "it is late anyway";
}

TEST(BatchSizer, ShrinksWhenTheTargetBreaks) {
  BatchSizer sizer(64, Us(40000));
  Settled(sizer, [](int64_t b) { return 1000.f + 100.f * float(b); });
  EXPECT_LE(Settled(sizer, [](int64_t b) { return 10000.f + 1000.f * float(b); }), 8);
}

TEST(BatchSizer, KeepsShapesAndThreadsApartAndForgetsTheOldest) {
  BatchSizer sizer(8, Us(0));
  for (int i = 0; i < 3; ++i) {
    sizer.Record(1, 1, 1, Us(100));
    sizer.Record(1, 2, 1, Us(60));
  }
  EXPECT_EQ(sizer.Estimate(1, 1, 1), Us(100));
  EXPECT_NEAR(sizer.Estimate(1, 2, 1).count(), 60, 0.01);
  EXPECT_EQ(sizer.Estimate(2, 1, 1), Us(0));
  for (uint64_t shape = 10; shape < 1000; ++shape) sizer.Record(shape, 1, 1, Us(5));
  EXPECT_EQ(sizer.Estimate(1, 1, 1), Us(0));
  EXPECT_GT(sizer.MayGain(1, 1), 0);
}

// A machine whose speed changes by 1.7 from one stretch of executions to the next, and by a third
// within them. What an item costs on it, chosen batches against the best size.
template <class F>
double CostOnASharedMachine(const F& per_item, double best, int64_t max_batch,
                            int64_t* largest = nullptr) {
  BatchSizer sizer(max_batch, Us(0));
  std::mt19937 random(1);
  std::uniform_real_distribution<float> noise(0.75f, 1.35f);
  double cost = 0, items = 0;
  float speed = 1;
  for (int i = 0; i < 20000; ++i) {
    if (i % 50 == 0) speed = random() % 2 == 0 ? 1.f : 1.7f;
    const int64_t b = sizer.Choose(1, 1, max_batch, kPatient);
    sizer.Record(1, 1, b, Us(1000.f * per_item(b) * float(b) * speed * noise(random)));
    if (i < 500) continue;
    if (largest != nullptr && i >= 10000) *largest = std::max(*largest, b);
    cost += per_item(b) * double(b);
    items += double(b);
  }
  return cost / items / best;
}

TEST(BatchSizer, FindsTheBestSizeOnASharedMachine) {
  const auto worse = [](int64_t b) { return b == 1 ? 1.f : 1.3f; };
  int64_t largest = 0;
  EXPECT_LT(CostOnASharedMachine(worse, 1, 8, &largest), 1.05);
  EXPECT_LE(largest, 3) << "nobody looks far beyond the best";
  const auto better = [](int64_t b) { return 0.7f + 0.3f / float(b); };
  EXPECT_LT(CostOnASharedMachine(better, 0.7f + 0.3f / 8, 8), 1.05);
  const auto dip = [](int64_t b) { return b <= 4 ? 1.f - 0.1f * float(b - 1) : 0.9f; };
  EXPECT_LT(CostOnASharedMachine(dip, 0.7, 8), 1.05);
}

TEST(BatchSizer, UsesThreadsThatPay) {
  const auto threads_of = [](float two) {  // a lone request at a time, by two threads in so long
    BatchSizer sizer(8, Us(0));
    int used = 0;
    for (int i = 0; i < 400; ++i) {
      const int t = sizer.Threads(1, 1, 2).most;
      sizer.Record(1, t, 1, Us(t == 2 ? two : 1000.f));
      if (i >= 80 && t == 2) ++used;
    }
    return used;
  };
  EXPECT_GT(threads_of(600), 290);
  EXPECT_LT(threads_of(950), 20);
  BatchSizer sizer(8, Us(0));
  EXPECT_EQ(sizer.Threads(1, 1, 1).most, 1);
  EXPECT_EQ(sizer.Threads(1, 1, 8).most, 8) << "nothing is known";
}

TEST(BatchSizer, EstimatesFollowTheMachine) {
  BatchSizer sizer(8, Us(0));
  for (int i = 0; i < 100; ++i) {
    sizer.Record(1, 1, 1, Us(1000));
    sizer.Record(1, 1, 4, Us(2000));
  }
  for (int i = 0; i < 60; ++i) sizer.Record(1, 1, 1, Us(1800));
  EXPECT_NEAR(sizer.Estimate(1, 1, 1).count(), 1800, 90);
  EXPECT_NEAR(sizer.Estimate(1, 1, 4).count(), 3600, 400) << "though none of these has run since";
}

TEST(BatchSizer, AnOutlierDoesNotDecide) {
  BatchSizer sizer(8, Us(0));
  for (int i = 0; i < 10; ++i) sizer.Record(1, 1, 1, Us(100));
  sizer.Record(1, 1, 1, Us(1e6f));
  EXPECT_LT(sizer.Estimate(1, 1, 1), Us(125));
}

}  // namespace
}  // namespace dunlin::serve
