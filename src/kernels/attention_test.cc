#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Rows {
  int64_t rows, n, stride = (n + ScoreLanes() - 1) / ScoreLanes() * ScoreLanes();
  std::vector<float> x = std::vector<float>(size_t(rows * stride), 1e30f),
                     factors = std::vector<float>(size_t(rows));
  float& at(int64_t r, int64_t i) { return x[size_t(r * stride + i)]; }
  void Run() { ExponentialRowsF32(x.data(), stride, rows, n, factors.data()); }
};

TEST(ExponentialRows, TimesTheirFactorAreTheSoftmax) {
  ForEachSimdTarget([](const char* target) {
    std::mt19937 rng{7};
    std::uniform_real_distribution<float> number(-30, 30);
    for (const int64_t n : {1, 3, 7, 8, 16, 17, 31, 32, 33, 64, 197}) {
      SCOPED_TRACE(testing::Message() << target << " n " << n);
      Rows rows{5, n};
      for (int64_t r = 0; r < 5; ++r)
        for (int64_t i = 0; i < n; ++i) rows.at(r, i) = i % 5 == 4 ? -1e9f : number(rng);
      Rows got = rows;
      got.Run();
      for (int64_t r = 0; r < 5; ++r) {
        double largest = -HUGE_VAL, sum = 0;
        for (int64_t i = 0; i < n; ++i) largest = std::fmax(largest, double(rows.at(r, i)));
        for (int64_t i = 0; i < n; ++i) sum += std::exp(double(rows.at(r, i)) - largest);
        for (int64_t i = 0; i < n; ++i) {
          const double want = std::exp(double(rows.at(r, i)) - largest) / sum;
          // Differences up to 60 are rounded to 2^-19.
          ASSERT_NEAR(got.at(r, i) * got.factors[size_t(r)], want, 4e-6 * want + 1e-37);
          if (rows.at(r, i) == -1e9f) {
            ASSERT_EQ(got.at(r, i), 0);
          }
        }
      }
    }
  });
}

TEST(ExponentialRows, GiveAFactorOfNaNForRowsWithoutASoftmax) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    constexpr int64_t kCount = 19;
    for (const int64_t at : {0, 5, 18})
      for (const float odd : {std::nanf("1"), kInf}) {
        Rows rows{3, kCount};
        for (int64_t r = 0; r < 3; ++r)
          for (int64_t i = 0; i < kCount; ++i) rows.at(r, i) = float(i);
        rows.at(1, at) = odd;
        for (int64_t i = 0; i < kCount; ++i) rows.at(2, i) = -kInf;
        rows.Run();
        EXPECT_TRUE(std::isfinite(rows.factors[0]));
        EXPECT_TRUE(std::isnan(rows.factors[1])) << odd << " at " << at;
        EXPECT_TRUE(std::isnan(rows.factors[2]));
      }
  });
}

TEST(ScaleRows, MultipliesEveryRowAndLeavesGapsAlone) {
  ForEachSimdTarget([](const char* target) {
    for (const int64_t n : {1, 5, 8, 16, 33}) {
      SCOPED_TRACE(testing::Message() << target << " n " << n);
      const int64_t stride = n + 3;
      std::vector<float> y(size_t(2 * stride), 2.0f), want = y;
      const float factors[] = {0.5f, 3};
      for (int64_t r = 0; r < 2; ++r)
        for (int64_t i = 0; i < n; ++i) want[size_t(r * stride + i)] *= factors[r];
      ScaleRowsF32(y.data(), stride, 2, n, factors);
      EXPECT_EQ(y, want);
    }
  });
}

}  // namespace
}  // namespace dunlin
