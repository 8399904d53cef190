// Products with weights of a few bits, decoded by hand.
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

// Two rows of three weights in blocks of two: codes 9 7 | 8 and 10 8 | 11.
OpTest NBits(const Tensor& a) {
  OpTest t("MatMulNBits", "com.microsoft");
  t.Attr("K", 3).Attr("N", 2).Attr("bits", 4).Attr("block_size", 2);
  t.Input(a).Const(Tensor::Of<uint8_t>({2, 2, 1}, {0x79, 0x08, 0x8a, 0x0b}));
  t.Const(Tensor::Of<float>({4}, {1, 10, 2, 0.5f}));
  return t;
}
const Tensor kRow = Tensor::Of<float>({1, 3}, {1, 2, 3});

TEST(MatMulNBitsTest, TheMiddleCodeIsZero) {
  OpTest t = NBits(kRow);  // [1 -1 0], [4 0 1.5]
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<float>({1, 2}, {-1, 8.5f})));
  t.ExpectKernelMatches();
  t.ExpectInferIsTotal();
}

TEST(MatMulNBitsTest, ZeroPointsArePackedOrFloats) {
  OpTest packed = NBits(kRow);  // 9 8 and 8 10: [0 -2 0], [4 0 0.5]
  packed.Const(Tensor::Of<uint8_t>({2, 1}, {0x89, 0xa8}));
  EXPECT_TRUE(Near((*packed.Reference())[0], Tensor::Of<float>({1, 2}, {-4, 5.5f})));
  packed.ExpectKernelMatches();
  OpTest floats = NBits(kRow);
  floats.Const(Tensor::Of<float>({2, 2}, {9, 8, 8, 10.5f}));  // [0 -2 0], [4 0 0.25]
  EXPECT_TRUE(Near((*floats.Reference())[0], Tensor::Of<float>({1, 2}, {-4, 4.75f})));
}

TEST(MatMulNBitsTest, ColumnsMayNameTheirBlockAndABiasIsAdded) {
  OpTest t = NBits(kRow);  // scales 10 1 1 and 0.5 2 2: [10 -1 0], [1 0 6]
  t.Absent().Const(Tensor::Of<int32_t>({3}, {1, 0, 0})).Const(Tensor::Of<float>({2}, {100, 200}));
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<float>({1, 2}, {108, 219})));
  t.ExpectKernelMatches();
  OpTest outside = NBits(kRow);
  outside.Absent().Const(Tensor::Of<int32_t>({3}, {1, 0, 2}));
  EXPECT_EQ(outside.Reference().error().code, Code::kInvalidArgument);
}

TEST(MatMulNBitsTest, TwoAndEightBits) {
  OpTest two("MatMulNBits", "com.microsoft");
  two.Attr("K", 4).Attr("N", 1).Attr("bits", 2).Attr("block_size", 4);
  two.Input(Tensor::Of<float>({4}, {1, 10, 100, 1000}))
      .Const(Tensor::Of<uint8_t>({1, 1, 1}, {0xe4}))  // 0 1 2 3, zero 2
      .Const(Tensor::Of<float>({1}, {0.5f}));
  EXPECT_TRUE(Near((*two.Reference())[0], Tensor::Of<float>({1}, {494})));
  OpTest eight("MatMulNBits", "com.microsoft");
  eight.Attr("K", 2).Attr("N", 1).Attr("bits", 8).Attr("block_size", 2);
  eight.Input(Tensor::Of<float>({1, 2}, {1, 2}))
      .Const(Tensor::Of<uint8_t>({1, 1, 2}, {130, 125}))
      .Const(Tensor::Of<float>({1}, {2}));
  EXPECT_TRUE(Near((*eight.Reference())[0], Tensor::Of<float>({1, 1}, {-8})));
}

TEST(MatMulNBitsTest, TheKernelSumsManyColumnsOfManyRows) {
  OpTest t("MatMulNBits", "com.microsoft");
  t.Attr("K", 100).Attr("N", 37).Attr("bits", 4).Attr("block_size", 32);
  t.Input(RandomF32({3, 5, 100}))
      .Const(RandomInts<uint8_t>({37, 4, 16}, 0, 255))
      .Const(RandomF32({37, 4}, 0.01f, 0.1f))
      .Const(RandomInts<uint8_t>({37, 2}, 0, 255));
  t.ExpectKernelMatches({1e-5, 1e-5});
}

// Of K = 70 or a multiple of the block, and 37 columns.
OpTest Blocks(const Tensor& a, int64_t bits, int64_t block, bool zeros = false) {
  const int64_t K = a.dims().back(), blocks = (K + block - 1) / block;
  OpTest t("MatMulNBits", "com.microsoft");
  t.Attr("K", int(K)).Attr("N", 37).Attr("bits", int(bits)).Attr("block_size", int(block));
  t.Input(a)
      .Const(RandomInts<uint8_t>({37, blocks, block * bits / 8}, 0, 255))
      .Const(RandomF32({37, blocks}, 0.01f, 0.1f));
  if (zeros) t.Const(RandomInts<uint8_t>({37, (blocks * bits + 7) / 8}, 0, 255));
  return t;
}

TEST(MatMulNBitsTest, TheKernelTakesAllBlocksWithFewRowsAndMany) {
  for (const int64_t bits : {2, 4, 8})
    for (const int64_t block : {16, 32, 64, 128, 256})
      for (const int64_t rows : {1, 3, 8, 9, 40})
        for (const int64_t K : {int64_t{70}, 2 * block}) {
          SCOPED_TRACE(fmt::format("{} bits, {} rows, K {}, block {}", bits, rows, K, block));
          Blocks(RandomF32({rows, K}), bits, block, block == 32)
              .ExpectKernelMatches({bits == 8 ? 5e-4 : 5e-5, 1e-5});
        }
}

TEST(MatMulNBitsTest, ColumnsOfABlockMayLieAnywhere) {
  std::vector<int32_t> group(96);
  for (int32_t k = 0; k < 96; ++k) group[size_t(k)] = (k * 7 + k / 5) % 3;
  for (const int64_t rows : {1, 20}) {
    OpTest t = Blocks(RandomF32({rows, 96}), 4, 32, true);
    t.Const(Tensor::Of<int32_t>({96}, std::span<const int32_t>(group)));
    t.ExpectKernelMatches({5e-5, 1e-5});
  }
  OpTest one = Blocks(RandomF32({1, 96}), 4, 32, true);  // all in one block, which then is too long
  one.Const(Tensor::Zeros(DType::kI32, {96}).value());
  one.ExpectKernelMatches({5e-5, 1e-5});
}

// Integers of which the largest is 127 are what they are rounded to.
TEST(MatMulNBitsTest, LevelFourRoundsToEightBits) {
  for (const int64_t rows : {1, 5, 40}) {
    Tensor a = RandomF32({rows, 128}, -120, 120);
    for (int64_t i = 0; i < a.count(); ++i)
      a.mut<float>()[i] = i % 16 == 0 ? 127.0f : std::round(a.as<float>()[i]);
    for (const int64_t bits : {2, 4, 8}) {
      OpTest t = Blocks(a, bits, 32, true);
      t.Attr("accuracy_level", 4).ExpectKernelMatches({0.05, 1e-5});
    }
    OpTest halves = Blocks(RandomF32({rows, 128}), 4, 32);  // others within their bound
    halves.Attr("accuracy_level", 4).ExpectKernelMatches({128 * 8 * 0.1 / 254, 0});
  }
}

TEST(MatMulNBitsTest, RefusesExtentsThatDoNotFit) {
  EXPECT_EQ(NBits(Tensor::Of<float>({1, 4}, {1, 2, 3, 4})).Infer().error().code,
            Code::kInvalidArgument);
  EXPECT_EQ(NBits(kRow).Attr("N", 3).Infer().error().code, Code::kInvalidArgument);
  EXPECT_EQ(NBits(kRow).Attr("bits", 3).Infer().error().code, Code::kUnimplemented);
  EXPECT_EQ(NBits(kRow).Attr("block_size", 0).Infer().error().code, Code::kInvalidArgument);
}

TEST(MatMulBnb4Test, DecodesTheFirstCodeFromTheHighBits) {
  OpTest t("MatMulBnb4", "com.microsoft");
  t.Attr("K", 2).Attr("N", 1).Attr("block_size", 2).Attr("quant_type", 1);
  t.Input(Tensor::Of<float>({1, 2}, {2, 1}))
      .Const(Tensor::Of<uint8_t>({1}, {0xf0}))  // 1 and -1, times 3
      .Const(Tensor::Of<float>({1}, {3}));
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<float>({1, 1}, {3})));
  t.ExpectKernelMatches();
  t.ExpectInferIsTotal();
}

TEST(GatherBlockQuantizedTest, TakesRowsOfPackedBytes) {
  const auto gather = [] {  // 8 9 | 10 0 and 7 8 | 9 15
    OpTest t("GatherBlockQuantized", "com.microsoft");
    t.Attr("block_size", 2)
        .Input(Tensor::Of<uint8_t>({2, 2}, {0x98, 0x0a, 0x87, 0xf9}))
        .Input(Tensor::Of<int64_t>({1, 2}, {-1, 0}))
        .Input(Tensor::Of<float>({2, 2}, {1, 10, 0.5f, 2}));
    return t;
  };
  EXPECT_TRUE(Near((*gather().Reference())[0],
                   Tensor::Of<float>({1, 2, 4}, {-0.5f, 0, 2, 14, 0, 1, 20, -80})));
  gather().ExpectInferIsTotal();
  OpTest zeros = gather();  // 9 8 and 8 10
  zeros.Input(Tensor::Of<uint8_t>({2, 1}, {0x89, 0xa8}));
  EXPECT_TRUE(Near((*zeros.Reference())[0],
                   Tensor::Of<float>({1, 2, 4}, {-0.5f, 0, -2, 10, -1, 0, 20, -80})));
}

TEST(GatherBlockQuantizedTest, TakesAlongOtherAxesAndRefusesWhatIsOutside) {
  const auto gather = [](int64_t index) {
    Tensor data = Tensor::Create(DType::kI4, {2, 3}).value();
    for (int i = 0; i < 6; ++i) SetNarrowCode(DType::kI4, data.raw(), i, uint8_t(i - 3));
    OpTest t("GatherBlockQuantized", "com.microsoft");  // [-3 -2 -1; 0 1 2]
    t.Attr("gather_axis", 1).Attr("quantize_axis", 0).Attr("block_size", 2);
    t.Input(data).Input(Tensor::Of<int32_t>({1}, {int32_t(index)}));
    t.Input(Tensor::Of<float>({1, 3}, {1, 10, 100}));
    return t;
  };
  EXPECT_TRUE(Near((*gather(2).Reference())[0], Tensor::Of<float>({2, 1}, {-100, 200})));
  gather(0).ExpectInferIsTotal();
  EXPECT_EQ(gather(3).Reference().error().code, Code::kInvalidArgument);
  EXPECT_EQ(gather(0).Attr("block_size", 1).Infer().error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin::testing
