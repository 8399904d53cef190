#include "ops/testing.h"

namespace dunlin::testing {
namespace {

using Ints = std::vector<int64_t>;

Tensor Ramp(const Dims& d) {
  Tensor t = Tensor::Create(DType::kF32, d).value();
  for (int64_t i = 0; i < t.count(); ++i) t.mut<float>()[i] = float(i);
  return t;
}
Tensor Filled(const Dims& d, float v) {
  Tensor t = Tensor::Create(DType::kF32, d).value();
  std::fill_n(t.mut<float>(), t.count(), v);
  return t;
}

// A picture 0 … 8 under a 2x2 kernel of ones: sums of 2x2 pixels are 8 12 20 24.
struct Small {
  Tensor x = Ramp({1, 1, 3, 3}), w = Filled({1, 1, 2, 2}, 1), offset = Filled({1, 8, 2, 2}, 0);
  float& Offset(int64_t tap, int64_t axis, int64_t pixel) {
    return offset.mut<float>()[(tap * 2 + axis) * 4 + pixel];
  }
};

TEST(DeformConv, WithoutOffsetsIsAConvolution) {
  Small s;
  OpTest t("DeformConv");
  t.Input(s.x).Const(s.w).Input(s.offset);
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<float>({1, 1, 2, 2}, {8, 12, 20, 24})));
  t.ExpectInferIsTotal();
}

TEST(DeformConv, ATapReadsBetweenPixels) {
  Small s;
  s.Offset(0, 0, 0) = 0.5f;   // the first tap of pixel 0 half a row down: 1.5 in place of 0
  s.Offset(2, 1, 1) = -0.1f;  // the third tap of pixel 1 a tenth to the left: 3.9 in place of 4
  OpTest t("DeformConv");
  t.Input(s.x).Const(s.w).Input(s.offset);
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<float>({1, 1, 2, 2}, {9.5f, 11.9f, 20, 24}),
                   {.abs = 1e-5}));
}

TEST(DeformConv, OutsideIsZeroAndFadesInOverAPixel) {
  Small s;
  s.Offset(0, 1, 0) = -0.25f;  // column -0.25 of row 0: three quarters of 0
  s.Offset(3, 0, 3) = 0.5f;    // row 2.5: half of 8
  s.Offset(3, 1, 2) = 100;     // far away
  OpTest t("DeformConv");
  t.Input(s.x).Const(s.w).Input(s.offset);
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<float>({1, 1, 2, 2}, {8, 12, 13, 20})));
}

TEST(DeformConv, MaskAndBiasApply) {
  Small s;
  Tensor mask = Filled({1, 4, 2, 2}, 1);
  mask.mut<float>()[2 * 4 + 3] = 0.2f;  // the third tap of pixel 3 reads 7: 1.4 is left
  OpTest t("DeformConv");
  t.Input(s.x).Const(s.w).Input(s.offset).Input(Filled({1}, 1)).Input(mask);
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<float>({1, 1, 2, 2}, {9, 13, 21, 19.4f}),
                   {.abs = 1e-5}));
}

TEST(DeformConv, WorksAlongOneAxisToo) {
  OpTest t("DeformConv");
  t.Input(Tensor::Of<float>({1, 1, 3}, {1, 2, 4}))
      .Const(Tensor::Of<float>({1, 1, 2}, {1, 10}))
      .Input(Tensor::Of<float>({1, 2, 2}, {0, 0.5f, 0, 0}));
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<float>({1, 1, 2}, {21, 43})));
}

TEST(DeformConv, RefusesOffsetsThatDoNotFit) {
  OpTest t("DeformConv");
  t.Input(Ramp({1, 1, 3, 3})).Const(Filled({1, 1, 2, 2}, 1)).Input(Filled({1, 6, 2, 2}, 0));
  EXPECT_EQ(t.Infer().error().code, Code::kInvalidArgument);
}

TEST(DeformConv, KernelMatchesForAnyGrouping) {
  for (const int group : {1, 2, 3})
    for (const int offset_group : {1, 2, 6})
      for (const bool mask : {false, true}) {
        SCOPED_TRACE(fmt::format("group {} offset_group {} mask {}", group, offset_group, mask));
        OpTest t("DeformConv");
        t.Attr("group", group).Attr("offset_group", offset_group).Attr("pads", Ints{1, 2, 1, 0});
        t.Attr("strides", Ints{1, 2}).Attr("dilations", Ints{2, 1});
        t.Input(RandomF32({2, 6, 9, 8})).Const(RandomF32({18, 6 / group, 3, 2}, -1, 1, 2));
        // 9 + 2 - 5 + 1 rows, (8 + 2 - 2) / 2 + 1 columns
        t.Input(RandomF32({2, offset_group * 12, 7, 5}, -3, 3, 3));
        if (mask)
          t.Const(RandomF32({18}, -1, 1, 4)).Input(RandomF32({2, offset_group * 6, 7, 5}, 0, 1, 5));
        t.ExpectKernelMatches({.abs = 1e-4});
      }
}

}  // namespace
}  // namespace dunlin::testing
