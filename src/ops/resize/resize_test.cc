#include "ops/resize/resize.h"

#include <cmath>
#include <complex>
#include <numbers>

#include "ops/testing.h"

namespace dunlin::testing {
namespace {

Tensor Ints(std::initializer_list<int64_t> v) {
  return Tensor::Of<int64_t>({int64_t(v.size())}, v);
}
Tensor F(const Dims& d, std::initializer_list<float> v) { return Tensor::Of<float>(d, v); }
Tensor Line(std::initializer_list<float> v) { return F({1, 1, 1, int64_t(v.size())}, v); }

OpTest ResizeBy(Tensor x, std::initializer_list<float> scales) {
  OpTest t("Resize");
  t.Input(std::move(x)).Absent().Const(F({int64_t(scales.size())}, scales));
  return t;
}
OpTest ResizeTo(Tensor x, std::initializer_list<int64_t> sizes) {
  OpTest t("Resize");
  t.Input(std::move(x)).Absent().Absent().Const(Ints(sizes));
  return t;
}

std::vector<float> Values(const Result<OpTest::Outcome>& r) {
  if (!r) return {};
  const Tensor& t = (*r)[0];
  return {t.as<float>(), t.as<float>() + t.count()};
}

TEST(Resize, NearestRoundsAsItsModeSays) {
  using V = std::vector<float>;
  const auto nearest = [](const char* coordinates, const char* mode) {
    auto t = ResizeBy(Line({1, 2}), {1, 1, 1, 2.5f});
    t.Attr("coordinate_transformation_mode", coordinates).Attr("nearest_mode", mode);
    return Values(t.Reference());
  };
  EXPECT_EQ(nearest("asymmetric", "floor"), (V{1, 1, 1, 2, 2}));
  EXPECT_EQ(nearest("asymmetric", "ceil"), (V{1, 2, 2, 2, 2}));
  EXPECT_EQ(nearest("half_pixel", "round_prefer_floor"), (V{1, 1, 1, 2, 2}));
  EXPECT_EQ(nearest("half_pixel", "round_prefer_ceil"), (V{1, 1, 2, 2, 2}));
}

TEST(Resize, LinearFollowsItsCoordinates) {
  using V = std::vector<float>;
  const auto linear = [](const char* coordinates, int64_t n) {
    auto t = ResizeTo(Line({0, 4}), {1, 1, 1, n});
    t.Attr("coordinate_transformation_mode", coordinates).Attr("mode", "linear");
    return Values(t.Reference());
  };
  EXPECT_EQ(linear("half_pixel", 4), (V{0, 1, 3, 4}));
  EXPECT_EQ(linear("asymmetric", 4), (V{0, 2, 4, 4}));
  EXPECT_EQ(linear("align_corners", 5), (V{0, 1, 2, 3, 4}));
  EXPECT_EQ(linear("pytorch_half_pixel", 1), (V{0}));
  EXPECT_EQ(linear("half_pixel_symmetric", 4), (V{0, 1, 3, 4}));
}

TEST(Resize, CubicOfAConstantIsThatConstantAndKeepsItsPoints) {
  auto t = ResizeTo(Line({2, 2, 2, 2, 2}), {1, 1, 1, 13});
  t.Attr("mode", "cubic");
  for (const float v : Values(t.Reference())) EXPECT_NEAR(v, 2, 1e-6);
  auto outside = ResizeTo(Line({1, 5, 2, 7}), {1, 1, 1, 7});
  outside.Attr("mode", "cubic")
      .Attr("coordinate_transformation_mode", "align_corners")
      .Attr("exclude_outside", 1);
  const auto v = Values(outside.Reference());
  ASSERT_EQ(v.size(), 7u);
  EXPECT_NEAR(v[0], 1, 1e-6);
  EXPECT_NEAR(v[2], 5, 1e-6);
  EXPECT_NEAR(v[6], 7, 1e-6);
}

TEST(Resize, AntialiasAveragesWhatOnePixelCovers) {
  auto t = ResizeTo(Line({0, 0, 8, 8, 0, 0, 8, 8}), {1, 1, 1, 2});
  t.Attr("mode", "linear").Attr("antialias", 1);
  const auto v = Values(t.Reference());
  ASSERT_EQ(v.size(), 2u);
  EXPECT_NEAR(v[0], v[1], 2.0);
  EXPECT_GT(v[0], 1.0f);
  EXPECT_LT(v[1], 7.0f);
}

TEST(Resize, CropTakesTheExtrapolationValueOutside) {
  OpTest t("Resize");
  t.Input(Line({1, 2, 3}))
      .Const(F({8}, {0, 0, 0, 0, 1, 1, 1, 2}))
      .Absent()
      .Const(Ints({1, 1, 1, 3}));
  t.Attr("mode", "linear")
      .Attr("coordinate_transformation_mode", "tf_crop_and_resize")
      .Attr("extrapolation_value", 9.0);
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{1, 3, 9}));
}

TEST(Resize, RefusesACropThatIsNoNumber) {
  for (const float begin : {NAN, INFINITY, -1e30f}) {
    OpTest t("Resize");
    t.Input(Line({1, 2, 3}))
        .Const(F({8}, {0, 0, 0, begin, 1, 1, 1, 2}))
        .Absent()
        .Const(Ints({1, 1, 1, 3}));
    t.Attr("mode", "linear").Attr("coordinate_transformation_mode", "tf_crop_and_resize");
    EXPECT_FALSE(t.Reference().has_value());
  }
}

TEST(Resize, KeepsTheAspectRatio) {
  const auto dims = [](const char* policy) {
    auto t = ResizeTo(Tensor::Zeros(DType::kF32, {1, 1, 2, 4}).value(), {7, 8});
    t.Attr("axes", std::vector<int64_t>{2, 3}).Attr("keep_aspect_ratio_policy", policy);
    return t.Infer().value()[0].dims;
  };
  EXPECT_EQ(dims("not_larger"), (Dims{1, 1, 4, 8}));
  EXPECT_EQ(dims("not_smaller"), (Dims{1, 1, 7, 14}));
  EXPECT_EQ(dims("stretch"), (Dims{1, 1, 7, 8}));
}

TEST(Resize, InfersWhatItCanAndRefusesNonsense) {
  auto t = ResizeBy(RandomF32({2, 3, 4, 5}), {1, 1, 2, 2});
  t.ExpectInferIsTotal();
  auto ctx = t.MakeInfer();
  const Tensor scales = F({4}, {1, 1, 2, 2});
  ctx.values[2] = &scales;
  ctx.types[0]->dims = {SymbolDim(0), 3, 4, SymbolDim(1)};
  EXPECT_EQ(t.Infer(ctx).value()[0].dims, (Dims{SymbolDim(0), 3, 8, kUnknownDim}));
  const Tensor x = RandomF32({1, 1, 2, 2});
  EXPECT_FALSE(ResizeBy(x, {1, 1, 0, 1}).Infer().has_value());
  EXPECT_FALSE(ResizeBy(x, {1, 1, -1, 1}).Infer().has_value());
  EXPECT_FALSE(ResizeBy(x, {1, 1, NAN, 1}).Infer().has_value());
  EXPECT_FALSE(ResizeBy(x, {1, 1, INFINITY, 1}).Infer().has_value());
  EXPECT_FALSE(ResizeBy(x, {1, 1, 1e30f, 1}).Infer().has_value());
  EXPECT_FALSE(ResizeBy(x, {1, 1}).Infer().has_value());
  EXPECT_FALSE(ResizeTo(x, {1, 1, INT64_MAX, 1}).Infer().has_value());
  EXPECT_FALSE(ResizeTo(x, {1, 1, -2, 1}).Infer().has_value());
  EXPECT_FALSE(OpTest("Resize").Input(x).Infer().has_value());
  EXPECT_FALSE(ResizeBy(x, {1, 1, 1, 1}).Attr("mode", "quintic").Infer().has_value());
  EXPECT_FALSE(ResizeBy(Tensor::Zeros(DType::kF32, {1, 1, 0, 1}).value(), {1, 1, 1, 1})
                   .Attr("axes", std::vector<int64_t>{0, 0, 1, 2})
                   .Infer()
                   .has_value());
}

TEST(Resize, NearestKernelIsExactInBothLayouts) {
  for (const char* coordinates :
       {"half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"})
    for (const char* rounding : {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}) {
      const auto check = [&](OpTest t) {
        t.Attr("coordinate_transformation_mode", coordinates).Attr("nearest_mode", rounding);
        t.ExpectKernelMatches();
      };
      check(ResizeBy(RandomF32({2, 5, 7, 6}), {1, 1, 2, 2}));
      check(ResizeBy(RandomInts<uint8_t>({1, 3, 9, 10}, 0, 255), {1, 1, 0.7f, 1.3f}));
      check(ResizeBy(RandomInts<int64_t>({1, 3, 9}, 0, 255), {1, 1, 2.5f}));
      check(ResizeTo(RandomF32({1, 3, 2, 9, 10}), {1, 3, 2, 4, 31}));
    }
  auto large = ResizeBy(RandomF32({1, 16, 60, 64}), {1, 1, 2, 2});
  large.ExpectKernelMatches();
}

TEST(Resize, WeightedKernelAgreesInBothLayouts) {
  for (const char* mode : {"linear", "cubic"})
    for (const char* coordinates :
         {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"})
      for (const int antialias : {0, 1}) {
        const auto check = [&](OpTest t) {
          t.Attr("coordinate_transformation_mode", coordinates)
              .Attr("mode", mode)
              .Attr("antialias", antialias);
          t.ExpectKernelMatches({.abs = 2e-6});
        };
        check(ResizeBy(RandomF32({2, 5, 7, 6}), {1, 1, 2, 2}));
        check(ResizeBy(RandomF32({1, 19, 9, 30}), {1, 1, 0.4f, 1.7f}));
        check(ResizeTo(RandomF32({1, 3, 9}), {1, 3, 20}));
        check(ResizeTo(RandomF32({1, 2, 3, 5, 4}), {1, 2, 3, 1, 9}));
      }
  auto large = ResizeBy(RandomF32({1, 32, 40, 50}), {1, 1, 2, 2});
  large.Attr("mode", "linear").ExpectKernelMatches({.abs = 2e-6});
}

TEST(GridSample, ReadsBetweenPixels) {
  OpTest t("GridSample");
  t.Input(F({1, 1, 2, 2}, {0, 1, 2, 3})).Input(F({1, 1, 3, 2}, {0, 0, -1, -1, 5, 5}));
  t.Attr("align_corners", 1);
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{1.5f, 0, 0}));
  t.Attr("padding_mode", "border");
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{1.5f, 0, 3}));
  t.Attr("mode", "nearest").Attr("padding_mode", "reflection");
  EXPECT_EQ(Values(t.Reference())[2], 3);
  t.Attr("mode", "bicubic");
  EXPECT_NEAR(Values(t.Reference())[0], 1.5, 1e-5);
  t.ExpectInferIsTotal();
  t.Attr("mode", "x");
  EXPECT_FALSE(t.Infer().has_value());
}

TEST(GridSample, SurvivesCoordinatesThatAreNoNumbers) {
  for (const char* mode : {"linear", "nearest", "cubic"})
    for (const char* padding : {"zeros", "border", "reflection"}) {
      OpTest t("GridSample");
      t.Input(F({1, 1, 2, 2}, {0, 1, 2, 3}))
          .Input(F({1, 1, 2, 2}, {NAN, INFINITY, -INFINITY, 3e38f}));
      t.Attr("mode", mode).Attr("padding_mode", padding);
      EXPECT_TRUE(t.Reference().has_value());
    }
}

TEST(GridSample, KernelAgrees) {
  for (const char* mode : {"linear", "nearest"})
    for (const char* padding : {"zeros", "border", "reflection"})
      for (const int align : {0, 1}) {
        OpTest t("GridSample");
        t.Input(RandomF32({2, 5, 7, 9})).Input(RandomF32({2, 8, 11, 2}, -1.6f, 1.6f));
        t.Attr("mode", mode).Attr("padding_mode", padding).Attr("align_corners", align);
        t.ExpectKernelMatches({.abs = 1e-5});
      }
  OpTest wild("GridSample");
  wild.Input(F({1, 1, 2, 2}, {0, 1, 2, 3}))
      .Input(F({1, 1, 2, 2}, {NAN, INFINITY, -INFINITY, 3e38f}));
  wild.ExpectKernelMatches();
}

TEST(RoiAlign, KernelAgrees) {
  for (const char* mode : {"half_pixel", "output_half_pixel"})
    for (const int ratio : {0, 2, 7}) {
      OpTest t("RoiAlign");
      t.Input(RandomF32({2, 3, 20, 30}));
      t.Input(F({3, 4}, {1, 2, 25, 18, -5, -5, 60, 60, 3, 3, 3.5f, 3.2f})).Input(Ints({1, 0, 1}));
      t.Attr("coordinate_transformation_mode", mode).Attr("sampling_ratio", ratio);
      t.Attr("output_height", 3).Attr("output_width", 4).Attr("spatial_scale", 0.7);
      t.ExpectKernelMatches({.abs = 1e-5});
      t.ExpectInferIsTotal();
    }
}

TEST(GridSample, ReadsVolumes) {
  OpTest t("GridSample");
  t.Input(F({1, 1, 2, 1, 2}, {0, 1, 2, 3})).Input(F({1, 1, 1, 1, 3}, {1, 0, 0}));
  t.Attr("align_corners", 1);
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{2}));
}

TEST(AffineGrid, OfTheIdentityIsThePixelGrid) {
  OpTest t("AffineGrid");
  t.Input(F({1, 2, 3}, {1, 0, 0, 0, 1, 0.5f})).Const(Ints({1, 1, 1, 2}));
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{-0.5f, 0.5f, 0.5f, 0.5f}));
  t.Attr("align_corners", 1);
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{-1, 0.5f, 1, 0.5f}));
  t.ExpectInferIsTotal();
}

TEST(RoiAlign, AveragesARegion) {
  OpTest t("RoiAlign");
  t.Input(F({1, 1, 2, 2}, {1, 2, 3, 4})).Input(F({1, 4}, {0, 0, 2, 2})).Input(Ints({0}));
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{2.5f}));
  t.ExpectInferIsTotal();
  OpTest bad("RoiAlign");
  bad.Input(F({1, 1, 2, 2}, {1, 2, 3, 4})).Input(F({1, 4}, {0, 0, 2, 2})).Input(Ints({1}));
  EXPECT_FALSE(bad.Reference().has_value());
  OpTest wild("RoiAlign");
  wild.Input(F({1, 1, 2, 2}, {1, 2, 3, 4}))
      .Input(F({1, 4}, {NAN, -INFINITY, 1e38f, 1e38f}))
      .Input(Ints({0}));
  EXPECT_TRUE(wild.Reference().has_value());
}

OpTest EinsumOf(const char* equation, std::initializer_list<Tensor> inputs) {
  OpTest t("Einsum");
  t.Attr("equation", equation);
  for (const Tensor& x : inputs) t.Input(x);
  return t;
}

TEST(Einsum, MultipliesSumsTransposesAndTakesDiagonals) {
  const Tensor a = F({2, 2}, {1, 2, 3, 4}), b = F({2, 2}, {5, 6, 7, 8});
  using V = std::vector<float>;
  EXPECT_EQ(Values(EinsumOf("ij,jk->ik", {a, b}).Reference()), (V{19, 22, 43, 50}));
  EXPECT_EQ(Values(EinsumOf("ij -> ji", {a}).Reference()), (V{1, 3, 2, 4}));
  EXPECT_EQ(Values(EinsumOf("ii", {a}).Reference()), (V{5}));
  EXPECT_EQ(Values(EinsumOf("ii->i", {a}).Reference()), (V{1, 4}));
  EXPECT_EQ(Values(EinsumOf("...j,j", {a, F({2}, {1, 10})}).Reference()), (V{21, 43}));
  EXPECT_EQ(Values(EinsumOf("ij,ij,ij->", {a, b, a}).Reference()), (V{5 + 24 + 63 + 128}));
  EXPECT_EQ(Values(EinsumOf("b...,c->bc...", {a, F({1}, {2})}).Reference()), (V{2, 4, 6, 8}));
  EinsumOf("ij,jk->ik", {a, b}).ExpectInferIsTotal();
}

TEST(Einsum, KernelAgreesForEveryKindOfProduct) {
  struct Case {
    const char* equation;
    Dims a, b;
  };
  const Case cases[] = {
      {"ij,jk->ik", {5, 7}, {7, 9}},
      {"ij,kj->ik", {5, 7}, {9, 7}},
      {"ji,jk->ki", {7, 5}, {7, 33}},
      {"bhqd,bhkd->bhqk", {2, 3, 17, 8}, {2, 3, 19, 8}},
      {"bqhd,bkhd->bhqk", {2, 17, 3, 8}, {2, 19, 3, 8}},
      {"bhqk,bkhd->bqhd", {2, 3, 17, 19}, {2, 19, 3, 8}},
      {"bsd,dhk->bshk", {2, 6, 16}, {16, 3, 5}},
      {"i,j->ij", {70}, {50}},
      {"i,i->", {70}, {70}},
      {"bi,bi->b", {4, 70}, {4, 70}},
      {"i,i->i", {70}, {70}},
      {"ii,ij->ij", {6, 6}, {6, 4}},
      {"...ij,...jk", {3, 1, 5, 6}, {4, 6, 2}},
      {"bchw,bkc->bkhw", {2, 16, 7, 9}, {2, 5, 16}},
      {"abc,cd->abd", {40, 30, 64}, {64, 48}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.equation);
    auto t = EinsumOf(c.equation, {RandomF32(c.a, -1, 1, 1), RandomF32(c.b, -1, 1, 2)});
    t.ExpectKernelMatches({.abs = 1e-5});
    t.ExpectInferIsTotal();
  }
}

TEST(Einsum, RefusesEquationsThatMakeNoSense) {
  const Tensor a = F({2, 2}, {1, 2, 3, 4}), b = F({3, 2}, {1, 2, 3, 4, 5, 6});
  for (const char* bad : {"ij", "ij,jk->ik", "ij,kj->ii", "ij,kj->z", "i,kj", "ij,k.j", "ij,......",
                          "ij,kj,l", "ijk,kj"})
    EXPECT_FALSE(EinsumOf(bad, {a, b}).Infer().has_value()) << bad;
}

TEST(Det, IsSignedAndZeroForSingular) {
  OpTest t("Det");
  t.Input(F({3, 2, 2}, {0, 1, 1, 0, 1, 2, 2, 4, 3, 0, 0, 2}));
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{-1, 0, 6}));
  t.ExpectInferIsTotal();
  EXPECT_FALSE(OpTest("Det").Input(F({1, 2}, {1, 2})).Infer().has_value());
}

TEST(Dft, AgreesWithTheDefinitionForAnyLength) {
  for (const int64_t n : {1, 2, 3, 8, 12, 17, 100}) {
    const Tensor x = RandomF32({1, n, 2});
    OpTest t("DFT");
    t.Input(x);
    const Tensor y = t.Reference().value()[0];
    for (int64_t k = 0; k < n; ++k) {
      std::complex<double> sum = 0;
      for (int64_t j = 0; j < n; ++j)
        sum += std::complex<double>(x.as<float>()[2 * j], x.as<float>()[2 * j + 1]) *
               std::polar(1.0, -2 * std::numbers::pi * double(j * k % n) / double(n));
      EXPECT_NEAR(y.as<float>()[2 * k], sum.real(), 1e-4);
      EXPECT_NEAR(y.as<float>()[2 * k + 1], sum.imag(), 1e-4);
    }
    OpTest back("DFT");
    back.Input(y).Attr("inverse", 1);
    EXPECT_TRUE(Near(back.Reference().value()[0], x, {.abs = 1e-5}));
  }
}

TEST(Dft, PadsTruncatesAndHalves) {
  OpTest t("DFT");
  t.Input(F({1, 3, 1}, {1, 2, 3})).Const(Tensor::Scalar<int64_t>(2)).Attr("onesided", 1);
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{3, 0, -1, 0}));
  t.ExpectInferIsTotal();
  OpTest axis("DFT");
  axis.Input(F({1, 2, 1}, {1, 2})).Absent().Const(Tensor::Scalar<int64_t>(2));
  EXPECT_FALSE(axis.Infer().has_value());
  OpTest huge("DFT");
  huge.Input(F({1, 2, 1}, {1, 2})).Const(Tensor::Scalar<int64_t>(INT64_MAX));
  EXPECT_FALSE(huge.Infer().has_value());
}

// Half a spectrum of real numbers gives the numbers back, of even and odd lengths.
TEST(Dft, OnesidedInverseIsReal) {
  for (const int64_t n : {1, 2, 5, 8}) {
    const Tensor x = RandomF32({2, n, 1}), length = Tensor::Scalar(n);
    OpTest forth("DFT"), back("DFT");
    forth.Input(x).Const(length).Attr("onesided", 1);
    const Tensor half = forth.Reference().value()[0];
    EXPECT_EQ(half.dims(), (Dims{2, n / 2 + 1, 2}));
    back.Input(half).Const(length).Attr("onesided", 1).Attr("inverse", 1);
    EXPECT_TRUE(Near(back.Reference().value()[0], x, {.abs = 1e-5})) << n;
    back.ExpectInferIsTotal();
  }
  OpTest even("DFT"), real("DFT");
  even.Input(F({1, 3, 2}, {6, 0, 0, 0, -2, 0})).Attr("onesided", 1).Attr("inverse", 1);
  EXPECT_EQ(Values(even.Reference()), (std::vector<float>{1, 2, 1, 2}));  // 2 (3 - 1) numbers
  real.Input(F({1, 3, 1}, {1, 2, 3})).Attr("onesided", 1).Attr("inverse", 1);
  EXPECT_FALSE(real.Infer().has_value());
}

TEST(Stft, TransformsWindowedFrames) {
  OpTest t("STFT");
  t.Input(F({1, 4, 1}, {1, 2, 3, 4})).Const(Tensor::Scalar<int64_t>(2)).Input(F({2}, {1, 0.5f}));
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{2, 0, 0, 0, 5, 0, 1, 0}));
  t.ExpectInferIsTotal();
}

TEST(Stft, RefusesAWindowOfAnotherType) {
  OpTest t("STFT");
  t.Input(F({1, 4, 1}, {1, 2, 3, 4})).Const(Tensor::Scalar<int64_t>(2)).Input(Ints({1, 1}));
  EXPECT_FALSE(t.Infer().has_value());
}

TEST(RoiAlign, RefusesRegionsOfAnotherType) {
  OpTest t("RoiAlign");
  t.Input(F({1, 1, 2, 2}, {1, 2, 3, 4}))
      .Input(Tensor::Of<double>({1, 4}, {0, 0, 2, 2}))
      .Input(Ints({0}));
  EXPECT_FALSE(t.Infer().has_value());
}

TEST(GridSample, LetsNothingThroughAWeightOfZero) {
  OpTest t("GridSample");
  t.Input(F({1, 1, 1, 2}, {INFINITY, NAN})).Input(F({1, 1, 2, 2}, {9, 9, -0.5f, 0}));
  EXPECT_EQ(Values(t.Reference()), (std::vector<float>{0, INFINITY}));
  t.ExpectKernelMatches();
}

TEST(Windows, StartLowAndAreSymmetricWhenNotPeriodic) {
  for (const char* name : {"HannWindow", "HammingWindow", "BlackmanWindow"}) {
    OpTest t(name);
    t.Const(Tensor::Scalar<int64_t>(5)).Attr("periodic", 0);
    const auto v = Values(t.Reference());
    ASSERT_EQ(v.size(), 5u);
    EXPECT_NEAR(v[0], v[4], 1e-6);
    EXPECT_NEAR(v[2], 1, 1e-6);
    EXPECT_LT(v[0], 0.1f);
    t.ExpectInferIsTotal();
    EXPECT_FALSE(OpTest(name).Const(Tensor::Scalar<int64_t>(-1)).Infer().has_value());
  }
}

// 0.5 - 0.5 cos 0; the symmetric one has no formula, and is a window that lets everything through.
TEST(Windows, OfOneElement) {
  OpTest periodic("HannWindow"), symmetric("HannWindow");
  periodic.Const(Tensor::Scalar<int64_t>(1));
  symmetric.Const(Tensor::Scalar<int64_t>(1)).Attr("periodic", 0);
  EXPECT_EQ(Values(periodic.Reference()), (std::vector<float>{0}));
  EXPECT_EQ(Values(symmetric.Reference()), (std::vector<float>{1}));
}

TEST(MelWeightMatrix, HasTrianglesOfHeightOne) {
  OpTest t("MelWeightMatrix");
  t.Const(Tensor::Scalar<int64_t>(4))
      .Const(Tensor::Scalar<int64_t>(64))
      .Const(Tensor::Scalar<int64_t>(8000));
  t.Const(Tensor::Scalar(0.0f)).Const(Tensor::Scalar(4000.0f));
  const Tensor y = t.Reference().value()[0];
  ASSERT_EQ(y.dims(), (Dims{33, 4}));
  for (int c = 0; c < 4; ++c) {
    float best = 0;
    for (int r = 0; r < 33; ++r) best = std::max(best, y.as<float>()[r * 4 + c]);
    EXPECT_EQ(best, 1);
  }
  t.ExpectInferIsTotal();
}

// A PPM of two pixels.
Tensor PictureFile() {
  const std::string_view file = "P6 2 1 255\n\x0a\x14\x1e\xc8\x64\x32";
  return Tensor::Of<uint8_t>({int64_t(file.size())},
                             std::span(reinterpret_cast<const uint8_t*>(file.data()), file.size()));
}

TEST(ImageDecoder, GivesPixelsInTheOrderThatIsAskedFor) {
  const auto decode = [](const char* format) {
    OpTest t("ImageDecoder");
    t.Attr("pixel_format", format).Input(PictureFile());
    return t.Reference().value()[0];
  };
  EXPECT_TRUE(Near(decode("RGB"), Tensor::Of<uint8_t>({1, 2, 3}, {10, 20, 30, 200, 100, 50})));
  EXPECT_TRUE(Near(decode("BGR"), Tensor::Of<uint8_t>({1, 2, 3}, {30, 20, 10, 50, 100, 200})));
  // 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15; 59.8 + 58.7 + 5.7 = 124.2
  EXPECT_TRUE(Near(decode("Grayscale"), Tensor::Of<uint8_t>({1, 2, 1}, {18, 124})));
}

TEST(ImageDecoder, RefusesOtherBytes) {
  OpTest t("ImageDecoder");
  t.Input(Tensor::Of<uint8_t>({3}, {1, 2, 3}));
  EXPECT_EQ(t.Reference().error().code, Code::kInvalidArgument);
  t.ExpectInferIsTotal();
}

}  // namespace
}  // namespace dunlin::testing
