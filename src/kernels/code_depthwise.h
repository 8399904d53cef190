// Depth-wise convolutions of 8-bit codes: exact sums of products, channels last.
//
//   sums[o][c] = sum over rows r, columns k of x[r][o * stride + k][c] * w[r][k][c]
//
// The zero point of x is the caller's: what lies beside the image holds its code, so that it is a
// constant of every channel, -zero * (sum of w).
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace dunlin {

// Neighbouring outputs of a row that are made at once.
inline constexpr int64_t kDepthwiseOutputs = 4;

// Channels whose sums a caller holds at once.
inline constexpr int64_t kDepthwiseChannels = 2048;

// Whether there is a kernel for a window of kernel x kernel pixels and so many channels. `stride`:
// from output to output within a row.
bool HasCodeDepthwise(int64_t kernel, int64_t stride, int64_t channels);
// Channels of a block of packed weights, which a recipe must hold.
int64_t CodeDepthwiseLanes();
// 16-bit integers of the packed weights.
int64_t CodeDepthwisePacked(int64_t kernel, int64_t channels);
// w(place, channel) at w[place * channels + channel], their zero point subtracted.
void PackCodeDepthwise(int64_t kernel, int64_t channels, const int16_t* w, int16_t* packed);

struct CodeDepthwiseArgs {
  DType type = DType::kU8;  // of x; or i8
  int64_t kernel = 3, stride = 1, channels = 0;
  // The pixel under row r of the window in column k of the input, counted from the first output's
  // first: pixels[k * kernel + r], for (kDepthwiseOutputs - 1) * stride + kernel columns.
  const uint8_t* const* pixels = nullptr;
  const int16_t* packed = nullptr;
  int32_t* sums = nullptr;  // [kDepthwiseOutputs][sums_stride]
  int64_t sums_stride = 0;
};
void CodeDepthwiseRow(const CodeDepthwiseArgs& args);

}  // namespace dunlin
