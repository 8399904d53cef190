// Products of bf16 on every SIMD target against plain sums of the rounded factors in double.
#include "kernels/bf16_product.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/conv.h"
#include "kernels/simd_targets.h"
#include "tensor/dtype.h"

namespace dunlin {
namespace {

constexpr float kUntouched = 77;

std::vector<float> Random(int64_t count, uint32_t seed) {
  std::vector<float> v(static_cast<size_t>(count));
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> pick(-1, 1);
  for (float& x : v) x = pick(rng);
  return v;
}

double Rounded(float x) { return float(BFloat16(x)); }

std::vector<uint32_t> Packed(const GemmPanels& panels, const GemmSource& source) {
  std::vector<uint32_t> packed(size_t(panels.packed_floats(PairRows(source.taps, source.k))),
                               0xFFFFFFFF);  // NaN where nothing is written
  PackBf16(panels, source, 0, panels.count, packed.data());
  return packed;
}

struct Case {
  int64_t taps, m, k, n;
  int64_t taps_at_once = 1 << 20;
};

// Every row of every tap points to a random place, as a convolution's do. C is wider than n and
// what lies between its rows must stay.
void Check(const Case& c, const ActivationParams& activation = {}, bool residual = false,
           float alpha = 1) {
  SCOPED_TRACE(::testing::Message() << "taps " << c.taps << " m " << c.m << " k " << c.k << " n "
                                    << c.n << " activation " << int(activation.kind));
  constexpr int64_t kSkip = 3;  // floats ahead of the part of a row that is used
  const int64_t stride = c.n + 3;
  const std::vector<float> pool = Random(4096 + kSkip + c.k, 1), b = Random(c.taps * c.k * c.n, 2),
                           bias = Random(c.n, 3), res = Random(c.m * stride, 4);
  std::mt19937 rng(5);
  std::vector<const float*> rows;
  for (int64_t i = 0; i < c.taps * c.m; ++i) rows.push_back(pool.data() + rng() % 4096);
  const GemmPanels panels = MakeGemmPanels(c.n);
  const auto packed = Packed(panels, {b.data(), c.taps, c.k, c.k * c.n, c.n, 1});
  std::vector<float> out(size_t(c.m * stride), kUntouched);
  GemmArgs g;
  g.row_stride = c.m;
  g.a_first = kSkip;
  g.k = c.k;
  g.m = c.m;
  g.pairs = packed.data();
  g.packed_rows = c.taps * c.k;
  g.c = out.data();
  g.c_stride = stride;
  g.epilogue = {alpha, bias.data(), residual ? res.data() : nullptr, stride, activation};
  for (int64_t t = 0; t < c.taps; t += g.taps) {
    g.taps = std::min(c.taps_at_once, c.taps - t);
    g.rows = rows.data() + t * c.m;
    g.first_row = t * c.k;
    g.first = t == 0;
    g.last = t + g.taps == c.taps;
    Gemm(panels, g, 0, panels.count);
  }
  for (int64_t m = 0; m < c.m; ++m)
    for (int64_t n = 0; n < stride; ++n) {
      const float got = out[size_t(m * stride + n)];
      if (n >= c.n) {
        ASSERT_EQ(got, kUntouched) << m << "," << n;
        continue;
      }
      double sum = 0, size = 1;
      for (int64_t t = 0; t < c.taps; ++t)
        for (int64_t k = 0; k < c.k; ++k) {
          const double x = Rounded(rows[size_t(t * c.m + m)][kSkip + k]) *
                           Rounded(b[size_t((t * c.k + k) * c.n + n)]);
          sum += x;
          size += std::fabs(x);
        }
      sum = alpha * sum + bias[size_t(n)];
      if (residual) sum += res[size_t(m * stride + n)];
      ASSERT_NEAR(got, ActivateReference(activation, sum), 2e-6 * size) << m << "," << n;
    }
}

TEST(Bf16Product, MatchesPlainSumsAtOddExtents) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    for (const int64_t m : {1, 2, 5, 6, 7, 13, 29})
      for (const int64_t n : {1, 7, 16, 24, 33, 64, 65, 130})
        for (const int64_t k : {1, 2, 3, 16, 17, 61}) Check({1, m, k, n});
    for (const int64_t taps : {2, 9, 25})
      for (const int64_t k : {1, 4, 5}) Check({taps, 20, k, 18}, {}, true);
  });
}

TEST(Bf16Product, SumsInBlocksOfRowsAndTermsWhenThereAreMany) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    Check({1, 40, 1001, 70}, {Activation::kRelu, 0, 0}, true, 0.5f);
    Check({1, 700, 301, 5}, {}, true);
    Check({1, 1, 40001, 3});  // more pairs than are gathered at once
    Check({9, 43, 101, 70}, {Activation::kSigmoid, 0, 0}, true);
  });
}

TEST(Bf16Product, TakesTapsInSeveralCalls) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    Check({7, 9, 5, 40, 2}, {Activation::kGelu, 0, 0}, true, 0.5f);
    Check({3, 30, 129, 17, 1}, {}, true);
  });
}

TEST(Bf16Product, AppliesEveryActivationAfterBiasAndResidual) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    for (int kind = 0; kind < kActivationCount; ++kind)
      Check({1, 14, 9, 37}, {Activation(kind), kind == 2 ? -0.3f : 0.2f, 0.5f}, true);
  });
}

TEST(Bf16Product, EmptyExtentsAreNoProblem) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    Check({1, 0, 4, 4});
    Check({1, 4, 0, 4});
    Check({1, 4, 4, 0});
  });
}

// Ties go to the even bf16, in both factors; what is beyond the largest becomes infinite; NaN
// stays.
TEST(Bf16Product, RoundsBothFactorsToTheNearestBf16) {
  const float inf = std::numeric_limits<float>::infinity();
  const float values[] = {0x1.01p0f,   0x1.03p0f,    0x1.010002p0f, -0x1.01p0f,
                          0x1.FFp127f, -0x1.FFp127f, 0x1.FEFFp127f, inf};
  const float wanted[] = {1, 0x1.04p0f, 0x1.02p0f, -1, inf, -inf, 0x1.FEp127f, inf};
  ForEachSimdTarget([&](const char* target) {
    for (size_t i = 0; i < std::size(values); ++i)
      for (const bool left : {false, true}) {
        const float one = 1;
        const GemmPanels panels = MakeGemmPanels(1);
        const auto packed = Packed(panels, {left ? &one : &values[i], 1, 1, 0, 1, 1});
        float c = kUntouched;
        GemmArgs g;
        g.m = g.k = g.packed_rows = g.c_stride = 1;
        g.pairs = packed.data();
        g.c = &c;
        GemmStrided(panels, g, left ? &values[i] : &one, 1, 0, panels.count);
        EXPECT_EQ(c, wanted[i]) << target << " " << values[i];
      }
    const float nan[] = {std::bit_cast<float>(0x7F800001u), 1, 1, 1};  // without a quiet bit
    const GemmPanels panels = MakeGemmPanels(1);
    const auto packed = Packed(panels, {nan + 1, 1, 2, 0, 1, 1});
    float c[2];
    GemmArgs g;
    g.m = g.k = g.packed_rows = 2;
    g.pairs = packed.data();
    g.c = c;
    g.c_stride = 1;
    GemmStrided(panels, g, nan, 2, 0, panels.count);
    EXPECT_TRUE(std::isnan(c[0])) << target;
    EXPECT_EQ(c[1], 2) << target;
  });
}

// A convolution with padding gives what the same weights and pixels, rounded ahead, give in f32.
TEST(Bf16Product, ServesConvolutionsInGroups) {
  constexpr int64_t kGroups = 3, kIn = 5, kOut = 20, kTaps = 9, kSize = 7;
  constexpr int64_t kChannels = kGroups * kIn, kOutputs = kGroups * kOut;
  ForEachSimdTarget([&](const char* target) {
    auto x = Random(kSize * kSize * kChannels, 1), w = Random(kGroups * kTaps * kIn * kOut, 2);
    const auto original = x;
    for (float& v : x) v = float(BFloat16(v));
    for (float& v : w) v = float(BFloat16(v));
    const std::vector<float> zeros(kChannels);
    ConvGeometry geometry;
    for (const int axis : {1, 2}) geometry.axis[axis] = {kSize, kSize, 3, 1, 1, 1};
    geometry.pixel_stride = kChannels;
    const GemmPanels panels = MakeGemmPanels(kOut);
    const int64_t floats = panels.packed_floats(kTaps * kIn),
                  pairs = panels.packed_floats(PairRows(kTaps, kIn));
    std::vector<float> packed(size_t(kGroups * floats));
    std::vector<uint32_t> halves(size_t(kGroups * pairs));
    for (int64_t i = 0; i < kGroups; ++i) {
      const GemmSource source = {
          w.data() + i * kTaps * kIn * kOut, kTaps, kIn, kIn * kOut, kOut, 1};
      PackGemm(panels, source, 0, panels.count, packed.data() + i * floats);
      PackBf16(panels, source, 0, panels.count, halves.data() + i * pairs);
    }
    const auto run = [&](GemmArgs g, const std::vector<float>& from, int64_t step) {
      std::vector<float> y(size_t(kSize * kSize * kOutputs));
      g.k = kIn;
      g.packed_rows = kTaps * kIn;
      g.c = y.data();
      g.c_stride = kOutputs;
      ConvIndirectGroups(panels, geometry, from.data(), zeros.data(), g, {kOut, step}, 0,
                         kSize * kSize, 0, kGroups);
      return y;
    };
    GemmArgs f32, bf16;
    f32.packed = packed.data();
    bf16.pairs = halves.data();
    const auto wanted = run(f32, x, floats), got = run(bf16, original, pairs);
    for (size_t i = 0; i < wanted.size(); ++i)
      ASSERT_NEAR(got[i], wanted[i], 1e-5) << target << " " << i;
  });
}

}  // namespace
}  // namespace dunlin
