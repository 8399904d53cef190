#include "ops/quant/code_weights.h"

namespace dunlin {

bool MultiplyAsBytes(const Tensor& w, const Tensor* zero, int64_t columns, int64_t run) {
  if (!ByteProductIsFast()) return false;
  const int64_t points = zero == nullptr ? 0 : zero->count();
  const auto point = [&](int64_t i) {
    return points == 0 ? 0 : CodeAt(zero->dtype(), zero->raw(), points == 1 ? 0 : i);
  };
  // What the type can hold, then, which takes reading them, what the weights are.
  const int32_t middle = w.dtype() == DType::kU8 ? 128 : 0;
  bool in_the_middle = true;
  for (int64_t i = 0; i < std::max<int64_t>(1, points); ++i) in_the_middle &= point(i) == middle;
  if (in_the_middle) return true;
  for (int64_t first = 0, i = 0; first < w.count(); first += run, ++i) {
    const int32_t z = point(i % columns);
    for (int64_t j = first; j < first + run; ++j) {
      const int32_t code = CodeAt(w.dtype(), w.raw(), j) - z;
      if (code < -128 || code > 127) return false;
    }
  }
  return true;
}

}  // namespace dunlin
