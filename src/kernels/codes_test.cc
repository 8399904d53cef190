// Loops over codes on every SIMD target against plain loops, bit for bit.
#include "kernels/codes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
namespace {

template <class T>
class CodesTest : public testing::Test {};
using Bytes = testing::Types<uint8_t, int8_t>;
TYPED_TEST_SUITE(CodesTest, Bytes);

template <class T>
T CodeOf(float v, int32_t zero) {
  const float lowest = float(std::numeric_limits<T>::lowest() - zero),
              highest = float(std::numeric_limits<T>::max() - zero);
  v = v > lowest ? v : lowest;
  v = v < highest ? v : highest;
  return T(int32_t(std::nearbyint(v)) + zero);
}
float Fused(float a, float b, float c) { return std::fma(a, b, c); }

template <class T>
std::vector<T> RandomCodes(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_int_distribution<int> pick(std::numeric_limits<T>::lowest(),
                                          std::numeric_limits<T>::max());
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = T(pick(rng));
  return v;
}
std::vector<float> RandomFloats(int64_t n, float lo, float hi, uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> pick(lo, hi);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = pick(rng);
  return v;
}

// Around every width and four of them, and nothing.
constexpr int64_t kCounts[] = {0, 1, 7, 15, 16, 31, 33, 64, 100, 255, 257, 1000};
constexpr float kInf = std::numeric_limits<float>::infinity();

TYPED_TEST(CodesTest, QuantisesNumbersTiesAndWhatIsNone) {
  using T = TypeParam;
  // 0.7f * k / 2 are ties, or next to them, after division.
  std::vector<float> x = RandomFloats(700, -200, 200, 1);
  for (int k = -300; k <= 300; ++k) x.push_back(0.7f * float(k) / 2);
  for (const float v : {kInf, -kInf, NAN, -NAN, 0.0f, -0.0f, 1e-45f, 3e38f, -3e38f}) x.push_back(v);
  const auto scales = RandomFloats(int64_t(x.size()), 0.3f, 2, 2);
  const auto codes = RandomCodes<T>(int64_t(x.size()), 3);
  const std::vector<int32_t> zeros(codes.begin(), codes.end());
  ForEachSimdTarget([&](const char* target) {
    for (const int64_t step : {0, 1})
      for (const int64_t first : {int64_t{0}, int64_t(x.size()) - 700}) {
        for (const int64_t n : kCounts) {
          if (first + n > int64_t(x.size())) continue;
          for (const float scale : {0.7f, 1e-3f, 4.0f}) {
            const float* s = step == 0 ? &scale : scales.data();
            std::vector<T> y(size_t(n + 1), T(77));
            QuantizeF32(x.data() + first, n, s, zeros.data(), step, y.data());
            for (int64_t i = 0; i < n; ++i)
              ASSERT_EQ(y[size_t(i)],
                        CodeOf<T>(x[size_t(first + i)] / s[i * step], zeros[size_t(i * step)]))
                  << target << " " << x[size_t(first + i)] << " / " << s[i * step];
            ASSERT_EQ(y[size_t(n)], T(77)) << target << ": written behind the end";
          }
        }
      }
  });
}

TYPED_TEST(CodesTest, DequantisesExactly) {
  using T = TypeParam;
  const auto x = RandomCodes<T>(1000, 1), codes = RandomCodes<T>(1000, 2);
  const auto scales = RandomFloats(1000, 1e-3f, 2, 3);
  const std::vector<int32_t> zeros(codes.begin(), codes.end());
  ForEachSimdTarget([&](const char* target) {
    for (const int64_t step : {0, 1})
      for (const int64_t n : kCounts) {
        std::vector<float> y(size_t(n + 1), 77);
        DequantizeF32(x.data(), n, scales.data(), zeros.data(), step, y.data());
        for (int64_t i = 0; i < n; ++i)
          ASSERT_EQ(y[size_t(i)],
                    float(x[size_t(i)] - zeros[size_t(i * step)]) * scales[size_t(i * step)])
              << target;
        ASSERT_EQ(y[size_t(n)], 77) << target << ": written behind the end";
      }
  });
}

TEST(Codes, RangeContainsZeroAndPassesOverNaN) {
  ForEachSimdTarget([](const char* target) {
    for (const int64_t n : kCounts) {
      auto x = RandomFloats(n, -3, 5, uint32_t(n));
      if (n > 20) x[size_t(n / 2)] = NAN;
      RangeOfF32 expected;
      for (const float v : x) {
        if (v < expected.lowest) expected.lowest = v;
        if (v > expected.highest) expected.highest = v;
      }
      const RangeOfF32 r = RangeF32(x.data(), n);
      EXPECT_EQ(r.lowest, expected.lowest) << target << " " << n;
      EXPECT_EQ(r.highest, expected.highest) << target << " " << n;
      for (float& v : x) v = std::fabs(v) + 1;
      EXPECT_EQ(RangeF32(x.data(), n).lowest, 0) << target;
    }
  });
}

// Whole operands, one constant along rows, one row for all.
TYPED_TEST(CodesTest, AddsAndMultipliesWithRowsOfEveryKind) {
  using T = TypeParam;
  const CodeSum sum = {0.37f, 1.21f, -11.3f};
  const CodeProductOf product = {3, int32_t(std::numeric_limits<T>::max()), 0.013f, 4.5f};
  ForEachSimdTarget([&](const char* target) {
    for (const int64_t cols : {1, 5, 16, 33, 64, 200})
      for (const int64_t rows : {1, 3}) {
        const auto a = RandomCodes<T>(rows * cols, 1), b = RandomCodes<T>(rows * cols, 2);
        const StridedCodes<T> whole = {a.data(), cols, 1};
        for (const StridedCodes<T>& other :
             {StridedCodes<T>{b.data(), cols, 1}, {b.data(), 0, 1}, {b.data(), 1, 0}})
          for (const bool swapped : {false, true}) {
            const auto p = swapped ? other : whole, q = swapped ? whole : other;
            std::vector<T> added(size_t(rows * cols + 1), T(77)), multiplied = added;
            AddCodes(sum, p, q, added.data(), rows, cols);
            MulCodes(product, p, q, multiplied.data(), rows, cols);
            for (int64_t i = 0; i < rows * cols; ++i) {
              const float u = p.data[i / cols * p.row + i % cols * p.col],
                          v = q.data[i / cols * q.row + i % cols * q.col];
              ASSERT_EQ(added[size_t(i)],
                        CodeOf<T>(Fused(u, sum.a_ratio, Fused(v, sum.b_ratio, sum.fixed)), 0))
                  << target;
              const float distances = (u - float(product.a_zero)) * (v - float(product.b_zero));
              ASSERT_EQ(multiplied[size_t(i)],
                        CodeOf<T>(distances * product.ratio + product.fixed, 0))
                  << target;
            }
            ASSERT_EQ(added.back(), T(77)) << target;
            ASSERT_EQ(multiplied.back(), T(77)) << target;
          }
      }
  });
}

// Every pair of codes, with ratios whose sums are rounded in both steps.
TYPED_TEST(CodesTest, SumsAreThoseOfFusedMultiplyAdd) {
  using T = TypeParam;
  std::vector<T> all(256), one(256);
  std::iota(all.begin(), all.end(), std::numeric_limits<T>::lowest());
  ForEachSimdTarget([&](const char* target) {
    for (const CodeSum p : {CodeSum{0.5f, 0.25f, 1.0f}, {0.333333f, 0.5f, 1e-3f}, {2.7f, 0.1f, -9}})
      for (const T b : all) {
        std::vector<T> y(256);
        AddCodes(p, {all.data(), 256, 1}, {&b, 0, 0}, y.data(), 1, 256);
        for (size_t i = 0; i < 256; ++i)
          ASSERT_EQ(y[i], CodeOf<T>(Fused(all[i], p.a_ratio, Fused(b, p.b_ratio, p.fixed)), 0))
              << target << " " << int(all[i]) << " " << int(b);
      }
  });
}

TEST(Codes, MapsEveryCodeByItsTable) {
  const auto table = RandomCodes<uint8_t>(256, 1), x = RandomCodes<uint8_t>(3 * 1000, 2);
  ForEachSimdTarget([&](const char* target) {
    for (const int64_t cols : kCounts) {
      const int64_t stride = cols + 5;  // what lies between the rows stays
      std::vector<uint8_t> y(size_t(2 * stride + cols + 1), 77);
      MapCodes(table.data(), x.data(), cols, y.data(), stride, 3, cols);
      for (int64_t r = 0; r < 3; ++r)
        for (int64_t c = 0; c < stride && r * stride + c < int64_t(y.size()); ++c)
          ASSERT_EQ(y[size_t(r * stride + c)], c < cols ? table[x[size_t(r * cols + c)]] : 77)
              << target;
    }
    std::vector<uint8_t> same = x;  // in place
    MapCodes(table.data(), same.data(), 0, same.data(), 0, 1, int64_t(same.size()));
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(same[i], table[x[i]]) << target;
  });
}

TYPED_TEST(CodesTest, PoolsOverPixels) {
  using T = TypeParam;
  const CodeAverage p = {0.13f, 0.29f, 7, 5, 11};
  ForEachSimdTarget([&](const char* target) {
    for (const int64_t channels : kCounts)
      for (const int64_t count : {0, 1, 9}) {
        const auto x = RandomCodes<T>(channels * 9, 1);
        std::vector<const T*> pixels;
        for (int64_t t = 0; t < count; ++t) pixels.push_back(x.data() + (t * 2 % 9) * channels);
        std::vector<T> most(size_t(channels + 1), T(77)), mean = most;
        MaxCodes(pixels.data(), count, channels, most.data());
        AverageCodes(p, pixels.data(), count, channels, mean.data());
        for (int64_t c = 0; c < channels; ++c) {
          T best = std::numeric_limits<T>::lowest();
          float sum = 0;
          for (const T* pixel : pixels) {
            best = std::max(best, pixel[c]);
            sum += p.x_scale * float(pixel[c] - p.x_zero);
          }
          ASSERT_EQ(most[size_t(c)], best) << target;
          ASSERT_EQ(mean[size_t(c)], CodeOf<T>(sum / p.divisor / p.y_scale + float(p.y_zero), 0))
              << target;
        }
        ASSERT_EQ(most.back(), T(77)) << target;
        ASSERT_EQ(mean.back(), T(77)) << target;
      }
  });
}

// Rows beyond what 16 bits hold.
TYPED_TEST(CodesTest, SumsColumnsAndRows) {
  using T = TypeParam;
  ForEachSimdTarget([](const char* target) {
    for (const int64_t cols : {1, 8, 17, 64, 150})
      for (const int64_t rows : {0, 1, 128, 129, 700}) {
        const int64_t stride = cols + 3;
        auto x = RandomCodes<T>(rows * stride, 1);
        for (size_t i = 0; i < x.size(); i += size_t(stride)) x[i] = T(255);  // 255, or -1
        for (size_t i = 1; i < x.size(); i += size_t(stride)) x[i] = T(128);  // 128, or -128
        std::vector<int32_t> sums(size_t(cols + 1), 77);
        SumCodeColumns(x.data(), stride, rows, cols, sums.data());
        for (int64_t c = 0; c < cols; ++c) {
          int32_t sum = 0;
          for (int64_t r = 0; r < rows; ++r) sum += x[size_t(r * stride + c)];
          ASSERT_EQ(sums[size_t(c)], sum) << target;
        }
        ASSERT_EQ(sums.back(), 77) << target;
        ASSERT_EQ(SumCodes(x.data(), rows * cols),
                  std::accumulate(x.begin(), x.begin() + rows * cols, int64_t{0}))
            << target;
      }
  });
}

}  // namespace
}  // namespace dunlin
