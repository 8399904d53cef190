#include "ops/quant/sums.h"

namespace dunlin {
namespace {

inline int32_t Sum(const SumStore& s, int32_t sum, int64_t column) {
  return s.bias == nullptr ? sum : WrapAdd(sum, s.bias[column]);
}

template <class Q>
void StoreCodes(const SumStore& s, const int32_t* sums, int64_t first, int64_t n, Q* y) {
  const float* scales = s.scales + (s.one_scale ? 0 : first);
  const int64_t step = s.one_scale ? 0 : 1;
  if (s.bias == nullptr)
    for (int64_t i = 0; i < n; ++i) y[i] = CodeOf<Q>(float(sums[i]) * scales[i * step], s.zero);
  else
    for (int64_t i = 0; i < n; ++i)
      y[i] = CodeOf<Q>(float(Sum(s, sums[i], first + i)) * scales[i * step], s.zero);
}

}  // namespace

void StoreSums(const SumStore& s, const int32_t* sums, int64_t first, int64_t n, void* y) {
  switch (s.to) {
    case DType::kI32:
      for (int64_t i = 0; i < n; ++i) static_cast<int32_t*>(y)[i] = Sum(s, sums[i], first + i);
      return;
    case DType::kF32:
      for (int64_t i = 0; i < n; ++i)
        static_cast<float*>(y)[i] =
            float(Sum(s, sums[i], first + i)) * s.scales[s.one_scale ? 0 : first + i];
      return;
    case DType::kU8:
      return StoreCodes(s, sums, first, n, static_cast<uint8_t*>(y));
    default:
      return StoreCodes(s, sums, first, n, static_cast<int8_t*>(y));
  }
}

}  // namespace dunlin
