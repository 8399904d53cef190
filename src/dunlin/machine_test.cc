#include "dunlin/machine.h"

#include <gtest/gtest.h>

namespace dunlin {
namespace {

TEST(MachinePeak, BandwidthIsThatOfTheSmallestLevelThatHoldsTheBytes) {
  const MachinePeak peak{100, {{1000, 50}, {10000, 20}}};
  EXPECT_EQ(peak.BandwidthFor(1000), 50);
  EXPECT_EQ(peak.BandwidthFor(1001), 20);
  EXPECT_EQ(peak.BandwidthFor(1000000), 20);
}

TEST(MachinePeak, TheRoofIsArithmeticOrMemoryWhicheverTakesLonger) {
  const MachinePeak peak{100, {{int64_t{1} << 40, 10}}};
  // 1e6 multiply-adds: 2e6 operations at 1e11 per second are 20 us.
  EXPECT_DOUBLE_EQ(peak.RoofShare(1000000, 8, 40), 0.5);
  // 1e6 bytes at 1e10 per second are 100 us.
  EXPECT_DOUBLE_EQ(peak.RoofShare(1000000, 1000000, 200), 0.5);
  EXPECT_EQ(peak.RoofShare(1000000, 8, 0), 0);
}

TEST(MachinePeak, IsMeasuredOnThisMachine) {
  const MachinePeak peak = MeasureMachine(1);
  EXPECT_GT(peak.gflops, 0);
  ASSERT_EQ(peak.levels.size(), 3u);
  for (const MachinePeak::Level& level : peak.levels) EXPECT_GT(level.gbps, 0);
}

}  // namespace
}  // namespace dunlin
