// Lowering of the convolutions. Internal to this folder.
#pragma once

#include "ops/band.h"
#include "ops/conv/conv.h"
#include "ops/op.h"

namespace dunlin {

// The fast kernel for f32 images of up to three spatial axes, nullptr for everything else. Inputs
// and output are those of FusedConv, stored channels-last.
Result<KernelPtr> LowerConv(const ConvAttrs& attrs, const ActivationParams& act, LowerContext& ctx);

// Winograd's method on tiles of m x m outputs where the rounding error with these weights is small,
// else nullptr. Channels-last.
Result<KernelPtr> LowerWinograd(const ConvShape& shape, int m, const ActivationParams& act,
                                LowerContext& ctx);
bool WinogradFits(const ConvShape& shape);
// What its cost model prefers: 2, 4, or 0 for the direct product, which may be one of bf16.
int WinogradTile(const ConvShape& shape, bool bf16_products);

// The direct kernel for narrow groups of constant weights, nullptr for others. Channels-last.
Result<KernelPtr> LowerGrouped(const ConvShape& shape, const ActivationParams& act,
                               LowerContext& ctx);

// Of channels-last images of at most three axes.
ConvGeometry GeometryOf(const ConvShape& shape);
// Bands are rows of the height.
BandShape BandShapeOf(const ConvShape& shape, const ConvGeometry& geometry);

// Images channels-last where LowerConv has a kernel; an input of few channels may come in any
// layout.
LayoutPlan ConvLayouts(const ConvAttrs& attrs, const LayoutQuery& query);

// f32 images of one to three spatial axes.
bool HasConvKernel(const Type& x);

// The same for ConvTranspose with constant weights.
Result<KernelPtr> LowerConvTranspose(const ConvTransposeAttrs& attrs, LowerContext& ctx);
LayoutPlan ConvTransposeLayouts(const LayoutQuery& query);

}  // namespace dunlin
