#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace dunlin {
namespace {

TEST(Half, EveryBitPatternSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    Half h;
    h.bits = uint16_t(bits);
    const float f = float(h);
    if (std::isnan(f))
      ASSERT_TRUE(std::isnan(float(Half(f))));
    else
      ASSERT_EQ(Half(f).bits, h.bits) << bits;
  }
}

TEST(Half, RoundsToNearestEvenAndSaturatesToInfinity) {
  EXPECT_EQ(float(Half(1.0f + 1.0f / 2048)), 1.0f);                // half way, even below
  EXPECT_EQ(float(Half(1.0f + 3.0f / 2048)), 1.0f + 2.0f / 1024);  // half way, even above
  EXPECT_EQ(float(Half(65519.0f)), 65504.0f);
  EXPECT_TRUE(std::isinf(float(Half(65520.0f))));
  EXPECT_EQ(float(Half(std::ldexp(1.0f, -25))), 0.0f);
  EXPECT_EQ(float(Half(std::ldexp(1.5f, -25))), std::ldexp(1.0f, -24));
}

TEST(BFloat16, RoundsToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(float(BFloat16(1.0f + 1.0f / 256)), 1.0f);
  EXPECT_EQ(float(BFloat16(1.0f + 3.0f / 256)), 1.0f + 2.0f / 128);
  EXPECT_TRUE(std::isnan(float(BFloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(float(BFloat16(std::numeric_limits<float>::max()))));
}

TEST(Dims, GrowsPastItsInlineSpaceAndBack) {
  Dims d;
  for (int64_t i = 0; i < 20; ++i) d.push_back(i);
  ASSERT_EQ(d.rank(), 20);
  EXPECT_EQ(d[19], 19);
  d.insert(3, 100);
  EXPECT_EQ(d[3], 100);
  EXPECT_EQ(d[4], 3);
  d.erase(3);
  d.resize(5);
  EXPECT_EQ(d, (Dims{0, 1, 2, 3, 4}));
}

TEST(ElementCount, RefusesNegativeAndOverflowingExtents) {
  EXPECT_EQ(ElementCount(Dims{}), 1);
  EXPECT_EQ(ElementCount(Dims{3, 0, 5}), 0);
  EXPECT_EQ(ElementCount(Dims{3, -1}), std::nullopt);
  EXPECT_EQ(ElementCount(Dims{int64_t{1} << 40, int64_t{1} << 40}), std::nullopt);
}

TEST(Broadcast, FollowsNumpyAndKeepsSymbols) {
  EXPECT_EQ(Broadcast(Dims{2, 1, 3}, Dims{4, 1}), (Dims{2, 4, 3}));
  EXPECT_EQ(Broadcast(Dims{2}, Dims{3}), std::nullopt);
  const int64_t s = SymbolDim(0);
  EXPECT_EQ(Broadcast(Dims{s, 1}, Dims{1, 5}), (Dims{s, 5}));
  EXPECT_EQ(Broadcast(Dims{s}, Dims{s}), (Dims{s}));
  EXPECT_EQ(Broadcast(Dims{s}, Dims{7}), (Dims{7}));
  EXPECT_EQ(Broadcast(Dims{s}, Dims{SymbolDim(1)}), (Dims{kUnknownDim}));
}

TEST(Tensor, CreateRefusesWhatNoMachineHas) {
  EXPECT_FALSE(Tensor::Create(DType::kF32, {-1}).has_value());
  EXPECT_FALSE(Tensor::Create(DType::kF32, {int64_t{1} << 50}).has_value());
}

TEST(Tensor, CopiesShareAndClonesDoNot) {
  const Tensor a = Tensor::Of<float>({2}, {1, 2});
  const Tensor b = a;
  const Tensor c = *a.Clone();
  a.mut<float>()[0] = 9;
  EXPECT_EQ(b.as<float>()[0], 9);
  EXPECT_EQ(c.as<float>()[0], 1);
}

TEST(Convert, TruncatesFloatsAndMapsTruth) {
  const Tensor f = Tensor::Of<float>({4}, {-1.7f, 0, 2.9f, 300});
  EXPECT_EQ(*ToInts(*Convert(f, DType::kI64)), (std::vector<int64_t>{-1, 0, 2, 300}));
  EXPECT_EQ(*ToInts(*Convert(f, DType::kBool)), (std::vector<int64_t>{1, 0, 1, 1}));
  EXPECT_FALSE(ToInts(f).has_value());
}

TEST(DType, NamesAndSizesAgree) {
  for (int t = int(DType::kF32); t <= int(DType::kF8E5M2FNUZ); ++t)
    EXPECT_EQ(*ParseDType(DTypeName(DType(t))), DType(t));
  EXPECT_FALSE(ParseDType("float").has_value());
  EXPECT_EQ(ByteSize(DType::kI4, 3), 2);
}

}  // namespace
}  // namespace dunlin
