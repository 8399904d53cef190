#include <cmath>

#include "ops/testing.h"

namespace dunlin {
namespace {

using testing::Near;
using testing::OpTest;
using testing::RandomF32;

float Sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

TEST(Lstm, OneUnitOneStepIsTheFormula) {
  OpTest t("LSTM");
  t.Attr("hidden_size", 1).Outputs(3);
  t.Input(Tensor::Of<float>({1, 1, 1}, {2}));
  t.Const(Tensor::Of<float>({1, 4, 1}, {0.1f, 0.2f, 0.3f, 0.4f}));  // i o f c
  t.Const(Tensor::Of<float>({1, 4, 1}, {0.5f, 0.6f, 0.7f, 0.8f}));
  t.Const(Tensor::Of<float>({1, 8}, {1, 2, 3, 4, 0.1f, 0.2f, 0.3f, 0.4f})).Absent();
  t.Input(Tensor::Of<float>({1, 1, 1}, {0.5f})).Input(Tensor::Of<float>({1, 1, 1}, {-1}));
  t.Const(Tensor::Of<float>({1, 3}, {0.01f, 0.02f, 0.03f}));
  const float i = Sigmoid(0.2f + 0.25f + 1.1f - 0.01f), f = Sigmoid(0.6f + 0.35f + 3.3f - 0.03f);
  const float c = f * -1 + i * std::tanh(0.8f + 0.4f + 4.4f);
  const float o = Sigmoid(0.4f + 0.3f + 2.2f + 0.02f * c);
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], Tensor::Of<float>({1, 1, 1, 1}, {o * std::tanh(c)}), {.abs = 1e-6}));
  EXPECT_TRUE(Near((*r)[1], Tensor::Of<float>({1, 1, 1}, {o * std::tanh(c)}), {.abs = 1e-6}));
  EXPECT_TRUE(Near((*r)[2], Tensor::Of<float>({1, 1, 1}, {c}), {.abs = 1e-6}));
}

TEST(Gru, ResetGateActsBeforeOrAfterTheProduct) {
  for (const int linear : {0, 1}) {
    OpTest t("GRU");
    t.Attr("linear_before_reset", linear).Outputs(2);
    t.Input(Tensor::Of<float>({1, 1, 1}, {1}));
    t.Const(Tensor::Of<float>({1, 3, 1}, {0.1f, 0.2f, 0.3f}));  // z r h
    t.Const(Tensor::Of<float>({1, 3, 1}, {0.5f, 0.6f, 0.7f}));
    t.Const(Tensor::Of<float>({1, 6}, {0, 0, 0, 0, 0, 2})).Absent();
    t.Input(Tensor::Of<float>({1, 1, 1}, {0.5f}));
    const float z = Sigmoid(0.1f + 0.25f), r = Sigmoid(0.2f + 0.3f);
    const float hidden = linear ? r * (0.35f + 2) : 0.7f * r * 0.5f + 2;
    const float h = (1 - z) * std::tanh(0.3f + hidden) + z * 0.5f;
    const auto got = t.Reference();
    ASSERT_TRUE(got.has_value()) << got.error().message;
    EXPECT_TRUE(Near((*got)[1], Tensor::Of<float>({1, 1, 1}, {h}), {.abs = 1e-6})) << linear;
  }
}

TEST(Rnn, ActivationsTakeTheirOwnParameters) {
  OpTest t("RNN");
  t.Attr("direction", "bidirectional")
      .Attr("activations", std::vector<std::string>{"Tanh", "affine"});
  t.Attr("activation_alpha", std::vector<float>{3}).Attr("activation_beta", std::vector<float>{1});
  t.Input(Tensor::Of<float>({1, 1, 1}, {0.5f}));
  t.Const(Tensor::Of<float>({2, 1, 1}, {1, 1})).Const(Tensor::Of<float>({2, 1, 1}, {0, 0}));
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(
      Near((*r)[0], Tensor::Of<float>({1, 2, 1, 1}, {std::tanh(0.5f), 2.5f}), {.abs = 1e-6}));
}

TEST(Lstm, ReverseStartsAtEachRowsOwnEnd) {
  const Tensor w = RandomF32({1, 12, 2}), r = RandomF32({1, 12, 3}),
               x = RandomF32({4, 1, 2}, -1, 1, 2);
  OpTest whole("LSTM"), part("LSTM");
  whole.Attr("direction", "reverse").Outputs(2);
  part.Attr("direction", "reverse").Outputs(2);
  // Three steps of four, by length, and a sequence of those three steps alone.
  whole.Input(x).Const(w).Const(r).Absent().Input(Tensor::Of<int32_t>({1}, {3}));
  part.Input(Tensor::Of<float>({3, 1, 2}, x.values<float>().first(6))).Const(w).Const(r);
  const auto a = whole.Reference(), b = part.Reference();
  ASSERT_TRUE(a.has_value() && b.has_value());
  EXPECT_TRUE(Near((*a)[1], (*b)[1]));
  EXPECT_EQ((*a)[0].as<float>()[9], 0);  // what lies behind the end is zero
}

TEST(Lstm, RefusesALengthBeyondTheSequence) {
  OpTest t("LSTM");
  t.Input(RandomF32({2, 1, 1})).Const(RandomF32({1, 4, 1})).Const(RandomF32({1, 4, 1})).Absent();
  t.Input(Tensor::Of<int32_t>({1}, {3}));
  EXPECT_EQ(t.Reference().error().code, Code::kInvalidArgument);
}

TEST(Lstm, RefusesWeightsThatDoNotFit) {
  const auto infer = [](Dims x, Dims w, Dims r, Dims b) {
    OpTest t("LSTM");
    t.Input(RandomF32(x)).Const(RandomF32(w)).Const(RandomF32(r)).Const(RandomF32(b));
    return t.Infer();
  };
  EXPECT_TRUE(infer({2, 1, 5}, {1, 12, 5}, {1, 12, 3}, {1, 24}).has_value());
  EXPECT_FALSE(infer({2, 1, 4}, {1, 12, 5}, {1, 12, 3}, {1, 24}).has_value());
  EXPECT_FALSE(infer({2, 1, 5}, {1, 11, 5}, {1, 11, 3}, {1, 24}).has_value());
  EXPECT_FALSE(infer({2, 1, 5}, {2, 12, 5}, {2, 12, 3}, {2, 24}).has_value());  // one direction
  EXPECT_FALSE(infer({2, 1, 5}, {1, 12, 5}, {1, 12, 3}, {1, 23}).has_value());
  EXPECT_FALSE(infer({2, 5}, {1, 12, 5}, {1, 12, 3}, {1, 24}).has_value());
}

TEST(Recurrent, InferenceCopesWithAnything) {
  for (const char* name : {"LSTM", "GRU", "RNN"}) {
    const int64_t gates = name[0] == 'L' ? 4 : name[0] == 'G' ? 3 : 1;
    OpTest t(name);
    t.Attr("layout", 1).Outputs(2).Input(RandomF32({2, 5, 7}));
    t.Const(RandomF32({1, gates * 3, 7})).Const(RandomF32({1, gates * 3, 3}));
    t.ExpectInferIsTotal();
    EXPECT_EQ((*t.Infer())[0], Type::Of(DType::kF32, {2, 5, 1, 3}));
    EXPECT_EQ((*t.Infer())[1], Type::Of(DType::kF32, {2, 1, 3}));
  }
}

}  // namespace
}  // namespace dunlin
