#include "kernels/activation.h"
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

Tensor Counting(const Dims& dims) {
  Tensor t = Tensor::Create(DType::kF32, dims).value();
  for (int64_t i = 0; i < t.count(); ++i) t.mut<float>()[i] = float(i);
  return t;
}
Tensor Ones(const Dims& dims) {
  Tensor t = Tensor::Create(DType::kF32, dims).value();
  std::fill_n(t.mut<float>(), t.count(), 1.0f);
  return t;
}
Tensor F(const Dims& dims, std::initializer_list<float> v) { return Tensor::Of<float>(dims, v); }
using Ints = std::vector<int64_t>;

TEST(Conv, SumsWindows) {
  OpTest t("Conv");
  t.Input(Counting({1, 1, 3, 3})).Const(Ones({1, 1, 2, 2})).Const(F({1}, {100}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 2, 2}, {108, 112, 120, 124})));
  t.Attr("pads", Ints{1, 1, 0, 0});
  EXPECT_TRUE(Near(t.Reference().value()[0],
                   F({1, 1, 3, 3}, {100, 101, 103, 103, 108, 112, 109, 120, 124})));
  t.ExpectInferIsTotal();
}

TEST(Conv, StridesAndDilates) {
  OpTest t("Conv");
  t.Input(Counting({1, 1, 7})).Const(F({1, 1, 2}, {1, 10}));
  t.Attr("strides", Ints{2}).Attr("dilations", Ints{3});
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 2}, {30, 52})));
}

TEST(Conv, GroupsSeeOnlyTheirChannels) {
  OpTest t("Conv");
  t.Input(F({1, 2, 1}, {3, 5})).Const(F({4, 1, 1}, {1, 2, 10, 20})).Attr("group", 2);
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 4, 1}, {3, 6, 50, 100})));
}

TEST(Conv, RefusesExtentsThatDoNotFit) {
  const auto refuses = [](Tensor x, Tensor w, int group) {
    OpTest t("Conv");
    t.Input(std::move(x)).Const(std::move(w)).Attr("group", group);
    const auto y = t.Infer();
    ASSERT_FALSE(y.has_value());
    EXPECT_EQ(y.error().code, Code::kInvalidArgument);
  };
  refuses(Ones({1, 3, 4}), Ones({2, 2, 1}), 1);     // channels
  refuses(Ones({1, 3, 4}), Ones({2, 3, 5}), 1);     // kernel larger than the input
  refuses(Ones({1, 3, 4}), Ones({2, 3, 1, 1}), 1);  // ranks
  refuses(Ones({1, 4, 4}), Ones({3, 2, 1}), 2);     // outputs not a multiple of groups
  refuses(Ones({1, 3, 4}), Ones({2, 3, 1}), 0);
  refuses(Ones({3, 4}), Ones({2, 3}), 1);
}

TEST(FusedConv, AddsTheResidualBeforeTheActivation) {
  OpTest t("FusedConv", "dunlin");
  t.Input(F({1, 1, 3}, {1, 2, 3})).Const(F({1, 1, 1}, {2})).Const(F({1}, {1}));
  t.Input(F({1, 1, 3}, {-10, 0, 10})).Attr("activation", 1);
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 3}, {0, 5, 17})));
  OpTest bad("FusedConv", "dunlin");
  bad.Input(F({1, 1, 3}, {1, 2, 3})).Const(F({1, 1, 1}, {2})).Attr("activation", 99);
  EXPECT_FALSE(bad.Infer().has_value());
}

TEST(ConvTranspose, Scatters) {
  OpTest t("ConvTranspose");
  t.Input(F({1, 1, 3}, {1, 2, 3})).Const(F({1, 1, 3}, {1, 10, 100})).Const(F({1}, {0.5f}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 5}, {1.5f, 12.5f, 123.5f, 230.5f, 300.5f})));
  t.Attr("strides", Ints{2}).Attr("pads", Ints{1, 0}).Attr("output_padding", Ints{1});
  EXPECT_TRUE(Near(t.Reference().value()[0],
                   F({1, 1, 7}, {10.5f, 102.5f, 20.5f, 203.5f, 30.5f, 300.5f, 0.5f})));
  t.ExpectInferIsTotal();
}

TEST(ConvTranspose, OutputShapeDecidesThePadding) {
  OpTest t("ConvTranspose");
  t.Input(Ones({1, 1, 3})).Const(F({1, 1, 3}, {1, 10, 100})).Attr("output_shape", Ints{4});
  // One element too many: without SAME_UPPER it is cut off at the beginning.
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 4}, {11, 111, 110, 100})));
  t.Attr("auto_pad", "SAME_UPPER");
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 4}, {1, 11, 111, 110})));
}

struct ConvCase {
  Dims x, w;
  Ints strides, dilations, pads;
  int64_t group = 1;
};

OpTest Fused(const ConvCase& c, bool constant, int activation, bool residual) {
  SCOPED_TRACE(ToString(c.x) + ToString(c.w));
  OpTest t("FusedConv", "dunlin");
  t.Attr("group", int(c.group));
  if (!c.strides.empty()) t.Attr("strides", c.strides);
  if (!c.dilations.empty()) t.Attr("dilations", c.dilations);
  if (!c.pads.empty()) t.Attr("pads", c.pads);
  t.Attr("activation", activation).Attr("act_a", 0.1).Attr("act_b", 0.6);
  t.Input(RandomF32(c.x));
  constant ? t.Const(RandomF32(c.w, -1, 1, 2)) : t.Input(RandomF32(c.w, -1, 1, 2));
  t.Const(RandomF32({c.w[0]}, -1, 1, 3));
  if (residual) {
    const auto plain = t.Infer();
    EXPECT_TRUE(plain.has_value());
    t.Input(RandomF32((*plain)[0].dims, -1, 1, 4));
  }
  return t;
}

void ExpectMatches(const ConvCase& c) {
  SCOPED_TRACE(ToString(c.x) + ToString(c.w) + ToString(c.strides) + ToString(c.dilations) +
               ToString(c.pads) + " group " + std::to_string(c.group));
  Fused(c, true, 0, false).ExpectKernelMatches({.abs = 6e-5});
  Fused(c, false, 2, true).ExpectKernelMatches({.abs = 6e-5});
}

TEST(Conv, KernelMatchesForAnyGeometry) {
  ExpectMatches({{2, 5, 6, 7}, {9, 5, 1, 1}, {}, {}, {}});
  ExpectMatches({{2, 5, 6, 7}, {9, 5, 1, 1}, {2, 2}, {}, {}});
  ExpectMatches({{1, 5, 6, 7}, {9, 5, 1, 1}, {}, {}, {1, 0, 2, 1}});
  for (const int64_t stride : {1, 2, 3})
    for (const int64_t dilation : {1, 2})
      for (const int64_t pad : {0, 1, 3}) {
        const Ints s{stride, stride}, d{dilation, dilation};
        ExpectMatches({{2, 3, 11, 13}, {17, 3, 3, 3}, s, d, {pad, pad, pad, pad}});
        ExpectMatches({{1, 20, 9, 9}, {33, 20, 2, 4}, s, d, {pad, 0, 1, pad}});
        ExpectMatches({{1, 6, 11, 13}, {10, 3, 3, 3}, s, d, {pad, pad, pad, pad}, 2});
        ExpectMatches({{2, 19, 11, 13}, {19, 1, 3, 3}, s, d, {pad, pad, pad, pad}, 19});
        ExpectMatches({{1, 40, 11, 13}, {40, 1, 5, 5}, s, d, {pad, pad, 2, pad}, 40});
      }
  ExpectMatches({{1, 70, 14, 14}, {40, 70, 3, 3}, {}, {2, 2}, {1, 1, 1, 1}});  // long sums
}

TEST(Conv, KernelMatchesForOneAndThreeAxes) {
  ExpectMatches({{2, 4, 30}, {8, 4, 5}, {3}, {2}, {2, 1}});
  ExpectMatches({{2, 18, 30}, {18, 1, 3}, {1}, {1}, {1, 1}, 18});
  ExpectMatches({{1, 1, 600}, {5, 1, 400}, {10}, {}, {}});  // more taps than fit one list
  ExpectMatches({{1, 3, 5, 6, 7}, {4, 3, 3, 2, 3}, {2, 1, 1}, {1, 2, 1}, {1, 0, 1, 1, 0, 1}});
  ExpectMatches({{1, 17, 5, 6, 7}, {17, 1, 3, 3, 3}, {1, 1, 2}, {}, {1, 1, 1, 1, 1, 1}, 17});
}

TEST(Conv, KernelMatchesForDepthwiseOfEveryWidthAndChannelCount) {
  for (const int64_t channels : {2, 3, 4, 7, 8, 15, 16, 17, 33, 70})
    for (const int64_t width : {1, 2, 7, 8, 9, 23})
      for (const int64_t kernel : {3, 5, 7})
        for (const int64_t stride : {1, 2})
          ExpectMatches({{1, channels, 11, width},
                         {channels, 1, kernel, kernel},
                         {stride, stride},
                         {},
                         {3, 3, 3, 3},
                         channels});
  ExpectMatches({{2, 66, 21, 9}, {66, 1, 5, 5}, {}, {}, {2, 2, 2, 2}, 66});  // several bands
}

TEST(Conv, KernelMatchesForDepthwiseWithLargeKernels) {
  for (const int64_t channels : {3, 16, 21})
    for (const int64_t kernel : {9, 14, 31})
      for (const int64_t stride : {1, 2})
        ExpectMatches({{2, channels, 19, 17},
                       {channels, 1, kernel, kernel},
                       {stride, stride},
                       {},
                       {15, 14, 16, 15},
                       channels});
  // Taps apart, kernels of one long row, of several planes, and one too large for the pointers.
  ExpectMatches({{1, 18, 40, 50}, {18, 1, 12, 11}, {1, 3}, {2, 3}, {3, 4, 5, 6}, 18});
  ExpectMatches({{2, 5, 400}, {5, 1, 129}, {}, {}, {64, 64}, 5});
  ExpectMatches({{1, 18, 6, 12, 13}, {18, 1, 4, 9, 10}, {}, {}, {2, 4, 5, 1, 4, 4}, 18});
  ExpectMatches({{1, 3, 100, 100}, {3, 1, 91, 91}, {}, {}, {}, 3});
}

// Groups that share a vector, that fill one or more, with and without a rest.
TEST(Conv, KernelMatchesForGroupsOfEveryWidth) {
  const auto matches = [](int64_t group, int64_t in, int64_t out, int64_t width, int64_t stride,
                          int64_t dilation) {
    ExpectMatches({{2, group * in, 6, width},
                   {group * out, in, 3, 3},
                   {stride, stride},
                   {dilation, dilation},
                   {1, 2, 2, 1},
                   group});
  };
  for (const int64_t width : {3, 7, 8, 15, 31})
    for (const int64_t stride : {1, 2}) {
      matches(8, 2, 2, width, stride, 1);
      matches(16, 1, 2, width, stride, 1);
      matches(8, 4, 4, width, stride, 2);
      matches(6, 8, 8, width, stride, 1);
      matches(4, 5, 16, width, stride, 1);
      matches(3, 16, 16, width, stride, 2);
      matches(2, 9, 24, width, stride, 1);
      matches(2, 7, 40, width, stride, 1);
    }
  matches(2, 16, 16, 400, 1, 1);  // wider than one copy
  matches(3, 6, 12, 9, 3, 1);
  ExpectMatches({{2, 32, 30}, {32, 8, 5}, {2}, {2}, {2, 1}, 4});
  ExpectMatches({{0, 32, 5, 5}, {32, 8, 3, 3}, {}, {}, {}, 4});
}

TEST(Conv, GroupsRunByTheDirectKernel) {
  const auto kernel_of = [](int64_t group, int64_t stride) {
    const auto got =
        Fused({{1, 64, 14, 14}, {64, 64 / group, 3, 3}, {stride, stride}, {}, {}, group}, true, 0,
              false)
            .Kernel({true, 1, false});
    return got.has_value() ? got->kernel : got.error().message;
  };
  for (const int64_t group : {2, 4, 16, 32}) EXPECT_EQ(kernel_of(group, 1), "conv.grouped");
  EXPECT_EQ(kernel_of(4, 3), "conv.indirect");
}

TEST(Conv, KernelMatchesForFewChannels) {
  for (const int64_t channels : {1, 2, 3, 4, 7})
    for (const int64_t pad : {0, 2})
      for (const int64_t stride : {1, 2, 3}) {
        const Ints s{stride, stride};
        ExpectMatches({{2, channels, 17, 19}, {33, channels, 3, 3}, s, {}, {pad, pad, pad, pad}});
        ExpectMatches({{1, channels, 17, 19}, {6, channels, 7, 5}, s, {2, 1}, {pad, 0, 1, pad}});
        ExpectMatches({{1, channels, 40}, {6, channels, 9}, {stride}, {}, {pad, 0}});
      }
}

// Large enough for Winograd's method: whole and cut tiles of both sizes, a partial vector of
// channels, one and several chunks. F(4,3) was seen to be off by 2.1e-4 without
// fused multiply-adds (SSE4).
TEST(Conv, KernelMatchesForThreeByThreeOfManyChannels) {
  for (const int64_t width : {8, 9, 11, 30})
    for (const Ints& pads : {Ints{0, 0, 0, 0}, Ints{1, 1, 1, 1}, Ints{2, 0, 1, 2}})
      for (const int64_t outputs : {32, 37})
        for (const bool residual : {false, true})
          Fused({{2, 40, 17, width}, {outputs, 40, 3, 3}, {}, {}, pads}, true, residual ? 2 : 6,
                residual)
              .ExpectKernelMatches({.abs = 4e-4});
  // Enough chunks for several threads.
  Fused({{1, 33, 70, 66}, {36, 33, 3, 3}, {}, {}, {1, 1, 1, 1}}, true, 2, true)
      .ExpectKernelMatches({.abs = 4e-4});
}

// A wrong transform would show as a large error and fall back silently.
TEST(Conv, WinogradsMethodServesBothTileSizes) {
  const auto kernel_of = [](Dims x, Dims w) {
    const auto got = Fused({x, w, {}, {}, {1, 1, 1, 1}}, true, 0, false).Kernel({true, 1, false});
    return got.has_value() ? got->kernel : got.error().message;
  };
  ForEachSimdTarget([&](const char* target) {
    SCOPED_TRACE(target);
    EXPECT_EQ(kernel_of({1, 40, 32, 32}, {40, 40, 3, 3}).substr(0, 17), "conv.winograd_4x4");
    EXPECT_EQ(kernel_of({1, 512, 8, 8}, {512, 512, 3, 3}).substr(0, 17), "conv.winograd_2x2");
  });
}

TEST(Conv, WeightsThatAreNotFiniteAreMultipliedDirectly) {
  Tensor w = RandomF32({32, 32, 3, 3});
  w.mut<float>()[100] = std::numeric_limits<float>::infinity();
  OpTest t("Conv");
  t.Input(RandomF32({1, 32, 24, 24})).Const(w);
  t.ExpectKernelMatches({.abs = 6e-5});
}

TEST(Conv, KernelTakesEmptyBatches) {
  ExpectMatches({{0, 3, 5, 5}, {4, 3, 3, 3}, {}, {}, {}});
  ExpectMatches({{0, 3, 5, 5}, {3, 1, 3, 3}, {}, {}, {}, 3});
}

TEST(FusedConv, KernelAppliesEveryActivation) {
  for (int kind = 0; kind < kActivationCount; ++kind) {
    Fused({{1, 5, 6, 7}, {9, 5, 3, 3}, {}, {}, {1, 1, 1, 1}}, true, kind, true)
        .ExpectKernelMatches({.abs = 6e-5});
    Fused({{1, 18, 6, 7}, {18, 1, 3, 3}, {}, {}, {1, 1, 1, 1}, 18}, true, kind, true)
        .ExpectKernelMatches({.abs = 6e-5});
  }
}

TEST(Conv, NaNReachesItsNeighboursOnly) {
  for (const int64_t group : {1, 17}) {
    Tensor x = RandomF32({1, 17, 5, 5});
    x.mut<float>()[3 * 25 + 12] = std::nanf("");
    OpTest t("Conv");
    t.Attr("group", int(group)).Attr("pads", Ints{1, 1, 1, 1}).Input(x);
    t.Const(RandomF32(group == 1 ? Dims{4, 17, 3, 3} : Dims{17, 1, 3, 3}));
    t.ExpectKernelMatches({.abs = 1e-5});
  }
}

TEST(ConvTranspose, KernelMatchesForAnyGeometry) {
  const auto check = [](Dims x, Dims w, Ints strides, Ints dilations, Ints pads, Ints extra,
                        int group) {
    SCOPED_TRACE(ToString(x) + ToString(w) + ToString(strides) + ToString(dilations) +
                 ToString(pads) + ToString(extra) + " group " + std::to_string(group));
    OpTest t("ConvTranspose");
    t.Attr("strides", strides).Attr("dilations", dilations).Attr("pads", pads);
    t.Attr("output_padding", extra).Attr("group", group);
    t.Input(RandomF32(x)).Const(RandomF32(w, -1, 1, 2)).Const(RandomF32({w[1] * group}, -1, 1, 3));
    t.ExpectKernelMatches({.abs = 3e-5});
  };
  for (const int64_t stride : {1, 2, 3})
    for (const int64_t kernel : {1, 2, 3, 4})
      for (const int64_t dilation : {1, 2})
        for (const int64_t pad : {0, 1}) {
          if (kernel == 1 && pad == 1) continue;
          check({2, 5, 4, 6}, {5, 7, kernel, kernel}, {stride, stride}, {dilation, dilation},
                {pad, pad, 0, pad}, {0, stride - 1}, 1);
          check({1, 6, 4, 6}, {6, 5, kernel, 2}, {stride, 2}, {dilation, 1}, {pad, 0, 0, 0}, {0, 0},
                2);
        }
  check({2, 3, 9}, {3, 4, 5}, {2}, {1}, {1, 2}, {1}, 1);
  check({1, 3, 3, 4, 5}, {3, 18, 2, 3, 2}, {2, 1, 3}, {1, 2, 1}, {0, 1, 0, 1, 0, 1}, {0, 0, 1}, 1);
  check({0, 3, 9}, {3, 4, 5}, {2}, {1}, {1, 2}, {1}, 1);
}

// Numbers that bf16 has lose nothing by it: what the product gives is the reference's.
TEST(FusedConv, Bf16ProductsMatchOfNumbersThatBf16Has) {
  struct Case {
    Dims x, w;
    int group, stride, pad;
    const char* kernel;
  };
  const Case cases[] = {
      {{2, 133, 6, 7}, {37, 133, 1, 1}, 1, 1, 0, "conv.pointwise_bf16"},
      {{2, 17, 8, 7}, {37, 17, 3, 3}, 1, 2, 1, "conv.indirect_bf16"},
      {{1, 30, 10, 11}, {68, 15, 3, 3}, 2, 3, 1, "conv.indirect_bf16"},
      {{1, 3, 19, 20}, {35, 3, 7, 7}, 1, 2, 3, "conv.row_taps_bf16"},
      {{1, 1, 15, 15}, {33, 1, 12, 12}, 1, 1, 2, "conv.row_taps_bf16"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(ToString(c.x) + ToString(c.w));
    OpTest t("FusedConv", "dunlin");
    t.Bf16Products().Attr("group", c.group).Attr("strides", Ints{c.stride, c.stride});
    t.Attr("pads", Ints{c.pad, c.pad, c.pad, c.pad}).Attr("activation", int(Activation::kRelu));
    t.Input(RoundedToBf16(RandomF32(c.x))).Const(RoundedToBf16(RandomF32(c.w, -1, 1, 2)));
    t.Const(RandomF32({c.w[0]}, -1, 1, 3));
    t.ExpectKernelMatches({.abs = 3e-5});
    EXPECT_EQ(t.Kernel({.channels_last = true})->kernel, c.kernel);
  }
}

}  // namespace
}  // namespace dunlin::testing
