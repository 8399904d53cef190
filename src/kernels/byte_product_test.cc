#include "kernels/byte_product.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
namespace {

// Bytes at the ends of their range as often as between them: what saturates in 16 bits shows.
template <class T>
std::vector<T> Extremes(int64_t count, uint32_t seed) {
  constexpr int kLow = std::is_signed_v<T> ? -128 : 0, kHigh = kLow + 255;
  std::mt19937 rng(seed);
  std::uniform_int_distribution<int> pick(kLow, kHigh), kind(0, 3);
  std::vector<T> v(static_cast<size_t>(count));
  for (T& x : v) {
    const int k = kind(rng);
    x = T(k == 0 ? kLow : k == 1 ? kHigh : pick(rng));
  }
  return v;
}

struct Case {
  int64_t m, n, k, taps;
};

// Against CodeProduct of the same codes, tap by tap, which has the zero point subtracted before.
template <class Byte>
void ExpectCodeProduct(const Case& t, const std::string& what) {
  const auto [m, n, k, taps] = t;
  const int32_t zero = std::is_signed_v<Byte> ? -100 : 37;
  const int64_t pairs = (k + 1) / 2, quads = ByteQuads(k);
  const CodePanels panels = MakeCodePanels(n);
  const auto w = Extremes<int8_t>(taps * k * n, 1);
  const auto source = [&, n = n, k = k](int64_t tap, int64_t i, int64_t c) {
    return w[size_t((tap * k + i) * n + c)];
  };
  std::vector<int16_t> packed_codes(size_t(panels.packed_codes(taps * pairs)));
  PackCodes(panels, taps, k, 0, panels.count, source, packed_codes.data());
  std::vector<int8_t> packed(size_t(PackedBytes(panels, taps * quads)));
  std::vector<int32_t> column_sums(static_cast<size_t>(n));
  PackBytes(panels, taps, k, 0, panels.count, source, packed.data(), column_sums.data());

  const auto x = Extremes<Byte>(taps * m * k, 2);  // the last row ends where its memory does
  std::vector<int16_t> codes(size_t(taps * m * 2 * pairs));
  std::vector<const uint8_t*> rows;
  std::vector<const int16_t*> code_rows;
  for (int64_t r = 0; r < taps * m; ++r) {
    rows.push_back(reinterpret_cast<const uint8_t*>(x.data()) + r * k);
    code_rows.push_back(codes.data() + r * 2 * pairs);
    for (int64_t i = 0; i < k; ++i)
      codes[size_t(r * 2 * pairs + i)] = int16_t(x[size_t(r * k + i)] - zero);
  }
  CodeProductArgs e;
  e.rows = code_rows.data();
  e.row_stride = m;
  e.taps = taps;
  e.pairs = pairs;
  e.m = m;
  e.packed = packed_codes.data();
  e.packed_pairs = taps * pairs;
  std::vector<int32_t> expected(size_t(m * panels.padded())), c(expected.size());
  e.c = expected.data();
  e.c_stride = panels.padded();
  CodeProduct(panels, e, 0, panels.count);

  ByteProductArgs g;
  g.row_stride = m;
  g.is_signed = std::is_signed_v<Byte>;
  g.k = k;
  g.m = m;
  g.packed = packed.data();
  g.packed_quads = taps * quads;
  g.c = c.data();
  g.c_stride = panels.padded();
  // The first tap alone, the others added to it together.
  for (const int64_t first : {int64_t{0}, int64_t{1}}) {
    if (first == taps) break;
    g.rows = rows.data() + first * m;
    g.taps = first == 0 ? 1 : taps - 1;
    g.first_quad = first * quads;
    g.accumulate = first > 0;
    ByteProduct(panels, g, 0, panels.count);
  }
  const int32_t shifted = zero + (std::is_signed_v<Byte> ? 128 : 0);
  for (int64_t r = 0; r < m; ++r)
    for (int64_t i = 0; i < n; ++i)
      ASSERT_EQ(c[size_t(r * panels.padded() + i)] - shifted * column_sums[size_t(i)],
                expected[size_t(r * panels.padded() + i)])
          << what << ": row " << r << " of " << m << ", column " << i << " of " << n << ", k " << k
          << ", taps " << taps;
}

void ExpectAll(const std::string& what) {
  for (const int64_t m : {1, 2, 5, 6, 7, 12, 13, 25})
    for (const int64_t n : {1, 15, 31, 32, 33, 70})
      for (const int64_t k : {1, 2, 3, 4, 5, 8, 131})
        for (const int64_t taps : {1, 3}) {
          ExpectCodeProduct<uint8_t>({m, n, k, taps}, what);
          ExpectCodeProduct<int8_t>({m, n, k, taps}, what);
        }
}

TEST(ByteProduct, EqualsTheProductOfWidenedCodes) {
  ForEachSimdTarget([](const char* target) {
    ExpectAll(target + std::string(ByteProductIsFast() ? ", VNNI" : ""));
  });
}

}  // namespace
}  // namespace dunlin
