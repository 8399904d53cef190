#include "kernels/code_grouped.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
namespace {

// Codes as far from their zero point as 8 bits allow.
std::vector<int16_t> Codes(int64_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_int_distribution<int> pick(-255, 255);
  std::vector<int16_t> v(static_cast<size_t>(count));
  for (int16_t& x : v) x = int16_t(pick(rng));
  return v;
}

// m pixels under each of three taps, against plain sums.
void ExpectPlainSums(const CodeGroups& g, int64_t m, const char* target) {
  constexpr int64_t kTaps = 3;
  const int64_t pixel = g.groups * g.pairs() * 2;
  const auto x = Codes(kTaps * m * pixel + kCodesPastPixel, 1),
             w = Codes(g.columns() * kTaps * g.channels, 2);
  const auto weight = [&](int64_t t, int64_t k, int64_t n) {
    return w[size_t((n * kTaps + t) * g.channels + k)];
  };
  std::vector<int16_t> packed(size_t(g.packed_codes(kTaps)));
  PackCodeGroups(g, kTaps, weight, packed.data());
  std::vector<const int16_t*> rows;
  for (int64_t r = 0; r < kTaps * m; ++r) rows.push_back(x.data() + r * pixel);
  const int64_t stride = g.vectors() * g.lanes;
  std::vector<int32_t> c(size_t(m * stride));
  CodeGroupArgs a{rows.data(), m, kTaps - 1, m, packed.data(), kTaps, 0, false, c.data(), stride};
  CodeGroupProduct(g, a, 0, g.vectors());
  a.rows += (kTaps - 1) * m;  // the last tap by itself
  a.taps = 1, a.first_tap = kTaps - 1, a.accumulate = true;
  CodeGroupProduct(g, a, 0, g.vectors());
  for (int64_t r = 0; r < m; ++r)
    for (int64_t n = 0; n < g.columns(); ++n) {
      int32_t sum = 0;
      for (int64_t t = 0; t < kTaps; ++t)
        for (int64_t k = 0; k < g.channels; ++k)
          sum += rows[size_t(t * m + r)][n / g.outputs * g.pairs() * 2 + k] * weight(t, k, n);
      ASSERT_EQ(c[size_t(r * stride + n)], sum)
          << target << " groups " << g.groups << " channels " << g.channels << " outputs "
          << g.outputs << " row " << r << " column " << n;
    }
}

TEST(CodeGrouped, EqualsThePlainSumsForEveryGroupWidth) {
  ForEachSimdTarget([](const char* target) {
    for (const int64_t groups : {2, 3, 5, 16, 33})
      for (const int64_t width : {1, 2, 3, 4, 5, 8, 16, 24})
        for (const int64_t m : {1, 11, 12, 13, 25})
          if (const auto g = MakeCodeGroups(groups, width, width)) ExpectPlainSums(*g, m, target);
    for (const int64_t outputs : {1, 2, 6, 20})  // of 7 channels: the last pair has one
      if (const auto g = MakeCodeGroups(6, 7, outputs)) ExpectPlainSums(*g, 5, target);
  });
}

TEST(CodeGrouped, TakesTheWidthsThatNetworksHave) {
  ForEachSimdTarget([](const char* target) {
    for (const int64_t width : {2, 4, 8, 16, 24, 32, 48})
      EXPECT_TRUE(MakeCodeGroups(32, width, width)) << target << " " << width;
    EXPECT_FALSE(MakeCodeGroups(64, 64, 1)) << target;  // the pairs of lanes are far apart
  });
}

}  // namespace
}  // namespace dunlin
