#include <cmath>

#include "ops/testing.h"

namespace dunlin::testing {
namespace {

constexpr const char* kMs = "com.microsoft";

TEST(Inverse, SwapsRowsWhereAPivotIsZero) {
  OpTest t("Inverse", kMs);
  t.Input(Tensor::Of<float>({1, 2, 2}, {0, 2, 4, 2}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<float>({1, 2, 2}, {-.25f, .25f, .5f, 0}),
                   {.abs = 1e-6}));
  t.ExpectInferIsTotal();
}

TEST(Inverse, OfAMatrixThatHasNoneIsNotFinite) {
  OpTest t("Inverse", kMs);
  t.Input(Tensor::Of<float>({2, 2}, {1, 2, 2, 4}));
  EXPECT_FALSE(std::isfinite(t.Reference().value()[0].as<float>()[0]));
}

TEST(Inverse, RefusesWhatIsNotSquare) {
  EXPECT_FALSE(OpTest("Inverse", kMs).Input(RandomF32({2, 3})).Infer().has_value());
}

// Values of the reference implementation, as its author published them for these strings and seed.
TEST(MurmurHash3, HashesStringsAndNumbers) {
  OpTest t("MurmurHash3", kMs);
  t.Input(Tensor::Of<std::string>({2}, {"", "test"}))
      .Attr("seed", AttrSetter::Value(int64_t{0x9747b28c}));
  EXPECT_TRUE(
      Near(t.Reference().value()[0], Tensor::Of<uint32_t>({2}, {0xebb6c228u, 0x704b81dcu})));
  OpTest signs("MurmurHash3", kMs);
  signs.Input(Tensor::Of<int32_t>({1}, {0})).Attr("positive", 0);
  EXPECT_TRUE(Near(signs.Reference().value()[0], Tensor::Of<int32_t>({1}, {0x2362f9de})));
  signs.ExpectInferIsTotal();
}

TEST(NGramRepeatBlock, ForbidsWhatWouldRepeat) {
  OpTest t("NGramRepeatBlock", kMs);
  t.Attr("ngram_size", 2);
  t.Input(Tensor::Of<int64_t>({2, 4}, {1, 2, 0, 1, 0, 1, 2, 3}));
  t.Input(Tensor::Of<float>({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_TRUE(
      Near(t.Reference().value()[0], Tensor::Of<float>({2, 4}, {1, 2, -HUGE_VALF, 4, 5, 6, 7, 8})));
  t.ExpectInferIsTotal();
}

TEST(NGramRepeatBlock, RefusesATokenWithoutAScore) {
  OpTest t("NGramRepeatBlock", kMs);
  t.Attr("ngram_size", 1).Input(Tensor::Of<int64_t>({1, 1}, {9}));
  t.Input(Tensor::Of<float>({1, 2}, {0, 0}));
  EXPECT_FALSE(t.Reference().has_value());
}

}  // namespace
}  // namespace dunlin::testing
