// One time step of LSTM, GRU and RNN on f32, over packed recurrent weights. Who calls it walks the
// sequence and projects the inputs of many steps at once (ops/rnn/rnn_lower.cc).
//
// Weights [G·H, K] (G gates, H hidden units) are packed in panels. A panel holds all gates of
// `units` neighbouring hidden units: for each k a row of G·units floats, gate after gate, a gate
// filling whole vectors. A step thus sums every gate of its units in registers, applies the gate
// functions there and stores the new state; gates never reach memory. `units` follows the SIMD
// target, so packed weights are good for the target they were packed under. Units past H are zero
// and stay zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dunlin {

enum class RnnCell : uint8_t {
  kLstm,       // gates i o f c
  kGru,        // gates z r h; the reset gate acts on the state: h(x W + (r h) R)
  kGruLinear,  // gates z r h; the reset gate acts on the product: h(x W + r (h R + b))
  kTanh,       // one gate, tanh
  kRelu,       // one gate, max(0, x)
};

struct RnnPanels {
  size_t gates;
  size_t units;  // hidden units a panel
  size_t count;  // panels

  size_t width() const { return gates * units; }       // floats in a row of a panel
  size_t row() const { return count * width(); }       // floats of one projected row: all panels
  size_t state() const { return count * units; }       // floats of a state vector, H rounded up
  size_t packed(size_t k) const { return row() * k; }  // floats of packed weights [G·H, K]
};
RnnPanels RnnPanelsOf(RnnCell cell, size_t hidden);

// weights [G·H, K] -> panels.packed(K) floats.
void PackRnnWeights(const RnnPanels& panels, const float* weights, size_t hidden, size_t k,
                    float* packed);
// bias [G·H] -> panels.row() floats: what PackRnnWeights makes of K = 1.
inline void PackRnnBias(const RnnPanels& panels, const float* bias, size_t hidden, float* packed) {
  PackRnnWeights(panels, bias, hidden, 1, packed);
}

// State of `rows` sequences. Vectors have panels.state() floats; h_next may not be h_prev.
struct RnnStep {
  size_t rows = 0, hidden = 0;
  const float* recurrent = nullptr;       // packed R
  const float* recurrent_bias = nullptr;  // packed bias of R; read by kGruLinear alone
  const float* projected = nullptr;       // rows of panels.row() floats: x W + bias
  const float* const* h_prev = nullptr;
  float* const* h_next = nullptr;
  float* const* c = nullptr;      // LSTM: in and out
  float* const* z = nullptr;      // kGru: scratch between its phases
  float* const* reset = nullptr;  // kGru: scratch, r h
};
// Phases of a step: all panels of one must be done before the next begins.
constexpr int RnnPhases(RnnCell cell) { return cell == RnnCell::kGru ? 2 : 1; }
void RunRnnStep(RnnCell cell, const RnnPanels& panels, const RnnStep& step, int phase, size_t begin,
                size_t end);

}  // namespace dunlin
