#include "ops/reduce/axes.h"

namespace dunlin {

Result<int> ResolveAxis(std::string_view name, int64_t axis, int rank) {
  const int64_t dims = std::max(rank, 1);
  if (axis < -dims || axis >= dims)
    return Fail(Code::kInvalidArgument, "{}: axis {} outside rank {}", name, axis, rank);
  return int(axis < 0 ? axis + dims : axis);
}

Result<std::vector<bool>> AxisMask(std::string_view name, std::span<const int64_t> axes, int rank) {
  std::vector<bool> mask(size_t(rank), false);
  for (const int64_t a : axes) {
    const int i = TRY(ResolveAxis(name, a, rank));
    if (i < rank) mask[size_t(i)] = true;
  }
  return mask;
}

Dims ReducedDims(std::span<const int64_t> dims, const std::vector<bool>& reduced, bool keep_dims) {
  Dims out;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (!reduced[i])
      out.push_back(dims[i]);
    else if (keep_dims)
      out.push_back(1);
  }
  return out;
}

AxisSplit SplitAt(std::span<const int64_t> dims, int axis) {
  AxisSplit s;
  for (int i = 0; i < int(dims.size()); ++i)
    (i < axis ? s.outer : i == axis ? s.axis : s.inner) *= dims[size_t(i)];
  return s;
}

ReducePlan PlanReduce(std::span<const int64_t> dims, const std::vector<bool>& reduced,
                      Layout layout) {
  ReducePlan plan;
  const bool channels_last = layout == Layout::kChannelsLast && dims.size() >= 3;
  int64_t dense = channels_last ? dims[1] : 1;
  std::optional<bool> last;
  for (size_t i = dims.size(); i-- > 0;) {
    int64_t stride = dense;
    if (channels_last && i == 1)
      stride = 1;
    else
      dense *= dims[i];
    if (dims[i] == 1) continue;
    ReducePlan::Loop& loop = reduced[i] ? plan.reduced : plan.kept;
    if (last == reduced[i] && stride == loop.strides.back() * loop.dims.back()) {
      loop.dims.back() *= dims[i];
    } else {
      loop.dims.push_back(dims[i]);
      loop.strides.push_back(stride);
    }
    last = reduced[i];
  }
  for (ReducePlan::Loop* l : {&plan.kept, &plan.reduced}) {
    std::reverse(l->dims.begin(), l->dims.end());
    std::reverse(l->strides.begin(), l->strides.end());
  }
  return plan;
}

}  // namespace dunlin
