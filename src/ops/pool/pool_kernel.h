// Lowering of the pools. Internal to this folder.
#pragma once

#include "kernels/pool.h"
#include "ops/conv/window.h"
#include "ops/op.h"

namespace dunlin {

// f32 windows, and of kMax u8 and i8, over channels-last images of up to three spatial axes;
// nullptr for everything else. `counts`: by how much each window's sum is divided, row-major over
// one image; empty for kMax.
Result<KernelPtr> LowerPool(Pool pool, const Window& window, const std::vector<int64_t>& counts,
                            LowerContext& ctx);
LayoutPlan PoolLayouts(Pool pool, const LayoutQuery& query);

// f32 planes in any layout.
Result<KernelPtr> LowerGlobalPool(Pool pool, LowerContext& ctx);
LayoutPlan GlobalPoolLayouts(const LayoutQuery& query);

}  // namespace dunlin
