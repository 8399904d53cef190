// The harness itself: what it must notice.
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

TEST(NearTest, TellsValuesTypesAndExtentsApart) {
  const Tensor a = Tensor::Of<float>({2}, {1, NAN});
  EXPECT_TRUE(Near(a, Tensor::Of<float>({2}, {1, NAN})));
  EXPECT_FALSE(Near(a, Tensor::Of<float>({2}, {1, 2})));
  EXPECT_FALSE(Near(a, Tensor::Of<float>({1, 2}, {1, NAN})));
  EXPECT_FALSE(Near(a, Tensor::Of<double>({2}, {1, NAN})));
  EXPECT_FALSE(Near(Tensor::Scalar(INFINITY), Tensor::Scalar(-INFINITY), {.abs = 1, .rel = 1}));
  EXPECT_TRUE(Near(Tensor::Scalar(1.0f), Tensor::Scalar(1.5f), {.abs = 0.5}));
}

TEST(RelayoutTest, PutsChannelsLastAndBack) {
  const Tensor t = Tensor::Of<float>({1, 2, 3}, {0, 1, 2, 10, 11, 12});
  const Tensor last = Relayout(t, Layout::kChannelsLast);
  EXPECT_EQ(std::vector<float>(last.as<float>(), last.as<float>() + 6),
            (std::vector<float>{0, 10, 1, 11, 2, 12}));
  EXPECT_TRUE(Near(Relayout(last, Layout::kRowMajor), t));
}

TEST(ForEachSimdTargetTest, VisitsAtLeastOneTarget) {
  int count = 0;
  ForEachSimdTarget([&](const char*) { ++count; });
  EXPECT_GE(count, 1);
}

}  // namespace
}  // namespace dunlin::testing
