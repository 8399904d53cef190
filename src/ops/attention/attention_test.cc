#include "ops/attention/attention.h"

#include "ops/testing.h"

namespace dunlin::testing {
namespace {

Tensor F(const Dims& dims, std::initializer_list<float> v) { return Tensor::Of<float>(dims, v); }

Dims InOrder(int64_t order, int64_t heads, int64_t rows, int64_t width) {
  constexpr int64_t kBatch = 2;
  return order == 0   ? Dims{kBatch, heads, rows, width}
         : order == 1 ? Dims{kBatch, rows, heads, width}
                      : Dims{kBatch, heads, width, rows};
}

OpTest Attention(int64_t rows, int64_t keys, int64_t width, int64_t values, int orders) {
  constexpr int64_t kHeads = 3;
  const int q = orders & 1, k = orders / 2 % 3, v = orders / 6 % 2, y = orders / 12;
  OpTest t("Attention", "dunlin");
  t.Attr("scale", 0.3).Attr("q_order", q).Attr("k_order", k).Attr("v_order", v).Attr("y_order", y);
  t.Input(RandomF32(InOrder(q, kHeads, rows, width), -2, 2));
  t.Input(RandomF32(InOrder(k, kHeads, keys, width), -2, 2, 2));
  t.Input(RandomF32(InOrder(v, kHeads, keys, values), -2, 2, 3));
  return t;
}

TEST(Attention, WeighsValuesByTheSoftmaxOfTheScores) {
  OpTest t("Attention", "dunlin");
  t.Input(F({1, 1, 1, 1}, {1})).Input(F({1, 1, 2, 1}, {0, std::log(3.0f)}));
  t.Input(F({1, 1, 2, 1}, {4, 8}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 1, 1, 1}, {7})));  // weights 1/4 and 3/4
}

TEST(Attention, KernelMatchesInEveryOrderOfExtents) {
  for (int orders = 0; orders < 24; ++orders) {
    SCOPED_TRACE(orders);
    Attention(11, 19, 5, 7, orders).ExpectKernelMatches({.abs = 2e-6});
  }
}

TEST(Attention, KernelMatchesAtOddSizes) {
  for (const int64_t rows : {1, 2, 5, 50, 97})
    for (const int64_t keys : {1, 16, 33, 130})
      for (const int64_t width : {1, 32})
        for (const int64_t values : {3, 16}) {
          SCOPED_TRACE(fmt::format("S {} T {} D {} Dv {}", rows, keys, width, values));
          Attention(rows, keys, width, values, 0).ExpectKernelMatches({.abs = 4e-6});
        }
}

TEST(Attention, KernelMatchesWithMasksThatRepeat) {
  for (const Dims& mask :
       {Dims{2, 3, 6, 9}, Dims{2, 1, 1, 9}, Dims{6, 9}, Dims{9}, Dims{3, 6, 1}}) {
    SCOPED_TRACE(ToString(mask));
    OpTest added = Attention(6, 9, 8, 4, 0);
    added.Input(RandomF32(mask, -3, 3, 4));
    added.ExpectKernelMatches({.abs = 2e-6});
    OpTest filled = Attention(6, 9, 8, 4, 0);
    Tensor holes = Tensor::Create(DType::kBool, mask).value();
    for (int64_t i = 0; i < holes.count(); ++i) holes.mut<bool>()[i] = i % 4 == 1;
    filled.Attr("fill", -1e9).Input(holes);
    filled.ExpectKernelMatches({.abs = 2e-6});
  }
}

TEST(Attention, KernelMatchesWhereHeadsShareKeys) {
  for (const int64_t rows : {1, 50})
    for (const int64_t key_heads : {1, 2}) {
      SCOPED_TRACE(fmt::format("S {} key heads {}", rows, key_heads));
      OpTest t("Attention", "dunlin");
      t.Input(RandomF32({2, 4, rows, 16}, -2, 2));
      t.Input(RandomF32({2, key_heads, 33, 16}, -2, 2, 2));
      t.Input(RandomF32({2, key_heads, 33, 16}, -2, 2, 3));
      t.ExpectKernelMatches({.abs = 4e-6});
    }
}

TEST(Attention, HeadsTakeTheKeysOfTheirGroup) {
  OpTest t("Attention", "dunlin");  // one key each: the result is its value
  t.Input(F({1, 4, 1, 1}, {1, 1, 1, 1})).Input(F({1, 2, 1, 1}, {1, 1}));
  t.Input(F({1, 2, 1, 1}, {5, 6}));
  EXPECT_TRUE(Near(t.Reference().value()[0], F({1, 4, 1, 1}, {5, 5, 6, 6})));
}

TEST(Attention, OperandsThatDoNotFitAreRefused) {
  OpTest t("Attention", "dunlin");
  t.Input(F({1, 1, 1, 2}, {1, 1})).Input(F({1, 1, 1, 1}, {1})).Input(F({1, 1, 1, 1}, {1}));
  EXPECT_FALSE(t.Infer().has_value());
}

}  // namespace
}  // namespace dunlin::testing
