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

struct FastCase {
  const char* op;
  const char* direction;
  int64_t S, B, I, H;
  bool bias, states, lengths, batch_first, linear;
};

OpTest Fast(const FastCase& c) {
  const int64_t gates = c.op[0] == 'L' ? 4 : c.op[0] == 'G' ? 3 : 1;
  const int64_t D = std::string(c.direction) == "bidirectional" ? 2 : 1;
  const float scale = 1 / std::sqrt(float(c.H));
  OpTest t(c.op);
  t.Attr("direction", c.direction).Attr("layout", c.batch_first).Attr("hidden_size", int(c.H));
  if (gates == 3) t.Attr("linear_before_reset", c.linear);
  t.Outputs(gates == 4 ? 3 : 2);
  t.Input(RandomF32(c.batch_first ? Dims{c.B, c.S, c.I} : Dims{c.S, c.B, c.I}, -2, 2, 1));
  t.Const(RandomF32({D, gates * c.H, c.I}, -scale, scale, 2));
  t.Const(RandomF32({D, gates * c.H, c.H}, -scale, scale, 3));
  c.bias ? t.Const(RandomF32({D, 2 * gates * c.H}, -1, 1, 4)) : t.Absent();
  c.lengths ? t.Input(testing::RandomInts<int32_t>({c.B}, 0, c.S, 5)) : t.Absent();
  if (c.states) {
    const Dims dims = c.batch_first ? Dims{c.B, D, c.H} : Dims{D, c.B, c.H};
    t.Input(RandomF32(dims, -1, 1, 6));
    if (gates == 4) t.Input(RandomF32(dims, -1, 1, 7));
  }
  return t;
}

TEST(Recurrent, KernelsMatchTheReference) {
  const FastCase cases[] = {
      {"LSTM", "forward", 1, 1, 128, 128, true, true, false, false, false},
      {"LSTM", "forward", 7, 1, 5, 1, true, false, false, false, false},
      {"LSTM", "reverse", 5, 3, 9, 17, false, true, false, true, false},
      {"LSTM", "bidirectional", 11, 7, 6, 33, true, true, true, false, false},
      {"LSTM", "bidirectional", 300, 5, 20, 48, true, false, true, true,
       false},  // more than one chunk of steps
      {"LSTM", "forward", 3, 2, 30, 200, true, true, false, false,
       false},  // a step for two threads
      {"LSTM", "forward", 0, 2, 3, 4, true, true, false, false, false},
      {"LSTM", "forward", 4, 0, 3, 4, true, true, false, false, false},
      {"GRU", "forward", 1, 1, 7, 16, true, true, false, false, true},
      {"GRU", "bidirectional", 9, 6, 10, 19, true, true, true, true, true},
      {"GRU", "bidirectional", 9, 6, 10, 19, true, true, true, false, false},
      {"GRU", "reverse", 4, 2, 8, 300, false, true, false, false, false},
      {"RNN", "forward", 6, 1, 3, 65, true, true, false, false, false},
      {"RNN", "bidirectional", 6, 5, 4, 7, true, true, true, true, false},
      // Panels in parts, and more rows than keep their sums between them.
      {"LSTM", "bidirectional", 3, 21, 6, 450, true, true, true, false, false},
      {"GRU", "forward", 2, 21, 6, 450, true, true, true, false, true},
      {"GRU", "forward", 2, 7, 6, 450, true, true, false, false, false},
      {"RNN", "forward", 2, 18, 6, 450, true, true, false, false, false},
  };
  for (const FastCase& c : cases) {
    SCOPED_TRACE(fmt::format("{} {} S{} B{} I{} H{} linear {}", c.op, c.direction, c.S, c.B, c.I,
                             c.H, c.linear));
    Fast(c).ExpectKernelMatches({.abs = 1e-5});
  }
}

TEST(Recurrent, ReluHasAKernelAndOtherFunctionsHaveNone) {
  OpTest relu = Fast({"RNN", "forward", 3, 2, 4, 5, true, true, false, false, false});
  relu.Attr("activations", std::vector<std::string>{"Relu"});
  relu.ExpectKernelMatches({.abs = 1e-5});
  OpTest softsign = Fast({"RNN", "forward", 3, 2, 4, 5, true, true, false, false, false});
  softsign.Attr("activations", std::vector<std::string>{"Softsign"});
  EXPECT_EQ(softsign.Kernel({})->kernel, "");
  OpTest clipped = Fast({"LSTM", "forward", 3, 2, 4, 5, true, true, false, false, false});
  clipped.SetAttrs([](Attrs&) {}).Attr("clip", 1.0);
  EXPECT_EQ(clipped.Kernel({})->kernel, "");
}

TEST(Recurrent, KernelRefusesALengthBeyondTheSequence) {
  OpTest t("GRU");
  t.Input(RandomF32({2, 1, 1})).Const(RandomF32({1, 3, 1})).Const(RandomF32({1, 3, 1})).Absent();
  t.Input(Tensor::Of<int32_t>({1}, {-1}));
  EXPECT_EQ(t.Kernel({}).error().code, Code::kInvalidArgument);
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

TEST(Recurrent, ExtentsOfEmptyTensorsCannotMakeItLoopForAges) {
  OpTest steps("GRU"), hidden("GRU");
  // 2^40 steps of a batch of none: refused; 2^31: nothing to do.
  steps.Input(Tensor::Zeros(DType::kF32, {int64_t{1} << 40, 0, 2}).value());
  steps.Const(RandomF32({1, 9, 2})).Const(RandomF32({1, 9, 3}));
  EXPECT_EQ(steps.Infer().error().code, Code::kInvalidArgument);
  OpTest many("GRU");
  many.Input(Tensor::Zeros(DType::kF32, {int64_t{1} << 31, 0, 2}).value());
  many.Const(RandomF32({1, 9, 2})).Const(RandomF32({1, 9, 3}));
  EXPECT_TRUE(many.Kernel({}).has_value());

  hidden.Input(RandomF32({1, 1, 2})).Const(RandomF32({1, 0, 2}));
  hidden.Const(Tensor::Zeros(DType::kF32, {1, 0, int64_t{1} << 40}).value());
  EXPECT_EQ(hidden.Infer().error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin
