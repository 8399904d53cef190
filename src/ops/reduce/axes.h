// Axes of reductions: parsing them, and splitting extents into what stays and what is reduced.
#pragma once

#include <string_view>
#include <vector>

#include "ir/op_def.h"
#include "ops/op.h"

namespace dunlin {

// -rank..rank-1 to 0..rank-1. A scalar counts as one dimension: axis 0 or -1 of it is meaningful to
// ONNX.
Result<int> ResolveAxis(std::string_view name, int64_t axis, int rank);

// Which dimensions `axes` names. kInvalidArgument for one outside the rank.
Result<std::vector<bool>> AxisMask(std::string_view name, std::span<const int64_t> axes, int rank);

// Output extents of a reduction.
Dims ReducedDims(std::span<const int64_t> dims, const std::vector<bool>& reduced, bool keep_dims);

// The extents as [outer, axis, inner].
struct AxisSplit {
  int64_t outer = 1, axis = 1, inner = 1;
};
AxisSplit SplitAt(std::span<const int64_t> dims, int axis);
// Rows of everything from `axis` on: outer x (axis * inner).
inline AxisSplit SplitFrom(std::span<const int64_t> dims, int axis) {
  AxisSplit s;
  for (int i = 0; i < int(dims.size()); ++i) (i < axis ? s.outer : s.axis) *= dims[size_t(i)];
  return s;
}

// The extents as two loop nests over memory, in logical order, neighbours merged where memory
// allows and extents of 1 dropped.
struct ReducePlan {
  struct Loop {
    Dims dims, strides;
    int64_t count() const { return CountOf(dims); }
    // The offset of position i, row-major over dims.
    int64_t OffsetOf(int64_t i) const {
      int64_t offset = 0;
      for (size_t d = dims.size(); d-- > 0; i /= dims[d]) offset += i % dims[d] * strides[d];
      return offset;
    }
  };
  Loop kept, reduced;  // both outermost first
};
ReducePlan PlanReduce(std::span<const int64_t> dims, const std::vector<bool>& reduced,
                      Layout layout = Layout::kRowMajor);

// Calls f(offset) for every position of a loop nest, starting at `base`.
template <class F>
void ForEachOffset(const ReducePlan::Loop& loop, int64_t base, const F& f) {
  const int64_t n = loop.count();
  Dims index(loop.dims.size(), 0);
  for (int64_t i = 0; i < n; ++i) {
    f(base);
    for (size_t d = index.size(); d-- > 0;) {
      base += loop.strides[d];
      if (++index[d] < loop.dims[d]) break;
      base -= loop.strides[d] * loop.dims[d];
      index[d] = 0;
    }
  }
}

}  // namespace dunlin
