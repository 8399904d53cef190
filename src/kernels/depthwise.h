// f32 depth-wise convolution of channels-last images: every channel has its own kernel.
#pragma once

#include "kernels/conv.h"

namespace dunlin {

struct DepthwiseArgs {
  ConvGeometry geometry;  // pixel_stride is the number of channels
  int64_t channels = 0;
  const float* x = nullptr;
  const float* weights = nullptr;   // [taps, channels]
  const float* bias = nullptr;      // [channels], not null
  const float* zeros = nullptr;     // channels zeros
  const float* residual = nullptr;  // as y, or null
  float* y = nullptr;
  ActivationParams activation;
};

// Kernels of more taps go row by row of the kernel.
inline constexpr int64_t kMaxDepthwiseLists = 128;
// Kernels so large that the pointers to their pixels do not fit a thread's stack are for another
// algorithm.
bool DepthwiseFits(const ConvGeometry& g);

// Output rows (of the last axis) [begin, end), counted through images, depth and height.
void Depthwise(const DepthwiseArgs& args, int64_t begin, int64_t end);

}  // namespace dunlin
