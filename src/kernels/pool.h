// f32 pooling: windows over channels-last images, and whole planes in both layouts.
#pragma once

#include "kernels/conv.h"

namespace dunlin {

enum class Pool { kMax, kAverage };

struct PoolArgs {
  Pool pool = Pool::kMax;
  ConvGeometry geometry;
  int64_t channels = 0;
  int64_t y_stride = 0;  // floats between neighbouring output pixels
  const float* x = nullptr;
  const float* outside = nullptr;  // channels floats: what padding counts as (-Inf or 0)
  const float* scales = nullptr;   // kAverage: of each output pixel of one image
  float* y = nullptr;
};

// Larger windows are for another algorithm.
inline constexpr int64_t kMaxPoolTaps = 512;

// Output rows (of the last axis) [begin, end), counted through images, depth and height.
// kMax: NaN is passed over. kAverage: scale times the sum.
void PoolRows(const PoolArgs& args, int64_t begin, int64_t end);

// Channels [begin, end) of one image of `pixels` x `channels` to y[channels]. Cuts at multiples of
// kGlobalPoolChannels give the same sums as none.
inline constexpr int64_t kGlobalPoolChannels = 16;  // a cache line, and a vector of AVX-512
void GlobalPoolChannelsLast(Pool pool, const float* x, int64_t pixels, int64_t channels, float* y,
                            int64_t begin, int64_t end);
// Planes [begin, end) of `pixels` neighbouring floats to y[plane].
void GlobalPoolPlanes(Pool pool, const float* x, int64_t pixels, float* y, int64_t begin,
                      int64_t end);

}  // namespace dunlin
