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
Result<KernelPtr> LowerCodeWinograd(const ConvShape& shape, const ProductInputs& in,
                                    const CodeStoreAttrs& store, LowerContext& ctx);

}  // namespace dunlin
