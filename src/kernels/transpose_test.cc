#include "kernels/transpose.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
namespace {

std::vector<uint8_t> Bytes(int64_t n) {
  std::vector<uint8_t> v(static_cast<size_t>(n));
  uint32_t s = 12345;
  for (auto& b : v) b = uint8_t((s = s * 1664525u + 1013904223u) >> 24);
  return v;
}

TEST(Transpose2D, MovesEveryElementOfEverySizeAndLeavesGapsAlone) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    for (const int e : {1, 2, 4, 8})
      for (const int64_t rows : {1, 2, 3, 4, 5, 16, 17, 33, 259})
        for (const int64_t cols : {1, 2, 3, 7, 8, 16, 31, 65, 130}) {
          const int64_t xs = (cols + 1) * e, ys = (rows + (cols % 2)) * e;
          const auto x = Bytes(rows * xs);
          std::vector<uint8_t> y(size_t(cols * ys), 0xA5), want = y;
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < cols; ++c)
              std::memcpy(&want[size_t(c * ys + r * e)], &x[size_t(r * xs + c * e)], size_t(e));
          Transpose2D(x.data(), xs, y.data(), ys, rows, cols, e);
          ASSERT_EQ(y, want) << rows << "x" << cols << " of " << e << " bytes";
        }
  });
}

TEST(Reorder, GoesToChannelsLastAndBackInAnySplit) {
  for (const int e : {1, 2, 4, 8})
    for (const int64_t C : {1, 2, 3, 4, 24, 35})
      for (const int64_t S : {1, 7, 64, 150}) {
        const int64_t N = 3;
        const auto x = Bytes(N * C * S * e);
        std::vector<uint8_t> y(x.size()), back(x.size()), want(x.size());
        for (int64_t n = 0; n < N; ++n)
          for (int64_t c = 0; c < C; ++c)
            for (int64_t s = 0; s < S; ++s)
              std::memcpy(&want[size_t(((n * S + s) * C + c) * e)],
                          &x[size_t(((n * C + c) * S + s) * e)], size_t(e));
        for (int64_t b = 0; b < N * S; b += 100)
          ReorderToChannelsLast(x.data(), y.data(), e, N, C, S, b, std::min(N * S, b + 100));
        EXPECT_EQ(y, want);
        for (int64_t b = 0; b < N * S; b += 33)
          ReorderToRowMajor(y.data(), back.data(), e, N, C, S, b, std::min(N * S, b + 33));
        EXPECT_EQ(back, x);
      }
}

TEST(Reorder, LeavesNothingToDoForEmptyTensors) {
  ReorderToChannelsLast(nullptr, nullptr, 4, 0, 3, 5);
  ReorderToRowMajor(nullptr, nullptr, 4, 2, 3, 0);
}

}  // namespace
}  // namespace dunlin
