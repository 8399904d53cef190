// LSTM, GRU and RNN (ONNX, opset 14): what the three share. Letters: S steps, B batch, I input
// size, H hidden size, D directions (1 or 2), G gates (LSTM 4: i o f c; GRU 3: z r h; RNN 1).
//   X [S,B,I]  W [D,G·H,I]  R [D,G·H,H]  B [D,2·G·H]  sequence_lens [B]  initial_h, initial_c
//   [D,B,H]  P [D,3·H] Y [S,D,B,H]  Y_h, Y_c [D,B,H]
// layout 1: X [B,S,I], initial_h [B,D,H], Y [B,S,D,H], Y_h [B,D,H].
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "ops/op.h"

namespace dunlin::rnn {

enum Input { kX, kW, kR, kB, kLens, kInitialH, kInitialC, kP };
enum Output { kY, kYh, kYc };

struct RnnAttrs {
  std::vector<std::string> activations;
  std::vector<float> activation_alpha, activation_beta;
  std::optional<float> clip;
  std::string direction = "forward";
  std::optional<int64_t> hidden_size;
  bool input_forget = false;         // LSTM: f = 1 - i
  bool linear_before_reset = false;  // GRU
  int64_t layout = 0;
  template <class V>
  void VisitCommon(V& v) {
    v("activations", activations);
    v("activation_alpha", activation_alpha);
    v("activation_beta", activation_beta);
    v("clip", clip);
    v("direction", direction);
    v("hidden_size", hidden_size);
    v("layout", layout);
  }
};

enum class Cell : uint8_t { kLstm, kGru, kRnn };
constexpr int Gates(Cell cell) { return cell == Cell::kLstm ? 4 : cell == Cell::kGru ? 3 : 1; }
constexpr int ActivationCount(Cell cell) {
  return cell == Cell::kLstm ? 3 : cell == Cell::kGru ? 2 : 1;
}

enum class ActivationKind : uint8_t {
  kRelu,
  kTanh,
  kSigmoid,
  kAffine,
  kLeakyRelu,
  kThresholdedRelu,
  kScaledTanh,
  kHardSigmoid,
  kElu,
  kSoftsign,
  kSoftplus
};
struct Activation {
  ActivationKind kind;
  float alpha = 0, beta = 0;
  double operator()(double x) const;
  bool operator==(const Activation&) const = default;
};
// The activations of one direction, in ONNX's order: f (g (h)).
using Activations = std::array<Activation, 3>;
Activations DefaultActivations(Cell cell);
// One entry per direction. kInvalidArgument for an unknown name or a wrong count.
Result<std::vector<Activations>> ParseActivations(Cell cell, const RnnAttrs& attrs);

Result<int> Directions(const RnnAttrs& attrs);  // 1 or 2; kInvalidArgument for an unknown word

// Extents, and where the elements of X and Y lie.
struct Geometry {
  int64_t S, B, I, H;
  int D;
  bool batch_first;
  int64_t x(int64_t s, int64_t b) const { return (batch_first ? b * S + s : s * B + b) * I; }
  int64_t y(int64_t s, int d, int64_t b) const {
    return (batch_first ? (b * S + s) * D + d : (s * D + d) * B + b) * H;
  }
  int64_t state(int d, int64_t b) const { return (batch_first ? b * D + d : d * B + b) * H; }
};
// From the extents of X and R, which Infer has checked.
Geometry GeometryOf(const RnnAttrs& attrs, const Dims& x, const Dims& r);

Status Infer(Cell cell, const RnnAttrs& attrs, InferContext& ctx);
Status Reference(Cell cell, const RnnAttrs& attrs, RunContext& ctx);
Result<KernelPtr> Lower(Cell cell, const RnnAttrs& attrs, LowerContext& ctx);

// The length of each batch row; S where sequence_lens is absent. kInvalidArgument when outside [0,
// S].
Result<int64_t> LengthOf(RunContext& ctx, const Geometry& g, int64_t b);

}  // namespace dunlin::rnn
