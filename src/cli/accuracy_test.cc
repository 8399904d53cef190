#include "cli/accuracy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace dunlin::cli {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

Tensor Floats(const Dims& dims, std::initializer_list<float> v) {
  return Tensor::Of<float>(dims, v);
}

TEST(Difference, OfEqualTensorsIsNone) {
  Difference d;
  ASSERT_TRUE(d.Add(Floats({2, 2}, {1, -2, NAN, kInf}), Floats({2, 2}, {1, -2, NAN, kInf})));
  EXPECT_TRUE(d.equal());
  EXPECT_EQ(d.elements(), 2);
  EXPECT_EQ(d.sqnr_db(), kInf);
  EXPECT_EQ(d.cosine(), 1);
  EXPECT_EQ(d.agreement(), 1);
  EXPECT_EQ(SqnrText(d), "equal");
}

TEST(Difference, IsSummedOverTensors) {
  Difference d;
  ASSERT_TRUE(d.Add(Floats({2}, {3, 4}), Floats({2}, {3, 4.5f})));
  ASSERT_TRUE(d.Add(Floats({2}, {0, -5}), Floats({2}, {0.25f, -5})));
  EXPECT_EQ(d.elements(), 4);
  EXPECT_DOUBLE_EQ(d.max_error(), 0.5);
  EXPECT_DOUBLE_EQ(d.mean_error(), 0.75 / 4);
  EXPECT_DOUBLE_EQ(d.max_relative(), 0.5 / 5);
  EXPECT_DOUBLE_EQ(d.mean_relative(), 0.75 / 12);
  EXPECT_NEAR(d.sqnr_db(), 10 * std::log10(50 / (0.25 + 0.0625)), 1e-12);
  const double squares_b = 9 + 20.25 + 0.0625 + 25;
  EXPECT_NEAR(d.cosine(), (9 + 18 + 25) / std::sqrt(50 * squares_b), 1e-12);
}

TEST(Difference, CountsWhatIsFiniteInOneOnly) {
  Difference d;
  ASSERT_TRUE(d.Add(Floats({4}, {NAN, kInf, 1, kInf}), Floats({4}, {0, -kInf, NAN, kInf})));
  EXPECT_EQ(d.non_finite(), 3);
  EXPECT_EQ(d.elements(), 0);
  EXPECT_FALSE(d.equal());
}

TEST(Difference, TiesAndNaNDoNotDisturbTheBest) {
  Difference d;
  // The best of b is one of a's best; it is another; b's row begins with NaN.
  ASSERT_TRUE(d.Add(Floats({3, 3}, {1, 5, 5, 1, 5, 4, 7, 2, 1}),
                    Floats({3, 3}, {1, 4, 5, 1, 2, 4, NAN, 3, 1})));
  EXPECT_EQ(d.rows(), 3);
  EXPECT_EQ(d.agreed(), 1);
  EXPECT_EQ(d.rows_of_five(), 0);
}

TEST(Difference, TheBestMayBeAmongTheFiveBest) {
  Difference d;
  ASSERT_TRUE(d.Add(Floats({2, 6}, {9, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0}),
                    Floats({2, 6}, {2, 3, 4, 5, 6, 1, 1, 3, 4, 5, 6, 2})));
  EXPECT_EQ(d.rows_of_five(), 2);
  EXPECT_EQ(d.in_five(), 1);
  EXPECT_EQ(d.agreed(), 0);
}

TEST(Difference, TakesAnyNumbersButNoOtherExtents) {
  Difference d;
  ASSERT_TRUE(d.Add(Tensor::Of<int64_t>({2}, {1, 2}), Floats({2}, {1, 2})));
  EXPECT_TRUE(d.equal());
  EXPECT_EQ(d.Add(Floats({2}, {1, 2}), Floats({2, 1}, {1, 2})).error().code,
            Code::kInvalidArgument);
  const Tensor words = Tensor::Create(DType::kString, {1}).value();
  EXPECT_EQ(d.Add(words, words).error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin::cli
