// The softmax of attention, cut where the product with the values stands: exponentials before it,
// one factor per row after it. Every function works on the calling thread.
#pragma once

#include <cstdint>

namespace dunlin {

// Floats in a vector of the SIMD target in use: scores whose rows begin at multiples of it are
// loaded and stored fastest.
int64_t ScoreLanes();

// x[r * stride + i] = exp(x[r * stride + i] - largest of the row), factors[r] = 1 / their sum, for
// i < n, n > 0. `stride` is a multiple of ScoreLanes(); what lies between n and the next multiple
// is overwritten. Exponentials within 3 ulp; below the least normal number they are 0. A row with a
// NaN or +Inf, and one that is all -Inf, gives a factor of NaN.
void ExponentialRowsF32(float* x, int64_t stride, int64_t rows, int64_t n, float* factors);

// y[r * stride + i] *= factors[r] for i < n.
void ScaleRowsF32(float* y, int64_t stride, int64_t rows, int64_t n, const float* factors);

}  // namespace dunlin
