// f32 convolution in groups of channels-last images, directly: for groups too narrow for a matrix
// product. A group's input is copied, padding included, so that neighbouring pixels lie a constant
// distance apart and a register tile of output pixels needs one pointer for all of them.
//
// Groups of fewer outputs than a vector has lanes run several to a vector ("spread"): the copy then
// holds, for every channel of a group, a vector with that channel of each group in its lanes.
#pragma once

#include <optional>

#include "kernels/conv.h"

namespace dunlin {

// How a convolution is cut, for the SIMD target in use; weights packed for one target do not suit
// another. A block is one group, or as many as fill a vector.
struct GroupedPlan {
  ConvGeometry geometry;              // pixel_stride is the number of channels
  int64_t channels = 0, outputs = 0;  // of a group
  int64_t lanes = 1;
  bool spread = false;
  int64_t block_groups = 1, blocks = 0;
  int64_t vectors = 1;  // of a block's outputs
  int64_t steps = 0;    // sum terms per tap: channels, rounded up to whole pieces
  int64_t strip = 0;    // output pixels of a row that are computed from one copy
  int64_t rows = 0;     // output rows likewise

  int64_t image_rows() const { return geometry.axis[1].out; }
  int64_t block_packed() const { return geometry.taps() * steps * vectors * lanes; }
  int64_t packed_floats() const { return blocks * block_packed(); }
};

// nullopt for convolutions that are better off as products: of strides above 2, of three axes, of
// groups that neither fill most of a vector nor divide it.
std::optional<GroupedPlan> MakeGroupedPlan(const ConvGeometry& geometry, int64_t group,
                                           int64_t outputs);

// Weights [group * outputs, channels, taps] to the kernel's order.
void PackGrouped(const GroupedPlan& plan, const float* w, float* packed);

struct GroupedArgs {
  const float* x = nullptr;
  const float* packed = nullptr;
  const float* bias = nullptr;      // or null
  const float* residual = nullptr;  // as y, or null
  float* y = nullptr;
  ActivationParams activation;
};

// Blocks [block_begin, block_end) of output rows [row_begin, row_end), counted through images.
// Every output is a sum over the taps and channels in order, wherever the cuts are.
void GroupedConv(const GroupedPlan& plan, const GroupedArgs& args, int64_t block_begin,
                 int64_t block_end, int64_t row_begin, int64_t row_end);

}  // namespace dunlin
