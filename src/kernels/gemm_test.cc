// The packed product on every SIMD target against a plain sum in double.
#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/block_gemm.h"
#include "kernels/simd_targets.h"
#include "tensor/tensor.h"

namespace dunlin {
namespace {

std::vector<float> Random(int64_t count, uint32_t seed) {
  std::vector<float> v(static_cast<size_t>(count));
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> pick(-1, 1);
  for (float& x : v) x = pick(rng);
  return v;
}

struct Case {
  int64_t taps, m, k, n;
};

// Every row of every tap points to a random place, as a convolution's do. C is wider than n and
// what lies between its rows must stay.
void Check(const Case& c, const ActivationParams& activation, bool bias, bool residual,
           float alpha) {
  SCOPED_TRACE(::testing::Message() << "taps " << c.taps << " m " << c.m << " k " << c.k << " n "
                                    << c.n << " activation " << int(activation.kind));
  constexpr float kUntouched = 77;
  const int64_t stride = c.n + 3;
  const std::vector<float> pool = Random(4096 + c.k, 1), b = Random(c.taps * c.k * c.n, 2),
                           bv = Random(c.n, 3), res = Random(c.m * stride, 4);
  std::mt19937 rng(5);
  std::vector<const float*> rows;
  for (int64_t i = 0; i < c.taps * c.m; ++i) rows.push_back(pool.data() + rng() % 4096);
  const GemmPanels panels = MakeGemmPanels(c.n);
  std::vector<float> packed(size_t(panels.packed_floats(c.taps * c.k)), kUntouched);
  PackGemm(panels, {b.data(), c.taps, c.k, c.k * c.n, c.n, 1}, 0, panels.count, packed.data());
  std::vector<float> out(size_t(c.m * stride), kUntouched);
  GemmArgs g;
  g.rows = rows.data();
  g.row_stride = c.m;
  g.taps = c.taps;
  g.k = c.k;
  g.m = c.m;
  g.packed = packed.data();
  g.packed_rows = c.taps * c.k;
  g.c = out.data();
  g.c_stride = stride;
  g.epilogue = {alpha, bias ? bv.data() : nullptr, residual ? res.data() : nullptr, stride,
                activation};
  Gemm(panels, g, 0, panels.count);
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
          const double x =
              rows[size_t(t * c.m + m)][k] * double(b[size_t((t * c.k + k) * c.n + n)]);
          sum += x;
          size += std::fabs(x);
        }
      sum *= alpha;
      if (bias) sum += bv[size_t(n)];
      if (residual) sum += res[size_t(m * stride + n)];
      ASSERT_NEAR(got, ActivateReference(activation, sum), 2e-6 * size) << m << "," << n;
    }
}

TEST(Gemm, MatchesPlainSumsAtOddExtents) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    for (const int64_t m : {1, 2, 5, 6, 7, 13, 29})
      for (const int64_t n : {1, 7, 16, 24, 33, 64, 65, 130})
        for (const int64_t k : {1, 3, 16, 61}) Check({1, m, k, n}, {}, true, false, 1);
    for (const int64_t taps : {2, 9, 25}) Check({taps, 20, 5, 18}, {}, true, true, 1);
  });
}

TEST(Gemm, FewRowsMatchPlainSumsWhateverTheStreams) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    for (const int64_t m : {1, 2, 3, 4})
      for (const int64_t n : {1, 15, 17, 48, 80, 200})
        for (const int64_t k : {0, 1, 5, 6, 11, 100, 605}) {
          Check({1, m, k, n}, {}, true, false, 1);
          Check({1, m, k, n}, {Activation::kRelu, 0, 0}, false, true, 0.5f);
        }
    for (int kind = 0; kind < kActivationCount; ++kind)
      Check({1, 2, 9, 37}, {Activation(kind), kind == 2 ? -0.3f : 0.2f, 0.5f}, true, true, 1);
  });
}

// Of any number of rows: what lies ahead of the part in A and B is left out, and so are the panels
// outside the range.
TEST(Gemm, TakesAPartOfTheSumAndOfThePanels) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    constexpr int64_t kAll = 50, kK = 40, kSkip = 7, kN = 330;
    const std::vector<float> a = Random(5 * kAll, 1), b = Random(kAll * kN, 2);
    const GemmPanels panels = MakeGemmPanels(kN);
    std::vector<float> packed(size_t(panels.packed_floats(kAll)));
    PackGemm(panels, {b.data(), 1, kAll, 0, kN, 1}, 0, panels.count, packed.data());
    for (const int64_t m : {1, 2, 3, 5}) {
      std::vector<float> c(size_t(m * kN), 77);
      GemmArgs g;
      g.m = m;
      g.k = kK;
      g.a_first = g.first_row = kSkip;
      g.packed = packed.data();
      g.packed_rows = kAll;
      g.c = c.data();
      g.c_stride = kN;
      GemmStrided(panels, g, a.data(), kAll, 1, panels.count - 1);
      const int64_t begin = panels.first_vector(1) * panels.lanes;
      const int64_t end = panels.first_vector(panels.count - 1) * panels.lanes;
      for (int64_t i = 0; i < m * kN; ++i) {
        const int64_t row = i / kN, n = i % kN;
        double sum = 0;
        for (int64_t k = kSkip; k < kSkip + kK; ++k)
          sum += a[size_t(row * kAll + k)] * double(b[size_t(k * kN + n)]);
        ASSERT_NEAR(c[size_t(i)], n < begin || n >= end ? 77 : sum, 1e-5) << row << "," << n;
      }
    }
  });
}

TEST(Gemm, SumsInBlocksWhenTheyAreLong) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    Check({1, 40, 1000, 70}, {Activation::kRelu, 0, 0}, true, true, 0.5f);
    // Around the end of a block.
    for (const int64_t k : {143, 145, 150, 165}) Check({1, 40, k, 70}, {}, true, true, 1);
    Check({9, 40, 100, 70}, {Activation::kRelu, 0, 0}, true, true, 1);
    Check({3, 43, 700, 17}, {Activation::kSigmoid, 0, 0}, true, false, 1);
  });
}

TEST(Gemm, EmptyExtentsAreNoProblem) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    Check({1, 0, 4, 4}, {}, true, false, 1);
    Check({1, 4, 0, 4}, {}, true, false, 1);
    Check({1, 4, 4, 0}, {}, true, false, 1);
  });
}

TEST(Gemm, AppliesEveryActivationAfterBiasAndResidual) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    for (int kind = 0; kind < kActivationCount; ++kind) {
      const ActivationParams p{Activation(kind), kind == 2 ? -0.3f : 0.2f, 0.5f};
      Check({1, 7, 9, 37}, p, true, true, 1);
      Check({1, 50, 900, 37}, p, false, false, 1);
    }
  });
}

TEST(Gemm, NaNAndInfinityArriveInTheirRowsOnly) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  ForEachSimdTarget([&](const char* target) {
    SCOPED_TRACE(target);
    const std::vector<float> a = {nan, 1, inf, 1, 1, 1}, b = {1, 2, 3, 4};  // [3, 2] x [2, 2]
    const GemmPanels panels = MakeGemmPanels(2);
    std::vector<float> packed(size_t(panels.packed_floats(2))), c(6);
    PackGemm(panels, {b.data(), 1, 2, 0, 2, 1}, 0, panels.count, packed.data());
    GemmArgs g;
    g.m = 3;
    g.k = g.packed_rows = 2;
    g.packed = packed.data();
    g.c = c.data();
    g.c_stride = 2;
    g.epilogue.activation = {Activation::kClip, 0, 6};
    GemmStrided(panels, g, a.data(), 2, 0, panels.count);
    EXPECT_TRUE(std::isnan(c[0]) && std::isnan(c[1]));
    EXPECT_EQ(c[2], 6);
    EXPECT_EQ(c[3], 6);
    EXPECT_EQ(c[4], 4);
    EXPECT_EQ(c[5], 6);
  });
}

TEST(GemmSplit, CoversEverythingOnceWhateverTheThreads) {
  for (const int threads : {1, 2, 7, 64})
    for (const int64_t m : {0, 1, 3, 49, 3136, 50176})
      for (const int64_t n : {1, 64, 1000, 4096})
        for (const int64_t k : {0, 3, 576, 9216}) {
          const GemmPanels panels = MakeGemmPanels(n);
          const GemmSplit s = SplitGemm(panels, 1, m, k, 455, threads);
          int64_t area = 0;
          for (int64_t i = 0; i < s.items(); ++i) {
            const GemmSplit::Item item = s.item(i);
            EXPECT_LE(item.m_end - item.m_begin, 455);
            EXPECT_LE(item.m_end, m);
            EXPECT_LE(item.panel_end, panels.count);
            EXPECT_LE(item.panel_begin, item.panel_end);
            area += (item.m_end - item.m_begin) * (item.panel_end - item.panel_begin);
          }
          EXPECT_EQ(area, m * panels.count) << m << " " << n << " " << k << " " << threads;
        }
}

// Every f32 that a half gives; the sums differ in their order alone.
TEST(Gemm, HalvesGiveWhatTheirFloatsGive) {
  ForEachSimdTarget([](const char* target) {
    for (const HalfType type : {HalfType::kBF16, HalfType::kF16})
      for (const int64_t m : {1, 2, 3, 4, 7, 30})
        for (const int64_t n : {1, 8, 33, 70})
          for (const int64_t k : {1, 8, 300, 900}) {
            std::vector<float> b = Random(k * n, 1);
            std::vector<uint16_t> halves;
            for (float& x : b) {
              if (type == HalfType::kBF16) {
                halves.push_back(std::bit_cast<uint16_t>(BFloat16(x)));
                x = float(BFloat16(x));
              } else {
                halves.push_back(std::bit_cast<uint16_t>(Half(x)));
                x = float(Half(x));
              }
            }
            const GemmPanels panels = MakeGemmPanels(n);
            std::vector<uint16_t> packed(size_t(panels.packed_floats(k)));
            PackBlockTable(panels, k, halves.data(), 2, n * 2, 2, 0, panels.count, packed.data());
            const std::vector<float> a = Random(m * k, 2), bias = Random(n, 3),
                                     residual = Random(m * n, 4);
            std::vector<float> c(size_t(m * n));
            GemmArgs g;
            g.k = g.packed_rows = k;
            g.m = m;
            g.halves = packed.data();
            g.half_type = type;
            g.c = c.data();
            g.c_stride = n;
            g.epilogue = {2, bias.data(), residual.data(), n, {Activation::kRelu}};
            GemmStrided(panels, g, a.data(), k, 0, panels.count);
            for (int64_t i = 0; i < m; ++i)
              for (int64_t j = 0; j < n; ++j) {
                double sum = 0, magnitude = 1;
                for (int64_t l = 0; l < k; ++l) {
                  const double product = double(a[size_t(i * k + l)]) * b[size_t(l * n + j)];
                  sum += 2 * product;
                  magnitude += 2 * std::abs(product);
                }
                sum += double(bias[size_t(j)]) + residual[size_t(i * n + j)];
                ASSERT_NEAR(c[size_t(i * n + j)], std::max(0.0, sum),
                            double(k + 4) * 0x1p-23 * magnitude)
                    << target << " m " << m << " n " << n << " k " << k << " type " << int(type);
              }
          }
  });
}

}  // namespace
}  // namespace dunlin
