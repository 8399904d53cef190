#include "kernels/code_winograd.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
namespace {

enum class Range { kAny, kLowest, kHighest };

template <class T>
std::vector<T> Codes(int64_t count, int lo, int hi, Range range, uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_int_distribution<int> pick(lo, hi);
  std::vector<T> v(static_cast<size_t>(count));
  for (T& x : v) x = T(range == Range::kLowest ? lo : range == Range::kHighest ? hi : pick(rng));
  return v;
}

struct Case {
  int64_t channels, outputs, tiles;
  Range range = Range::kAny;
  int largest_weight = 255;
};

// Tiles beside each other in one row of tiles: inputs are 4 lines of 2 * tiles + 2 pixels.
template <class Byte>
void ExpectDirectSums(const Case& t, const std::string& what) {
  constexpr bool kSigned = std::is_signed_v<Byte>;
  const int lo = kSigned ? -128 : 0, hi = kSigned ? 127 : 255;
  const int zero = t.range == Range::kLowest ? hi : t.range == Range::kHighest ? lo : lo + 77;
  CodeWinogradShape s;
  s.channels = t.channels;
  s.panels = MakeCodePanels(t.outputs);
  const int64_t columns = 2 * t.tiles + 2, c = t.channels, n = t.outputs;
  const auto x = Codes<Byte>(4 * columns * c, lo, hi, t.range, 1);
  const auto w = Codes<int16_t>(9 * c * n, -t.largest_weight, t.largest_weight, t.range, 2);
  std::vector<const void*> table;
  for (int64_t tile = 0; tile < t.tiles; ++tile)
    for (int64_t i = 0; i < 16; ++i)
      table.push_back(x.data() + (i / 4 * columns + 2 * tile + i % 4) * c);
  std::vector<int16_t> packed(size_t(s.packed_codes()));
  PackCodeWinograd(
      s, 0, s.panels.count,
      [&](int64_t tap, int64_t channel, int64_t o) {
        return w[size_t((tap * c + channel) * n + o)];
      },
      packed.data());
  std::vector<std::byte> scratch(size_t(s.scratch_bytes()));
  std::vector<int32_t> sums(size_t(4 * t.tiles * s.panels.padded()) + 1, 12345);
  CodeWinogradArgs a;
  a.x = table.data();
  a.is_signed = kSigned;
  a.zero = zero;
  a.tiles = t.tiles;
  a.packed = packed.data();
  a.scratch = scratch.data();
  a.sums = sums.data();
  a.sums_stride = s.panels.padded();
  CodeWinogradBlock(s, a);
  for (int64_t p = 0; p < 4 * t.tiles; ++p)
    for (int64_t o = 0; o < n; ++o) {
      int32_t sum = 0;
      for (int64_t tap = 0; tap < 9; ++tap) {
        const int64_t at_y = p % 4 / 2 + tap / 3, at_x = p / 4 * 2 + p % 2 + tap % 3;
        for (int64_t i = 0; i < c; ++i)
          sum += (x[size_t((at_y * columns + at_x) * c + i)] - zero) *
                 w[size_t((tap * c + i) * n + o)];
      }
      ASSERT_EQ(sums[size_t(p * s.panels.padded() + o)], sum)
          << what << ": " << c << " channels, column " << o << " of " << n << ", pixel " << p % 4
          << " of tile " << p / 4;
    }
  EXPECT_EQ(sums.back(), 12345) << what << ": writes behind the last sum";
}

TEST(CodeWinograd, EqualsTheDirectSumsForEveryChannelAndColumnCount) {
  ForEachSimdTarget([](const char* target) {
    for (const int64_t channels : {1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 50, 64})
      for (const int64_t outputs : {1, 15, 33})
        for (const int64_t tiles : {1, 5, 24}) {
          ExpectDirectSums<uint8_t>({channels, outputs, tiles}, target);
          ExpectDirectSums<int8_t>({channels, outputs, tiles}, target);
        }
  });
}

TEST(CodeWinograd, IsExactUpToItsBoundWithTheLargestCodes) {
  EXPECT_TRUE(CodeWinogradFits(917 * 9 * 255));
  EXPECT_FALSE(CodeWinogradFits(918 * 9 * 255));
  EXPECT_TRUE(CodeWinogradFits(1827 * 9 * 128));
  EXPECT_FALSE(CodeWinogradFits(1828 * 9 * 128));
  ForEachSimdTarget([](const char* target) {
    for (const Range range : {Range::kLowest, Range::kHighest})
      for (const auto& [channels, weight] : {std::pair{917, 255}, std::pair{1827, 128}}) {
        ExpectDirectSums<uint8_t>({channels, 2, 2, range, weight}, target);
        ExpectDirectSums<int8_t>({channels, 2, 2, range, weight}, target);
      }
  });
}

}  // namespace
}  // namespace dunlin
