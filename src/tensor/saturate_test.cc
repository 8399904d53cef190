#include "tensor/saturate.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace dunlin {
namespace {

template <class T>
class SaturateCastTest : public testing::Test {};
using Integers = testing::Types<int8_t, uint8_t, int32_t, uint32_t, int64_t, uint64_t>;
TYPED_TEST_SUITE(SaturateCastTest, Integers);

TYPED_TEST(SaturateCastTest, EveryNumberHasAnInteger) {
  using Limits = std::numeric_limits<TypeParam>;
  EXPECT_EQ(SaturateCast<TypeParam>(41.9), TypeParam(41));
  EXPECT_EQ(SaturateCast<TypeParam>(NAN), TypeParam(0));
  EXPECT_EQ(SaturateCast<TypeParam>(double(Limits::max())), Limits::max());
  for (const double large : {1e19 * 2, 1e300, HUGE_VAL}) {
    EXPECT_EQ(SaturateCast<TypeParam>(large), Limits::max());
    EXPECT_EQ(SaturateCast<TypeParam>(-large), Limits::lowest());
  }
}

}  // namespace
}  // namespace dunlin
