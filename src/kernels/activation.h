// The activations that matrix products and convolutions apply to their result before storing it.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace dunlin {

// The numbers are stored in graphs (the `activation` attribute of FusedConv and FusedMatMul).
enum class Activation : uint8_t {
  kNone = 0,
  kRelu = 1,
  kClip = 2,       // limited to [a, b]
  kLeakyRelu = 3,  // x < 0 ? a x : x
  kSigmoid = 4,
  kTanh = 5,
  kSilu = 6,         // x sigmoid(x)
  kHardSigmoid = 7,  // max(0, min(1, a x + b))
  kHardSwish = 8,    // x max(0, min(1, x / 6 + 1/2))
  kGelu = 9,         // x (1 + erf(x / sqrt 2)) / 2
  kGeluTanh = 10,    // x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2
};
inline constexpr int kActivationCount = 11;

struct ActivationParams {
  Activation kind = Activation::kNone;
  float a = 0, b = 0;
};

// From the attributes of a fused operator. kInvalidArgument when the number is not one of the
// enum's.
Result<ActivationParams> ReadActivation(int64_t kind, float a, float b);

// The specification, in double.
double ActivateReference(const ActivationParams& p, double x);

// x[i] = activation(x[i]). Within 1e-6 of the reference, relative to max(|x|, |result|).
void ActivateInPlace(const ActivationParams& p, float* x, int64_t count);

}  // namespace dunlin
