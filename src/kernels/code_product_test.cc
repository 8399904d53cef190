#include "kernels/code_product.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
namespace {

// Codes as far from their zero point as 8 bits allow, so that sums leave 24 bits.
std::vector<int16_t> Codes(int64_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_int_distribution<int> pick(-255, 255);
  std::vector<int16_t> v(static_cast<size_t>(count));
  for (int16_t& x : v) x = int16_t(pick(rng));
  return v;
}

TEST(CodeProduct, EqualsThePlainSumsForEveryHeightWidthAndDepth) {
  ForEachSimdTarget([](const char* target) {
    for (const int64_t m : {1, 2, 5, 6, 7, 12, 13, 25})
      for (const int64_t n : {1, 7, 31, 32, 33, 70})
        for (const int64_t k : {1, 2, 3, 8, 129})
          for (const int64_t taps : {1, 3}) {
            const int64_t pairs = (k + 1) / 2;
            const CodePanels panels = MakeCodePanels(n);
            const auto b = Codes(taps * k * n, 7);
            std::vector<int16_t> packed(size_t(panels.packed_codes(taps * pairs)));
            PackCodes(
                panels, taps, k, 0, panels.count,
                [&](int64_t t, int64_t i, int64_t c) { return b[size_t((t * k + i) * n + c)]; },
                packed.data());
            auto a = Codes(taps * m * 2 * pairs, 8);
            std::vector<const int16_t*> rows;
            for (int64_t r = 0; r < taps * m; ++r) {
              if (k % 2) a[size_t((r + 1) * 2 * pairs - 1)] = 0;
              rows.push_back(a.data() + r * 2 * pairs);
            }
            CodeProductArgs g;
            g.rows = rows.data();
            g.row_stride = m;
            g.pairs = pairs;
            g.m = m;
            g.packed = packed.data();
            g.packed_pairs = taps * pairs;
            std::vector<int32_t> c(size_t(m * panels.padded()));
            g.c = c.data();
            g.c_stride = panels.padded();
            for (int64_t t = 0; t < taps; ++t) {  // tap by tap: later ones add
              g.rows = rows.data() + t * m;
              g.first_pair = t * pairs;
              g.accumulate = t > 0;
              CodeProduct(panels, g, 0, panels.count);
            }
            for (int64_t r = 0; r < m; ++r)
              for (int64_t x = 0; x < n; ++x) {
                int32_t sum = 0;
                for (int64_t t = 0; t < taps; ++t)
                  for (int64_t i = 0; i < k; ++i)
                    sum += rows[size_t(t * m + r)][i] * b[size_t((t * k + i) * n + x)];
                ASSERT_EQ(c[size_t(r * panels.padded() + x)], sum)
                    << target << " m " << m << " n " << n << " k " << k << " taps " << taps;
              }
          }
  });
}

}  // namespace
}  // namespace dunlin
