// Loops over codes of 8 bits, real = (code - zero) * scale: quantising, sums and products, tables,
// pools. Exact: every function gives, on every instruction set, the bits its formula gives in f32
// arithmetic as written (no contraction but where it says fma). Every function works on the calling
// thread; the caller splits. Buffers need no alignment; an output may be the same memory as an
// input of its own extents and element size, but not overlap it otherwise.
#pragma once

#include <cstdint>

namespace dunlin {

// A code of v: v limited to [lowest - zero, highest - zero], rounded half to even, plus zero. NaN
// gives the lowest code. Zero points are codes of the same type.

// y[i] = the code of x[i] / scale[i * step], zero[i * step]; step 0 or 1.
void QuantizeF32(const float* x, int64_t n, const float* scale, const int32_t* zero, int64_t step,
                 uint8_t* y);
void QuantizeF32(const float* x, int64_t n, const float* scale, const int32_t* zero, int64_t step,
                 int8_t* y);
// y[i] = (x[i] - zero[i * step]) * scale[i * step].
void DequantizeF32(const uint8_t* x, int64_t n, const float* scale, const int32_t* zero,
                   int64_t step, float* y);
void DequantizeF32(const int8_t* x, int64_t n, const float* scale, const int32_t* zero,
                   int64_t step, float* y);

// The least and the greatest of n floats and 0. NaN is passed over.
struct RangeOfF32 {
  float lowest = 0, highest = 0;
};
RangeOfF32 RangeF32(const float* x, int64_t n);

// Two operands and the rows of a result: element (r, c) of an operand lies at r * row + c * col,
// col being 0 or 1; rows of the result lie `cols` apart.
template <class T>
struct StridedCodes {
  const T* data;
  int64_t row, col;
};
// y = the code, zero point 0, of fma(a, a_ratio, fma(b, b_ratio, fixed)).
struct CodeSum {
  float a_ratio, b_ratio, fixed;
};
void AddCodes(const CodeSum& p, StridedCodes<uint8_t> a, StridedCodes<uint8_t> b, uint8_t* y,
              int64_t rows, int64_t cols);
void AddCodes(const CodeSum& p, StridedCodes<int8_t> a, StridedCodes<int8_t> b, int8_t* y,
              int64_t rows, int64_t cols);
// y = the code, zero point 0, of (a - a_zero) * (b - b_zero) * ratio + fixed.
struct CodeProductOf {
  int32_t a_zero, b_zero;
  float ratio, fixed;
};
void MulCodes(const CodeProductOf& p, StridedCodes<uint8_t> a, StridedCodes<uint8_t> b, uint8_t* y,
              int64_t rows, int64_t cols);
void MulCodes(const CodeProductOf& p, StridedCodes<int8_t> a, StridedCodes<int8_t> b, int8_t* y,
              int64_t rows, int64_t cols);

// y[r * y_stride + c] = table[x[r * x_stride + c]], of 256 bytes.
void MapCodes(const uint8_t* table, const uint8_t* x, int64_t x_stride, uint8_t* y,
              int64_t y_stride, int64_t rows, int64_t cols);

// One output pixel of a pool, from the `count` pixels of `channels` codes under its window. Of
// none, the greatest is the lowest code.
void MaxCodes(const uint8_t* const* pixels, int64_t count, int64_t channels, uint8_t* y);
void MaxCodes(const int8_t* const* pixels, int64_t count, int64_t channels, int8_t* y);
// y = the code, zero point 0, of s / divisor / y_scale + y_zero, s being the sum of (x - x_zero) *
// x_scale from the first pixel to the last.
struct CodeAverage {
  float x_scale, y_scale, divisor;
  int32_t x_zero, y_zero;
};
void AverageCodes(const CodeAverage& p, const uint8_t* const* pixels, int64_t count,
                  int64_t channels, uint8_t* y);
void AverageCodes(const CodeAverage& p, const int8_t* const* pixels, int64_t count,
                  int64_t channels, int8_t* y);

// sums[c] = the sum over r < rows of x[r * stride + c], modulo 2^32.
void SumCodeColumns(const uint8_t* x, int64_t stride, int64_t rows, int64_t cols, int32_t* sums);
void SumCodeColumns(const int8_t* x, int64_t stride, int64_t rows, int64_t cols, int32_t* sums);
// The sum of n neighbours.
int64_t SumCodes(const uint8_t* x, int64_t n);
int64_t SumCodes(const int8_t* x, int64_t n);

}  // namespace dunlin
