// If, Loop, Scan and SequenceMap: operators whose work is done by sub-graphs.
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

// Stacking and slicing work on tensors alone.
Status NeedTensor(const Type& t, std::string_view what);
Result<Tensor> NeedTensor(RunValue v, std::string_view what);

// Types of loop-carried values that hold in every iteration: starts from nothing but element types
// and sharpens, because what inference has once derived in a sub-graph it may keep. `formal` are
// the types of the body's inputs, carried values at [first, first + count); the body's outputs hold
// them from `first_out`. Returns the body's output types; formal then has the carried types.
Result<std::vector<Type>> InferBody(InferContext& ctx, std::vector<Type>& formal, size_t first,
                                    size_t count, size_t first_out);

struct BatchScan {
  struct Attrs {
    int64_t num_scan_inputs = 0;
    std::vector<int64_t> directions;  // of each scanned input; not 0: from the last to the first
    template <class V>
    void Visit(V& v) {
      v("num_scan_inputs", num_scan_inputs);
      v("directions", directions);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

}  // namespace dunlin::control
