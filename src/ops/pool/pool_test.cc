#include <limits>

#include "ops/testing.h"

namespace dunlin::testing {
namespace {

Tensor Counting(const Dims& dims) {
  Tensor t = Tensor::Create(DType::kF32, dims).value();
  for (int64_t i = 0; i < t.count(); ++i) t.mut<float>()[i] = float(i + 1);
  return t;
}
Tensor F(const Dims& dims, std::initializer_list<float> v) { return Tensor::Of<float>(dims, v); }
using Ints = std::vector<int64_t>;

TEST(MaxPool, TakesTheLargestAndItsPlace) {
  OpTest t("MaxPool");
  t.Attr("kernel_shape", Ints{2, 2}).Attr("strides", Ints{2, 2}).Input(Counting({1, 1, 5, 5}));
  t.Outputs(2);
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 2, 2}, {7, 9, 17, 19})));
  EXPECT_TRUE(Near(t.Reference().value()[1], Tensor::Of<int64_t>({1, 1, 2, 2}, {6, 8, 16, 18})));
  t.Attr("storage_order", 1);
  EXPECT_TRUE(Near(t.Reference().value()[1], Tensor::Of<int64_t>({1, 1, 2, 2}, {6, 16, 8, 18})));
  t.ExpectInferIsTotal();
}

TEST(MaxPool, CeilModeAddsAPartialWindow) {
  OpTest t("MaxPool");
  t.Attr("kernel_shape", Ints{3, 3}).Attr("strides", Ints{2, 2}).Attr("ceil_mode", 1);
  t.Input(Counting({1, 1, 4, 4}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 2, 2}, {11, 12, 15, 16})));
}

TEST(MaxPool, AWindowThatWouldBeginInTheEndPaddingIsDropped) {
  OpTest t("MaxPool");
  t.Attr("kernel_shape", Ints{1}).Attr("strides", Ints{2}).Attr("ceil_mode", 1);
  t.Input(Counting({1, 1, 2}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 1}, {1})));
}

TEST(MaxPool, SameLowerPadsMoreAtTheBeginning) {
  OpTest t("MaxPool");
  t.Attr("kernel_shape", Ints{2}).Attr("auto_pad", "SAME_LOWER").Input(F({1, 1, 3}, {3, 1, 2}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 3}, {3, 3, 2})));
  OpTest u("MaxPool");
  u.Attr("kernel_shape", Ints{2}).Attr("auto_pad", "SAME_UPPER").Input(F({1, 1, 3}, {3, 1, 2}));
  EXPECT_TRUE(Near(u.Reference().value()[0], F({1, 1, 3}, {3, 2, 2})));
}

TEST(MaxPool, WorksOnBytes) {
  OpTest t("MaxPool");
  t.Attr("kernel_shape", Ints{2, 2}).Input(Tensor::Of<int8_t>({1, 1, 2, 2}, {-5, -3, -9, -4}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<int8_t>({1, 1, 1, 1}, {-3})));
}

TEST(AveragePool, CountsPaddingOnlyWhenAsked) {
  OpTest t("AveragePool");
  t.Attr("kernel_shape", Ints{3}).Attr("pads", Ints{1, 1}).Input(F({1, 1, 3}, {3, 6, 9}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 3}, {4.5f, 6, 7.5f})));
  t.Attr("count_include_pad", 1);
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 3}, {3, 6, 5})));
}

TEST(AveragePool, AnOverhangOfCeilModeIsNotPadding) {
  OpTest t("AveragePool");
  t.Attr("kernel_shape", Ints{3}).Attr("strides", Ints{2}).Attr("ceil_mode", 1);
  t.Attr("count_include_pad", 1).Input(F({1, 1, 4}, {1, 2, 3, 5}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 2}, {2, 4})));
}

TEST(AveragePool, Dilates) {
  OpTest t("AveragePool");
  t.Attr("kernel_shape", Ints{2}).Attr("dilations", Ints{2}).Input(F({1, 1, 4}, {1, 2, 5, 8}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 2}, {3, 5})));
}

TEST(LpPool, TakesTheNorm) {
  OpTest t("LpPool");
  t.Attr("kernel_shape", Ints{2}).Attr("p", 2).Input(F({1, 1, 3}, {3, -4, 0}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 2}, {5, 4})));
  OpTest u("LpPool");
  u.Attr("kernel_shape", Ints{2}).Attr("p", 0).Input(F({1, 1, 3}, {3, -4, 0}));
  EXPECT_FALSE(u.Reference().has_value());
}

TEST(GlobalPools, ReduceEveryPlane) {
  const Tensor x = F({1, 2, 2, 2}, {1, 2, 3, 4, -1, -2, -3, -6});
  OpTest average("GlobalAveragePool"), max("GlobalMaxPool"), lp("GlobalLpPool");
  EXPECT_TRUE(Near(average.Input(x).Reference().value()[0], F({1, 2, 1, 1}, {2.5f, -3})));
  EXPECT_TRUE(Near(max.Input(x).Reference().value()[0], F({1, 2, 1, 1}, {4, -1})));
  EXPECT_TRUE(Near(lp.Attr("p", 1).Input(x).Reference().value()[0], F({1, 2, 1, 1}, {10, 12})));
  average.ExpectInferIsTotal();
}

TEST(MaxUnpool, PutsValuesBack) {
  OpTest t("MaxUnpool");
  t.Attr("kernel_shape", Ints{2, 2}).Attr("strides", Ints{2, 2});
  t.Input(F({1, 1, 2, 2}, {5, 6, 7, 8}));
  t.Input(Tensor::Of<int64_t>({1, 1, 2, 2}, {5, 7, 13, 15}));
  EXPECT_TRUE(Near(t.Reference().value()[0],
                   F({1, 1, 4, 4}, {0, 0, 0, 0, 0, 5, 0, 6, 0, 0, 0, 0, 0, 7, 0, 8})));
  t.Input(Tensor::Ints(Ints{1, 1, 5, 5}));
  EXPECT_TRUE(Near(t.Reference().value()[0],
                   F({1, 1, 5, 5},
                     {0, 0, 0, 0, 0, 0, 5, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 8, 0, 0, 0, 0, 0, 0})));
}

TEST(MaxUnpool, RefusesIndicesOutside) {
  for (const int64_t bad : {int64_t{-1}, int64_t{4}, std::numeric_limits<int64_t>::max()}) {
    OpTest t("MaxUnpool");
    t.Attr("kernel_shape", Ints{2}).Attr("strides", Ints{2}).Input(F({1, 1, 2}, {5, 6}));
    t.Input(Tensor::Of<int64_t>({1, 1, 2}, {0, bad}));
    const auto y = t.Reference();
    ASSERT_FALSE(y.has_value()) << bad;
    EXPECT_EQ(y.error().code, Code::kInvalidArgument);
  }
}

TEST(MaxUnpool, RefusesANegativeOutputShape) {
  for (const int64_t bad : {int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    OpTest t("MaxUnpool");
    t.Attr("kernel_shape", Ints{2}).Attr("strides", Ints{2}).Input(F({1, 1, 2}, {5, 6}));
    t.Input(Tensor::Of<int64_t>({1, 1, 2}, {0, 2})).Const(Tensor::Ints(Ints{1, 1, bad}));
    const auto y = t.Infer();
    ASSERT_FALSE(y.has_value()) << bad;
    EXPECT_NE(y.error().message.find("output_shape"), std::string::npos);
  }
}

TEST(Window, RefusesWhatCannotBe) {
  const auto refuses = [](const char* name, Ints v) {
    OpTest t("MaxPool");
    if (std::string_view(name) != "kernel_shape") t.Attr("kernel_shape", Ints{2, 2});
    t.Attr(name, std::move(v)).Input(Counting({1, 1, 4, 4}));
    const auto y = t.Infer();
    EXPECT_FALSE(y.has_value()) << name;
  };
  refuses("strides", {0, 1});
  refuses("strides", {1});
  refuses("dilations", {-1, 1});
  refuses("pads", {-1, 0, 0, 0});
  refuses("pads", {1, 1});
  refuses("kernel_shape", {0, 2});
  refuses("kernel_shape", {5, 2});
  refuses("kernel_shape", {2, int64_t{1} << 60});
  OpTest t("MaxPool");
  t.Attr("kernel_shape", Ints{2, 2}).Attr("auto_pad", "SOMEHOW").Input(Counting({1, 1, 4, 4}));
  EXPECT_FALSE(t.Infer().has_value());
  OpTest flat("MaxPool");
  flat.Attr("kernel_shape", Ints{2}).Input(Counting({4, 4}));
  EXPECT_FALSE(flat.Infer().has_value());
}

TEST(Window, KeepsASymbolWhereTheExtentStays) {
  OpTest t("MaxPool");
  t.Attr("kernel_shape", Ints{3, 3}).Attr("pads", Ints{1, 1, 1, 1}).Input(Counting({1, 1, 4, 4}));
  TestInferContext ctx = t.MakeInfer();
  ctx.types[0] = Type::Of(DType::kF32, {1, 1, SymbolDim(0), 4});
  EXPECT_EQ(t.Infer(ctx).value()[0], Type::Of(DType::kF32, {1, 1, SymbolDim(0), 4}));
}

TEST(Pools, KernelsMatchForAnyGeometry) {
  for (const char* name : {"MaxPool", "AveragePool"})
    for (const int64_t channels : {1, 3, 16, 33, 70, 130})
      for (const int64_t stride : {1, 2})
        for (const int64_t dilation : {1, 2})
          for (const int ceil_mode : {0, 1})
            for (const int include_pad : {0, 1}) {
              SCOPED_TRACE(fmt::format("{} channels {} stride {} dilation {} ceil {} pad {}", name,
                                       channels, stride, dilation, ceil_mode, include_pad));
              OpTest t(name);
              t.Attr("kernel_shape", Ints{3, 2}).Attr("strides", Ints{stride, stride});
              t.Attr("dilations", Ints{dilation, 1}).Attr("pads", Ints{1, 0, 2, 1});
              t.Attr("ceil_mode", ceil_mode);
              if (std::string_view(name) == "AveragePool") t.Attr("count_include_pad", include_pad);
              t.Input(RandomF32({2, channels, 9, 8}));
              t.ExpectKernelMatches({.abs = 1e-6});
            }
}

TEST(Pools, KernelsMatchForOneAndThreeAxes) {
  for (const char* name : {"MaxPool", "AveragePool"}) {
    OpTest t(name), u(name);
    t.Attr("kernel_shape", Ints{4}).Attr("strides", Ints{3}).Input(RandomF32({2, 5, 21}));
    t.ExpectKernelMatches({.abs = 1e-6});
    u.Attr("kernel_shape", Ints{2, 3, 2}).Attr("pads", Ints{1, 1, 1, 0, 0, 0});
    u.Input(RandomF32({1, 18, 4, 5, 6})).ExpectKernelMatches({.abs = 1e-6});
  }
}

TEST(MaxPool, KernelPassesOverNaN) {
  Tensor x = RandomF32({1, 20, 4, 4});
  for (int64_t i = 0; i < x.count(); i += 3) x.mut<float>()[i] = std::nanf("");
  OpTest t("MaxPool");
  t.Attr("kernel_shape", Ints{2, 2}).Input(x).ExpectKernelMatches();
}

TEST(GlobalPools, KernelsMatchForAnyExtents) {
  for (const char* name : {"GlobalAveragePool", "GlobalMaxPool"})
    for (const int64_t channels : {1, 15, 16, 50})
      for (const int64_t width : {1, 7, 40}) {
        OpTest t(name);
        t.Input(RandomF32({3, channels, 5, width})).ExpectKernelMatches({.abs = 1e-6});
      }
}

// 0 … 15 in four rows; corners are pixels, both inclusive.
TEST(MaxRoiPool, TakesTheLargestOfEachCell) {
  Tensor x = Tensor::Create(DType::kF32, {1, 1, 4, 4}).value();
  for (int i = 0; i < 16; ++i) x.mut<float>()[i] = float(i);
  OpTest t("MaxRoiPool");
  t.Attr("pooled_shape", Ints{2, 2})
      .Input(x)
      .Input(Tensor::Of<float>({2, 5}, {0, 0, 0, 3, 3, 0, 1, 1, 2, 3}));
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  // The second: rows 1 to 3 in cells of 1.5, so rows 1, 2 and 2, 3; columns 1 and 2.
  EXPECT_TRUE(Near((*r)[0], Tensor::Of<float>({2, 1, 2, 2}, {5, 7, 13, 15, 9, 10, 13, 14})));
  t.ExpectInferIsTotal();
}

TEST(MaxRoiPool, ScalesCornersAndGivesZeroOutside) {
  OpTest t("MaxRoiPool");
  t.Attr("pooled_shape", Ints{1, 2}).Attr("spatial_scale", 0.5);
  t.Input(Tensor::Of<float>({1, 1, 1, 2}, {-3, -5}));
  t.Input(Tensor::Of<float>({1, 5}, {0, 2, 0, 5, 0}));  // columns 1 to 3 (2.5 rounds up)
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<float>({1, 1, 1, 2}, {-5, 0})));
}

TEST(MaxRoiPool, RefusesAnImageThatIsNotThere) {
  OpTest t("MaxRoiPool");
  t.Attr("pooled_shape", Ints{1, 1}).Input(RandomF32({1, 1, 2, 2}));
  t.Input(Tensor::Of<float>({1, 5}, {1, 0, 0, 1, 1}));
  EXPECT_EQ(t.Reference().error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin::testing
