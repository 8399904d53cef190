#include "ops/elementwise/lower.h"

namespace dunlin {
namespace {

// Left-padded with ones to `rank`, both layouts order the elements alike.
bool SameInBothLayouts(const Dims& dims, size_t rank) {
  const size_t pad = rank - dims.size();
  const auto at = [&](size_t i) { return i < pad ? 1 : dims[i - pad]; };
  if (at(1) == 1) return true;
  for (size_t i = 2; i < rank; ++i)
    if (at(i) != 1) return false;
  return true;
}

}  // namespace

std::optional<Dims> ChannelsLastDims(const Dims& dims, size_t rank, Layout layout) {
  const bool stored = layout == Layout::kChannelsLast && dims.size() == rank;
  if (!stored && !SameInBothLayouts(dims, rank)) return std::nullopt;
  Dims d(rank, 1);
  std::copy(dims.begin(), dims.end(), d.begin() + (rank - dims.size()));
  std::rotate(d.begin() + 1, d.begin() + 2, d.end());  // [N, C, spatial…] to [N, spatial…, C]
  return d;
}

LayoutPlan RowMajorLayouts(const LayoutQuery& q) {
  LayoutPlan plan;
  plan.inputs.assign(q.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(q.outputs.size(), Layout::kRowMajor);
  return plan;
}

LayoutPlan ElementwiseLayouts(const LayoutQuery& q) {
  LayoutPlan plan = RowMajorLayouts(q);
  const Type& y = q.outputs[0];
  if (!y.ranked || y.dims.rank() < 3) return plan;
  const size_t rank = y.dims.size();
  bool wanted = false;
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    const Type& x = q.inputs[i];
    if (x.dtype == DType::kUndefined) continue;
    if (!x.ranked || (x.dims.size() != rank && !SameInBothLayouts(x.dims, rank))) return plan;
    wanted |= x.dims.size() == rank && q.current[i] == Layout::kChannelsLast &&
              !SameInBothLayouts(x.dims, rank);
  }
  if (!wanted) return plan;
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    const Type& x = q.inputs[i];
    if (x.dtype == DType::kUndefined || x.dims.size() != rank) continue;
    plan.inputs[i] = SameInBothLayouts(x.dims, rank) ? q.current[i] : Layout::kChannelsLast;
  }
  std::fill(plan.outputs.begin(), plan.outputs.end(), Layout::kChannelsLast);
  return plan;
}

}  // namespace dunlin
