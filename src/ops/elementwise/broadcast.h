// Numpy broadcasting as few strided loops: the extents of the output with every run of dimensions
// that all operands walk alike merged into one.
#pragma once

#include <array>
#include <span>

#include "ir/op_def.h"

namespace dunlin {

// Strides count elements; 0 where an operand is repeated. Always at least one dimension.
template <size_t N>
struct BroadcastPlan {
  Dims dims;
  std::array<Dims, N> strides;

  int64_t cols() const { return dims.back(); }
  int64_t rows() const {
    int64_t n = 1;
    for (size_t i = 0; i + 1 < dims.size(); ++i) n *= dims[i];
    return n;
  }
};

// `out` is the broadcast of all `in`.
template <size_t N>
BroadcastPlan<N> PlanBroadcast(std::span<const int64_t> out,
                               const std::array<std::span<const int64_t>, N>& in) {
  BroadcastPlan<N> plan;
  std::array<int64_t, N> dense;  // the stride operand k has if its next extent is not 1
  dense.fill(1);
  // From the innermost dimension outwards; the lists are built reversed.
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t extent = out[out.size() - 1 - i];
    std::array<int64_t, N> stride;
    for (size_t k = 0; k < N; ++k) {
      const int64_t own = i < in[k].size() ? in[k][in[k].size() - 1 - i] : 1;
      stride[k] = own == 1 ? 0 : dense[k];
      dense[k] *= own;
    }
    if (extent == 1) continue;
    bool merge = !plan.dims.empty();
    for (size_t k = 0; merge && k < N; ++k)
      merge = stride[k] == plan.strides[k].back() * plan.dims.back();
    if (merge) {
      plan.dims.back() *= extent;
      continue;
    }
    plan.dims.push_back(extent);
    for (size_t k = 0; k < N; ++k) plan.strides[k].push_back(stride[k]);
  }
  if (plan.dims.empty()) {
    plan.dims.push_back(1);
    for (size_t k = 0; k < N; ++k) plan.strides[k].push_back(1);
  }
  std::reverse(plan.dims.begin(), plan.dims.end());
  for (size_t k = 0; k < N; ++k) std::reverse(plan.strides[k].begin(), plan.strides[k].end());
  return plan;
}

// Calls row(out_offset, offsets of the operands) for rows [begin, end) of plan.cols() elements
// each; along a row operand k advances by plan.strides[k].back().
template <size_t N, class F>
void ForEachRow(const BroadcastPlan<N>& plan, int64_t begin, int64_t end, const F& row) {
  const int outer = int(plan.dims.size()) - 1;
  Dims index(size_t(outer), 0);
  std::array<int64_t, N> offset{};
  int64_t rest = begin;
  for (int d = outer - 1; d >= 0; --d) {
    index[size_t(d)] = rest % plan.dims[size_t(d)];
    rest /= plan.dims[size_t(d)];
    for (size_t k = 0; k < N; ++k) offset[k] += index[size_t(d)] * plan.strides[k][size_t(d)];
  }
  const int64_t cols = plan.cols();
  for (int64_t r = begin; r < end; ++r) {
    row(r * cols, offset);
    for (int d = outer - 1; d >= 0; --d) {
      const auto i = size_t(d);
      for (size_t k = 0; k < N; ++k) offset[k] += plan.strides[k][i];
      if (++index[i] < plan.dims[i]) break;
      for (size_t k = 0; k < N; ++k) offset[k] -= plan.dims[i] * plan.strides[k][i];
      index[i] = 0;
    }
  }
}

// The element type all inputs in [first, last) share, kUndefined when none is known.
Result<DType> CommonDType(const InferContext& ctx, std::string_view name, int first, int last);
// Output 0 has the broadcast extents of inputs [first, last) and this element type.
Status InferBroadcast(InferContext& ctx, std::string_view name, DType dtype, int first, int last);

}  // namespace dunlin
