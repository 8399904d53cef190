// f32 convolution of channels-last images as an indirect matrix product: row m of the product is an
// output pixel, tap t a kernel element, and rows[t][m] points at the channels of the input pixel
// under it, or at zeros where that lies in the padding.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/gemm.h"

namespace dunlin {

struct ConvAxis {
  int64_t in = 1, out = 1, kernel = 1, stride = 1, dilation = 1, pad = 0;
};

// Depth, height, width; axes an image does not have are left as they are (extent 1).
struct ConvGeometry {
  ConvAxis axis[3];
  int64_t pixel_stride = 0;  // floats between neighbouring input pixels
  int64_t taps() const { return axis[0].kernel * axis[1].kernel * axis[2].kernel; }
  int64_t out_pixels() const { return axis[0].out * axis[1].out * axis[2].out; }
  int64_t in_pixels() const { return axis[0].in * axis[1].in * axis[2].in; }
  // Every output pixel is the input pixel of the same place.
  bool pointwise() const {
    for (const ConvAxis& a : axis)
      if (a.kernel != 1 || a.stride != 1 || a.pad != 0 || a.in != a.out) return false;
    return true;
  }
};

// Pointers for output pixels [m_begin, m_end), counted through all images, and taps [t_begin,
// t_end): rows[(t - t_begin) * row_stride + m - m_begin].
void FillConvRows(const ConvGeometry& g, const float* x, const float* zeros, int64_t m_begin,
                  int64_t m_end, int64_t t_begin, int64_t t_end, const float** rows,
                  int64_t row_stride);

// The largest m_end - m_begin that ConvIndirect handles well.
int64_t ConvMaxRows(int64_t taps);

// Output pixels [m_begin, m_end) and panels [begin, end) of a convolution. In `args`: k is the
// number of input channels, packed_rows = taps * k, c and epilogue.residual point at pixel 0; rows,
// row_stride, taps, m, first_row, first and last are ignored.
void ConvIndirect(const GemmPanels& panels, const ConvGeometry& g, const float* x,
                  const float* zeros, const GemmArgs& args, int64_t m_begin, int64_t m_end,
                  int64_t begin, int64_t end);
// The same for all panels of groups [group_begin, group_end), each with its own part of the
// channels, weights, bias and outputs: of the first group in `args`, and `outputs` floats of C and
// bias and `packed` floats, or pairs, of weights further for each group. `zeros` has all groups'
// channels.
struct ConvGroups {
  int64_t outputs = 0, packed = 0;
};
void ConvIndirectGroups(const GemmPanels& panels, const ConvGeometry& g, const float* x,
                        const float* zeros, const GemmArgs& args, const ConvGroups& groups,
                        int64_t m_begin, int64_t m_end, int64_t group_begin, int64_t group_end);

}  // namespace dunlin
