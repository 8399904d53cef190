// CodeResize: the definition by hand, and the kernel against it.
#include "ops/quant/code_resize.h"

#include "ops/testing.h"

namespace dunlin {
namespace {

using namespace testing;  // NOLINT: the harness

OpTest Make(Tensor x, std::vector<float> scales, const std::function<void(CodeResizeAttrs&)>& set) {
  OpTest t("CodeResize", "dunlin");
  t.SetAttrs([&](Attrs& a) {
    auto& resize = As<CodeResizeAttrs>(a);
    resize.mode = "linear";
    set(resize);
  });
  t.Input(std::move(x)).Absent().Const(Tensor::Of<float>({4}, std::span<const float>(scales)));
  return t;
}

// Halfway between 10 and 13 lie 10.75 and 12.25; without its zero point 3 an exact half, 8.5, goes
// to the even code 8.
TEST(CodeResizeTest, CodesBetweenCodes) {
  const Tensor x = Tensor::Of<uint8_t>({1, 1, 1, 2}, {10, 13});
  OpTest t = Make(x, {1, 1, 1, 2}, [](CodeResizeAttrs&) {});
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<uint8_t>({1, 1, 1, 4}, {10, 11, 12, 13})));
  OpTest half = Make(x, {1, 1, 1, 2}, [](CodeResizeAttrs& a) {
    a.coordinate_transformation_mode = "asymmetric";
    a.x_zero = a.y_zero = 3;
  });
  EXPECT_TRUE(Near((*half.Reference())[0], Tensor::Of<uint8_t>({1, 1, 1, 4}, {10, 11, 13, 13})));
  OpTest wider = Make(x, {1, 1, 1, 2}, [](CodeResizeAttrs& a) {
    a.x_zero = 12, a.x_scale = 1, a.y_scale = 0.125f, a.y_zero = 7;  // -2 and 1, in eighths
  });
  EXPECT_TRUE(Near((*wider.Reference())[0], Tensor::Of<uint8_t>({1, 1, 1, 4}, {0, 0, 9, 15})));
}

TEST(CodeResizeTest, KernelMatchesForEveryWidthScaleAndMode) {
  for (const int64_t channels : {1, 3, 7, 8, 9, 16, 31, 33, 96})
    for (const std::vector<float>& scales :
         {std::vector<float>{1, 1, 2, 2}, std::vector<float>{1, 1, 1.7f, 0.6f},
          std::vector<float>{1, 1, 1, 3}, std::vector<float>{1, 1, 14.3f, 1}})
      for (const char* mode : {"half_pixel", "align_corners", "pytorch_half_pixel", "asymmetric"})
        for (const bool is_u8 : {false, true}) {
          const Dims x = {2, channels, 5, 7};
          OpTest t = Make(is_u8 ? RandomInts<uint8_t>(x, 0, 255) : RandomInts<int8_t>(x, -128, 127),
                          scales, [&](CodeResizeAttrs& a) {
                            a.coordinate_transformation_mode = mode;
                            a.x_zero = is_u8 ? 255 : -128;
                            a.y_zero = is_u8 ? 201 : 5;
                            a.x_scale = 0.03f, a.y_scale = 0.041f;
                          });
          t.ExpectInferIsTotal();
          t.ExpectKernelMatches();
        }
}

TEST(CodeResizeTest, WhatIsNotLinearOrNoImageIsRefused) {
  const Tensor x = RandomInts<uint8_t>({1, 2, 3, 4}, 0, 255);
  const auto refused = [](OpTest t) {
    return !t.Infer().has_value() || !t.Reference().has_value();
  };
  EXPECT_FALSE(refused(Make(x, {1, 1, 2, 2}, [](CodeResizeAttrs&) {})));
  EXPECT_TRUE(refused(Make(x, {1, 1, 2, 2}, [](CodeResizeAttrs& a) { a.mode = "cubic"; })));
  EXPECT_TRUE(refused(Make(x, {1, 1, 2, 2}, [](CodeResizeAttrs& a) { a.x_zero = 256; })));
  EXPECT_TRUE(refused(Make(x, {1, 1, 2, 2}, [](CodeResizeAttrs& a) { a.y_scale = 0; })));
  EXPECT_TRUE(refused(Make(x, {1, 2, 2, 2}, [](CodeResizeAttrs&) {})));
}

}  // namespace
}  // namespace dunlin
