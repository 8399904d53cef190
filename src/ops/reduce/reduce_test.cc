// Reductions and operators along an axis: meaning, and every kernel against its reference.
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

OpTest Reduction(const char* name, Tensor x, std::vector<int64_t> axes, int keepdims = 1) {
  OpTest t(name);
  t.Attr("keepdims", keepdims).Input(std::move(x)).Const(Tensor::Ints(axes));
  return t;
}

TEST(ReduceTest, KernelsMatchReference) {
  const std::pair<Dims, std::vector<int64_t>> cases[] = {
      {{7}, {0}},
      {{3, 17}, {1}},
      {{3, 17}, {0}},
      {{3, 17}, {-1}},
      {{2, 3, 5, 7}, {2, 3}},
      {{2, 3, 5, 7}, {1}},
      {{2, 3, 5, 7}, {3}},
      {{2, 3, 5, 7}, {0}},
      {{2, 3, 5, 7}, {0, 2, 3}},
      {{2, 3, 5, 7}, {0, 2}},
      {{2, 3, 5, 7}, {}},
      {{1, 70, 30, 31}, {2, 3}},
      {{4, 9000}, {1}},
      {{900, 40}, {0}},
      {{2, 5, 6}, {1}},
      {{1, 1, 1}, {1}},
      {{70000}, {0}},
  };
  for (const char* name : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1",
                           "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceProd"})
    for (const auto& [dims, axes] : cases)
      for (const int keep : {0, 1}) {
        SCOPED_TRACE(fmt::format("{} of {} over {} axes", name, ToString(dims), axes.size()));
        const bool product = std::string_view(name) == "ReduceProd";
        OpTest t =
            Reduction(name, RandomF32(dims, product ? 0.99f : -2, product ? 1.01f : 2), axes, keep);
        // Sums of values of both signs: the error is relative to the magnitudes summed.
        t.ExpectKernelMatches({.abs = 2e-6 * double(CountOf(dims)), .rel = 1e-5});
        t.ExpectInferIsTotal();
      }
}

TEST(ReduceTest, MeaningOfEachReduction) {
  const Tensor x = Tensor::Of<float>({2, 2}, {1, -2, 3, 4});
  const std::pair<const char*, std::vector<float>> cases[] = {
      {"ReduceSum", {-1, 7}},
      {"ReduceMean", {-0.5f, 3.5f}},
      {"ReduceMax", {1, 4}},
      {"ReduceMin", {-2, 3}},
      {"ReduceProd", {-2, 12}},
      {"ReduceL1", {3, 7}},
      {"ReduceL2", {std::sqrt(5.0f), 5}},
      {"ReduceSumSquare", {5, 25}},
      {"ReduceLogSum", {kNaN, std::log(7.0f)}},
      {"ReduceLogSumExp",
       {float(std::log(std::exp(1.0) + std::exp(-2.0))),
        float(std::log(std::exp(3.0) + std::exp(4.0)))}},
  };
  for (const auto& [name, y] : cases)
    EXPECT_TRUE(Near((*Reduction(name, x, {1}, 0).Reference())[0],
                     Tensor::Of<float>({2}, std::span<const float>(y)), {1e-6}))
        << name;
}

TEST(ReduceTest, EmptySetsHaveNeutralValues) {
  const std::pair<const char*, float> cases[] = {
      {"ReduceSum", 0},       {"ReduceProd", 1},       {"ReduceMax", -kInf},
      {"ReduceMin", kInf},    {"ReduceL1", 0},         {"ReduceL2", 0},
      {"ReduceSumSquare", 0}, {"ReduceLogSum", -kInf}, {"ReduceLogSumExp", -kInf}};
  for (const auto& [name, y] : cases)
    EXPECT_TRUE(Near((*Reduction(name, Tensor::Of<float>({2, 0}, {}), {1}, 0).Reference())[0],
                     Tensor::Of<float>({2}, {y, y})))
        << name;
}

TEST(ReduceTest, IntegersAndBooleans) {
  const Tensor x = Tensor::Of<int64_t>({3}, {5, -7, 3});
  EXPECT_TRUE(
      Near((*Reduction("ReduceMean", x, {}, 0).Reference())[0], Tensor::Scalar<int64_t>(0)));
  EXPECT_TRUE(
      Near((*Reduction("ReduceProd", x, {}, 0).Reference())[0], Tensor::Scalar<int64_t>(-105)));
  Reduction("ReduceSum", x, {}, 0).ExpectKernelMatches();
  EXPECT_TRUE(
      Near((*Reduction("ReduceMax", Tensor::Of<bool>({2}, {false, true}), {}, 0).Reference())[0],
           Tensor::Scalar<bool>(true)));
}

TEST(ReduceTest, NaNIsTheLargestAndTheSmallest) {
  std::vector<float> v(70, 1.0f);
  v[37] = kNaN;
  for (const char* name : {"ReduceMax", "ReduceMin"}) {
    OpTest t = Reduction(name, Tensor::Of<float>({70}, std::span<const float>(v)), {}, 0);
    t.ExpectKernelMatches();
    EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Scalar(kNaN)));
  }
}

TEST(ReduceTest, NoAxesMeansAllUnlessNoop) {
  const Tensor x = RandomF32({2, 3});
  EXPECT_EQ((*OpTest("ReduceSum").Input(x).Reference())[0].dims(), (Dims{1, 1}));
  EXPECT_TRUE(
      Near((*OpTest("ReduceSum").Attr("noop_with_empty_axes", 1).Input(x).Reference())[0], x));
}

TEST(ReduceTest, AxesOutsideTheRankAreRefused) {
  EXPECT_EQ(Reduction("ReduceSum", RandomF32({2, 3}), {2}).Infer().error().code,
            Code::kInvalidArgument);
}

TEST(ReduceTest, SqueezeOfChannelsLastNeedsNoReorder) {
  OpTest t = Reduction("ReduceMean", RandomF32({1, 24, 9, 11}), {2, 3});
  const auto r = t.Kernel({.channels_last = true});
  ASSERT_TRUE(r.has_value());
  EXPECT_EQ(r->kernel, "reduce.columns");
}

TEST(SoftmaxTest, KernelsMatchReference) {
  for (const char* name : {"Softmax", "LogSoftmax"})
    for (const Dims& dims : {Dims{1}, Dims{5}, Dims{16}, Dims{3, 33}, Dims{2, 3, 5, 7},
                             Dims{2, 17, 70}, Dims{40, 600}, Dims{1, 3, 20000}})
      for (int axis = 0; axis < dims.rank(); ++axis) {
        SCOPED_TRACE(fmt::format("{} of {} along {}", name, ToString(dims), axis));
        OpTest t(name);
        t.Attr("axis", axis).Input(RandomF32(dims, -20, 20));
        t.ExpectKernelMatches({1e-6, 5e-6});
        t.ExpectInferIsTotal();
      }
}

TEST(SoftmaxTest, LargeValuesDoNotOverflow) {
  OpTest t("Softmax");
  t.Input(Tensor::Of<float>({1, 3}, {1000, 1001, -kInf})).ExpectKernelMatches({1e-7, 2e-6});
  OpTest columns("LogSoftmax");
  columns.Attr("axis", 0)
      .Input(Tensor::Of<float>({3, 2}, {1000, -1000, 1001, -1001, 999, -1000}))
      .ExpectKernelMatches({1e-5, 2e-6});
}

TEST(SoftmaxTest, HardmaxTakesTheFirstLargest) {
  EXPECT_TRUE(Near((*OpTest("Hardmax").Input(Tensor::Of<float>({4}, {1, 3, 3, 2})).Reference())[0],
                   Tensor::Of<float>({4}, {0, 1, 0, 0})));
}

TEST(ArgTest, TiesAndLastIndex) {
  const Tensor x = Tensor::Of<float>({2, 3}, {1, 3, 3, 2, 0, 0});
  EXPECT_TRUE(Near((*OpTest("ArgMax").Attr("axis", 1).Attr("keepdims", 0).Input(x).Reference())[0],
                   Tensor::Of<int64_t>({2}, {1, 0})));
  EXPECT_TRUE(
      Near((*OpTest("ArgMax").Attr("axis", 1).Attr("select_last_index", 1).Input(x).Reference())[0],
           Tensor::Of<int64_t>({2, 1}, {2, 0})));
  EXPECT_TRUE(Near((*OpTest("ArgMin").Attr("axis", 0).Attr("keepdims", 0).Input(x).Reference())[0],
                   Tensor::Of<int64_t>({3}, {0, 1, 1})));
  EXPECT_EQ(OpTest("ArgMax").Input(Tensor::Of<float>({0, 2}, {})).Reference().error().code,
            Code::kInvalidArgument);
}

TEST(ArgTest, KernelsMatchReference) {
  for (const int64_t n : {1, 7, 16, 33, 1000, 70001})
    for (const bool with_nan : {false, true}) {
      Tensor x = RandomF32({3, n}, -1, 1, uint32_t(n));
      for (int64_t i = 0; i < x.count(); ++i)
        x.mut<float>()[i] = std::round(x.mut<float>()[i] * 40);  // many ties
      if (with_nan) x.mut<float>()[x.count() - 1] = kNaN;
      for (const char* name : {"ArgMax", "ArgMin"}) {
        OpTest t(name);
        t.Attr("axis", 1).Input(x).ExpectKernelMatches();
        t.ExpectInferIsTotal();
      }
    }
}

TEST(CumSumTest, ExclusiveAndReverse) {
  const Tensor x = Tensor::Of<int32_t>({4}, {1, 2, 3, 4}), axis = Tensor::Scalar<int64_t>(0);
  const auto sums = [&](int exclusive, int reverse) {
    return (*OpTest("CumSum")
                 .Attr("exclusive", exclusive)
                 .Attr("reverse", reverse)
                 .Input(x)
                 .Input(axis)
                 .Reference())[0];
  };
  EXPECT_TRUE(Near(sums(0, 0), Tensor::Of<int32_t>({4}, {1, 3, 6, 10})));
  EXPECT_TRUE(Near(sums(1, 0), Tensor::Of<int32_t>({4}, {0, 1, 3, 6})));
  EXPECT_TRUE(Near(sums(0, 1), Tensor::Of<int32_t>({4}, {10, 9, 7, 4})));
  EXPECT_TRUE(Near(sums(1, 1), Tensor::Of<int32_t>({4}, {9, 7, 4, 0})));
}

TEST(TopKTest, OrderTiesAndLimits) {
  const Tensor x = Tensor::Of<float>({5}, {2, 5, 5, 1, kNaN});
  OpTest t("TopK");
  t.Input(x).Const(Tensor::Ints({{3}})).Outputs(2);
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value());
  EXPECT_TRUE(Near((*r)[0], Tensor::Of<float>({3}, {kNaN, 5, 5})));
  EXPECT_TRUE(Near((*r)[1], Tensor::Of<int64_t>({3}, {4, 1, 2})));
  t.ExpectInferIsTotal();
  const auto small =
      OpTest("TopK").Attr("largest", 0).Input(x).Const(Tensor::Ints({{2}})).Outputs(2).Reference();
  EXPECT_TRUE(Near((*small)[1], Tensor::Of<int64_t>({2}, {3, 0})));
  EXPECT_EQ(OpTest("TopK").Input(x).Const(Tensor::Ints({{6}})).Outputs(2).Infer().error().code,
            Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin::testing
