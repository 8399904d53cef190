// Reductions, softmax and row normalisations over f32. Every function works on the calling thread;
// the caller splits. Buffers need no alignment.
#pragma once

#include <cstdint>

namespace dunlin {

enum class ReduceOp : uint8_t { kSum, kMean, kMax, kMin, kProd, kL1, kL2, kSumSquare };
inline constexpr int kReduceOpCount = int(ReduceOp::kSumSquare) + 1;

// Sums are kept in 4 vectors, so the error grows with n / (4 lanes): within n / 16 * 2^-24 relative
// to the sum of magnitudes, where results in real numbers would have none. Max and Min are exact,
// NaN if any is NaN.

// y[r] = the reduction of x[r * stride + (0..n-1)] for r < rows.
void ReduceRowsF32(ReduceOp op, const float* x, int64_t stride, int64_t rows, int64_t n, float* y);
// y[c] = the reduction of x[(0..n-1) * stride + c] for c < cols. n > 0.
void ReduceColumnsF32(ReduceOp op, const float* x, int64_t stride, int64_t n, int64_t cols,
                      float* y);

// y[r] = the index of the first largest (kMax) or smallest (kMin) of n > 0 elements of row r; the
// first NaN when there is one.
void ArgRowsF32(ReduceOp op, const float* x, int64_t rows, int64_t n, int64_t* y);

// Softmax of rows of n > 0 elements; in place allowed. Within 2e-6 relative plus 1e-7. `log`: the
// logarithm of it, within 1e-5 * max(1, |y|).
void SoftmaxRowsF32(bool log, const float* x, float* y, int64_t rows, int64_t n);
// Softmax along n > 0 elements that lie `stride` apart, for `cols` neighbouring lines; in place
// allowed. scratch: 2 * cols floats.
void SoftmaxColumnsF32(bool log, const float* x, float* y, int64_t stride, int64_t n, int64_t cols,
                       float* scratch);

// Mean and 1 / sqrt(variance + epsilon) of n > 0 neighbouring values; two passes. Not `centred`:
// mean is 0 and the variance is the mean square.
struct RowMoments {
  float mean, inverse;
};
RowMoments MomentsF32(const float* x, int64_t n, float epsilon, bool centred);

// y = (x - mean) * factor + shift for n values.
void CentreAndScaleF32(const float* x, float mean, float factor, float shift, float* y, int64_t n);

// y = (x - mean) * inverse * scale + bias over rows of n > 0 elements; bias may be null. mean_out,
// inverse_out: one each per row, may be null. Within 2e-6 * max(1, |y|) for |x| up to 100
// deviations from its mean.
void NormalizeRowsF32(const float* x, const float* scale, const float* bias, float* y, int64_t rows,
                      int64_t n, float epsilon, bool centred, float* mean_out, float* inverse_out);

}  // namespace dunlin
