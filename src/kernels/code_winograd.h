// 3x3 convolutions of codes at stride 1 by Winograd's F(2x2, 3x3) in exact integers: 16 products
// for 4 outputs of a channel pair instead of 36.
//
// With d the 4x4 inputs under a tile of 2x2 outputs y, and g a 3x3 kernel,
//
//   4 y = A^T [ (2G g 2G^T) * (B^T d B) ] A      (* element by element)
//
//   B^T = 1  0 -1  0    2G = 2  0  0    A^T = 1  1  1  0
//         0  1  1  0         1  1  1          0  1 -1 -1
//         0 -1  1  0         1 -1  1
//         0  1  0 -1         0  0  2
//
// B and A are integers, and so is 2G, G's only fractions being halves; each of its two factors
// doubles the result. The identity thus holds between integers, and the right side is a multiple
// of 4.
// It is computed modulo 2^32, where it stays whole while |4 y| < 2^31, whatever the terms between
// do; |y| <= 255 * (sum of |g| over all channels), hence CodeWinogradFits. Both factors fit 16
// bits: |B^T d B| <= 4 * 255, |2G g 2G^T| <= 9 * 255.
// Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, section 4.1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/code_product.h"

namespace dunlin {

// Tiles of a block: whole tiles of CodeProduct's rows on every SIMD target, and few enough for the
// inputs of 64 channels and the products of a panel to stay in the second-level cache.
inline constexpr int64_t kCodeWinogradTiles = 24;

// Whether an output whose weights (their zero point subtracted, at most 255) have absolute values
// that add up to `total` is exact.
constexpr bool CodeWinogradFits(int64_t total) { return total <= ((int64_t{1} << 29) - 1) / 255; }

struct CodeWinogradShape {
  int64_t channels = 0;
  CodePanels panels;  // MakeCodePanels(outputs)
  int64_t pairs() const { return (channels + 1) / 2; }
  int64_t packed_codes() const { return 16 * panels.packed_codes(pairs()); }
  // The scratch of a block: transformed inputs [16][tiles][channels], channels filled up to a cache
  // line, then products of one panel [16][tiles][columns]. A cache line more than they need lies
  // between the matrices, so that what is stored to all 16 at once does not compete for the same
  // places of the first-level cache.
  int64_t input_stride() const { return (channels + 31) / 32 * 32; }
  int64_t input_matrix() const { return kCodeWinogradTiles * input_stride() + 32; }
  int64_t product_matrix() const { return kCodeWinogradTiles * panels.width + 16; }
  int64_t scratch_bytes() const { return 16 * (2 * input_matrix() + 4 * product_matrix()); }
};

// Packs panels [begin, end): source(t, c, n) gives the weight of kernel element t = 3 row + column
// with its zero point subtracted.
template <class Source>
void PackCodeWinograd(const CodeWinogradShape& s, int64_t begin, int64_t end, const Source& source,
                      int16_t* packed) {
  const int64_t width = s.panels.width, matrix = s.panels.packed_codes(s.pairs());
  const auto transform = [](const int* g, int step, int* to, int to_step) {
    to[0] = 2 * g[0];
    to[to_step] = g[0] + g[step] + g[2 * step];
    to[2 * to_step] = g[0] - g[step] + g[2 * step];
    to[3 * to_step] = 2 * g[2 * step];
  };
  for (int64_t n = begin * width; n < end * width; ++n)
    for (int64_t c = 0; c < 2 * s.pairs(); ++c) {
      int g[9] = {}, half[12], u[16];
      if (n < s.panels.n && c < s.channels)
        for (int t = 0; t < 9; ++t) g[t] = source(int64_t{t}, c, n);
      for (int j = 0; j < 3; ++j) transform(g + j, 3, half + j, 3);
      for (int i = 0; i < 4; ++i) transform(half + 3 * i, 1, u + 4 * i, 1);
      int16_t* const to =
          packed + ((n / width * s.pairs() + c / 2) * width + n % width) * 2 + c % 2;
      for (int i = 0; i < 16; ++i) to[i * matrix] = int16_t(u[i]);
    }
}

struct CodeWinogradArgs {
  // x[16 t + 4 i + j]: the channels of the input pixel (i, j) under tile t, bytes as they are
  // stored. Those of the padding are pixels full of the code `zero`.
  const void* const* x = nullptr;
  bool is_signed = false;  // bytes are s8, else u8
  int32_t zero = 0;
  int64_t tiles = 0;  // at most kCodeWinogradTiles
  const int16_t* packed = nullptr;
  void* scratch = nullptr;  // aligned to 64 bytes
  // Output pixel (i, j) of tile t, column n: sums[(4 t + 2 i + j) * sums_stride + n - begin *
  // panels.width]; whole panels are written.
  int32_t* sums = nullptr;
  int64_t sums_stride = 0;
};
// The inputs of a block of tiles, transformed into scratch.
void CodeWinogradInput(const CodeWinogradShape& shape, const CodeWinogradArgs& args);
// From them, the sums of x - zero times weights in the columns of panels [begin, end).
void CodeWinogradSums(const CodeWinogradShape& shape, const CodeWinogradArgs& args, int64_t begin,
                      int64_t end);
// Both, for all columns.
inline void CodeWinogradBlock(const CodeWinogradShape& shape, const CodeWinogradArgs& args) {
  CodeWinogradInput(shape, args);
  CodeWinogradSums(shape, args, 0, shape.panels.count);
}

}  // namespace dunlin
