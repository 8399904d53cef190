// Channels of several channels-last images dealt out in turn: what a channel shuffle does. Pure
// data movement: bit-exact.
#pragma once

#include <cstdint>

namespace dunlin {

struct InterleaveArgs {
  static constexpr int kMaxImages = 8;
  int images = 0;
  const float* x[kMaxImages] = {};
  int64_t x_stride[kMaxImages] = {};  // floats between neighbouring pixels
  int64_t channels = 0;               // of each image
  float* y = nullptr;                 // images * channels of each pixel
  int64_t y_stride = 0;
};

// Pixels [begin, end): y[c * images + i] = x[i][c]. y overlaps no x.
void InterleaveChannels(const InterleaveArgs& args, int64_t begin, int64_t end);

}  // namespace dunlin
