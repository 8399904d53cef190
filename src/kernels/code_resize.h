// Images of 8-bit codes, channels last, resized by linear interpolation without a float image in
// memory: two rows are blended into a piece of f32, pixels of that into codes.
//
// Each operation is rounded to f32 by itself, so that every SIMD target gives the same codes.
#pragma once

#include <cstdint>

#include "kernels/code_epilogue.h"
#include "tensor/dtype.h"

namespace dunlin {

struct CodeResizeRow {
  DType type = DType::kU8;  // or i8; of both sides
  int64_t channels = 1;
  int32_t x_zero = 0;
  CodeRange range;  // of y
  // One or two rows of x, and what they count.
  int64_t row_taps = 1;
  const uint8_t* rows[2] = {};
  float row_weights[2] = {1, 0};
  // One or two columns of each of `columns` pixels of y, that of the first and of the last tap not
  // falling from pixel to pixel: [columns][column_taps].
  int64_t columns = 0, column_taps = 1;
  const int32_t* index = nullptr;
  const float* weights = nullptr;  // times the steps of y's codes in one of x's
};

// v[i] = sum over r of row_weights[r] * (rows[r][i] - x_zero)
// y[p] = the code nearest (half to even) to the sum over k of weights[p][k] * v[index[p][k]]
// of every channel. No bytes but those of the pixels are read or written.
void ResizeCodes(const CodeResizeRow& row, uint8_t* y);
// Channel `c` of pixel `p` by plain operations: the code's byte.
uint8_t ResizedCode(const CodeResizeRow& row, int64_t p, int64_t c);

}  // namespace dunlin
