#include "serve/batch_size.h"

#include <gtest/gtest.h>

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
  EXPECT_EQ(sizer.Choose(1, 1, 100, Us(1450)), 4) << "the first would be late";
  EXPECT_EQ(sizer.Choose(1, 1, 100, Us(-5)), 8) << "it is late anyway";
}

TEST(BatchSizer, HalvesWhenTheTargetBreaks) {
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
  EXPECT_EQ(sizer.Estimate(1, 2, 1), Us(60));
  EXPECT_EQ(sizer.Estimate(2, 1, 1), Us(0));
  for (uint64_t shape = 10; shape < 1000; ++shape) sizer.Record(shape, 1, 1, Us(5));
  EXPECT_EQ(sizer.Estimate(1, 1, 1), Us(0));
  EXPECT_GT(sizer.MayGain(1, 1), 0);
}

TEST(BatchSizer, AnOutlierDoesNotDecide) {
  BatchSizer sizer(8, Us(0));
  for (int i = 0; i < 10; ++i) sizer.Record(1, 1, 1, Us(100));
  sizer.Record(1, 1, 1, Us(1e6f));
  EXPECT_LT(sizer.Estimate(1, 1, 1), Us(115));
}

}  // namespace
}  // namespace dunlin::serve
