// Elementwise operators: meaning (against values worked out by hand), and every kernel against its
// reference on every SIMD target.
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kTiny = std::numeric_limits<float>::denorm_min();

// Odd sizes around vector widths, one that several threads share, and the values floats trip over.
std::vector<Tensor> Probes(float lo, float hi) {
  std::vector<Tensor> v;
  for (const int64_t n : {0, 1, 3, 7, 16, 17, 63, 70001})
    v.push_back(RandomF32({n}, lo, hi, uint32_t(n + 1)));
  v.push_back(Tensor::Of<float>({14}, {0.0f, -0.0f, 1, -1, kInf, -kInf, kNaN, kTiny, -kTiny, 1e-20f,
                                       -1e-20f, 1e30f, -1e30f, 0.5f}));
  v.push_back(RandomF32({2, 5, 3, 7}, lo, hi));
  return v;
}

struct UnaryCase {
  const char* name;
  float lo, hi;
  Tolerance tol;
};

class UnaryKernels : public ::testing::TestWithParam<UnaryCase> {};
TEST_P(UnaryKernels, MatchReference) {
  const UnaryCase& c = GetParam();
  for (const Tensor& x : Probes(c.lo, c.hi)) {
    OpTest t(c.name);
    t.Input(x);
    t.ExpectKernelMatches(c.tol);
    t.ExpectInferIsTotal();
  }
}
constexpr Tolerance kClose = {.abs = 2e-7, .rel = 2e-6};
INSTANTIATE_TEST_SUITE_P(
    All, UnaryKernels,
    ::testing::Values(
        UnaryCase{"Abs", -9, 9, {}}, UnaryCase{"Ceil", -9, 9, {}}, UnaryCase{"Floor", -9, 9, {}},
        UnaryCase{"Round", -9, 9, {}}, UnaryCase{"Neg", -9, 9, {}}, UnaryCase{"Sign", -2, 2, {}},
        UnaryCase{"Reciprocal", 0.1f, 9, {}}, UnaryCase{"Sqrt", 0, 9, {}},
        UnaryCase{"Relu", -9, 9, {}}, UnaryCase{"Exp", -80, 80, kClose},
        UnaryCase{"Log", 0, 9, kClose}, UnaryCase{"Erf", -4, 4, kClose},
        UnaryCase{"Sigmoid", -30, 30, kClose}, UnaryCase{"Tanh", -5, 5, kClose},
        UnaryCase{"Softplus", -30, 30, kClose}, UnaryCase{"Softsign", -9, 9, kClose},
        UnaryCase{"Mish", -30, 30, kClose}, UnaryCase{"Gelu", -6, 6, {1e-6, 2e-6}},
        UnaryCase{"HardSwish", -9, 9, {1e-6, 2e-6}}, UnaryCase{"LeakyRelu", -9, 9, kClose},
        UnaryCase{"Elu", -9, 9, kClose}, UnaryCase{"Celu", -9, 9, kClose},
        UnaryCase{"Selu", -9, 9, kClose}, UnaryCase{"ThresholdedRelu", -3, 3, {}},
        UnaryCase{"HardSigmoid", -9, 9, kClose}, UnaryCase{"Swish", -9, 9, {1e-6, 2e-6}},
        UnaryCase{"Sin", -9, 9, {}}, UnaryCase{"IsNaN", -9, 9, {}}, UnaryCase{"IsInf", -9, 9, {}},
        UnaryCase{"Shrink", -2, 2, {}}),
    [](const auto& c) { return std::string(c.param.name); });

TEST(UnaryTest, AttributesReachTheKernel) {
  const Tensor x = RandomF32({33}, -4, 4);
  const std::pair<const char*, std::vector<std::pair<const char*, float>>> cases[] = {
      {"LeakyRelu", {{"alpha", 0.3f}}},    {"Elu", {{"alpha", 0.7f}}},
      {"Celu", {{"alpha", 0.7f}}},         {"Selu", {{"alpha", 0.7f}, {"gamma", 2}}},
      {"ThresholdedRelu", {{"alpha", 3}}}, {"HardSigmoid", {{"alpha", 0.3f}, {"beta", 0.2f}}},
      {"Swish", {{"alpha", 1.5f}}},
  };
  for (const auto& [name, attrs] : cases) {
    OpTest t(name), plain(name);
    for (const auto& [attr, value] : attrs) t.Attr(attr, value);
    t.Input(x);
    plain.Input(x);
    t.ExpectKernelMatches({1e-6, 2e-6});
    EXPECT_FALSE(Near((*t.Reference())[0], (*plain.Reference())[0], {1e-3}))
        << name << " ignores its attributes";
  }
  OpTest gelu("Gelu");
  gelu.Attr("approximate", "tanh").Input(x).ExpectKernelMatches({1e-6, 2e-6});
}

TEST(UnaryTest, RoundsHalvesToEven) {
  EXPECT_TRUE(Near((*OpTest("Round")
                         .Input(Tensor::Of<float>({5}, {0.5f, 1.5f, 2.5f, -0.5f, -2.5f}))
                         .Reference())[0],
                   Tensor::Of<float>({5}, {0, 2, 2, 0, -2})));
}

TEST(UnaryTest, LowestIntegerHasNoUndefinedNegative) {
  const Tensor x = Tensor::Of<int32_t>({1}, {INT32_MIN});
  EXPECT_TRUE(Near((*OpTest("Neg").Input(x).Reference())[0], x));
  EXPECT_TRUE(Near((*OpTest("Abs").Input(x).Reference())[0], x));
}

TEST(UnaryTest, RefusesTypesTheOperatorDoesNotTake) {
  EXPECT_EQ(OpTest("Exp").Input(Tensor::Of<int64_t>({1}, {1})).Infer().error().code,
            Code::kInvalidArgument);
  EXPECT_EQ(OpTest("Not").Input(Tensor::Of<float>({1}, {1})).Infer().error().code,
            Code::kInvalidArgument);
}

TEST(UnaryTest, HalvesAreComputedAndRounded) {
  const Tensor x = Tensor::Of<Half>({2}, {Half(1.0f), Half(-2.0f)});
  const Tensor y = (*OpTest("Exp").Input(x).Reference())[0];
  EXPECT_EQ(y.as<Half>()[0].bits, Half(std::exp(1.0f)).bits);
}

// ---- Binary ----

struct Extents {
  Dims a, b;
};
const Extents kBroadcasts[] = {
    {{17}, {17}},
    {{}, {5}},
    {{5}, {}},
    {{3, 1}, {1, 4}},
    {{2, 3, 4, 5}, {3, 1, 1}},
    {{2, 3, 4, 5}, {5}},
    {{2, 1, 4}, {3, 1}},
    {{1, 3, 1, 5}, {2, 1, 4, 1}},
    {{0, 3}, {1, 3}},
    {{70001}, {1}},
    {{130, 600}, {600}},
    {{130, 600}, {130, 1}},
    {{2, 3, 4, 5}, {2, 3, 4, 5}},
    {{2, 3, 4, 5}, {2, 3, 1, 1}},
    {{2, 3, 4, 5}, {1, 1, 4, 5}},
    {{3, 70001}, {3, 1}},
};

TEST(BinaryTest, KernelsMatchReferenceUnderBroadcasting) {
  for (const char* name :
       {"Add", "Sub", "Mul", "Div", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
    for (const auto& [a, b] : kBroadcasts) {
      SCOPED_TRACE(fmt::format("{} {} {}", name, ToString(a), ToString(b)));
      OpTest t(name);
      t.Input(RandomF32(a, -2, 2, 1)).Input(RandomF32(b, 0.5f, 2, 2));
      t.ExpectKernelMatches();
      t.ExpectInferIsTotal();
    }
}

TEST(BinaryTest, PReluTakesASlopePerChannelInBothLayouts) {
  OpTest t("PRelu");
  t.Input(RandomF32({2, 3, 4, 5})).Const(Tensor::Of<float>({3, 1, 1}, {0.1f, 0.2f, 0.3f}));
  t.ExpectKernelMatches();
}

TEST(BinaryTest, ComparisonsWithNaNAreFalse) {
  const Tensor x = Tensor::Of<float>({3}, {kNaN, 1, kNaN}),
               y = Tensor::Of<float>({3}, {1, kNaN, kNaN});
  for (const char* name : {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}) {
    OpTest t(name);
    t.Input(x).Input(y).ExpectKernelMatches();
    EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<bool>({3}, {false, false, false})));
  }
}

TEST(BinaryTest, IntegerKernelsMatchReference) {
  for (const char* name : {"Add", "Sub", "Mul", "Div", "Mod", "BitwiseAnd", "Equal", "Less"}) {
    OpTest t(name);
    t.Input(RandomInts<int64_t>({5, 7}, -9, 9, 1))
        .Input(RandomInts<int64_t>({7}, -3, 3, 2))
        .ExpectKernelMatches();
  }
}

TEST(BinaryTest, IntegerDivisionNeverTraps) {
  const Tensor x = Tensor::Of<int32_t>({4}, {7, -7, INT32_MIN, 5}),
               y = Tensor::Of<int32_t>({4}, {2, 2, -1, 0});
  EXPECT_TRUE(Near((*OpTest("Div").Input(x).Input(y).Reference())[0],
                   Tensor::Of<int32_t>({4}, {3, -3, INT32_MIN, 0})));
  EXPECT_TRUE(Near((*OpTest("Mod").Input(x).Input(y).Reference())[0],
                   Tensor::Of<int32_t>({4}, {1, 1, 0, 0})));
  EXPECT_TRUE(Near((*OpTest("Mod").Attr("fmod", 1).Input(x).Input(y).Reference())[0],
                   Tensor::Of<int32_t>({4}, {1, -1, 0, 0})));
}

TEST(BinaryTest, StringsCompare) {
  EXPECT_TRUE(Near((*OpTest("Equal")
                         .Input(Tensor::Of<std::string>({2}, {"a", "b"}))
                         .Input(Tensor::Of<std::string>({1}, {"b"}))
                         .Reference())[0],
                   Tensor::Of<bool>({2}, {false, true})));
}

TEST(BinaryTest, RefusesExtentsAndTypesThatDoNotMatch) {
  EXPECT_EQ(OpTest("Add").Input(RandomF32({2})).Input(RandomF32({3})).Infer().error().code,
            Code::kInvalidArgument);
  EXPECT_EQ(
      OpTest("Add").Input(RandomF32({2})).Input(Tensor::Scalar<int64_t>(1)).Infer().error().code,
      Code::kInvalidArgument);
  EXPECT_EQ(OpTest("Mod").Input(RandomF32({2})).Input(RandomF32({2})).Infer().error().code,
            Code::kInvalidArgument);
}

TEST(BinaryTest, PowMixesTypes) {
  const Tensor base = Tensor::Of<int32_t>({4}, {2, -2, 3, 0});
  EXPECT_TRUE(Near((*OpTest("Pow").Input(base).Input(Tensor::Of<float>({1}, {2})).Reference())[0],
                   Tensor::Of<int32_t>({4}, {4, 4, 9, 0})));
  EXPECT_TRUE(Near(
      (*OpTest("Pow").Input(base).Input(Tensor::Of<int64_t>({4}, {3, 3, -1, 0})).Reference())[0],
      Tensor::Of<int32_t>({4}, {8, -8, 0, 1})));
}

TEST(BinaryTest, PowOfCommonExponentsHasAKernel) {
  for (const float e : {2.0f, 3.0f, 0.5f, -1.0f, -0.5f}) {
    OpTest t("Pow");
    t.Input(RandomF32({2, 3, 5}, 0.1f, 3))
        .Const(Tensor::Scalar(e))
        .ExpectKernelMatches({1e-7, 1e-6});
  }
}

// An extent computed from symbolic ones.
std::optional<Dims> ShapeThrough(const char* name, Dims a, int64_t b) {
  OpTest t(name);
  t.Input(Tensor::Of<int64_t>({int64_t(a.size())}, std::span<const int64_t>(a)))
      .Const(Tensor::Scalar(b));
  TestInferContext ctx = t.MakeInfer();
  const Tensor constant = Tensor::Scalar(b);
  ctx.shape_values[0] = a;
  ctx.values[1] = &constant;
  EXPECT_TRUE(t.Infer(ctx).has_value());
  return ctx.shape_results[0];
}

TEST(BinaryTest, ExtentsFlowThroughArithmetic) {
  const int64_t s = SymbolDim(0);
  EXPECT_EQ(ShapeThrough("Add", {3, s}, 2), (Dims{5, kUnknownDim}));
  EXPECT_EQ(ShapeThrough("Add", {3, s}, 0), (Dims{3, s}));
  EXPECT_EQ(ShapeThrough("Sub", {3, s}, 1), (Dims{2, kUnknownDim}));
  EXPECT_EQ(ShapeThrough("Sub", {3}, 5), (Dims{kUnknownDim}));  // negative: not an extent
  EXPECT_EQ(ShapeThrough("Mul", {3, s}, 1), (Dims{3, s}));
  EXPECT_EQ(ShapeThrough("Div", {7, s}, 2), (Dims{3, kUnknownDim}));
  EXPECT_EQ(ShapeThrough("Div", {7, s}, 0), (Dims{0, kUnknownDim}));
}

// ---- The others ----

TEST(VariadicTest, KernelsAndMeaning) {
  const Tensor a = Tensor::Of<float>({3}, {1, kNaN, 3}), b = Tensor::Of<float>({1}, {2});
  EXPECT_TRUE(Near((*OpTest("Max").Input(a).Input(b).Reference())[0],
                   Tensor::Of<float>({3}, {2, kNaN, 3})));
  EXPECT_TRUE(Near((*OpTest("Min").Input(a).Input(b).Reference())[0],
                   Tensor::Of<float>({3}, {1, kNaN, 2})));
  for (const char* name : {"Max", "Min", "Sum"})
    for (const auto& [x, y] : kBroadcasts) {
      OpTest two(name);
      two.Input(RandomF32(x, -2, 2, 1)).Input(RandomF32(y, -2, 2, 2)).ExpectKernelMatches();
      two.ExpectInferIsTotal();
    }
  OpTest mean("Mean");
  mean.Input(RandomF32({2, 1}, 0, 1, 1))
      .Input(RandomF32({3}, 0, 1, 2))
      .Input(RandomF32({2, 3}, 0, 1, 3));
  EXPECT_EQ(mean.Reference()->outputs[0].dims(), (Dims{2, 3}));
}

TEST(WhereTest, KernelsMatchReference) {
  const Extents conditions[] = {
      {{2, 3, 4, 5}, {2, 3, 4, 5}}, {{4, 1}, {1, 37}}, {{1}, {37}}, {{37}, {1}}, {{70001}, {1}},
      {{2, 3, 4, 5}, {3, 1, 1}}};
  for (const auto& [c, x] : conditions) {
    OpTest t("Where");
    t.Input(RandomInts<bool>(c, 0, 1)).Input(RandomF32(x, -1, 1, 1)).Input(RandomF32(c, -1, 1, 2));
    t.ExpectKernelMatches();
    t.ExpectInferIsTotal();
    OpTest ints("Where");
    ints.Input(RandomInts<bool>(c, 0, 1))
        .Input(RandomInts<int64_t>(x, -9, 9))
        .Input(RandomInts<int64_t>(c, -9, 9, 2));
    ints.ExpectKernelMatches();
  }
}

TEST(ClipTest, KernelsMatchReference) {
  for (const Tensor& x : Probes(-9, 9)) {
    OpTest both("Clip"), low("Clip"), high("Clip"), none("Clip");
    both.Input(x).Const(Tensor::Scalar(0.0f)).Const(Tensor::Scalar(6.0f)).ExpectKernelMatches();
    low.Input(x).Input(Tensor::Scalar(-1.0f)).ExpectKernelMatches();
    high.Input(x).Absent().Input(Tensor::Scalar(1.0f)).ExpectKernelMatches();
    none.Input(x).ExpectKernelMatches();
    both.ExpectInferIsTotal();
  }
}

TEST(ClipTest, HighWinsWhereBoundsCross) {
  EXPECT_TRUE(Near((*OpTest("Clip")
                         .Input(Tensor::Of<int32_t>({3}, {-5, 0, 5}))
                         .Input(Tensor::Scalar<int32_t>(3))
                         .Input(Tensor::Scalar<int32_t>(-3))
                         .Reference())[0],
                   Tensor::Of<int32_t>({3}, {-3, -3, -3})));
}

Tensor CastTo(const Tensor& x, DType to) {
  OpTest t("Cast");
  t.Attr("to", to).Input(x);
  const auto reference = t.Reference();
  EXPECT_TRUE(reference.has_value()) << reference.error().message;
  if (x.dtype() != DType::kString && to != DType::kString) t.ExpectKernelMatches();
  return reference->outputs[0];
}

TEST(CastTest, ConvertsBetweenAllNumbers) {
  for (const DType from :
       {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI8, DType::kI16, DType::kI32,
        DType::kI64, DType::kU8, DType::kU16, DType::kU32, DType::kU64, DType::kBool})
    for (const DType to :
         {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI8, DType::kI16, DType::kI32,
          DType::kI64, DType::kU8, DType::kU16, DType::kU32, DType::kU64, DType::kBool}) {
      const Tensor x = Convert(Tensor::Of<float>({5}, {0, 1, 2, 100, 3}), from).value();
      EXPECT_TRUE(Near(CastTo(x, to), Convert(x, to).value()))
          << DTypeName(from) << " to " << DTypeName(to);
    }
}

TEST(CastTest, KernelsMatchReferenceAtOddSizes) {
  for (const int64_t n : {1, 7, 33, 70001}) {
    CastTo(RandomF32({n}, -100, 100), DType::kI64);
    CastTo(RandomF32({n}, -100, 100), DType::kI32);
    CastTo(RandomF32({n}, -100, 100), DType::kF16);
    CastTo(RandomF32({n}, 0, 255), DType::kU8);
    CastTo(RandomInts<int64_t>({n}, -1000, 1000), DType::kF32);
    CastTo(RandomInts<bool>({n}, 0, 1), DType::kF32);
  }
}

TEST(CastTest, FloatsTruncateAndNeverTrap) {
  EXPECT_TRUE(Near(CastTo(Tensor::Of<float>({3}, {2.9f, -2.9f, 0.4f}), DType::kI32),
                   Tensor::Of<int32_t>({3}, {2, -2, 0})));
  CastTo(Tensor::Of<float>({3}, {kNaN, kInf, -1e30f}), DType::kI8);
}

TEST(CastTest, ReadsAndWritesText) {
  EXPECT_TRUE(
      Near(CastTo(Tensor::Of<std::string>({6}, {"0.25", "NaN", "INF", "+INF", "-INF", "1e3"}),
                  DType::kF32),
           Tensor::Of<float>({6}, {0.25f, kNaN, kInf, kInf, -kInf, 1000})));
  EXPECT_TRUE(Near(CastTo(Tensor::Of<float>({2}, {0.25f, -3}), DType::kString),
                   Tensor::Of<std::string>({2}, {"0.25", "-3"})));
  EXPECT_EQ(OpTest("Cast")
                .Attr("to", DType::kI32)
                .Input(Tensor::Of<std::string>({1}, {"x"}))
                .Reference()
                .error()
                .code,
            Code::kInvalidArgument);
}

// The same values through Cast to the type and back: what the type makes of them.
Tensor Through(DType type, std::initializer_list<float> values, bool saturate = true) {
  OpTest there("Cast");
  there.Attr("to", type)
      .Attr("saturate", int(saturate))
      .Input(Tensor::Of<float>({int64_t(values.size())}, values));
  there.ExpectKernelMatches();
  return CastTo((*there.Reference())[0], DType::kF32);
}

TEST(CastTest, EightBitFloatsFollowTheSpecificationsTables) {
  // ONNX's own test values (test_cast_FLOAT_to_FLOAT8*).
  const auto in = {0.47892547f, 1e6f, 1e-7f, kNaN, kInf, -kInf, -1e6f};
  EXPECT_TRUE(Near(Through(DType::kF8E4M3FN, in),
                   Tensor::Of<float>({7}, {0.46875f, 448, 0, kNaN, 448, -448, -448})));
  EXPECT_TRUE(Near(Through(DType::kF8E4M3FN, in, false),
                   Tensor::Of<float>({7}, {0.46875f, kNaN, 0, kNaN, kNaN, kNaN, kNaN})));
  EXPECT_TRUE(Near(Through(DType::kF8E5M2, in, false),
                   Tensor::Of<float>({7}, {0.5f, kInf, 0, kNaN, kInf, -kInf, -kInf})));
  EXPECT_TRUE(Near(Through(DType::kF8E5M2FNUZ, in),
                   Tensor::Of<float>({7}, {0.5f, 57344, 0, kNaN, 57344, -57344, -57344})));
}

TEST(CastTest, NarrowNumbersReadAndWriteText) {
  const Tensor f8 = CastTo(Tensor::Of<std::string>({3}, {"1.5", "-448", "1e9"}), DType::kF8E4M3FN);
  EXPECT_TRUE(
      Near(CastTo(f8, DType::kString), Tensor::Of<std::string>({3}, {"1.5", "-448", "448"})));
  const Tensor i4 = CastTo(Tensor::Of<std::string>({3}, {"-8", "7", "3"}), DType::kI4);
  EXPECT_TRUE(Near(CastTo(i4, DType::kString), Tensor::Of<std::string>({3}, {"-8", "7", "3"})));
}

TEST(CastTest, ManyPackedElementsOnSeveralThreads) {
  const Tensor x = RandomInts<int32_t>({3, 50001}, -8, 7);
  OpTest t("Cast");
  t.Attr("to", DType::kI4).Input(x);
  const auto packed = t.Kernel({.threads = 2});
  ASSERT_TRUE(packed.has_value()) << packed.error().message;
  EXPECT_EQ(*ToInts((*packed)[0]), *ToInts(x));
}

TEST(CastTest, RoundModeIsChecked) {
  const auto cast = [](const char* mode) {
    return OpTest("Cast")
        .Attr("to", DType::kF8E8M0)
        .Attr("round_mode", mode)
        .Input(Tensor::Of<float>({1}, {1.1f}))
        .Reference();
  };
  EXPECT_EQ((*cast("up"))[0].raw()[0], std::byte{128});
  EXPECT_EQ((*cast("down"))[0].raw()[0], std::byte{127});
  EXPECT_EQ(cast("sideways").error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin::testing
