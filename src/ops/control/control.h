// If, Loop and Scan: operators whose work is done by sub-graphs (ONNX opset 21).
#pragma once

#include <span>
#include <vector>

#include "ops/op.h"

namespace dunlin::control {

// What holds of a value that has either type: extents that differ become unknown, ranks that differ
// make it unranked. kInvalidArgument when kind or element type differ, with `what` in the message.
Result<Type> Merge(const Type& a, const Type& b, std::string_view what);

// `slices` laid side by side along a new extent at `axis` (of the result; may not be negative). All
// must have one type and extents. `reverse` puts the last slice first.
Result<Tensor> Stack(std::span<const Tensor> slices, int axis, bool reverse);

// The part of t at `index` of extent `axis`, without that extent.
Result<Tensor> SliceAt(const TensorView& t, int axis, int64_t index);

// No slices at all: extent 0 at `axis`, extents nobody knows are 0 too.
Result<Tensor> EmptyStack(const TensorView& expected, int axis);

}  // namespace dunlin::control
