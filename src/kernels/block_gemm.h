// f32 products with weights of a few bits: blocks of codes along K share a scale and a zero point,
//
//   C[m, n] = sum over blocks b and codes k of the block of x[m, b, k] * w[b, k, n]
//   w[b, k, n] = (code[b, k, n] - zero[b, n]) * scale[b, n].
//
// BlockDot reads the codes as they are, for few rows as fast as memory gives them; many rows meet
// panels that DecodeBlocks wrote for Gemm.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/gemm.h"

namespace dunlin {

// Numbers that belong to every block of every column.
enum class BlockNumbers : uint8_t { kNone, kU8, kF16, kF32 };

// Codes of 2, 4 or 8 bits in words of 32, the first in the lowest bits. Columns are cut as for
// Gemm; a panel holds the words [blocks * words][columns] and the numbers [blocks][columns] of its
// columns, and lies behind the panels before it.
struct BlockWeights {
  GemmPanels panels;
  int bits = 4;
  int64_t blocks = 0;
  int64_t words = 0;  // of a column of a block; codes that fill up its last word meet zeros of x
  const uint32_t* codes = nullptr;
  BlockNumbers scale_type = BlockNumbers::kF32;  // kF16 or kF32
  const void* scales = nullptr;
  BlockNumbers zero_type = BlockNumbers::kNone;  // kNone: the middle code; kU8 or kF32
  const void* zeros = nullptr;

  int64_t per_word() const { return 32 / bits; }
  int64_t block() const { return words * per_word(); }  // codes of a block, those without use too
  int64_t k() const { return blocks * block(); }
  int64_t packed_words() const { return panels.packed_floats(blocks * words); }
};

// Packs panels [begin, end) of a table with `rows` rows of one number of `bytes` (1, 2 or 4) for
// every column: column n of row r at from + n * n_stride + r * r_stride bytes. One of the strides
// is `bytes`. Columns that only fill up a panel are 0. from may have any address.
void PackBlockTable(const GemmPanels& panels, int64_t rows, const void* from, int64_t n_stride,
                    int64_t r_stride, int bytes, int64_t begin, int64_t end, void* packed);

// How a row of x meets the codes.
enum class BlockRow : uint8_t {
  kFloats,  // f32 with codes made floats
  kWide,    // 24-bit integers with a scale for every 32 of them, as three signed bytes each
  kBytes,   // 8-bit integers likewise: for whoever may have x rounded to them
};
// The fastest exact way for m rows, kFloats or kWide, and the fastest of all, which may be kBytes.
BlockRow ExactBlockRow(const BlockWeights& w, int64_t m);
BlockRow FastestBlockRow(const BlockWeights& w);

// Bytes of a prepared row, a multiple of 64.
size_t BlockRowBytes(const BlockWeights& w, BlockRow kind);
// Prepares w.k() floats, zeros where a code has no use, for BlockDot. `row` is aligned to 64 bytes.
void PrepareBlockRow(const BlockWeights& w, BlockRow kind, const float* x, void* row);

// Columns of panels [begin, end), all m rows: C = x W + bias. `rows` holds m prepared rows. The sum
// over a block is exact but for the rounding of x, and is rounded to f32 as it is scaled; floats
// are rounded at every step. So C is within
//   kFloats: 2 (K + 2) 2^-24 sum |x| |scale| (code + |zero|)
//   kWide:   2 (K / 32 + 4) 2^-24 sum max|x| |scale| (code + |zero|)
//   kBytes:  sum max|x| / 254 |scale| |code - zero| more than kWide
// of the exact sum, where max|x| is the largest of the 32 numbers (or of the block, if that is
// shorter), and below 2^-104 counts as that. A row with an infinity or NaN gives NaN.
void BlockDot(const BlockWeights& w, BlockRow kind, const void* rows, int64_t m, const float* bias,
              float* c, int64_t c_stride, int64_t begin, int64_t end);

// Blocks [first, first + count) of a panel as f32, [count * w.block()][columns of the panel], as
// PackGemm lays them out. The difference is exact where the zero point is an integer, and rounded
// once when multiplied.
void DecodeBlocks(const BlockWeights& w, int64_t panel, int64_t first, int64_t count, float* to);

}  // namespace dunlin
