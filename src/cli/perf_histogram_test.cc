#include "cli/perf_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace dunlin::cli {
namespace {

using Duration = Histogram::Duration;

TEST(Histogram, PercentilesAreWithinTheBound) {
  const auto seed = std::random_device{}();
  std::mt19937_64 random(seed);
  std::lognormal_distribution<double> latency(11, 3);  // 60 us, from nanoseconds to minutes
  std::vector<int64_t> values;
  Histogram histogram;
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(int64_t(latency(random)));
    histogram.Add(Duration(values.back()));
  }
  std::ranges::sort(values);
  for (const double percent : {0.01, 1.0, 10.0, 50.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0}) {
    const int64_t exact = values[size_t(std::ceil(percent / 100 * 20'000)) - 1];
    const int64_t found = histogram.Percentile(percent).count();
    EXPECT_GE(found, exact) << "p" << percent << " seed " << seed;
    EXPECT_LE(double(found), double(exact) * (1 + Histogram::kErrorBound))
        << "p" << percent << " seed " << seed;
  }
  EXPECT_EQ(histogram.max().count(), values.back());
  EXPECT_EQ(histogram.min().count(), values.front());
}

// Every value lies in exactly one bucket: the ends meet without gap or overlap.
TEST(Histogram, BucketsMeet) {
  for (int bit = 0; bit < 42; ++bit) {
    for (const int64_t value :
         {(int64_t{1} << bit) - 1, int64_t{1} << bit, (int64_t{1} << bit) + 1}) {
      Histogram histogram;
      histogram.Add(Duration(value));
      histogram.ForEach([value](Duration low, Duration high, uint64_t count) {
        EXPECT_LE(low.count(), value);
        EXPECT_GE(high.count(), value);
        EXPECT_LE(double(high.count() - low.count()), double(low.count()) * Histogram::kErrorBound);
        EXPECT_EQ(count, 1u);
      });
    }
  }
}

TEST(Histogram, AddsUp) {
  Histogram a, b;
  a.Add(Duration(10));
  b.Add(Duration(5'000'000));
  b.Add(Duration(-3));
  a.Add(b);
  EXPECT_EQ(a.count(), 3u);
  EXPECT_EQ(a.min().count(), 0);
  EXPECT_EQ(a.Percentile(50).count(), 10);
  EXPECT_EQ(a.Percentile(100).count(), 5'000'000);
}

TEST(Histogram, NothingIsZero) { EXPECT_EQ(Histogram().Percentile(99).count(), 0); }

}  // namespace
}  // namespace dunlin::cli
