#include "serve/compute.h"

#include <gtest/gtest.h>

namespace dunlin::serve {
namespace {

constexpr ComputeDemand kScales{.parallel = 2, .scales = true};
constexpr ComputeDemand kHardly{.parallel = 2, .scales = false};

TEST(Compute, SharesItsSlotsAmongThoseInFlight) {
  Compute compute(2);
  compute.Arrived();
  EXPECT_EQ(compute.Suggest(kScales), 2);
  EXPECT_EQ(compute.Suggest({.threads = 1, .parallel = 2}), 1);
  EXPECT_EQ(compute.Suggest({.parallel = 2, .most = 1}), 1);
  EXPECT_EQ(compute.Suggest({.parallel = 1}), 2);
  compute.Arrived();
  EXPECT_EQ(compute.Suggest(kScales), 2) << "one meeting says little";
  ASSERT_TRUE(compute.TryAcquire(1));
  compute.Left();
  EXPECT_EQ(compute.Suggest(kScales), 1) << "no more than are free";
  compute.Release(1);
}

TEST(Compute, OneWhoIsAloneAfterAMeetingTakesAllOnlyWhereThatPays) {
  Compute compute(2);
  compute.Arrived();
  compute.Arrived();
  compute.Left();
  EXPECT_EQ(compute.Suggest(kScales), 2);
  EXPECT_EQ(compute.Suggest(kHardly), 1);
  for (int i = 0; i < 60; ++i) {
    compute.Left();
    compute.Arrived();
  }
  EXPECT_EQ(compute.Suggest(kHardly), 2) << "the meeting is long ago";
}

TEST(Compute, TwoClientsInTurnsRunSideBySide) {
  Compute compute(2);
  compute.Arrived();
  for (int i = 0; i < 60; ++i) {  // whenever one is answered the other waits or runs
    compute.Arrived();
    compute.Left();
  }
  EXPECT_EQ(compute.Suggest(kScales), 1);
}

}  // namespace
}  // namespace dunlin::serve
