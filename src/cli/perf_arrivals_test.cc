#include "cli/perf_arrivals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace dunlin::cli {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Arrivals, ConstantOnesDoNotDrift) {
  const auto arrivals = ConstantArrivals(3);
  for (int i = 0; i < 3'000; ++i) arrivals->Next();
  EXPECT_EQ(arrivals->Next()->count(), 1'000'000'000'000);
}

// Gaps of an exponential distribution: mean and standard deviation are both 1/rate.
TEST(Arrivals, PoissonGapsHaveTheirMeanAndSpread) {
  const int n = 200'000;
  const auto arrivals = PoissonArrivals(500, 7);
  double before = 0, sum = 0, squares = 0;
  for (int i = 0; i < n; ++i) {
    const double at = double(arrivals->Next()->count()) * 1e-9;
    sum += at - before;
    squares += (at - before) * (at - before);
    before = at;
  }
  const double mean = sum / n;
  // Five standard errors of the mean are 1.1 %.
  EXPECT_NEAR(mean, 1.0 / 500, 0.011 / 500);
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean), 1.0 / 500, 0.03 / 500);
}

TEST(Arrivals, TheSameSeedGivesTheSameTimes) {
  const auto a = PoissonArrivals(10, 1), b = PoissonArrivals(10, 1), c = PoissonArrivals(10, 2);
  const auto first = a->Next();
  EXPECT_EQ(first, b->Next());
  EXPECT_NE(first, c->Next());
}

TEST(Arrivals, ReplayIsFasterBySpeed) {
  const auto arrivals = ReplayedArrivals({0, 1, 4}, 2);
  EXPECT_EQ(arrivals->Next()->count(), 0);
  EXPECT_EQ(arrivals->Next()->count(), 500'000'000);
  EXPECT_EQ(arrivals->Next()->count(), 2'000'000'000);
  EXPECT_EQ(arrivals->Next(), std::nullopt);
}

TEST(Trace, ReadsSecondsAndDates) {
  const auto plain = ParseTrace("# gaps\n10.5\n\n10.5\n12\n");
  ASSERT_TRUE(plain) << plain.error().message;
  EXPECT_THAT(*plain, ElementsAre(0, 0, 1.5));
  const auto dates = ParseTrace(
      "TIMESTAMP,ContextTokens\r\n2023-11-16 "
      "23:59:59.9799600,4808\r\n2023-11-17T00:00:01.0319600Z,7\r\n");
  ASSERT_TRUE(dates) << dates.error().message;
  EXPECT_THAT(*dates, ElementsAre(0, DoubleNear(1.052, 1e-6)));
}

TEST(Trace, WhatIsNoTraceIsRefusedByLine) {
  EXPECT_THAT(ParseTrace("").error().message, HasSubstr("no times"));
  EXPECT_THAT(ParseTrace("time\n").error().message, HasSubstr("no times"));
  EXPECT_THAT(ParseTrace("1\n2\nx\n").error().message, HasSubstr("line 3: 'x' is no time"));
  EXPECT_THAT(ParseTrace("1\n0.5\n").error().message, HasSubstr("line 2: it is earlier"));
  EXPECT_THAT(ParseTrace("1\n2023-13-01 00:00:00\n").error().message, HasSubstr("line 2"));
  EXPECT_THAT(ParseTrace("1\nnan\n").error().message, HasSubstr("line 2"));
}

}  // namespace
}  // namespace dunlin::cli
