#include "tensor/tensor.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <limits>

namespace dunlin {
namespace {

TEST(MapFile, RefusesANamedPipeWithoutWaiting) {
  const std::string path = testing::TempDir() + "pipe" + std::to_string(::getpid());
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const auto file = Buffer::MapFile(path);
  ::unlink(path.c_str());
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().message.find("not a regular file"), std::string::npos);
}

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

// ---- Narrow types: expected codes are from the tables of ONNX's Cast and its pages on f8 and f4
// ----

constexpr DType kFloat8s[] = {DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2,
                              DType::kF8E5M2FNUZ};

TEST(Narrow, EveryCodeSurvivesTheRoundTrip) {
  for (int t = int(DType::kI4); t < kDTypeCount; ++t)
    for (int code = 0; code < 1 << DTypeBits(DType(t)); ++code) {
      const double v = DecodeNarrow(DType(t), uint8_t(code));
      const uint8_t back = EncodeNarrow(DType(t), v, {.overflow = Overflow::kSpecial});
      if (std::isnan(v))
        EXPECT_TRUE(std::isnan(DecodeNarrow(DType(t), back))) << DTypeName(DType(t)) << code;
      else
        EXPECT_EQ(back, code) << DTypeName(DType(t));
    }
}

TEST(Narrow, EightBitFloatsRoundToTheNearestOfTheirValues) {
  for (const DType t : kFloat8s) {
    std::vector<double> values;
    for (int code = 0; code < 128; ++code)
      if (const double v = DecodeNarrow(t, uint8_t(code)); std::isfinite(v)) values.push_back(v);
    for (size_t i = 0; i + 1 < values.size(); ++i) {
      const double middle = (values[i] + values[i + 1]) / 2;
      EXPECT_EQ(EncodeNarrow(t, middle), i % 2 == 0 ? i : i + 1) << DTypeName(t);  // ties: even
      EXPECT_EQ(EncodeNarrow(t, std::nextafter(middle, 0)), i) << DTypeName(t);
      EXPECT_EQ(EncodeNarrow(t, std::nextafter(middle, 1e9)), i + 1) << DTypeName(t);
    }
  }
}

TEST(Narrow, WhatIsTooLargeSaturatesOrBecomesSpecial) {
  const double inf = std::numeric_limits<double>::infinity();
  const struct {
    DType type;
    uint8_t largest;
    uint8_t special;
  } rows[] = {{DType::kF8E4M3FN, 0x7e, 0x7f},
              {DType::kF8E4M3FNUZ, 0x7f, 0x80},
              {DType::kF8E5M2, 0x7b, 0x7c},
              {DType::kF8E5M2FNUZ, 0x7f, 0x80}};
  const double largest[] = {448, 240, 57344, 57344};
  for (size_t i = 0; i < std::size(rows); ++i) {
    const auto& [t, code, special] = rows[i];
    EXPECT_EQ(DecodeNarrow(t, code), largest[i]);
    for (const double v : {1e6, 1e30, inf}) {
      EXPECT_EQ(EncodeNarrow(t, v), code);
      EXPECT_EQ(EncodeNarrow(t, -v), code | 0x80);
      EXPECT_EQ(EncodeNarrow(t, v, {.overflow = Overflow::kSpecial}), special);
      EXPECT_EQ(EncodeNarrow(t, -v, {.overflow = Overflow::kSpecial}), special | 0x80);
    }
    // Rounded first: just above the largest is still the largest.
    EXPECT_EQ(EncodeNarrow(t, largest[i] * 1.01, {.overflow = Overflow::kSpecial}), code);
  }
}

TEST(Narrow, ZeroKeepsItsSignWhereTheTypeHasOne) {
  for (const DType t : kFloat8s) {
    const bool signed_zero = t == DType::kF8E4M3FN || t == DType::kF8E5M2;
    for (const double v : {-0.0, -1e-9}) EXPECT_EQ(EncodeNarrow(t, v), signed_zero ? 0x80 : 0);
  }
  EXPECT_EQ(EncodeNarrow(DType::kF4E2M1, -0.0), 8);
}

TEST(Narrow, FourBitFloatsSaturateAndMakeNaNSix) {
  const double in[] = {0.48, 0.25, 1.05, -3.5, -8, 9, 1e6, 1e-7, -4, 0.01, 5, 2.5, 0.75};
  const double out[] = {0.5, 0, 1, -4, -6, 6, 6, 0, -4, 0, 4, 2, 1};
  for (size_t i = 0; i < std::size(in); ++i)
    EXPECT_EQ(DecodeNarrow(DType::kF4E2M1, EncodeNarrow(DType::kF4E2M1, in[i])), out[i]) << in[i];
  EXPECT_EQ(EncodeNarrow(DType::kF4E2M1, std::numeric_limits<double>::quiet_NaN()), 7);
  EXPECT_EQ(EncodeNarrow(DType::kF4E2M1, -std::numeric_limits<double>::infinity()), 15);
}

TEST(Narrow, PowersOfTwoRoundAsTold) {
  const auto code = [](double v, RoundMode mode, Overflow o = Overflow::kSaturate) {
    return EncodeNarrow(DType::kF8E8M0, v, {o, mode});
  };
  EXPECT_EQ(code(1, RoundMode::kUp), 127);
  EXPECT_EQ(code(1.1, RoundMode::kUp), 128);
  EXPECT_EQ(code(0.124, RoundMode::kUp), 124);
  EXPECT_EQ(code(1.9, RoundMode::kDown), 127);
  EXPECT_EQ(code(1.49, RoundMode::kNearest), 127);
  EXPECT_EQ(code(1.5, RoundMode::kNearest), 128);
  const double inf = std::numeric_limits<double>::infinity();
  for (const double v : {0.0, std::ldexp(1, -130)}) {
    EXPECT_EQ(code(v, RoundMode::kUp), 0);
    EXPECT_EQ(code(v, RoundMode::kNearest, Overflow::kSpecial), 255);
  }
  for (const double v : {inf, std::ldexp(1, 128), std::ldexp(1.99, 127)}) {
    EXPECT_EQ(code(v, RoundMode::kUp), 254);
    EXPECT_EQ(code(v, RoundMode::kNearest, Overflow::kSpecial), 255);
  }
  EXPECT_EQ(code(std::nan(""), RoundMode::kUp), 255);
}

TEST(Convert, PackedIntegersKeepLowBits) {
  const Tensor wide = Tensor::Of<int64_t>({5}, {-9, 7, 8, 17, (int64_t{1} << 60) + 5});
  EXPECT_EQ(*ToInts(*Convert(wide, DType::kI4)), (std::vector<int64_t>{7, 7, -8, 1, 5}));
  EXPECT_EQ(*ToInts(*Convert(wide, DType::kU4)), (std::vector<int64_t>{7, 7, 8, 1, 5}));
  EXPECT_EQ(*ToInts(*Convert(wide, DType::kI2)), (std::vector<int64_t>{-1, -1, 0, 1, 1}));
  EXPECT_EQ(Convert(wide, DType::kI4)->raw()[0], std::byte{0x77});  // low nibble first
  EXPECT_EQ(Convert(wide, DType::kI4)->raw()[2], std::byte{0x05});  // the rest is zero
}

TEST(Widened, ReadsHalvesFromAnyAddressOnce) {
  const Tensor numbers = Tensor::Of<float>({4}, {1.5f, -2, 65504, 0x1p-24f});
  const Tensor half = *Convert(numbers, DType::kF16);
  const auto file = *Buffer::Allocate(9);
  std::memcpy(file->data() + 1, half.raw(), 8);
  const Tensor wide = Tensor::Over(DType::kF32, {4}, Buffer::Widened(file, 1, DType::kF16, 4));
  EXPECT_EQ(wide.origin(), file->data() + 1);
  float part[2];
  wide.buffer()->CopyTo(reinterpret_cast<std::byte*>(part), 8, 8);
  EXPECT_EQ(part[0], 65504);
  EXPECT_TRUE(wide.buffer()->unaligned());  // still not converted as a whole
  EXPECT_EQ(std::memcmp(wide.source(), numbers.raw(), 16), 0);
  EXPECT_FALSE(wide.buffer()->unaligned());
}

TEST(Convert, RoundsOnceFromDouble) {
  // 1 + 2^-11 lies half way between two halves, 2^-40 above it decides; f32 cannot hold both.
  const Tensor t = Tensor::Of<double>({2}, {1 + 0x1p-11 + 0x1p-40, -1 - 0x1p-11 + 0x1p-40});
  const Tensor h = *Convert(t, DType::kF16);
  EXPECT_EQ(float(h.as<Half>()[0]), 1 + 0x1p-10f);
  EXPECT_EQ(float(h.as<Half>()[1]), -1);
}

TEST(Convert, TruncatesFloatsAndMapsTruth) {
  const Tensor f = Tensor::Of<float>({4}, {-1.7f, 0, 2.9f, 300});
  EXPECT_EQ(*ToInts(*Convert(f, DType::kI64)), (std::vector<int64_t>{-1, 0, 2, 300}));
  EXPECT_EQ(*ToInts(*Convert(f, DType::kBool)), (std::vector<int64_t>{1, 0, 1, 1}));
  EXPECT_FALSE(ToInts(f).has_value());
}

TEST(DType, NamesAndSizesAgree) {
  for (int t = int(DType::kF32); t < kDTypeCount; ++t)
    EXPECT_EQ(*ParseDType(DTypeName(DType(t))), DType(t));
  EXPECT_FALSE(ParseDType("float").has_value());
  EXPECT_EQ(ByteSize(DType::kI4, 3), 2);
}

}  // namespace
}  // namespace dunlin
