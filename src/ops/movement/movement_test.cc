#include "ops/movement/movement.h"

#include <numeric>

#include "ops/testing.h"

namespace dunlin::testing {
namespace {

Tensor Iota(const Dims& dims) {
  Tensor t = Tensor::Create(DType::kF32, dims).value();
  std::iota(t.mut<float>(), t.mut<float>() + t.count(), 0.0f);
  return t;
}
Tensor Ints(std::initializer_list<int64_t> v) {
  return Tensor::Of<int64_t>({int64_t(v.size())}, v);
}
OpTest Make(const char* name, Tensor x) { return std::move(OpTest(name).Input(std::move(x))); }

void ExpectAll(const OpTest& t) {
  t.ExpectKernelMatches();
  t.ExpectInferIsTotal();
}

TEST(Concat, JoinsAlongAnyAxisInAnyLayout) {
  for (const int axis : {0, 1, 2, 3, -1}) {
    const auto dims = [&](int64_t n) {
      Dims d{2, 3, 5, 4};
      d[size_t(axis < 0 ? axis + 4 : axis)] = n;
      return d;
    };
    OpTest t("Concat");
    t.Attr("axis", axis)
        .Input(RandomF32(dims(3)))
        .Input(RandomF32(dims(1)))
        .Input(RandomF32(dims(8)));
    ExpectAll(t);
  }
}

TEST(Concat, IsWhatItSays) {
  OpTest t("Concat");
  t.Attr("axis", 1)
      .Input(Tensor::Of<int8_t>({2, 1}, {1, 2}))
      .Input(Tensor::Of<int8_t>({2, 2}, {3, 4, 5, 6}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<int8_t>({2, 3}, {1, 3, 4, 2, 5, 6})));
  t.ExpectKernelMatches();
}

TEST(Concat, JoinsStrings) {
  OpTest t("Concat");
  t.Attr("axis", 0)
      .Input(Tensor::Of<std::string>({1}, {"a"}))
      .Input(Tensor::Of<std::string>({2}, {"b", "c"}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<std::string>({3}, {"a", "b", "c"})));
}

TEST(ChannelShuffle, DealsOutGroupsOfOneInputOrOfSeveral) {
  for (const int groups : {1, 2, 3, 4, 6, 12}) {
    OpTest one("ChannelShuffle", "dunlin"), each("ChannelShuffle", "dunlin");
    one.Attr("groups", groups).Input(RandomF32({2, 12 * 5, 3, 4}));
    ExpectAll(one);
    each.Attr("groups", groups);
    for (int i = 0; i < groups; ++i) each.Input(RandomF32({2, 19, 3, 4}));
    ExpectAll(each);
  }
  OpTest t("ChannelShuffle", "dunlin");
  t.Attr("groups", 2).Input(Iota({1, 6, 1}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<float>({1, 6, 1}, {0, 3, 1, 4, 2, 5})));
}

TEST(ChannelShuffle, RefusesGroupsThatDoNotFit) {
  EXPECT_FALSE(OpTest("ChannelShuffle", "dunlin").Attr("groups", 4).Input(Iota({1, 6, 1})).Infer());
  EXPECT_FALSE(OpTest("ChannelShuffle", "dunlin").Attr("groups", 0).Input(Iota({1, 6, 1})).Infer());
}

TEST(Concat, RefusesWhatDoesNotFit) {
  const auto fails = [](int axis, Tensor a, Tensor b) {
    OpTest t("Concat");
    t.Attr("axis", axis).Input(std::move(a)).Input(std::move(b));
    return !t.Infer().has_value();
  };
  EXPECT_TRUE(fails(2, Iota({2, 2}), Iota({2, 2})));
  EXPECT_TRUE(fails(-3, Iota({2, 2}), Iota({2, 2})));
  EXPECT_TRUE(fails(0, Iota({2, 2}), Iota({2, 3})));
  EXPECT_TRUE(fails(0, Iota({2, 2}), Iota({2})));
  EXPECT_TRUE(fails(0, Iota({2}), Ints({2})));
  EXPECT_FALSE(OpTest("Concat").Input(Iota({2})).Infer().has_value()) << "axis is required";
}

TEST(Concat, CarriesShapesWithSymbols) {
  OpTest t("Concat");
  t.Attr("axis", 0).Input(Ints({0})).Const(Ints({-1})).Input(Ints({1, 2}));
  auto ctx = t.MakeInfer();
  ctx.shape_values[0] = Dims{SymbolDim(3)};
  ctx.shape_values[1] = Dims{-1};
  ASSERT_TRUE(t.Infer(ctx).has_value());
  EXPECT_EQ(ctx.shape_results[0], (Dims{SymbolDim(3), -1, -1, -1}));
}

TEST(Concat, KeepsASymbolThatNothingIsAddedTo) {
  OpTest t("Concat");
  t.Attr("axis", 0).Input(Iota({4})).Input(Iota({0}));
  auto ctx = t.MakeInfer();
  ctx.types[0]->dims[0] = SymbolDim(0);
  EXPECT_EQ(t.Infer(ctx).value()[0].dims, Dims{SymbolDim(0)});
}

TEST(Split, CutsEvenlyWithASmallerLastPiece) {
  auto t = Make("Split", Iota({7}));
  t.Attr("num_outputs", 3).Outputs(3);
  const auto r = t.Reference().value();
  EXPECT_TRUE(Near(r[0], Tensor::Of<float>({3}, {0, 1, 2})));
  EXPECT_TRUE(Near(r[2], Tensor::Of<float>({1}, {6})));
  ExpectAll(t);
}

TEST(Split, CutsAsListedInAnyLayoutAndSkipsWhatNobodyWants) {
  for (const int axis : {0, 1, 2}) {
    Dims d{6, 6, 5};
    d[size_t(axis)] = 9;
    auto t = Make("Split", RandomF32(d));
    t.Attr("axis", axis).Const(Ints({2, 0, 7})).Outputs(3);
    ExpectAll(t);
    t.Unwanted(0);
    t.ExpectKernelMatches();
  }
}

TEST(Split, RefusesSumsAndCountsThatDiffer) {
  const auto fails = [](std::initializer_list<int64_t> sizes, int outputs) {
    auto t = Make("Split", Iota({6}));
    t.Const(Ints(sizes)).Outputs(outputs);
    return !t.Infer().has_value();
  };
  EXPECT_TRUE(fails({2, 3}, 2));
  EXPECT_TRUE(fails({-1, 7}, 2));
  EXPECT_TRUE(fails({INT64_MAX, INT64_MAX, 8}, 3));
  EXPECT_TRUE(fails({3, 3}, 3));
  EXPECT_FALSE(fails({3, 3}, 2));
}

OpTest SliceOf(Tensor x, std::initializer_list<int64_t> starts, std::initializer_list<int64_t> ends,
               std::initializer_list<int64_t> axes, std::initializer_list<int64_t> steps) {
  OpTest t("Slice");
  t.Input(std::move(x)).Const(Ints(starts)).Const(Ints(ends)).Const(Ints(axes)).Const(Ints(steps));
  return t;
}

TEST(Slice, ClampsAndStepsBothWays) {
  const auto one = [](int64_t start, int64_t end, int64_t step) {
    const auto y = SliceOf(Iota({5}), {start}, {end}, {0}, {step}).Reference().value()[0];
    return std::vector<float>(y.as<float>(), y.as<float>() + y.count());
  };
  using V = std::vector<float>;
  EXPECT_EQ(one(1, 4, 1), (V{1, 2, 3}));
  EXPECT_EQ(one(-3, INT64_MAX, 1), (V{2, 3, 4}));
  EXPECT_EQ(one(INT64_MIN, INT64_MAX, 2), (V{0, 2, 4}));
  EXPECT_EQ(one(INT64_MAX, INT64_MIN, -2), (V{4, 2, 0}));
  EXPECT_EQ(one(-2, INT64_MIN, -1), (V{3, 2, 1, 0}));
  // Not what Python says, but what models that write it mean.
  EXPECT_EQ(one(-1, INT64_MAX, -1), (V{4, 3, 2, 1, 0}));
  EXPECT_EQ(one(4, INT32_MAX, -2), (V{4, 2, 0}));
  EXPECT_EQ(one(3, 3, 1), V{});
  EXPECT_EQ(one(0, 5, INT64_MAX), (V{0}));
  EXPECT_EQ(one(4, -6, INT64_MIN), (V{4}));
}

TEST(Slice, KernelAgreesInAnyLayout) {
  ExpectAll(SliceOf(RandomF32({3, 8, 7, 9}), {1, -1, 2}, {7, -20, 100}, {1, 3, 2}, {2, -1, 3}));
  ExpectAll(SliceOf(RandomF32({2, 64, 300}), {8}, {40}, {1}, {1}));
  ExpectAll(SliceOf(RandomInts<int64_t>({4, 5}, -9, 9), {0}, {0}, {1}, {1}));
  ExpectAll(SliceOf(RandomInts<int8_t>({40, 50}, -9, 9), {1, 3}, {39, 44}, {0, 1}, {1, 1}));
  OpTest bounds_at_run_time("Slice");
  bounds_at_run_time.Input(RandomF32({4, 9})).Input(Ints({2})).Input(Ints({4}));
  ExpectAll(bounds_at_run_time);
}

TEST(Slice, RefusesBadLists) {
  const Tensor x = Iota({4, 4});
  EXPECT_FALSE(SliceOf(x, {0}, {1}, {2}, {1}).Infer().has_value());
  EXPECT_FALSE(SliceOf(x, {0, 0}, {1, 1}, {1, -1}, {1, 1}).Infer().has_value());
  EXPECT_FALSE(SliceOf(x, {0}, {1}, {0}, {0}).Infer().has_value());
  EXPECT_FALSE(SliceOf(x, {0}, {1, 2}, {0}, {1}).Infer().has_value());
}

TEST(Slice, KeepsSymbolsThatAreTakenWhole) {
  auto t = SliceOf(Iota({4, 6}), {0, 1}, {INT64_MAX, 3}, {0, 1}, {1, 1});
  auto ctx = t.MakeInfer();
  const Tensor starts = Ints({0, 1}), ends = Ints({INT64_MAX, 3}), axes = Ints({0, 1}),
               steps = Ints({1, 1});
  ctx.types[0]->dims[0] = SymbolDim(1);
  ctx.values = {nullptr, &starts, &ends, &axes, &steps};
  EXPECT_EQ(t.Infer(ctx).value()[0].dims, (Dims{SymbolDim(1), 2}));
}

TEST(Slice, PicksEntriesOfAShape) {
  auto t = SliceOf(Ints({7, 8, 9}), {1}, {INT64_MAX}, {0}, {1});
  auto ctx = t.MakeInfer();
  const Tensor starts = Ints({1}), ends = Ints({INT64_MAX}), axes = Ints({0}), steps = Ints({1});
  ctx.values = {nullptr, &starts, &ends, &axes, &steps};
  ctx.shape_values[0] = Dims{3, SymbolDim(0), 5};
  ASSERT_TRUE(t.Infer(ctx).has_value());
  EXPECT_EQ(ctx.shape_results[0], (Dims{SymbolDim(0), 5}));
}

TEST(Transpose, MovesElementsOfEverySize) {
  auto t = Make("Transpose", Tensor::Of<float>({2, 3}, {0, 1, 2, 3, 4, 5}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<float>({3, 2}, {0, 3, 1, 4, 2, 5})));
  using P = std::vector<int64_t>;
  for (const P& perm :
       {P{0, 2, 1, 3}, P{0, 2, 3, 1}, P{0, 3, 1, 2}, P{3, 2, 1, 0}, P{1, 0, 3, 2}, P{0, 1, 3, 2}}) {
    const auto check = [&](Tensor x) {
      ExpectAll(Make("Transpose", std::move(x)).Attr("perm", perm));
    };
    check(RandomF32({2, 17, 5, 33}));
    check(RandomInts<int8_t>({2, 17, 5, 33}, -99, 99));
    check(RandomInts<int16_t>({2, 17, 5, 33}, -99, 99));
    check(RandomInts<int64_t>({2, 3, 5, 7}, -99, 99));
  }
  ExpectAll(Make("Transpose", RandomF32({700, 300})));
  ExpectAll(Make("Transpose", RandomF32({})));
  ExpectAll(Make("Transpose", RandomF32({3, 0, 2})));
}

TEST(Transpose, OfPackedHalfBytesIsExact) {
  Tensor x = Tensor::Create(DType::kU4, {3, 3}).value();
  const uint8_t bytes[] = {0x10, 0x32, 0x54, 0x76, 0x08};
  std::memcpy(x.raw(), bytes, 5);
  const Tensor y = Make("Transpose", x).Reference().value()[0];
  const uint8_t want[] = {0x30, 0x16, 0x74, 0x52, 0x08};
  EXPECT_EQ(std::memcmp(y.raw(), want, 4), 0);
  EXPECT_EQ(uint8_t(y.raw()[4]) & 15, 8);
}

TEST(Transpose, ChoosesTheLayoutThatMakesItOneBlock) {
  const OpDef* op = FindOp("Transpose");
  const auto output = [&](std::vector<int64_t> perm, Layout in, Dims y) {
    auto attrs = op->make_attrs();
    As<Transpose::Attrs>(*attrs).perm = std::move(perm);
    const Type type = Type::Of(DType::kF32, y);
    LayoutQuery q{{&type, 1}, {&type, 1}, {&in, 1}, {false}};
    return op->impl->layouts(*attrs, q).outputs[0];
  };
  EXPECT_EQ(output({0, 2, 3, 1}, Layout::kChannelsLast, {2, 5, 6, 7}), Layout::kRowMajor);
  EXPECT_EQ(output({0, 3, 1, 2}, Layout::kRowMajor, {SymbolDim(0), 5, 6, 7}),
            Layout::kChannelsLast);
  EXPECT_EQ(output({0, 2, 1, 3}, Layout::kRowMajor, {2, 5, 6, 7}), Layout::kRowMajor);
}

TEST(Transpose, RefusesWhatIsNoPermutation) {
  using P = std::vector<int64_t>;
  for (const P& perm : {P{0, 0}, P{0, 2}, P{-3, 0}, P{0}, P{0, 1, 2}})
    EXPECT_FALSE(Make("Transpose", Iota({2, 2})).Attr("perm", perm).Infer().has_value());
}

TEST(Pad, ContinuesInEveryMode) {
  const auto padded = [](const char* mode, std::initializer_list<int64_t> pads) {
    auto t = Make("Pad", Tensor::Of<float>({3}, {1, 2, 3}));
    t.Attr("mode", mode).Const(Ints(pads));
    t.ExpectKernelMatches();
    const Tensor y = t.Reference().value()[0];
    return std::vector<float>(y.as<float>(), y.as<float>() + y.count());
  };
  using V = std::vector<float>;
  EXPECT_EQ(padded("constant", {2, 1}), (V{0, 0, 1, 2, 3, 0}));
  EXPECT_EQ(padded("constant", {-1, 2}), (V{2, 3, 0, 0}));
  EXPECT_EQ(padded("constant", {-5, 9}), (V{0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(padded("edge", {2, 1}), (V{1, 1, 1, 2, 3, 3}));
  EXPECT_EQ(padded("edge", {-1, 1}), (V{2, 3, 3}));
  EXPECT_EQ(padded("reflect", {2, 3}), (V{3, 2, 1, 2, 3, 2, 1, 2}));
  EXPECT_EQ(padded("wrap", {2, 4}), (V{2, 3, 1, 2, 3, 1, 2, 3, 1}));
}

TEST(Pad, KernelAgreesInAnyLayout) {
  for (const char* mode : {"constant", "edge", "reflect", "wrap"}) {
    auto t = Make("Pad", RandomF32({2, 5, 6, 7}));
    t.Attr("mode", mode).Const(Ints({0, 1, 2, 3, 0, 0, 1, -2})).Const(Tensor::Scalar(2.5f));
    ExpectAll(t);
    auto axes = Make("Pad", RandomInts<int64_t>({2, 5, 6}, 0, 9));
    axes.Attr("mode", mode).Const(Ints({1, 2, 0, 1})).Absent().Const(Ints({-1, 1}));
    ExpectAll(axes);
  }
}

TEST(Pad, RefusesNonsense) {
  const auto fails = [](const char* mode, std::initializer_list<int64_t> pads) {
    auto t = Make("Pad", Iota({2, 2}));
    return !t.Attr("mode", mode).Const(Ints(pads)).Infer().has_value();
  };
  EXPECT_TRUE(fails("mirror", {0, 0, 0, 0}));
  EXPECT_TRUE(fails("constant", {0, 0}));
  EXPECT_TRUE(fails("constant", {-3, 0, 0, 0}));
  EXPECT_TRUE(fails("constant", {INT64_MAX, 0, INT64_MAX, 0}));
  EXPECT_TRUE(fails("constant", {INT64_MIN, 0, INT64_MAX, 0}));
  EXPECT_TRUE(fails("constant", {int64_t{1} << 50, int64_t{1} << 50, 0, 0}));
  EXPECT_TRUE(fails("reflect", {-2, 0, 3, 0}));
}

TEST(Tile, RepeatsEveryAxis) {
  auto t = Make("Tile", Tensor::Of<float>({1, 2}, {1, 2}));
  t.Const(Ints({2, 2}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<float>({2, 4}, {1, 2, 1, 2, 1, 2, 1, 2})));
  ExpectAll(t);
  ExpectAll(Make("Tile", RandomF32({2, 3, 4, 5})).Const(Ints({2, 3, 1, 2})));
  ExpectAll(Make("Tile", RandomF32({2, 3})).Const(Ints({0, 3})));
  EXPECT_FALSE(Make("Tile", Iota({2})).Const(Ints({-1})).Infer().has_value());
  EXPECT_FALSE(Make("Tile", Iota({2})).Const(Ints({INT64_MAX})).Infer().has_value());
  EXPECT_FALSE(Make("Tile", Iota({2})).Const(Ints({1, 1})).Infer().has_value());
}

TEST(Expand, BroadcastsBothWays) {
  ExpectAll(Make("Expand", RandomF32({3, 1, 5})).Const(Ints({2, 1, 4, 1})));
  ExpectAll(Make("Expand", RandomF32({})).Const(Ints({300, 200})));
  ExpectAll(Make("Expand", RandomF32({2, 4, 1, 1})).Const(Ints({2, 4, 3, 5})));
  EXPECT_FALSE(Make("Expand", Iota({3})).Const(Ints({2})).Infer().has_value());
  EXPECT_FALSE(Make("Expand", Iota({1})).Const(Ints({-2})).Infer().has_value());
  EXPECT_FALSE(
      Make("Expand", Iota({1})).Const(Ints({1 << 30, 1 << 30, 1 << 30})).Infer().has_value());
}

TEST(Expand, TakesSymbolsFromItsShape) {
  auto t = Make("Expand", Iota({1, 3}));
  t.Input(Ints({2, 1}));
  auto ctx = t.MakeInfer();
  ctx.shape_values[1] = Dims{SymbolDim(2), 1};
  EXPECT_EQ(t.Infer(ctx).value()[0].dims, (Dims{SymbolDim(2), 3}));
}

TEST(DepthToSpace, UndoesSpaceToDepth) {
  const Tensor x = RandomF32({2, 3, 4, 6});
  auto deep = Make("SpaceToDepth", x);
  deep.Attr("blocksize", 2);
  ExpectAll(deep);
  auto back = Make("DepthToSpace", deep.Reference().value()[0]);
  back.Attr("blocksize", 2);
  EXPECT_TRUE(Near(back.Reference().value()[0], x));
  ExpectAll(back);
  ExpectAll(back.Attr("mode", "CRD"));
  EXPECT_FALSE(Make("DepthToSpace", x).Attr("blocksize", 2).Infer().has_value());
  EXPECT_FALSE(Make("DepthToSpace", x).Attr("blocksize", 0).Infer().has_value());
  EXPECT_FALSE(Make("SpaceToDepth", x).Attr("blocksize", 4).Infer().has_value());
}

TEST(CenterCropPad, CropsAndPadsAroundTheMiddle) {
  auto t = Make("CenterCropPad", Tensor::Of<float>({5, 1}, {0, 1, 2, 3, 4}));
  t.Const(Ints({2, 4}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<float>({2, 4}, {0, 1, 0, 0, 0, 2, 0, 0})));
  ExpectAll(t);
  ExpectAll(Make("CenterCropPad", RandomF32({2, 5, 6, 7}))
                .Attr("axes", std::vector<int64_t>{3, 1})
                .Const(Ints({10, 2})));
}

TEST(ReverseSequence, ReversesEachLengthOfTime) {
  auto t = Make("ReverseSequence", Tensor::Of<float>({2, 3}, {0, 1, 2, 3, 4, 5}));
  t.Attr("batch_axis", 0).Attr("time_axis", 1).Input(Ints({2, 3}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<float>({2, 3}, {1, 0, 2, 5, 4, 3})));
  t.ExpectInferIsTotal();
  auto bad = Make("ReverseSequence", Iota({2, 3}));
  bad.Attr("batch_axis", 0).Attr("time_axis", 1).Input(Ints({2, 4}));
  EXPECT_FALSE(bad.Reference().has_value());
}

TEST(ReverseSequence, RefusesAbsurdAxes) {
  for (const int64_t axis : {int64_t{2}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
    auto t = Make("ReverseSequence", Iota({2, 3}));
    t.Attr("time_axis", AttrSetter::Value(axis)).Input(Ints({2, 2}));
    EXPECT_FALSE(t.Infer().has_value());
  }
}

TEST(Trilu, KeepsATriangle) {
  const Tensor x = Tensor::Of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_TRUE(
      Near(Make("Trilu", x).Reference().value()[0], Tensor::Of<float>({2, 3}, {1, 2, 3, 0, 5, 6})));
  auto lower = Make("Trilu", x);
  lower.Attr("upper", 0).Const(Tensor::Scalar<int64_t>(-1));
  EXPECT_TRUE(Near(lower.Reference().value()[0], Tensor::Of<float>({2, 3}, {0, 0, 0, 4, 0, 0})));
  auto all = Make("Trilu", x);
  all.Const(Tensor::Scalar<int64_t>(INT64_MIN));
  EXPECT_TRUE(Near(all.Reference().value()[0], x));
}

TEST(Col2Im, SumsOverlappingColumns) {
  auto t = Make("Col2Im", Tensor::Of<float>({1, 2, 2}, {1, 2, 3, 4}));
  t.Const(Ints({3})).Const(Ints({2}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<float>({1, 1, 3}, {1, 5, 4})));
  EXPECT_FALSE(
      Make("Col2Im", Iota({1, 2, 2})).Const(Ints({1})).Const(Ints({2})).Infer().has_value());
  EXPECT_FALSE(
      Make("Col2Im", Iota({1, 3, 2})).Const(Ints({3})).Const(Ints({2})).Infer().has_value());
  EXPECT_FALSE(Make("Col2Im", Iota({1, 2, 2}))
                   .Const(Ints({INT64_MAX}))
                   .Const(Ints({2}))
                   .Infer()
                   .has_value());
}

}  // namespace
}  // namespace dunlin::testing
