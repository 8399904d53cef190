// The product of kernels/gemm.h with both factors in bf16 and sums in f32, for processors that
// multiply such pairs (AVX512-BF16, vdpbf16ps): twice the products of an instruction, half the
// bytes of B.
//
//   C[m, n] = epilogue(sum over taps t and pairs of rows[t][m][k] * B[t K + k, n])
//
// B is packed as pairs of neighbours along k, an odd last one of a tap meeting a zero. A stays f32
// and is rounded, to nearest even, as a block of it is gathered; bias, residual and activation are
// f32, too. A number beyond 255.5 * 2^120 (half a step over bf16's largest) becomes an infinity.
//
// Products of two bf16 are exact in f32 (but those under 2^-126), so only sums are rounded, to
// nearest even: results are within (K + 4) 2^-23 sum |a||b| of the exact product of the rounded
// factors, in whatever order they are summed. The instruction adds the odd product of a pair before
// the even one, takes denormal factors as zeros, writes none, and does not look at MXCSR (Intel's
// manual, VDPBF16PS; VCVTNEPS2BF16 rounds and treats denormals alike). Elsewhere each bf16 is
// widened by a shift and two multiply-adds follow in that order: the same bits, unless something
// smaller than 2^-126 takes part.
#pragma once

#include "kernels/gemm.h"

namespace dunlin {

// Whether this processor has the instruction, and so is faster than with f32. Elsewhere the product
// is there for tests and for those who want to see the answers.
bool Bf16ProductIsFast();
// The same, or that the environment has DUNLIN_BF16=emulated: an engine then answers as it would on
// such a processor, only slower.
bool WantsBf16Products();

// Whether a product of sums of so many terms, in so many columns, is worth its rounding. Short sums
// gain little, as they are bound by the memory of A and C, and lose more, as they average fewer
// roundings: in a reader of text those under 128 terms made two thirds of the answers that changed
// (docs/low-precision.md). Few columns do not pay for gathering A.
bool Bf16ProductPays(int64_t terms, int64_t columns);

// Rows of pairs that `taps` taps of `k` rows make.
inline int64_t PairRows(int64_t taps, int64_t k) { return taps * ((k + 1) / 2); }

// As PackGemm, into panels.packed_floats(PairRows(taps, k)) pairs.
void PackBf16(const GemmPanels& panels, const GemmSource& source, int64_t begin, int64_t end,
              uint32_t* packed);

// What Gemm does when args.pairs is given. first_row is the first of a tap, packed_rows are whole
// taps.
void Bf16Product(const GemmPanels& panels, const GemmArgs& args, int64_t begin, int64_t end);

}  // namespace dunlin
