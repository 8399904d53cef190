// Attention and its like, of ai.onnx and com.microsoft. Expected values are worked out by hand:
// keys and queries are chosen so that weights are simple.
#include <gmock/gmock.h>

#include <cmath>

#include "formats/onnx/rewrite_testing.h"

namespace dunlin::onnx_import {
namespace {

using ::testing::HasSubstr;
using testing::Near;

constexpr const char* kMs = "com.microsoft";
const float kLog3 = std::log(3.0f);

Tensor F(const Dims& dims, std::initializer_list<float> v) { return Tensor::Of<float>(dims, v); }
Tensor I32(const Dims& dims, std::initializer_list<int32_t> v) {
  return Tensor::Of<int32_t>(dims, v);
}

// One head of width 1, one query of 1, keys 0 and log 3: weights 1/4 and 3/4.
RewriteTest TwoKeys(int opset = 24) {
  RewriteTest t("", "Attention", opset);
  t.Input(F({1, 1, 1, 1}, {1})).Input(F({1, 1, 2, 1}, {0, kLog3}));
  t.Input(F({1, 1, 2, 1}, {4, 8}));
  return t;
}

TEST(Attention24, WeighsValues) {
  EXPECT_TRUE(Near(TwoKeys().Run()[0], F({1, 1, 1, 1}, {7}), {.abs = 1e-5}));
}

TEST(Attention24, AMaskThatIsTooShortHidesTheLastKeys) {
  RewriteTest t = TwoKeys();
  t.Input(F({1, 1}, {5}));
  EXPECT_TRUE(Near(t.Run()[0], F({1, 1, 1, 1}, {4}), {.abs = 1e-5}));
}

TEST(Attention23, AMaskOfOneColumnIsRepeated) {
  RewriteTest t = TwoKeys(23);
  t.Input(F({1, 1}, {5}));
  EXPECT_TRUE(Near(t.Run()[0], F({1, 1, 1, 1}, {7}), {.abs = 1e-5}));
}

TEST(Attention24, FalseInAMaskHidesAKey) {
  RewriteTest t = TwoKeys();
  t.Input(Tensor::Of<bool>({1, 2}, {false, true}));
  EXPECT_TRUE(Near(t.Run()[0], F({1, 1, 1, 1}, {8}), {.abs = 1e-5}));
}

TEST(Attention24, ARowThatSeesNoKeyIsZero) {
  RewriteTest hidden = TwoKeys();
  hidden.Input(Tensor::Of<bool>({1, 2}, {false, false}));
  EXPECT_TRUE(Near(hidden.Run()[0], F({1, 1, 1, 1}, {0})));
  RewriteTest never = TwoKeys();
  never.Input(F({1, 2}, {-HUGE_VALF, -HUGE_VALF}));
  EXPECT_TRUE(Near(never.Run()[0], F({1, 1, 1, 1}, {0})));
}

TEST(Attention24, KeysBehindTheirNumberAreHidden) {
  RewriteTest t = TwoKeys();
  t.Absent().Absent().Absent().Input(Tensor::Of<int64_t>({1}, {1}));
  EXPECT_TRUE(Near(t.Run()[0], F({1, 1, 1, 1}, {4}), {.abs = 1e-5}));
}

TEST(Attention24, CausalRowsSeeThePastAndThemselves) {
  RewriteTest t("", "Attention", 24);
  t.Attr("is_causal", int64_t{1}).Attr("q_num_heads", int64_t{1}).Attr("kv_num_heads", int64_t{1});
  t.Input(F({1, 2, 1}, {0, 0})).Input(F({1, 2, 1}, {1, 2})).Input(F({1, 2, 1}, {20, 30})).Absent();
  t.Input(F({1, 1, 1, 1}, {3})).Input(F({1, 1, 1, 1}, {10})).Outputs(3);
  const auto y = t.Run();
  EXPECT_TRUE(Near(y[0], F({1, 2, 1}, {15, 20}), {.abs = 1e-5}));
  EXPECT_TRUE(Near(y[1], F({1, 1, 3, 1}, {3, 1, 2})));
  EXPECT_TRUE(Near(y[2], F({1, 1, 3, 1}, {10, 20, 30})));
}

TEST(Attention24, HeadsOfQueriesShareThoseOfKeys) {
  RewriteTest t("", "Attention", 24);
  t.Input(F({1, 4, 1, 1}, {1, 1, 1, 1})).Input(F({1, 2, 1, 1}, {1, 1}));
  t.Input(F({1, 2, 1, 1}, {5, 6}));
  t.Attr("q_num_heads", int64_t{4}).Attr("kv_num_heads", int64_t{2});
  EXPECT_TRUE(Near(t.Run()[0], F({1, 4, 1, 1}, {5, 5, 6, 6})));
}

// The scores that the fourth output gives for a mask [0, 1], with a cap of 2 or without.
Tensor Scores(int opset, int64_t mode, bool cap) {
  RewriteTest t = TwoKeys(opset);
  t.Attr("softcap", cap ? 2.0f : 0.0f).Attr("qk_matmul_output_mode", mode);
  t.Input(F({1, 2}, {0, 1})).Outputs(4).Unwanted(1).Unwanted(2);
  return t.Run()[3];
}

class AttentionScores : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Opsets, AttentionScores, ::testing::Values(23, 24));

TEST_P(AttentionScores, OfMode0AreTheProduct) {
  for (const bool cap : {false, true})
    EXPECT_TRUE(Near(Scores(GetParam(), 0, cap), F({1, 1, 1, 2}, {0, kLog3}), {.abs = 1e-5}));
}

TEST_P(AttentionScores, OfMode1AreCappedAndNotMasked) {
  const float capped = 2 * std::tanh(kLog3 / 2);
  EXPECT_TRUE(Near(Scores(GetParam(), 1, true), F({1, 1, 1, 2}, {0, capped}), {.abs = 1e-5}));
  EXPECT_TRUE(Near(Scores(GetParam(), 1, false), F({1, 1, 1, 2}, {0, kLog3}), {.abs = 1e-5}));
}

TEST_P(AttentionScores, OfMode2AreCappedThenMasked) {
  const float capped = 2 * std::tanh(kLog3 / 2);
  EXPECT_TRUE(Near(Scores(GetParam(), 2, true), F({1, 1, 1, 2}, {0, capped + 1}), {.abs = 1e-5}));
  EXPECT_TRUE(Near(Scores(GetParam(), 2, false), F({1, 1, 1, 2}, {0, kLog3 + 1}), {.abs = 1e-5}));
}

TEST_P(AttentionScores, OfMode3AreTheWeights) {
  const float share = 1 / (1 + std::exp(2 * std::tanh(kLog3 / 2) + 1));
  EXPECT_TRUE(
      Near(Scores(GetParam(), 3, true), F({1, 1, 1, 2}, {share, 1 - share}), {.abs = 1e-5}));
}

TEST(Attention24, AMaskStaysAMaskUnderACap) {
  RewriteTest t = TwoKeys();
  t.Attr("softcap", 0.5f).Input(F({1, 2}, {-HUGE_VALF, 0}));
  EXPECT_TRUE(Near(t.Run()[0], F({1, 1, 1, 1}, {8}), {.abs = 1e-6}));
}

TEST(RotaryEmbedding23, TurnsHalvesAndPairs) {
  // A quarter turn: (a, b) becomes (-b, a).
  for (const bool interleaved : {false, true}) {
    RewriteTest t("", "RotaryEmbedding", 23);
    t.Attr("interleaved", int64_t{interleaved}).Attr("rotary_embedding_dim", int64_t{4});
    t.Input(F({1, 1, 1, 5}, {1, 2, 3, 4, 5})).Input(F({1, 1, 2}, {0, 0}));
    t.Input(F({1, 1, 2}, {1, 1}));
    EXPECT_TRUE(Near(t.Run()[0], interleaved ? F({1, 1, 1, 5}, {-2, 1, -4, 3, 5})
                                             : F({1, 1, 1, 5}, {-3, -4, 1, 2, 5})));
  }
}

TEST(RotaryEmbedding, CountsFromTheFirstPosition) {
  RewriteTest t(kMs, "RotaryEmbedding");
  t.Input(F({1, 2, 2}, {1, 2, 3, 4})).Input(Tensor::Of<int64_t>({1}, {1}));
  t.Input(F({3, 1}, {9, 1, 0})).Input(F({3, 1}, {9, 0, 1}));
  const auto y = t.Try();
  ASSERT_TRUE(y) << y.error().message;
  EXPECT_TRUE(Near((*y)[0], F({1, 2, 2}, {1, 2, -4, 3})));
}

// Queries of 0: every key that counts has the same weight.
TEST(MultiHeadAttention, MasksOfKeysInEveryForm) {
  const Tensor masks[] = {I32({1}, {2}), I32({2}, {2, 0}), I32({5}, {2, 0, 1, 0, 3}),
                          I32({1, 3}, {1, 1, 0}), I32({1, 1, 3}, {1, 1, 0})};
  for (const Tensor& mask : masks) {
    SCOPED_TRACE(ToString(mask.dims()));
    RewriteTest t(kMs, "MultiHeadAttention");
    t.Attr("num_heads", int64_t{1});
    t.Input(F({1, 1, 1}, {0})).Input(F({1, 3, 1}, {1, 2, 3})).Input(F({1, 3, 1}, {2, 4, 100}));
    t.Absent().Input(mask);
    const auto y = t.Try();
    ASSERT_TRUE(y) << y.error().message;
    EXPECT_TRUE(Near((*y)[0], F({1, 1, 1}, {3}), {.abs = 1e-5}));
  }
}

TEST(MultiHeadAttention, PackedOperandsAreTakenApart) {
  RewriteTest t(kMs, "MultiHeadAttention");
  t.Attr("num_heads", int64_t{2}).Input(F({1, 1, 2, 3, 1}, {1, 2, 3, 4, 5, 6}));
  t.Outputs(3);
  const auto y = t.Run();
  EXPECT_TRUE(Near(y[0], F({1, 1, 2}, {3, 6})));
  EXPECT_TRUE(Near(y[1], F({1, 2, 1, 1}, {2, 5})));
  EXPECT_TRUE(Near(y[2], F({1, 2, 1, 1}, {3, 6})));
}

TEST(MultiHeadAttention, FreshRowsGoIntoASharedBuffer) {
  RewriteTest t(kMs, "MultiHeadAttention");
  t.Attr("num_heads", int64_t{1});
  t.Input(F({1, 1, 1}, {0})).Input(F({1, 1, 1}, {2})).Input(F({1, 1, 1}, {6})).Absent().Absent();
  t.Absent().Input(F({1, 1, 3, 1}, {1, 7, 8})).Input(F({1, 1, 3, 1}, {4, 70, 80}));
  t.Input(I32({1}, {1})).Outputs(3);
  const auto y = t.Run();
  EXPECT_TRUE(Near(y[0], F({1, 1, 1}, {5})));
  EXPECT_TRUE(Near(y[1], F({1, 1, 3, 1}, {1, 2, 8})));
  EXPECT_TRUE(Near(y[2], F({1, 1, 3, 1}, {4, 6, 80})));
}

TEST(MultiHeadAttention, BeamsAreRefusedByName) {
  RewriteTest t(kMs, "MultiHeadAttention");
  t.Attr("num_heads", int64_t{1}).Input(F({1, 1, 1}, {0}));
  for (int i = 0; i < 8; ++i) t.Absent();
  t.Input(I32({1, 1, 1}, {0}));
  EXPECT_THAT(t.Error(), HasSubstr("cache_indirection"));
}

TEST(MicrosoftAttention, ProjectsAndKeepsThePast) {
  RewriteTest t(kMs, "Attention");
  t.Attr("num_heads", int64_t{1}).Attr("unidirectional", int64_t{1});
  t.Input(F({1, 1, 1}, {2})).Input(F({1, 3}, {0, 1, 3})).Input(F({3}, {0, 0, 1}));
  t.Absent().Input(F({2, 1, 1, 1, 1}, {5, 9})).Outputs(2);
  const auto y = t.Run();
  EXPECT_TRUE(Near(y[0], F({1, 1, 1}, {8})));  // of 9 and 2 * 3 + 1
  EXPECT_TRUE(Near(y[1], F({2, 1, 1, 2, 1}, {5, 2, 9, 7})));
}

RewriteTest GroupQuery(int heads) {
  RewriteTest t(kMs, "GroupQueryAttention");
  t.Attr("num_heads", int64_t{heads}).Attr("kv_num_heads", int64_t{1});
  return t;
}

TEST(GroupQueryAttention, RowsOfABatchGoOnFromTheirOwnLengths) {
  RewriteTest t = GroupQuery(1);
  t.Input(F({2, 1, 1}, {0, 0})).Input(F({2, 1, 1}, {3, 4})).Input(F({2, 1, 1}, {30, 40}));
  t.Input(F({2, 1, 2, 1}, {1, 9, 1, 2})).Input(F({2, 1, 2, 1}, {10, 90, 10, 20}));
  t.Input(I32({2}, {1, 2})).Input(I32({}, {3})).Outputs(3);
  const auto y = t.Try();
  ASSERT_TRUE(y) << y.error().message;
  EXPECT_TRUE(Near((*y)[0], F({2, 1, 1}, {20, 70.0f / 3}), {.abs = 1e-5}));
  EXPECT_TRUE(Near((*y)[1], F({2, 1, 3, 1}, {1, 3, 0, 1, 2, 4})));
}

TEST(GroupQueryAttention, RowsThatPadAPromptSeeItsLastOne) {
  RewriteTest t = GroupQuery(1);
  t.Input(F({1, 3, 1}, {0, 0, 0})).Input(F({1, 3, 1}, {1, 1, 1}));
  t.Input(F({1, 3, 1}, {2, 4, 100})).Absent().Absent();
  t.Input(I32({1}, {1})).Input(I32({}, {3}));
  EXPECT_TRUE(Near(t.Run()[0], F({1, 3, 1}, {2, 3, 3}), {.abs = 1e-5}));
}

TEST(GroupQueryAttention, AWindowHidesWhatIsFar) {
  RewriteTest t = GroupQuery(2);
  t.Attr("local_window_size", int64_t{2});
  t.Input(F({1, 3, 2}, {0, 0, 0, 0, 0, 0})).Input(F({1, 3, 1}, {1, 1, 1}));
  t.Input(F({1, 3, 1}, {2, 4, 8})).Absent().Absent();
  t.Input(I32({1}, {2})).Input(I32({}, {3}));
  EXPECT_TRUE(Near(t.Run()[0], F({1, 3, 2}, {2, 2, 3, 3, 6, 6}), {.abs = 1e-5}));
}

TEST(GroupQueryAttention, ASinkTakesItsShare) {
  RewriteTest t = GroupQuery(1);
  t.Attr("smooth_softmax", int64_t{1});
  t.Input(F({1, 1, 1}, {0})).Input(F({1, 1, 1}, {1})).Input(F({1, 1, 1}, {8})).Absent().Absent();
  t.Input(I32({1}, {0})).Input(I32({}, {1}));
  EXPECT_TRUE(Near(t.Run()[0], F({1, 1, 1}, {4}), {.abs = 1e-5}));
}

TEST(GroupQueryAttention, QuantisedCachesAreRefusedByName) {
  RewriteTest t = GroupQuery(1);
  t.Attr("k_quant_type", std::string("PER_TENSOR")).Input(F({1, 1, 3}, {0, 0, 0}));
  EXPECT_THAT(t.Error(), HasSubstr("quantised caches"));
}

TEST(GroupQueryAttention, HeadsThatDoNotDivideAreRefused) {
  RewriteTest t(kMs, "GroupQueryAttention");
  t.Attr("num_heads", int64_t{3}).Attr("kv_num_heads", int64_t{2});
  t.Input(F({1, 1, 3}, {0, 0, 0})).Input(F({1, 1, 2}, {0, 0})).Input(F({1, 1, 2}, {0, 0}));
  t.Absent().Absent().Input(I32({1}, {0})).Input(I32({}, {1}));
  EXPECT_THAT(t.Error(), HasSubstr("no multiple"));
}

}  // namespace
}  // namespace dunlin::onnx_import
