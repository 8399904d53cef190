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

}  // namespace
}  // namespace dunlin::testing
