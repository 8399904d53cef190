// Concat and Slice that copy nothing, and where they still must.
#include "runtime/parts.h"

#include <algorithm>

#include "runtime/testing.h"

namespace dunlin {
namespace {

struct Net : GraphBuilder {
  static constexpr int64_t kSide = 9;
  ValueId Conv(ValueId x, int64_t outputs, int64_t kernel = 3) {
    const int64_t pad = kernel / 2;
    return Add("Conv", {x, Weights({outputs, Channels(x), kernel, kernel}, -0.3f, 0.3f)},
               {{"pads", std::vector<int64_t>{pad, pad, pad, pad}}});
  }
  ValueId Concat(std::vector<ValueId> x, int64_t axis = 1) {
    return Add("Concat", std::move(x), {{"axis", axis}});
  }
  ValueId Slice(ValueId x, int64_t from, int64_t to, int64_t axis = 1) {
    return Add("Slice",
               {x, Const(Tensor::Ints(std::vector{from})), Const(Tensor::Ints(std::vector{to})),
                Const(Tensor::Ints(std::vector{axis}))});
  }
  ValueId Norm(ValueId x) {
    const int64_t c = Channels(x);
    return Add("BatchNormalization",
               {x, Weights({c}), Weights({c}), Weights({c}), Weights({c}, 0.5f, 2)});
  }
  int64_t Channels(ValueId v) { return graph().value(v).type.dims[1]; }
};

// Copies in the plan of a graph whose results are those of the reference, with one image and more,
// and as often as it is run.
int64_t CopiesIn(const Graph& g, int64_t batch = 1) {
  const Dims dims = {batch, 5, Net::kSide, Net::kSide};
  std::mt19937 rng(3);
  const std::vector<Tensor> x = {Random(dims, rng)};
  Runner runner;
  const auto want = runner.Run(g, PlanMode::kReference, x, 1);
  EXPECT_TRUE(want.has_value());
  for (const int64_t chained : {0, 1}) {
    if (chained != 0) runner.chains = {0, 1, int64_t{1} << 40, 1};
    const auto got = runner.Run(g, PlanMode::kFast, x, 2);
    EXPECT_TRUE(got.has_value());
    for (size_t i = 0; i < want->size(); ++i) ExpectClose((*got)[i].tensor, (*want)[i].tensor, "");
  }
  ProgramContext context;
  context.weights = MakeWeightCache();
  const auto plan = BuildPlan(g, std::vector<Type>{Type::Of(DType::kF32, dims)}, context);
  EXPECT_TRUE(plan.has_value());
  return std::ranges::count_if((*plan)->steps,
                               [](const Step& s) { return s.kernel->name() == "copy"; });
}

TEST(Parts, ConvolutionsWriteIntoTheirConcat) {
  for (const int64_t batch : {1, 3}) {
    Net b;
    const ValueId x = b.Input({batch, 5, Net::kSide, Net::kSide});
    const ValueId a = b.Conv(x, 17, 1), c = b.Conv(a, 33), d = b.Add("Relu", {b.Conv(x, 3)});
    const auto g = b.Finish({b.Conv(b.Concat({a, c, d}), 7)});
    EXPECT_EQ(CopiesIn(*g, batch), 0) << batch;
  }
}

TEST(Parts, AGrowingConcatIsOneMemory) {
  Net b;
  std::vector<ValueId> features = {b.Conv(b.Input({1, 5, Net::kSide, Net::kSide}), 16)};
  for (int i = 0; i < 4; ++i) {
    const ValueId all = i == 0 ? features[0] : b.Concat(features);
    features.push_back(b.Conv(b.Conv(b.Norm(all), 20, 1), 8));
  }
  const auto g = b.Finish({b.Conv(b.Norm(b.Concat(features)), 5, 1)});
  EXPECT_EQ(CopiesIn(*g), 0);
}

TEST(Parts, SlicesAreReadWhereTheyLie) {
  Net b;
  const ValueId x = b.Conv(b.Input({1, 5, Net::kSide, Net::kSide}), 24);
  const ValueId low = b.Slice(x, 0, 11), high = b.Slice(x, 11, 24), middle = b.Slice(x, 3, 15);
  const auto g = b.Finish({b.Conv(low, 4, 1), b.Conv(high, 4), b.Conv(middle, 18)});
  EXPECT_EQ(CopiesIn(*g), 0);
}

TEST(Parts, AShuffledConcatIsOneStepBetweenConvolutions) {
  Net b;
  const auto ints = [&](std::vector<int64_t> v) { return b.Const(Tensor::Ints(v)); };
  const ValueId x = b.Conv(b.Input({1, 5, Net::kSide, Net::kSide}), 36);
  const ValueId low = b.Slice(x, 0, 18), high = b.Slice(x, 18, 36);
  const ValueId groups = b.Add("Reshape", {b.Concat({low, b.Conv(b.Conv(high, 20, 1), 18)}),
                                           ints({1, 2, 18, Net::kSide, Net::kSide})});
  const ValueId turned =
      b.Add("Transpose", {groups}, {{"perm", std::vector<int64_t>{0, 2, 1, 3, 4}}});
  const ValueId y = b.Add("Reshape", {turned, ints({1, 36, Net::kSide, Net::kSide})});
  const auto g = b.Finish({b.Conv(b.Slice(y, 0, 18), 3, 1), b.Conv(b.Slice(y, 18, 36), 3)});
  EXPECT_EQ(CopiesIn(*g), 0);
}

TEST(Parts, RowsOfAnImageAreContiguousForEveryKernel) {
  Net b;
  const ValueId x = b.Input({1, 5, Net::kSide, Net::kSide});
  const ValueId whole = b.Conv(b.Concat({b.Add("Tanh", {b.Conv(x, 8)}), b.Conv(x, 8)}, 2), 6);
  const ValueId top = b.Add("Tanh", {b.Slice(whole, 0, 4, 2)});
  const auto g = b.Finish({b.Conv(top, 3), b.Conv(b.Slice(whole, 4, Net::kSide, 2), 3)});
  EXPECT_EQ(CopiesIn(*g), 0);
}

TEST(Parts, AKernelThatNeedsItContiguousKeepsTheCopy) {
  Net b;
  const ValueId x = b.Input({1, 5, Net::kSide, Net::kSide});
  const ValueId a = b.Conv(x, 6), c = b.Conv(x, 7);
  const auto g = b.Finish({b.Conv(b.Concat({a, c}), 3), b.Conv(b.Add("Tanh", {a}), 2)});
  EXPECT_EQ(CopiesIn(*g), 1);
}

TEST(Parts, AGraphOutputKeepsTheCopy) {
  Net b;
  const ValueId x = b.Input({1, 5, Net::kSide, Net::kSide});
  const ValueId a = b.Conv(x, 6), c = b.Conv(x, 7);
  const auto g = b.Finish({b.Conv(b.Concat({a, c}), 3), a});
  EXPECT_EQ(CopiesIn(*g), 1);
}

// The activation comes last to read the concat and would write over it; the part is read later.
TEST(Parts, NothingIsWrittenOverAPartThatIsReadLater) {
  Net b;
  const ValueId x = b.Input({1, 5, Net::kSide, Net::kSide});
  const ValueId a = b.Conv(x, 9), c = b.Conv(x, 7);
  const ValueId all = b.Add("Tanh", {b.Concat({a, c})});
  const ValueId sum = b.Conv(all, 6);
  const auto g = b.Finish({b.Conv(b.Add("Relu", {b.Add("Add", {b.Conv(a, 6), sum})}), 2)});
  EXPECT_EQ(CopiesIn(*g), 0);
}

// The same where a view has brought the part into the concat.
TEST(Parts, NothingIsWrittenOverAPartThatAViewHasPlaced) {
  Net b;
  const auto flat = [&](ValueId v) {
    const std::vector<int64_t> shape = {5, Net::kSide * Net::kSide};
    return b.Add("Reshape", {v, b.Const(Tensor::Ints(shape))});
  };
  const ValueId x = b.Input({1, 5, Net::kSide, Net::kSide});
  const ValueId a = b.Add("MatMul", {x, b.Weights({Net::kSide, Net::kSide})});
  const ValueId all =
      b.Add("Concat", {flat(a), flat(b.Add("Sigmoid", {x}))}, {{"axis", int64_t{0}}});
  const auto g = b.Finish({all, b.Conv(b.Add("Tanh", {a}), 2)});
  EXPECT_EQ(CopiesIn(*g), 0);
}

TEST(Parts, OneValueTwiceInAConcatIsCopiedOnce) {
  Net b;
  const ValueId a = b.Conv(b.Input({1, 5, Net::kSide, Net::kSide}), 6);
  const auto g = b.Finish({b.Conv(b.Concat({a, a}), 3)});
  EXPECT_EQ(CopiesIn(*g), 1);
}

}  // namespace
}  // namespace dunlin
