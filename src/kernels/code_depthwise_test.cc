#include "kernels/code_depthwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
namespace {

// Codes and weights at the ends of their ranges as often as between them.
template <class T>
std::vector<T> Extremes(int64_t count, int lo, int hi, uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_int_distribution<int> pick(lo, hi), kind(0, 3);
  std::vector<T> v(static_cast<size_t>(count));
  for (T& x : v) {
    const int k = kind(rng);
    x = T(k == 0 ? lo : k == 1 ? hi : pick(rng));
  }
  return v;
}

// Strips below each other; the pixels of each input row stand in their own allocation, so that what
// is read behind the channels of its last pixel leaves it.
template <class Byte>
void ExpectPlainSums(const CodeDepthwiseShape& s, int64_t strips, int64_t pixels,
                     const std::string& what) {
  constexpr bool kSigned = std::is_signed_v<Byte>;
  const int64_t columns = s.columns(pixels), c = s.channels, taps = s.rows * s.taps;
  std::vector<std::vector<Byte>> x;
  std::vector<const void*> table;
  for (int64_t r = 0; r < s.rows + strips - 1; ++r) {
    x.push_back(Extremes<Byte>(columns * c, kSigned ? -128 : 0, kSigned ? 127 : 255, uint32_t(r)));
    for (int64_t j = 0; j < columns; ++j) table.push_back(x.back().data() + j * c);
  }
  const auto w = Extremes<int16_t>(taps * c, -255, 255, 77);
  const auto start = Extremes<int32_t>(c, -1000000, 1000000, 78);
  std::vector<int16_t> packed(size_t(CodeDepthwisePackedCodes(s)));
  PackCodeDepthwise(s, w.data(), packed.data());
  std::vector<int32_t> sums(size_t(strips * pixels * c) + 1, 12345);
  CodeDepthwiseArgs g;
  g.x = table.data();
  g.x_stride = g.strip_stride = columns;
  g.is_signed = kSigned;
  g.packed = packed.data();
  g.start = start.data();
  g.strips = strips;
  g.pixels = pixels;
  g.sums_stride = c;
  for (int64_t begin = 0; begin < c; begin += kCodeDepthwiseBlock) {
    g.sums = sums.data() + begin;
    CodeDepthwise(s, g, begin, std::min(begin + kCodeDepthwiseBlock, c));
  }
  for (int64_t p = 0; p < strips * pixels; ++p)
    for (int64_t i = 0; i < c; ++i) {
      int32_t sum = start[size_t(i)];
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t column = p % pixels * s.stride + t % s.taps * s.dilation;
        sum += x[size_t(p / pixels + t / s.taps)][size_t(column * c + i)] * w[size_t(t * c + i)];
      }
      ASSERT_EQ(sums[size_t(p * c + i)], sum)
          << what << ": channel " << i << " of " << c << ", pixel " << p << " of " << strips
          << " x " << pixels << ", kernel " << s.rows << "x" << s.taps << ", stride " << s.stride;
    }
  EXPECT_EQ(sums.back(), 12345) << what << ": writes behind the last sum";
  // All blocks at once give the same.
  std::vector<int32_t> again(sums.size(), 12345);
  g.sums = again.data();
  CodeDepthwise(s, g, 0, c);
  EXPECT_EQ(again, sums) << what;
}

TEST(CodeDepthwise, EqualsThePlainSumsForEveryKernelAndWidth) {
  const CodeDepthwiseShape kernels[] = {
      {1, 3, 3, 1, 1}, {1, 3, 3, 2, 1}, {1, 5, 5, 1, 1}, {1, 5, 5, 2, 1}, {1, 3, 3, 1, 2},
      {1, 3, 3, 3, 1}, {1, 1, 1, 1, 1}, {1, 1, 9, 1, 1}, {1, 4, 1, 1, 1}, {1, 7, 7, 1, 1},
      {1, 2, 2, 2, 1}, {1, 9, 3, 2, 1}, {1, 5, 3, 1, 1}, {1, 3, 4, 1, 1}};
  ForEachSimdTarget([&](const char* target) {
    for (CodeDepthwiseShape s : kernels)
      for (const int64_t channels : {1, 3, 7, 8, 9, 16, 17, 24, 31, 32, 40, 63, 72, 145})
        for (const int64_t pixels : {1, 2, 3, 4, 7, 12}) {
          s.channels = channels;
          ExpectPlainSums<uint8_t>(s, 1 + pixels % 3, pixels, target);
          ExpectPlainSums<int8_t>(s, 1 + pixels % 3, pixels, target);
        }
  });
}

TEST(CodeDepthwise, PixelsOutsideTheImageArePixelsOfZeros) {
  const char line[6] = {}, zeros[2] = {};
  const void* at[5];
  FillCodePixels(line, 3, 2, -1, 5, zeros, at);
  EXPECT_EQ(at[0], zeros);
  EXPECT_EQ(at[1], line);
  EXPECT_EQ(at[3], line + 4);
  EXPECT_EQ(at[4], zeros);
  FillCodePixels(nullptr, 3, 2, 0, 1, zeros, at);
  EXPECT_EQ(at[0], zeros);
}

TEST(CodeDepthwise, NoPixelsGiveNoSums) {
  CodeDepthwise({16, 3, 3, 1, 1}, {}, 0, 16);  // touches nothing
}

}  // namespace
}  // namespace dunlin
