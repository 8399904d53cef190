// The kernels of convolutions of codes, among which LowerCodeConv chooses. Their parameters have
// been checked (EpilogueFits), the weights and their zero points are constants, the output is
// stored channels-last.
#pragma once

#include "ops/quant/quant.h"

namespace dunlin {

// The input must be stored channels-last.
bool HasDepthwiseKernel(const ConvShape& shape);
Result<KernelPtr> LowerCodeDepthwise(const ConvShape& shape, const ProductInputs& in,
                                     const CodeStoreAttrs& store, LowerContext& ctx);

// The input must be stored channels-last.
bool HasWinogradKernel(const ConvShape& shape);
// Whether no sum with these weights can leave 32 bits on the way. zero: nullptr, or one for all or
// for each output.
bool WinogradIsExact(const Tensor& w, const Tensor* zero);
Result<KernelPtr> LowerCodeWinograd(const ConvShape& shape, const ProductInputs& in,
                                    const CodeStoreAttrs& store, LowerContext& ctx);

// Groups too narrow for products of their own.
bool HasGroupedKernel(const ConvShape& shape);
Result<KernelPtr> LowerCodeGrouped(const ConvShape& shape, const ProductInputs& in,
                                   const CodeStoreAttrs& store, LowerContext& ctx);

}  // namespace dunlin
