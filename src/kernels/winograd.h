// Winograd's minimal filtering for f32 convolutions with 3 x 3 kernels, stride 1 and dilation 1
// (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015): F(2,3) and F(4,3)
// compute tiles of m x m output pixels from (m + 2)^2 matrix products instead of 9 m^2, at the
// price of larger rounding errors. Images are channels-last.
//
// A NaN or infinity in the input reaches all pixels of the tiles whose input windows cover it, not
// only the neighbours under the kernel.
#pragma once

#include <cstdint>

#include "kernels/conv.h"
#include "kernels/gemm.h"

namespace dunlin {

inline constexpr int kMaxWinogradPoints = 36;

// m is 2 or 4. Axis 0 of the geometry has extent 1.
struct WinogradGeometry {
  int m = 2;
  ConvGeometry conv;
  int64_t batch = 1, channels = 0, outputs = 0;
  int64_t out_stride = 0;  // floats between neighbouring output pixels

  int64_t points() const { return int64_t(m + 2) * (m + 2); }
  int64_t tile_rows() const { return (conv.axis[1].out + m - 1) / m; }
  int64_t tile_cols() const { return (conv.axis[2].out + m - 1) / m; }
  int64_t tiles() const { return batch * tile_rows() * tile_cols(); }
};

// Transforms the kernels w [outputs, channels, 3, 3] and packs them: one product of channels x
// outputs after another, a point each; of every product the panels [begin, end).
void WinogradWeights(const WinogradGeometry& g, const GemmPanels& panels, const float* w,
                     int64_t begin, int64_t end, float* packed);

// Input windows of tiles [begin, end) to v[p * v_stride + (tile - begin) * channels]. `zeros` holds
// `channels` zeros.
void WinogradInput(const WinogradGeometry& g, const float* x, const float* zeros, int64_t begin,
                   int64_t end, float* v, int64_t v_stride);

// The products s[p * s_stride + (tile - begin) * outputs] of tiles [begin, end) to output pixels of
// y; bias, residual and activation of the epilogue are applied, alpha is not.
void WinogradOutput(const WinogradGeometry& g, const float* s, int64_t s_stride, int64_t begin,
                    int64_t end, const GemmEpilogue& epilogue, float* y);

}  // namespace dunlin
