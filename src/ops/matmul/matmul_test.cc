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

}  // namespace
}  // namespace dunlin::testing
