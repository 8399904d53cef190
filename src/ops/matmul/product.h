// MatMul, Gemm and FusedMatMul seen as one product; what else multiplies batches of matrices uses
// its strides.
#pragma once

#include <vector>

#include "ops/matmul/matmul.h"

namespace dunlin {

struct MatMulAttrs : NoAttrs {};

// How the three operators look at the same product.
struct ProductAttrs {
  bool trans_a = false, trans_b = false;
  float alpha = 1, beta = 1;
  ActivationParams act;
};
Result<ProductAttrs> ReadProduct(const MatMulAttrs& attrs);
Result<ProductAttrs> ReadProduct(const GemmAttrs& attrs);
Result<ProductAttrs> ReadProduct(const FusedMatMulAttrs& attrs);

// The last two axes of both operands as matrices, the rest as broadcast batch axes.
struct ProductShape {
  Dims y;  // of the result
  int64_t m = 1, n = 1, k = 1;
};

Result<ProductShape> ResolveProduct(const ProductAttrs& p, Dims a, Dims b);

// Strides with which x is read as if broadcast to `to`; 0 along repeated axes.
std::vector<int64_t> BroadcastStrides(std::span<const int64_t> x, std::span<const int64_t> to);
// Where element `at` (row-major) of `dims` lies in an operand with these strides.
int64_t OffsetOf(int64_t at, std::span<const int64_t> dims, std::span<const int64_t> strides);

// The fast kernel for f32, nullptr for other types.
Result<KernelPtr> LowerProduct(const ProductAttrs& p, LowerContext& ctx);

}  // namespace dunlin
