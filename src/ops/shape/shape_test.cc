#include "ops/shape/shape.h"

#include "ops/testing.h"

namespace dunlin::testing {
namespace {

const int64_t kS0 = SymbolDim(0), kS1 = SymbolDim(1);

Tensor Ints(std::initializer_list<int64_t> v) {
  return Tensor::Of<int64_t>({int64_t(v.size())}, v);
}
Tensor Zeros(const Dims& d) { return Tensor::Zeros(DType::kF32, d).value(); }

// The extents that inference gives for an input of extents `x` and, for input 1, a constant `list`.
Result<Dims> Extents(const char* op, const Dims& x, std::initializer_list<int64_t> list,
                     bool allowzero = false) {
  OpTest t(op);
  t.Input(Tensor::Scalar(0.0f)).Input(Ints(list));
  if (allowzero) t.Attr("allowzero", 1);
  auto ctx = t.MakeInfer();
  const Tensor value = Ints(list);
  ctx.types[0] = Type::Of(DType::kF32, x);
  ctx.values[1] = &value;
  return TRY(t.Infer(ctx))[0].dims;
}

TEST(Shape, GivesAWindowOfTheExtentsAndKeepsSymbols) {
  OpTest t("Shape");
  t.Input(Zeros({2, 3, 4})).Attr("start", 1);
  EXPECT_TRUE(Near(t.Reference().value()[0], Ints({3, 4})));
  t.Attr("end", -1);
  EXPECT_TRUE(Near(t.Reference().value()[0], Ints({3})));
  t.Attr("start", 7);
  EXPECT_TRUE(Near(t.Reference().value()[0], Ints({})));
  OpTest all("Shape");
  all.Input(Zeros({2, 3}));
  auto ctx = all.MakeInfer();
  ctx.types[0]->dims = {kS0, 3};
  ASSERT_TRUE(all.Infer(ctx).has_value());
  EXPECT_EQ(ctx.shape_results[0], (Dims{kS0, 3}));
  all.ExpectInferIsTotal();
}

TEST(Size, MultipliesExtents) {
  OpTest t("Size");
  t.Input(Zeros({2, 3, 4}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Scalar<int64_t>(24)));
  t.ExpectInferIsTotal();
}

TEST(Reshape, ResolvesCopiesAndTheInferredExtent) {
  EXPECT_EQ(Extents("Reshape", {2, 3, 4}, {0, -1}).value(), (Dims{2, 12}));
  EXPECT_EQ(Extents("Reshape", {2, 3, 4}, {4, 6}).value(), (Dims{4, 6}));
  EXPECT_EQ(Extents("Reshape", {1}, {}).value(), Dims{});
  EXPECT_EQ(Extents("Reshape", {0, 3}, {3, 0}, true).value(), (Dims{3, 0}));
  EXPECT_EQ(Extents("Reshape", {0, 6, 4}, {0, -1, 2}).value(), (Dims{0, 12, 2}));
}

TEST(Reshape, KeepsSymbols) {
  EXPECT_EQ(Extents("Reshape", {kS0, kS1, 768}, {0, 0, 12, 64}).value(), (Dims{kS0, kS1, 12, 64}));
  EXPECT_EQ(Extents("Reshape", {kS0, kS1, 12, 64}, {0, 0, -1}).value(), (Dims{kS0, kS1, 768}));
  EXPECT_EQ(Extents("Reshape", {kS0, 3, 4}, {-1, 12}).value(), (Dims{kS0, 12}));
  EXPECT_EQ(Extents("Reshape", {kS0, kS1, 4}, {-1, 4}).value(), (Dims{kUnknownDim, 4}));
  EXPECT_EQ(Extents("Reshape", {kS0, 3, 4}, {-1, 6}).value(), (Dims{kUnknownDim, 6}));
}

TEST(Reshape, CancelsSymbolsOfAComputedShape) {
  OpTest t("Reshape");
  t.Input(Zeros({2, 3, 4})).Input(Ints({2, 12}));
  auto ctx = t.MakeInfer();
  ctx.types[0]->dims = {kS0, kS1, 768};
  ctx.shape_values[1] = Dims{kS0, -1, 12, 64};
  EXPECT_EQ(t.Infer(ctx).value()[0].dims, (Dims{kS0, kS1, 12, 64}));
  t.ExpectInferIsTotal();
  EXPECT_TRUE(Near(t.Reference().value()[0], Zeros({2, 12})));
}

TEST(Reshape, RefusesWhatDoesNotFit) {
  EXPECT_FALSE(Extents("Reshape", {2, 3}, {4}).has_value());
  EXPECT_FALSE(Extents("Reshape", {2, 3}, {-1, 4}).has_value());
  EXPECT_FALSE(Extents("Reshape", {2, 3}, {-1, -1}).has_value());
  EXPECT_FALSE(Extents("Reshape", {2, 3}, {-2, 3}).has_value());
  EXPECT_FALSE(Extents("Reshape", {2, 3}, {2, 3, 0}).has_value());
  EXPECT_FALSE(Extents("Reshape", {0, 3}, {0, -1}, true).has_value());
  EXPECT_FALSE(Extents("Reshape", {2, 3}, {0, 3}, true).has_value());
  EXPECT_FALSE(Extents("Reshape", {2}, {INT64_MAX, INT64_MAX}).has_value());
  EXPECT_FALSE(Extents("Reshape", {4}, {3, INT64_MAX, -1}).has_value());
}

TEST(Flatten, MakesAMatrix) {
  const auto flat = [](int axis, const Dims& x) {
    OpTest t("Flatten");
    t.Attr("axis", axis).Input(Zeros({}));
    auto ctx = t.MakeInfer();
    ctx.types[0]->dims = x;
    return t.Infer(ctx);
  };
  EXPECT_EQ(flat(1, {kS0, 3, 4}).value()[0].dims, (Dims{kS0, 12}));
  EXPECT_EQ(flat(0, {2, 3}).value()[0].dims, (Dims{1, 6}));
  EXPECT_EQ(flat(3, {2, 3, 4}).value()[0].dims, (Dims{24, 1}));
  EXPECT_EQ(flat(-1, {2, 3, 4}).value()[0].dims, (Dims{6, 4}));
  EXPECT_FALSE(flat(4, {2, 3, 4}).has_value());
  EXPECT_FALSE(flat(-4, {2, 3, 4}).has_value());
}

TEST(Squeeze, DropsExtentsOfOne) {
  EXPECT_EQ(Extents("Squeeze", {1, kS0, 1}, {0, -1}).value(), Dims{kS0});
  EXPECT_EQ(Extents("Squeeze", {kS0, 3}, {0}).value(), Dims{3});
  EXPECT_FALSE(Extents("Squeeze", {2, 1}, {0}).has_value());
  EXPECT_FALSE(Extents("Squeeze", {1, 1}, {0, -2}).has_value());
  EXPECT_FALSE(Extents("Squeeze", {1}, {1}).has_value());
  OpTest t("Squeeze");
  t.Input(Zeros({1, 2, 1}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Zeros({2})));
  t.ExpectInferIsTotal();
}

TEST(Unsqueeze, InsertsExtentsOfOne) {
  EXPECT_EQ(Extents("Unsqueeze", {kS0, 3}, {-1, 0}).value(), (Dims{1, kS0, 3, 1}));
  EXPECT_FALSE(Extents("Unsqueeze", {2}, {0, 0}).has_value());
  EXPECT_FALSE(Extents("Unsqueeze", {2}, {2}).has_value());
  OpTest t("Unsqueeze");
  t.Input(Tensor::Scalar<int64_t>(5)).Const(Ints({0}));
  auto ctx = t.MakeInfer();
  const Tensor axes = Ints({0});
  ctx.values[1] = &axes;
  ctx.shape_values[0] = Dims{kS1};
  ASSERT_TRUE(t.Infer(ctx).has_value());
  EXPECT_EQ(ctx.shape_results[0], Dims{kS1});
  t.ExpectInferIsTotal();
}

TEST(Constant, HoldsAnyForm) {
  EXPECT_TRUE(Near(OpTest("Constant").Attr("value_int", 3).Reference().value()[0],
                   Tensor::Scalar<int64_t>(3)));
  EXPECT_TRUE(
      Near(OpTest("Constant").Attr("value_floats", std::vector<float>{1, 2}).Reference().value()[0],
           Tensor::Of<float>({2}, {1, 2})));
  EXPECT_TRUE(Near(OpTest("Constant").Attr("value_string", "x").Reference().value()[0],
                   Tensor::Scalar<std::string>("x")));
  EXPECT_TRUE(
      Near(OpTest("Constant").Attr("value", Zeros({2, 2})).Reference().value()[0], Zeros({2, 2})));
}

TEST(Constant, RefusesNoneAndTwo) {
  const auto none = OpTest("Constant").Infer();
  ASSERT_FALSE(none.has_value());
  EXPECT_NE(none.error().message.find("sparse_value"), std::string::npos);
  EXPECT_FALSE(
      OpTest("Constant").Attr("value_int", 3).Attr("value_float", 1.0).Infer().has_value());
}

TEST(ConstantOfShape, FillsWithItsValue) {
  OpTest t("ConstantOfShape");
  t.Const(Ints({2, 3})).Attr("value", Tensor::Of<int8_t>({1}, {7}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<int8_t>({2, 3}, {7, 7, 7, 7, 7, 7})));
  t.ExpectInferIsTotal();
  EXPECT_TRUE(
      Near(OpTest("ConstantOfShape").Const(Ints({})).Reference().value()[0], Tensor::Scalar(0.0f)));
  EXPECT_FALSE(OpTest("ConstantOfShape").Const(Ints({-1})).Infer().has_value());
  EXPECT_FALSE(
      OpTest("ConstantOfShape").Const(Ints({1 << 30, 1 << 30, 1 << 30})).Infer().has_value());
  EXPECT_FALSE(
      OpTest("ConstantOfShape").Attr("value", Zeros({2})).Const(Ints({1})).Infer().has_value());
}

template <class T>
Result<OpTest::Outcome> RangeOf(T start, T limit, T delta) {
  OpTest t("Range");
  t.Input(Tensor::Scalar(start)).Input(Tensor::Scalar(limit)).Input(Tensor::Scalar(delta));
  return t.Reference();
}

TEST(Range, CountsBothWaysAndRefusesEndless) {
  EXPECT_TRUE(Near(RangeOf<int64_t>(1, 8, 3).value()[0], Ints({1, 4, 7})));
  EXPECT_TRUE(Near(RangeOf<int64_t>(8, 1, -3).value()[0], Ints({8, 5, 2})));
  EXPECT_TRUE(Near(RangeOf<int64_t>(1, 1, 1).value()[0], Ints({})));
  EXPECT_TRUE(Near(RangeOf<int64_t>(INT64_MIN, INT64_MAX, INT64_MAX).value()[0],
                   Ints({INT64_MIN, -1, INT64_MAX - 1})));
  EXPECT_TRUE(
      Near(RangeOf<float>(0, 1, 0.25f).value()[0], Tensor::Of<float>({4}, {0, 0.25, 0.5, 0.75})));
  EXPECT_FALSE(RangeOf<int64_t>(0, 1, 0).has_value());
  EXPECT_FALSE(RangeOf<float>(0, 1, 0).has_value());
  EXPECT_FALSE(RangeOf<float>(0, INFINITY, 1).has_value());
  EXPECT_FALSE(RangeOf<float>(0, NAN, 1).has_value());
  EXPECT_FALSE(RangeOf<int64_t>(0, INT64_MAX, 1).has_value());
}

TEST(Range, OfASymbolHasThatExtent) {
  OpTest t("Range");
  t.Input(Tensor::Scalar<int64_t>(0))
      .Input(Tensor::Scalar<int64_t>(9))
      .Input(Tensor::Scalar<int64_t>(1));
  auto ctx = t.MakeInfer();
  const Tensor zero = Tensor::Scalar<int64_t>(0), one = Tensor::Scalar<int64_t>(1);
  ctx.values = {&zero, nullptr, &one};
  ctx.shape_values[1] = Dims{kS0};
  EXPECT_EQ(t.Infer(ctx).value()[0].dims, Dims{kS0});
  t.ExpectInferIsTotal();
}

TEST(EyeLike, PutsOnesOnADiagonal) {
  OpTest t("EyeLike");
  t.Input(Zeros({2, 3})).Attr("k", 1).Attr("dtype", AttrSetter::Value(DType::kI32));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<int32_t>({2, 3}, {0, 1, 0, 0, 0, 1})));
  t.ExpectInferIsTotal();
}

TEST(OneHot, TurnsIndicesIntoUnitVectors) {
  OpTest t("OneHot");
  t.Input(Ints({0, -1, 5})).Const(Tensor::Scalar<float>(3)).Input(Tensor::Of<int32_t>({2}, {0, 9}));
  EXPECT_TRUE(
      Near(t.Reference().value()[0], Tensor::Of<int32_t>({3, 3}, {9, 0, 0, 0, 0, 9, 0, 0, 0})));
  t.Attr("axis", 0);
  EXPECT_TRUE(
      Near(t.Reference().value()[0], Tensor::Of<int32_t>({3, 3}, {9, 0, 0, 0, 0, 0, 0, 9, 0})));
  t.ExpectInferIsTotal();
  t.Attr("axis", 2);
  EXPECT_FALSE(t.Infer().has_value());
}

TEST(NonZero, ListsIndices) {
  OpTest t("NonZero");
  t.Input(Tensor::Of<float>({2, 2}, {1, 0, NAN, 3}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<int64_t>({2, 3}, {0, 1, 1, 0, 0, 1})));
  t.ExpectInferIsTotal();
}

}  // namespace
}  // namespace dunlin::testing
