// Exact products of bytes on machines that multiply and add four of them in one instruction (VNNI),
// summed modulo 2^32:
//
//   C[m, n] = sum over taps t and k < K of rows[t][m][k] * B[t, k, n]
//
// rows are unsigned codes x as they are stored, B signed weights w without a zero point; signed
// codes are shifted by 128 on the way (x ^ 0x80). Zero points are the caller's: with the
// zero point z of x (z + 128 if signed) and PackBytes' sums of a column's weights,
//   sum w (x - z) = C - z * sum w,
// pixels of a padding being pixels full of z.
// Rows are given as in kernels/code_product.h, one pointer per (tap, row), and hold exactly K
// bytes. Weights that have a zero point, or machines without such an instruction, are for
// CodeProduct.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/code_product.h"

namespace dunlin {

// Whether this machine has the instruction and the SIMD target in use has it: AVX-512 VNNI, or
// AVX-VNNI for vectors of 256 bits. Without it products are exact as well, but slow: for tests.
bool ByteProductIsFast();
// For tests, which hold both kinds of products against a reference: what ByteProductIsFast()
// answers from now on; nullopt: the truth. Changes a process-wide choice.
void AssumeByteProductIsFast(std::optional<bool> fast);

inline int64_t ByteQuads(int64_t k) { return (k + 3) / 4; }
// Of B with taps * ByteQuads(k) quads; panels are those of MakeCodePanels.
inline int64_t PackedBytes(const CodePanels& panels, int64_t tap_quads) {
  return panels.padded() * tap_quads * 4;
}

// Packs panels [begin, end): source(t, k, n) gives a weight. sums[n], which may be null, receives
// the sum of column n.
template <class Source>
void PackBytes(const CodePanels& panels, int64_t taps, int64_t k, int64_t begin, int64_t end,
               const Source& source, int8_t* packed, int32_t* sums) {
  const int64_t quads = ByteQuads(k);
  for (int64_t n = begin * panels.width; n < end * panels.width; ++n) {
    int8_t* to = packed + (n / panels.width * taps * quads * panels.width + n % panels.width) * 4;
    int32_t sum = 0;
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t i = 0; i < 4 * quads; ++i) {
        const int8_t w = n < panels.n && i < k ? int8_t(source(t, i, n)) : int8_t{0};
        to[((t * quads + i / 4) * panels.width) * 4 + i % 4] = w;
        sum += w;
      }
    if (sums != nullptr && n < panels.n) sums[n] = sum;
  }
}

struct ByteProductArgs {
  const uint8_t* const* rows = nullptr;  // rows[t * row_stride + m]
  int64_t row_stride = 0;
  bool is_signed = false;  // rows hold s8, else u8
  int64_t taps = 1;        // of this call
  int64_t k = 0;           // bytes per tap
  int64_t m = 0;
  const int8_t* packed = nullptr;
  int64_t packed_quads = 0;  // taps * ByteQuads(k) of the whole B
  int64_t first_quad = 0;    // of B, that meets the first tap
  bool accumulate = false;   // adds to C
  // Column n of row m at c[m * c_stride + n - begin * panels.width]; whole panels are written.
  int32_t* c = nullptr;
  int64_t c_stride = 0;
};
// Columns of panels [begin, end), all m rows.
void ByteProduct(const CodePanels& panels, const ByteProductArgs& args, int64_t begin, int64_t end);

}  // namespace dunlin
