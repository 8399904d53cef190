// Elementwise loops over f32: y[i] = f(x[i]), y = f(a, b) with broadcasting rows, selection.
// Every function works on the calling thread; the caller splits. Buffers need no alignment; an
// output may be the same memory as an input of its own extents, but not overlap it otherwise.
#pragma once

#include <cstdint>

namespace dunlin {

enum class UnaryOp : uint8_t {
  kAbs,
  kCeil,
  kFloor,
  kRound,
  kNeg,
  kReciprocal,
  kSqrt,
  kRsqrt,
  kSquare,
  kCube,
  kSign,
  kExp,
  kLog,
  kErf,
  kSigmoid,
  kTanh,
  kSoftplus,
  kSoftsign,
  kMish,
  kGelu,
  kGeluTanh,
  kHardSwish,
  kRelu,
  kLeakyRelu,        // a: slope
  kElu,              // x < 0 ? a (e^(x b) - 1) : x
  kSelu,             // a: alpha, b: gamma
  kThresholdedRelu,  // a: threshold
  kHardSigmoid,      // a x + b within [0, 1]
  kSwish,            // x / (1 + e^(-a x))
  kClip,             // min(max(x, a), b)
};
inline constexpr int kUnaryOpCount = int(UnaryOp::kClip) + 1;

struct UnaryParams {
  UnaryOp op = UnaryOp::kAbs;
  float a = 0, b = 0;
};

// About one vector operation per element rather than tens of them: decides how work is split.
bool IsCheap(UnaryOp op);

// y[i] = op(x[i]). Exact (as the f32 operation) for the cheap ones; the others are within
// 2e-6 * max(|x|, |y|, 1e-1) of the value in real numbers. NaN gives NaN, infinities the limit.
void MapF32(const UnaryParams& p, const float* x, float* y, int64_t n);

// Two operands and the rows of a result: element (r, c) of an operand lies at r * row + c * col,
// col being 0 or 1; the result is dense.
struct Strided {
  const float* data;
  int64_t row, col;
};

enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kMax, kMin, kPRelu };
inline constexpr int kBinaryOpCount = int(BinaryOp::kPRelu) + 1;
// Exact. Max and Min give NaN when either is NaN. PRelu: b is the slope.
void CombineF32(BinaryOp op, Strided a, Strided b, float* y, int64_t rows, int64_t cols);

enum class CompareOp : uint8_t { kEqual, kLess, kLessOrEqual, kGreater, kGreaterOrEqual };
inline constexpr int kCompareOpCount = int(CompareOp::kGreaterOrEqual) + 1;
void CompareF32(CompareOp op, Strided a, Strided b, bool* y, int64_t rows, int64_t cols);

struct StridedBools {
  const bool* data;
  int64_t row, col;
};
void SelectF32(StridedBools condition, Strided a, Strided b, float* y, int64_t rows, int64_t cols);

// y = max(least, x * scale + shift), either constant along a row (per row of a [rows, cols] matrix,
// row r taking element r % channels) or constant along a column (element c). NaN stays NaN.
void AffineRows(const float* x, const float* scale, const float* shift, int64_t channels,
                int64_t first_row, float least, float* y, int64_t rows, int64_t cols);
// Rows of x lie x_stride apart.
void AffineColumns(const float* x, int64_t x_stride, const float* scale, const float* shift,
                   float least, float* y, int64_t rows, int64_t cols);

}  // namespace dunlin
