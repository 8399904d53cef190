// Attributes of MatMulNBits, for whoever builds such nodes, and its kernel.
#pragma once

#include "ops/quant/quant.h"

namespace dunlin {

// com.microsoft MatMulNBits: y = a wᵀ + bias with w[n, k] = (code - zero point) * scale, both of a
// block of block_size neighbours along K.
// Inputs a [..., K], b (u8 [N, blocks, bytes of a block], the first code in the lowest bits),
// scales [N, blocks], zero_points (packed u8 [N, bytes of a row], or of scales' type; optional: the
// middle code), g_idx (i32, the block whose scale a column has; optional), bias [N] (optional).
struct MatMulNBitsAttrs {
  int64_t K = 0, N = 0, bits = 4, block_size = 0;  // NOLINT: ONNX's names
  // What a may be rounded to; 4: integers of 8 bits, every other value: it is not.
  int64_t accuracy_level = 0;
  template <class V>
  void Visit(V& v) {
    v("K", K);
    v("N", N);
    v("bits", bits);
    v("block_size", block_size);
    v("accuracy_level", accuracy_level);
  }
  int64_t blocks() const { return (K + block_size - 1) / block_size; }
  int64_t block_bytes() const { return (block_size * bits + 7) / 8; }
  int64_t zero_bytes() const { return (blocks() * bits + 7) / 8; }  // of a row
};

// Code i of bytes that hold 8 / bits codes each, the first in the lowest bits.
inline int32_t PackedCode(const uint8_t* data, int64_t i, int bits) {
  const int per_byte = 8 / bits;
  return data[i / per_byte] >> (i % per_byte * bits) & ((1 << bits) - 1);
}
// Element i of an f32, f16 or bf16 tensor.
inline float FloatAt(const TensorView& t, int64_t i) {
  return t.dtype == DType::kF32   ? t.as<float>()[i]
         : t.dtype == DType::kF16 ? float(t.as<Half>()[i])
                                  : float(t.as<BFloat16>()[i]);
}

// The kernel for constant weights, which it repacks; nullptr where there is none.
Result<KernelPtr> LowerPackedBlocks(const MatMulNBitsAttrs& a, LowerContext& ctx);

}  // namespace dunlin
