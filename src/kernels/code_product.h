// Exact products of codes: small integers, widened to 16 bits with their zero point subtracted,
// multiplied and summed modulo 2^32.
//
//   C[m, n] = sum over taps t and pairs k < K of rows[t][m][k] * B[t K + k, n]
//
// The left operand is given by one pointer per (tap, row), as in kernels/gemm.h: a matrix has one
// tap, a convolution points at the input pixel under each kernel element. Rows hold an even number
// of codes, an odd last one being followed by a zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dunlin {

// How the n columns of B are cut: panels of `width` columns, the last one filled up with zeros.
struct CodePanels {
  int64_t n = 0, width = 1, count = 0;
  int64_t padded() const { return count * width; }
  // Of B with taps * pairs rows of pairs.
  int64_t packed_codes(int64_t tap_pairs) const { return padded() * tap_pairs * 2; }
};
// For the SIMD target in use; a recipe for packed weights must hold `width`.
CodePanels MakeCodePanels(int64_t n);

// Where code (t, k, n) of B lies: source(t, k, n) gives it with its zero point subtracted.
// Packs panels [begin, end). k counts codes, odd or even.
template <class Source>
void PackCodes(const CodePanels& panels, int64_t taps, int64_t k, int64_t begin, int64_t end,
               const Source& source, int16_t* packed) {
  const int64_t pairs = (k + 1) / 2;
  for (int64_t p = begin; p < end; ++p) {
    int16_t* to = packed + p * panels.width * taps * pairs * 2;
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t i = 0; i < 2 * pairs; i += 2)
        for (int64_t c = p * panels.width; c < (p + 1) * panels.width; ++c) {
          *to++ = c < panels.n ? source(t, i, c) : int16_t{0};
          *to++ = c < panels.n && i + 1 < k ? source(t, i + 1, c) : int16_t{0};
        }
  }
}

struct CodeProductArgs {
  const int16_t* const* rows = nullptr;  // rows[t * row_stride + m]
  int64_t row_stride = 0;
  int64_t taps = 1;   // of this call
  int64_t pairs = 0;  // per tap
  int64_t m = 0;
  const int16_t* packed = nullptr;
  int64_t packed_pairs = 0;  // taps * pairs of the whole B
  int64_t first_pair = 0;    // of B, that meets the first tap
  bool accumulate = false;   // adds to C
  // Column n of row m at c[m * c_stride + n - begin * panels.width]; whole panels are written.
  int32_t* c = nullptr;
  int64_t c_stride = 0;
};
// Columns of panels [begin, end), all m rows.
void CodeProduct(const CodePanels& panels, const CodeProductArgs& args, int64_t begin, int64_t end);

}  // namespace dunlin
