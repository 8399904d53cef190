// Kernels that can make a few rows of an image at a time. A chain of them hands its rows on while
// they are in the cache, instead of writing a whole image that the next one reads from memory.
#pragma once

#include <cstdint>

#include "kernels/conv.h"

namespace dunlin {

// Channels-last images of floats, input and output.
struct BandShape {
  int64_t images = 0;
  ConvAxis rows;  // which input rows an output row reads
  int64_t in_row_floats = 0, out_row_floats = 0;
};

struct BandArgs {
  // Where row 0 of the image lies, or would lie: only the rows that are read need to be there.
  const float* x = nullptr;
  // Floats between its pixels, for a kernel that reads_strided(0); 0: they are contiguous.
  int64_t pixel_stride = 0;
  const float* bias = nullptr;      // as the kernel's input 2, or null
  const float* residual = nullptr;  // row 0 of the image in the kernel's input 3, or null
  float* y = nullptr;               // row 0 of the image in the output
  int64_t begin = 0, end = 0;       // output rows to make
};

class BandKernel {
 public:
  virtual ~BandKernel() = default;
  virtual BandShape band_shape() const = 0;
  // On the calling thread.
  virtual void RunBand(const BandArgs& args) const = 0;
};

}  // namespace dunlin
