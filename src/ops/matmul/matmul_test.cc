#include "kernels/activation.h"
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

Tensor F(const Dims& dims, std::initializer_list<float> v) { return Tensor::Of<float>(dims, v); }

TEST(MatMul, MultipliesMatricesAndVectors) {
  const Tensor a = F({2, 2}, {1, 2, 3, 4}), v = F({2}, {10, 1});
  OpTest mm("MatMul"), mv("MatMul"), vm("MatMul"), vv("MatMul");
  EXPECT_TRUE(Near(mm.Input(a).Input(a).Reference().value()[0], F({2, 2}, {7, 10, 15, 22})));
  EXPECT_TRUE(Near(mv.Input(a).Input(v).Reference().value()[0], F({2}, {12, 34})));
  EXPECT_TRUE(Near(vm.Input(v).Input(a).Reference().value()[0], F({2}, {13, 24})));
  EXPECT_TRUE(Near(vv.Input(v).Input(v).Reference().value()[0], F({}, {101})));
  mm.ExpectInferIsTotal();
}

TEST(MatMul, BroadcastsLeadingAxes) {
  OpTest t("MatMul");
  t.Input(F({2, 1, 1, 2}, {1, 2, 3, 4})).Input(F({3, 2, 1}, {1, 0, 0, 1, 1, 1}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2, 3, 1, 1}, {1, 2, 3, 3, 4, 7})));
}

TEST(MatMul, IntegersWrap) {
  OpTest t("MatMul");
  const int32_t big = 1 << 30;
  t.Input(Tensor::Of<int32_t>({1, 2}, {big, 1})).Input(Tensor::Of<int32_t>({2, 1}, {4, 7}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<int32_t>({1, 1}, {7})));
}

TEST(MatMul, AnEmptySumIsZero) {
  OpTest t("MatMul");
  t.Input(F({2, 0}, {})).Input(F({0, 1}, {}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({2, 1}, {0, 0})));
}

TEST(MatMul, RefusesExtentsThatDoNotFit) {
  const auto refuses = [](Dims a, Dims b) {
    OpTest t("MatMul");
    t.Input(RandomF32(a)).Input(RandomF32(b));
    const auto y = t.Infer();
    ASSERT_FALSE(y.has_value());
    EXPECT_EQ(y.error().code, Code::kInvalidArgument);
  };
  refuses({2, 3}, {2, 3});
  refuses({2, 2, 3}, {3, 3, 3});
  refuses({}, {2, 3});
}

TEST(Gemm, ScalesTransposesAndAddsTheBias) {
  OpTest t("Gemm");
  t.Input(F({2, 1}, {1, 2})).Input(F({3, 2}, {1, 2, 3, 4, 5, 6})).Input(F({3}, {1, 2, 3}));
  t.Attr("transA", 1).Attr("transB", 1).Attr("alpha", 2.0).Attr("beta", 10.0);
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 3}, {20, 42, 64})));
  t.ExpectInferIsTotal();
  OpTest bad("Gemm");
  bad.Input(F({1, 2}, {1, 2})).Input(F({2, 1}, {1, 2})).Input(F({3}, {1, 2, 3}));
  EXPECT_FALSE(bad.Infer().has_value());
}

TEST(FusedMatMul, AddsBiasAndResidualBeforeTheActivation) {
  OpTest t("FusedMatMul", "dunlin");
  t.Input(F({1, 2}, {1, 2})).Input(F({2, 2}, {1, 0, 0, 1})).Input(F({2}, {1, 1}));
  t.Input(F({1, 2}, {-9, 9})).Attr("activation", 1).Attr("alpha", 2.0);
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 2}, {0, 14})));
}

TEST(MatMul, KernelMatchesForAnyExtents) {
  struct Case {
    Dims a, b;
  };
  const Case cases[] = {
      {{5, 7}, {7, 9}},
      {{1, 33}, {33, 17}},
      {{70, 300}, {300, 65}},
      {{7}, {7, 9}},
      {{5, 7}, {7}},
      {{7}, {7}},
      {{2, 3, 5, 7}, {7, 4}},
      {{2, 3, 5, 7}, {2, 3, 7, 4}},
      {{2, 1, 5, 7}, {3, 7, 4}},
      {{5, 7}, {3, 7, 4}},
      {{3, 5, 7}, {7}},
      {{7}, {3, 7, 4}},
      {{0, 7}, {7, 4}},
      {{3, 0}, {0, 4}},
      {{3, 7}, {7, 0}},
      {{0, 3, 7}, {0, 7, 2}},
      {{4, 1, 7}, {1, 7, 2}},
  };
  for (const Case& c : cases)
    for (const bool constant : {false, true}) {
      SCOPED_TRACE(ToString(c.a) + ToString(c.b));
      OpTest t("MatMul");
      t.Input(RandomF32(c.a));
      constant ? t.Const(RandomF32(c.b, -1, 1, 2)) : t.Input(RandomF32(c.b, -1, 1, 2));
      t.ExpectKernelMatches({.abs = 2e-5});
    }
}

TEST(Gemm, KernelMatchesForEveryFormOfTheBias) {
  for (const Dims& bias :
       {Dims{}, Dims{1}, Dims{11}, Dims{1, 11}, Dims{6, 1}, Dims{6, 11}, Dims{1, 1}})
    for (const double beta : {1.0, 0.25})
      for (const int form : {0, 1, 2, 3}) {
        SCOPED_TRACE(ToString(bias));
        OpTest t("Gemm");
        t.Attr("transA", form & 1).Attr("transB", form / 2).Attr("alpha", 0.5).Attr("beta", beta);
        t.Input(RandomF32(form & 1 ? Dims{8, 6} : Dims{6, 8}));
        t.Const(RandomF32(form & 2 ? Dims{11, 8} : Dims{8, 11}, -1, 1, 2));
        t.Input(RandomF32(bias, -1, 1, 3));
        t.ExpectKernelMatches({.abs = 1e-5});
      }
}

TEST(FusedMatMul, KernelMatchesWithEverything) {
  for (const int form : {0, 1, 2, 3})
    for (int kind = 0; kind < kActivationCount; ++kind) {
      OpTest t("FusedMatMul", "dunlin");
      t.Attr("trans_a", form & 1).Attr("trans_b", form / 2).Attr("alpha", 0.5);
      t.Attr("activation", kind).Attr("act_a", 0.1).Attr("act_b", 0.6);
      t.Input(RandomF32(form & 1 ? Dims{2, 3, 8, 6} : Dims{2, 3, 6, 8}));
      t.Input(RandomF32(form & 2 ? Dims{3, 21, 8} : Dims{3, 8, 21}, -1, 1, 2));
      t.Input(RandomF32({21}, -1, 1, 3)).Input(RandomF32({2, 3, 6, 21}, -1, 1, 4));
      t.ExpectKernelMatches({.abs = 1e-5});
    }
}

TEST(FusedMatMul, KernelMatchesForFewRowsAndChangingWeights) {
  for (const int form : {0, 1})
    for (const int64_t m : {1, 2, 4, 5, 6, 7})
      for (const int64_t n : {1, 4, 16, 63, 64, 65, 200})
        for (const int64_t k : {1, 15, 16, 70}) {
          SCOPED_TRACE(fmt::format("transposed {} m {} n {} k {}", form, m, n, k));
          OpTest t("FusedMatMul", "dunlin");
          t.Attr("trans_b", form).Attr("alpha", 0.5).Attr("activation", form == 0 ? 6 : 1);
          t.Input(RandomF32({2, m, k}));
          t.Input(RandomF32(form ? Dims{2, n, k} : Dims{2, k, n}, -1, 1, 2));
          t.Input(RandomF32({n}, -1, 1, 3)).Input(RandomF32({2, m, n}, -1, 1, 4));
          t.ExpectKernelMatches({.abs = 2e-5});
        }
}

// Weights that the model has in halves are packed as halves, and give what their floats give.
TEST(MatMul, HalvesStayHalves) {
  for (const DType type : {DType::kF16, DType::kBF16})
    for (const int64_t rows : {1, 3, 5, 40}) {
      const auto halves = [&](const Dims& dims) {
        return Widened(Convert(RandomF32(dims), type).value());
      };
      OpTest product("MatMul");
      product.Input(RandomF32({2, rows, 100})).Const(halves({100, 37}));
      product.ExpectKernelMatches({1e-5, 1e-5});
      EXPECT_EQ(product.Kernel({})->kernel, "gemm.halves");
      OpTest turned("Gemm");
      turned.Attr("transB", true).Input(RandomF32({rows, 100})).Const(halves({37, 100}));
      turned.Const(RandomF32({37})).ExpectKernelMatches({1e-5, 1e-5});
      OpTest batch("MatMul");
      batch.Input(RandomF32({3, rows, 20})).Const(halves({3, 20, 9}));
      batch.ExpectKernelMatches({1e-5, 1e-5});
    }
}

// Numbers that bf16 has lose nothing by it: what the product gives is the reference's.
TEST(FusedMatMul, Bf16ProductsMatchOfNumbersThatBf16Has) {
  const auto rounded = [](const Dims& dims, uint32_t seed) {
    return RoundedToBf16(RandomF32(dims, -1, 1, seed));
  };
  for (const int form : {0, 1, 2, 3})
    for (const int64_t m : {1, 6, 70})
      for (const int64_t k : {129, 300}) {
        SCOPED_TRACE(fmt::format("form {} m {} k {}", form, m, k));
        OpTest t("FusedMatMul", "dunlin");
        t.Bf16Products();
        t.Attr("trans_a", form & 1).Attr("trans_b", form / 2).Attr("alpha", 0.5);
        t.Attr("activation", int(Activation::kGelu));
        t.Input(rounded(form & 1 ? Dims{2, 3, k, m} : Dims{2, 3, m, k}, 1));
        t.Const(rounded(form & 2 ? Dims{3, 37, k} : Dims{3, k, 37}, 2));
        t.Input(RandomF32({37}, -1, 1, 3)).Input(RandomF32({2, 3, m, 37}, -1, 1, 4));
        t.ExpectKernelMatches({.abs = 2e-5});
        EXPECT_EQ(t.Kernel({})->kernel, "gemm.bf16");
      }
}

TEST(MatMul, Bf16ProductsRoundBothFactorsAndTakeHalves) {
  const Tensor a = RandomF32({9, 140}), b = RandomF32({140, 33}, -1, 1, 2);
  OpTest wanted("MatMul");
  wanted.Input(RoundedToBf16(a)).Const(RoundedToBf16(b));
  const Tensor y = wanted.Reference().value()[0];
  for (const bool halves : {false, true}) {
    OpTest t("MatMul");
    t.Bf16Products().Input(a);
    t.Const(halves ? Widened(Convert(b, DType::kBF16).value()) : b);
    EXPECT_TRUE(Near(t.Kernel({})->outputs[0], y, {.abs = 1e-5}));
  }
  OpTest changing("MatMul");  // weights that are not constant stay f32
  changing.Bf16Products().Input(a).Input(b).ExpectKernelMatches({.abs = 1e-5});
  OpTest narrow("MatMul");  // and so do sums, or rows, too short to gain
  narrow.Bf16Products().Input(a).Const(RandomF32({140, 31})).ExpectKernelMatches({.abs = 1e-5});
}

}  // namespace
}  // namespace dunlin::testing
