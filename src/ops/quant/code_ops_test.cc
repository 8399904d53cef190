// CodeConv and CodeMatMul: every step of what follows the sums, and the kernels against it.
#include "ops/quant/code_ops.h"

#include "ops/testing.h"

namespace dunlin {
namespace {

using namespace testing;  // NOLINT: the harness

// A 1x1 convolution of two pixels with two channels: sums 5 and -11 of the only output channel.
OpTest TwoSums(const std::function<void(CodeStoreAttrs&)>& set) {
  OpTest t("CodeConv", "dunlin");
  t.SetAttrs([&](Attrs& a) { set(As<CodeConvAttrs>(a).store); });
  t.Input(Tensor::Of<uint8_t>({1, 2, 1, 2}, {13, 7, 11, 8}))
      .Input(Tensor::Scalar(0.5f))
      .Input(Tensor::Scalar<uint8_t>(10))
      .Const(Tensor::Of<int8_t>({1, 2, 1, 1}, {1, 2}))  // 3 + 2, -3 - 4 …
      .Const(Tensor::Scalar(2.0f))
      .Absent();
  return t;
}
Tensor Of(OpTest& t) {
  t.ExpectInferIsTotal();
  t.ExpectKernelMatches();
  return (*t.Reference())[0];
}

TEST(CodeConvTest, WithoutAScaleOfTheResultItIsAFloat) {
  OpTest t = TwoSums([](CodeStoreAttrs&) {});
  t.Const(Tensor::Of<float>({1}, {0.25f}));
  EXPECT_TRUE(Near(Of(t), Tensor::Of<float>({1, 1, 1, 2}, {5.25f, -6.75f})));
}

TEST(CodeConvTest, ABiasOfIntegersIsAddedToTheSums) {
  OpTest t = TwoSums([](CodeStoreAttrs&) {});
  t.Const(Tensor::Of<int32_t>({1}, {3}));
  EXPECT_TRUE(Near(Of(t), Tensor::Of<float>({1, 1, 1, 2}, {8, -4})));
}

TEST(CodeConvTest, ClipNeedNotEndWhereTheCodesEnd) {
  OpTest t = TwoSums([](CodeStoreAttrs& s) {
    s.activation = int64_t(Activation::kClip);
    s.act_a = -2, s.act_b = 3;
    s.y_scale = 0.5f, s.y_zero = 1, s.y_type = DType::kI8;
  });
  EXPECT_TRUE(Near(Of(t), Tensor::Of<int8_t>({1, 1, 1, 2}, {7, -3})));
}

// 5 rounds to the middle code 2 (of 2.5, half to even) of scale 2; with the residual of 3 it is 7.
TEST(CodeConvTest, TheMiddleCodeIsRoundedBeforeTheResidualIsAdded) {
  OpTest t = TwoSums([](CodeStoreAttrs& s) {
    s.mid_scale = 2, s.mid_zero = 128;
    s.residual_scale = 1.5f, s.residual_zero = 4;
    s.y_scale = 1, s.y_zero = 0;
  });
  t.Absent().Input(Tensor::Of<uint8_t>({1, 1, 1, 2}, {6, 255}));
  EXPECT_TRUE(Near(Of(t), Tensor::Of<uint8_t>({1, 1, 1, 2}, {7, 255})));
}

TEST(CodeConvTest, ATableMakesCodesOfAnyFunctionAndType) {
  OpTest t = TwoSums([](CodeStoreAttrs& s) { s.y_scale = 1, s.y_zero = 8; });
  Tensor table = Tensor::Create(DType::kI8, {256}).value();
  for (int i = 0; i < 256; ++i) table.mut<int8_t>()[i] = int8_t(i - 100);
  t.Absent().Absent().Const(table);
  EXPECT_TRUE(Near(Of(t), Tensor::Of<int8_t>({1, 1, 1, 2}, {-87, -99})));  // of the codes 13 and 1
}

// Everything at once, at odd sizes. Activations that are no comparisons: see below.
struct Follow {
  Activation activation;
  bool mid, codes;
  DType residual;
};
const Follow kFollows[] = {
    {Activation::kNone, false, true, DType::kUndefined},
    {Activation::kRelu, true, true, DType::kU8},
    {Activation::kClip, false, true, DType::kF32},
    {Activation::kLeakyRelu, true, true, DType::kI8},
    {Activation::kRelu, false, false, DType::kU8},
};
void Set(const Follow& f, CodeStoreAttrs& s) {
  s.activation = int64_t(f.activation);
  s.act_a = f.activation == Activation::kClip ? -3.3f : 0.1f;
  s.act_b = 20;
  if (f.mid) s.mid_scale = 0.37f, s.mid_zero = 100;
  s.residual_scale = 0.21f, s.residual_zero = 9;
  if (f.codes) s.y_scale = 0.33f, s.y_zero = 31;
}
// Weights and their zero points, by what they are multiplied as where bytes are fast.
enum class WeightKind {
  kS8,       // bytes
  kU8,       // bytes, with the zero point 128
  kFew,      // bytes: fewer bits, zero points of their own
  kEveryBit  // all 256 codes with any zero point: only widened
};
constexpr WeightKind kWeightKinds[] = {WeightKind::kS8, WeightKind::kU8, WeightKind::kFew,
                                       WeightKind::kEveryBit};
std::pair<Tensor, Tensor> WeightsOf(WeightKind kind, const Dims& w, int64_t columns) {
  switch (kind) {
    case WeightKind::kS8:
      return {RandomInts<int8_t>(w, -128, 127), Tensor::Scalar<int8_t>(0)};
    case WeightKind::kU8:
      return {RandomInts<uint8_t>(w, 0, 255), Tensor::Scalar<uint8_t>(128)};
    case WeightKind::kFew:
      return {RandomInts<uint8_t>(w, 0, 127), RandomInts<uint8_t>({columns}, 0, 127)};
    default:
      return {RandomInts<uint8_t>(w, 0, 255), RandomInts<uint8_t>({columns}, 0, 255)};
  }
}
bool AreBytes(WeightKind kind) { return kind != WeightKind::kEveryBit; }

void AddRest(OpTest& t, const Follow& f, const Dims& y, int64_t n) {
  t.Const(RandomF32({n}, -5, 5));
  if (f.residual == DType::kF32) t.Input(RandomF32(y, -30, 30));
  if (f.residual == DType::kU8) t.Input(RandomInts<uint8_t>(y, 0, 255));
  if (f.residual == DType::kI8) t.Input(RandomInts<int8_t>(y, -128, 127));
}

TEST(CodeConvTest, KernelMatchesForEveryGeometryAndEverythingThatFollows) {
  using Ints = std::vector<int64_t>;
  const struct {
    Dims x, w, y;
    int group;
    Ints pads, strides;
  } cases[] = {{{2, 3, 9, 8}, {8, 3, 3, 3}, {2, 8, 5, 8}, 1, {1, 1, 1, 1}, {2, 1}},
               {{1, 37, 9, 9}, {37, 1, 3, 3}, {1, 37, 9, 9}, 37, {1, 1, 1, 1}, {1, 1}},
               {{2, 40, 9, 11}, {40, 1, 3, 3}, {2, 40, 5, 6}, 40, {1, 1, 1, 1}, {2, 2}},
               {{1, 48, 10, 7}, {48, 1, 5, 5}, {1, 48, 10, 7}, 48, {2, 2, 2, 2}, {1, 1}},
               {{1, 17, 12, 9}, {17, 1, 5, 5}, {1, 17, 5, 5}, 17, {1, 2, 1, 2}, {2, 2}},
               {{1, 6, 9, 9}, {4, 3, 3, 3}, {1, 4, 7, 7}, 2, {0, 0, 0, 0}, {1, 1}},
               {{2, 28, 9, 7}, {28, 4, 3, 3}, {2, 28, 9, 7}, 7, {1, 1, 1, 1}, {1, 1}},
               {{1, 288, 5, 6}, {288, 8, 3, 3}, {1, 288, 3, 3}, 36, {1, 1, 1, 1}, {2, 2}},
               {{1, 39, 5, 6}, {72, 13, 3, 3}, {1, 72, 5, 6}, 3, {1, 1, 1, 1}, {1, 1}},
               {{1, 33, 5, 7}, {300, 33, 1, 1}, {1, 300, 5, 7}, 1, {0, 0, 0, 0}, {1, 1}},
               {{2, 3, 15, 14}, {9, 3, 7, 5}, {2, 9, 8, 8}, 1, {3, 2, 3, 3}, {2, 2}},
               {{1, 5, 7, 6}, {17, 5, 3, 2}, {1, 17, 7, 5}, 1, {1, 0, 1, 0}, {1, 1}},
               {{2, 33, 9, 11}, {70, 33, 3, 3}, {2, 70, 9, 11}, 1, {1, 1, 1, 1}, {1, 1}},
               {{1, 40, 6, 5}, {32, 40, 3, 3}, {1, 32, 8, 5}, 1, {2, 1, 2, 1}, {1, 1}},
               {{1, 19, 13, 11}, {21, 19, 3, 3}, {1, 21, 13, 11}, 1, {1, 1, 1, 1}, {1, 1}}};
  for (const auto& c : cases)
    for (const Follow& f : kFollows)
      for (const WeightKind kind : kWeightKinds)
        for (const bool is_signed : {false, true}) {
          const auto [w, zero] = WeightsOf(kind, c.w, c.w[0]);
          OpTest t("CodeConv", "dunlin");
          t.SetAttrs([&](Attrs& a) { Set(f, As<CodeConvAttrs>(a).store); })
              .Attr("group", c.group)
              .Attr("pads", c.pads)
              .Attr("strides", c.strides)
              .Input(is_signed ? RandomInts<int8_t>(c.x, -128, 127)
                               : RandomInts<uint8_t>(c.x, 0, 255))
              .Input(Tensor::Scalar(0.02f))
              .Input(is_signed ? Tensor::Scalar<int8_t>(-128) : Tensor::Scalar<uint8_t>(99))
              .Const(w)
              .Const(RandomF32({c.w[0]}, 0.001f, 0.02f))
              .Const(zero);
          AddRest(t, f, c.y, c.w[0]);
          t.ExpectKernelMatches();
        }
}

TEST(CodeMatMulTest, KernelMatchesForEveryShapeAndEverythingThatFollows) {
  const struct {
    Dims a, b, y;
    bool trans_a, trans_b, rows;
  } cases[] = {{{5, 7}, {7, 9}, {5, 9}, false, false, true},
               {{2, 3, 64}, {64, 33}, {2, 3, 33}, false, false, true},
               {{2, 65, 3}, {65, 33}, {2, 3, 33}, true, false, false},
               {{2, 3, 5, 8}, {2, 3, 4, 8}, {2, 3, 5, 4}, false, true, false},
               {{30, 129}, {300, 129}, {30, 300}, false, true, false}};
  for (const auto& c : cases)
    for (const Follow& f : kFollows)
      for (const WeightKind kind : kWeightKinds)
        for (const bool constant : {false, true}) {
          const int64_t n = c.y.back();
          OpTest t("CodeMatMul", "dunlin");
          t.SetAttrs([&](Attrs& a) {
            auto& m = As<CodeMatMulAttrs>(a);
            m.trans_a = c.trans_a;
            m.trans_b = c.trans_b;
            m.alpha = 0.7f;
            Set(f, m.store);
          });
          t.Input(RandomInts<int8_t>(c.a, -128, 127))
              .Input(c.rows ? RandomF32({CountOf(c.y) / n}, 0.01f, 0.02f) : Tensor::Scalar(0.02f))
              .Input(Tensor::Scalar<int8_t>(-7));
          const auto [w, zero] = WeightsOf(kind, c.b, n);
          constant ? t.Const(w) : t.Input(w);
          t.Const(RandomF32({n}, 0.001f, 0.02f)).Const(zero);
          AddRest(t, f, c.y, n);
          t.ExpectInferIsTotal();
          t.ExpectKernelMatches();
        }
}

TEST(CodeConvTest, WeightsThatFitS8AreBytesWhereThoseAreFast) {
  const auto kernel = [](WeightKind kind, const Dims& x, const Dims& w, bool fast) {
    const auto [weights, zero] = WeightsOf(kind, w, w[0]);
    OpTest t("CodeConv", "dunlin");
    t.Input(RandomInts<uint8_t>(x, 0, 255))
        .Input(Tensor::Scalar(0.02f))
        .Input(Tensor::Scalar<uint8_t>(3))
        .Const(weights)
        .Const(Tensor::Scalar(0.02f))
        .Const(zero);
    AssumeByteProductIsFast(fast);
    const auto got = t.Kernel({.channels_last = true});
    AssumeByteProductIsFast(std::nullopt);
    return got.has_value() ? got->kernel : got.error().message;
  };
  const struct {
    Dims x, w;
    const char *bytes, *codes;
  } cases[] = {{{1, 40, 6, 6}, {32, 40, 1, 1}, "bytes.pointwise", "codes.pointwise"},
               {{1, 40, 6, 6}, {32, 40, 3, 3}, "bytes.indirect", "codes.winograd"},
               {{1, 3, 6, 6}, {32, 3, 3, 3}, "bytes.rows", "codes.rows"}};
  for (const auto& c : cases)
    for (const WeightKind kind : kWeightKinds) {
      EXPECT_EQ(kernel(kind, c.x, c.w, true), AreBytes(kind) ? c.bytes : c.codes);
      EXPECT_EQ(kernel(kind, c.x, c.w, false), c.codes);
    }
}

// They are approximated, so that a result which lies between two codes may go either way.
TEST(CodeConvTest, OtherActivationsAreWithinACode) {
  for (const Activation kind : {Activation::kSigmoid, Activation::kTanh, Activation::kSilu,
                                Activation::kHardSwish, Activation::kGelu}) {
    OpTest t("CodeConv", "dunlin");
    t.SetAttrs([&](Attrs& a) {
      auto& s = As<CodeConvAttrs>(a).store;
      s.activation = int64_t(kind);
      s.y_scale = 0.013f, s.y_zero = 40;
    });
    t.Input(RandomInts<uint8_t>({1, 5, 9, 7}, 0, 255))
        .Input(Tensor::Scalar(0.02f))
        .Input(Tensor::Scalar<uint8_t>(120))
        .Const(RandomInts<int8_t>({301, 5, 1, 1}, -127, 127))
        .Const(Tensor::Scalar(0.005f));
    t.ExpectKernelMatches({.abs = 1});
  }
}

TEST(QuantizeRowsTest, EveryRowHasItsScale) {
  OpTest t("QuantizeRows", "dunlin");
  t.Outputs(2).Input(Tensor::Of<float>({3, 2}, {127, -63.5f, 0, 0, 0.5f, -1}));
  const auto y = *t.Reference();
  EXPECT_TRUE(Near(y[0], Tensor::Of<int8_t>({3, 2}, {127, -64, 0, 0, 64, -127})));  // half to even
  EXPECT_TRUE(Near(y[1], Tensor::Of<float>({3}, {1, 1, 1 / 127.0f})));
  t.ExpectKernelMatches();
  t.ExpectInferIsTotal();
  OpTest odd("QuantizeRows", "dunlin");
  odd.Outputs(2).Input(RandomF32({2, 3, 77}, -9, 9)).ExpectKernelMatches();
}

TEST(QuantizeRowsTest, WhatIsNotFiniteMakesItsRowNoNumber) {
  Tensor x = RandomF32({3, 40});
  x.mut<float>()[45] = NAN;
  x.mut<float>()[99] = -INFINITY;
  OpTest t("QuantizeRows", "dunlin");
  t.Outputs(2).Input(x);
  const auto y = *t.Reference();
  EXPECT_FALSE(std::isnan(y[1].as<float>()[0]));
  EXPECT_TRUE(std::isnan(y[1].as<float>()[1]));
  EXPECT_TRUE(std::isnan(y[1].as<float>()[2]));
  t.ExpectKernelMatches();
}

TEST(CodeConvTest, WhatDoesNotFitIsRefused) {
  const auto refused = [](const std::function<void(CodeStoreAttrs&)>& set) {
    return !TwoSums(set).Infer().has_value();
  };
  EXPECT_FALSE(refused([](CodeStoreAttrs&) {}));
  EXPECT_TRUE(refused([](CodeStoreAttrs& s) { s.activation = 99; }));
  EXPECT_TRUE(refused([](CodeStoreAttrs& s) { s.y_scale = -1; }));
  EXPECT_TRUE(refused([](CodeStoreAttrs& s) { s.y_zero = 256; }));
  EXPECT_TRUE(refused([](CodeStoreAttrs& s) { s.mid_type = DType::kF32; }));
  OpTest bias = TwoSums([](CodeStoreAttrs&) {});
  bias.Const(Tensor::Of<float>({2}, {1, 2}));
  EXPECT_FALSE(bias.Reference().has_value());
}

}  // namespace
}  // namespace dunlin
