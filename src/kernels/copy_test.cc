#include "kernels/copy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace dunlin {
namespace {

struct Case {
  const char* what;
  Dims dims, x_strides, y_strides;
  int64_t x_count, x_offset, y_count;
};

// The definition, one element at a time.
void Plain(const Case& c, const uint8_t* x, uint8_t* y, int e) {
  const int64_t n = CountOf(c.dims);
  for (int64_t i = 0; i < n; ++i) {
    int64_t rest = i, xo = c.x_offset, yo = 0;
    for (size_t a = c.dims.size(); a-- > 0; rest /= c.dims[a]) {
      xo += rest % c.dims[a] * c.x_strides[a];
      yo += rest % c.dims[a] * c.y_strides[a];
    }
    std::memcpy(y + yo * e, x + xo * e, size_t(e));
  }
}

void Check(const Case& c) {
  for (const int e : {1, 2, 4, 8}) {
    std::vector<uint8_t> x(size_t(c.x_count * e));
    std::mt19937 rng(7);
    for (auto& b : x) b = uint8_t(rng());
    std::vector<uint8_t> want(size_t(c.y_count * e), 0xEE), got = want, split = want;
    Plain(c, x.data(), want.data(), e);
    const StridedCopy copy(c.dims, c.x_strides, c.y_strides, e);
    EXPECT_EQ(copy.bytes(), CountOf(c.dims) * e);
    copy.Run(x.data() + c.x_offset * e, got.data());
    EXPECT_EQ(got, want) << c.what << ", " << e << " bytes";
    for (int64_t u = 0; u < copy.units(); u += 3)
      copy.Run(x.data() + c.x_offset * e, split.data(), u, std::min(copy.units(), u + 3));
    EXPECT_EQ(split, want) << c.what << " in parts, " << e << " bytes";
  }
}

TEST(StridedCopy, CopiesWhatItsStridesSay) {
  const Case cases[] = {
      {"one element", {}, {}, {}, 1, 0, 1},
      {"block", {5, 7}, {7, 1}, {7, 1}, 35, 0, 35},
      {"large block", {300, 700}, {700, 1}, {700, 1}, 210000, 0, 210000},
      {"runs", {5, 7}, {9, 1}, {7, 1}, 45, 0, 35},
      {"runs of two", {5, 2}, {9, 1}, {2, 1}, 45, 0, 10},
      {"long runs", {5, 700}, {900, 1}, {1000, 1}, 4500, 0, 5000},
      {"plane", {19, 37}, {1, 19}, {37, 1}, 703, 0, 703},
      {"plane of pairs", {19, 37, 2}, {2, 38, 1}, {74, 2, 1}, 1406, 0, 1406},
      {"heads", {2, 3, 5, 8}, {120, 8, 24, 1}, {120, 40, 8, 1}, 240, 0, 240},
      {"planes inside", {3, 5, 4, 6}, {120, 1, 30, 5}, {120, 24, 6, 1}, 360, 0, 360},
      {"fill", {6, 5}, {0, 0}, {5, 1}, 1, 0, 30},
      {"long fill", {512, 1024}, {0, 0}, {1024, 1}, 1, 0, 512 * 1024},
      {"broadcast rows", {6, 5}, {0, 1}, {5, 1}, 5, 0, 30},
      {"broadcast columns", {6, 5}, {1, 0}, {5, 1}, 6, 0, 30},
      {"backwards", {6, 5}, {-5, -1}, {5, 1}, 30, 29, 30},
      {"every second", {6, 5}, {20, 2}, {5, 1}, 120, 0, 30},
      {"scattered", {6, 5}, {5, 1}, {15, 3}, 30, 0, 90},
      {"channels to last", {2, 5, 3, 4}, {60, 12, 4, 1}, {60, 1, 20, 5}, 120, 0, 120},
      {"empty", {3, 0, 2}, {2, 2, 1}, {2, 2, 1}, 1, 0, 1},
      {"twelve extents",
       {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2},
       {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048},
       {2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2, 1},
       4096,
       0,
       4096},
  };
  for (const Case& c : cases) Check(c);
}

TEST(StridedCopy, AgreesWithTheDefinitionOnRandomPermutationsOfSubBoxes) {
  std::mt19937 rng(3);
  for (int trial = 0; trial < 200; ++trial) {
    const int rank = 1 + int(rng() % 5);
    std::vector<int> perm(static_cast<size_t>(rank));
    for (int i = 0; i < rank; ++i) perm[size_t(i)] = i;
    std::shuffle(perm.begin(), perm.end(), rng);
    Case c{"random", Dims(size_t(rank), 0), Dims(size_t(rank), 0), Dims(size_t(rank), 0), 1, 0, 1};
    for (auto& d : c.dims) d = 1 + int64_t(rng() % 9);
    // x has gaps, y is a permutation without any.
    for (int i = rank - 1; i >= 0; --i) {
      c.x_strides[size_t(i)] = c.x_count;
      c.x_count *= c.dims[size_t(i)] + int64_t(rng() % 3);
    }
    for (int i = rank - 1; i >= 0; --i) {
      const auto a = size_t(perm[size_t(i)]);
      c.y_strides[a] = c.y_count;
      c.y_count *= c.dims[a];
    }
    Check(c);
  }
}

}  // namespace
}  // namespace dunlin
