#include "kernels/activation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
void ActivateSpan(const ActivationParams& p, float* x, size_t count) {
  ActivateRows(p, x, 1, 0, count);
}
}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>

namespace dunlin {
HWY_EXPORT(ActivateSpan);

void ActivateInPlace(const ActivationParams& p, float* x, int64_t count) {
  HWY_DYNAMIC_DISPATCH(ActivateSpan)(p, x, size_t(count));
}

Result<ActivationParams> ReadActivation(int64_t kind, float a, float b) {
  if (kind < 0 || kind >= kActivationCount)
    return Fail(Code::kInvalidArgument, "activation {} is not one of 0 to {}", kind,
                kActivationCount - 1);
  return ActivationParams{Activation(kind), a, b};
}

double ActivateReference(const ActivationParams& p, double x) {
  const auto limit = [](double v, double lo, double hi) { return v < lo ? lo : v > hi ? hi : v; };
  switch (p.kind) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return x < 0 ? 0 : x;
    case Activation::kClip:
      return limit(x, p.a, p.b);
    case Activation::kLeakyRelu:
      return x < 0 ? p.a * x : x;
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kHardSigmoid:
      return limit(p.a * x + p.b, 0, 1);
    case Activation::kHardSwish:
      return x * limit(x / 6 + 0.5, 0, 1);
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  }
  return x;
}

}  // namespace dunlin
#endif  // HWY_ONCE
