// What becomes of sums of products of codes: scaled, shifted, added to, activated, and rounded to
// codes again, in one pass over a row.
//
//   v = (sum + bias_codes[n]) * scale[n] * row_scale + bias[n]
//   v = (codes of v) * mid_factor                 with `mid`: v is in units of its codes before
//   v = v + (residual - residual_zero) * residual_factor
//   v = activation(v)
//   y = table[the code of v * inverse]            f32 outputs: v
//
// Each operation is rounded to f32 by itself, so that every SIMD target gives the same codes; only
// activations that are no comparisons may differ by one code where they lie between two.
#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "tensor/dtype.h"

namespace dunlin {

// The limits of 8-bit codes with their zero point subtracted.
struct CodeRange {
  float low = 0, high = 0;
  int32_t zero = 0;
  static CodeRange Of(DType t, int32_t zero) {
    const int32_t lowest = t == DType::kU8 ? 0 : -128;
    return {float(lowest - zero), float(lowest + 255 - zero), zero};
  }
};

struct CodeEpilogue {
  // Of every column, readable 63 elements beyond the last; nullptr: none.
  const int32_t* bias_codes = nullptr;
  const float* scale = nullptr;  // nullptr: sums are stored as they are, as i32
  const float* bias = nullptr;
  bool mid = false;
  CodeRange mid_range;
  float mid_factor = 1;
  DType residual = DType::kUndefined;  // kUndefined: none; f32, u8, i8
  int32_t residual_zero = 0;
  float residual_factor = 1;
  ActivationParams activation;
  DType to = DType::kI32;  // i32, f32, u8, i8
  CodeRange range;
  float inverse = 1;
  const uint8_t* table = nullptr;  // [256], by the code's bits; makes codes of any type
};

// A block of rows: of each, columns [first, first + n) of the result.
struct SumBlock {
  const int32_t* sums = nullptr;  // of row r and column first + i: sums[r * stride + i], readable
  int64_t stride = 0;             // 63 elements beyond the last
  int64_t rows = 1;
  const float* row_scales = nullptr;  // of each row; nullptr: 1
  int64_t first = 0, n = 0;
  // Of column `first` of the first row, and bytes from row to row.
  const void* residual = nullptr;
  int64_t residual_stride = 0;
  void* y = nullptr;
  int64_t y_stride = 0;
};
void StoreSums(const CodeEpilogue& e, const SumBlock& block);

// The same for one number by plain operations: the specification. `residual`: its value or code.
// Returns v before it is rounded to a code.
float EpilogueValue(const CodeEpilogue& e, int32_t sum, float row_scale, int64_t column,
                    double residual);
// y's code of that value, before the table.
int32_t EpilogueCode(const CodeEpilogue& e, float v);

}  // namespace dunlin
