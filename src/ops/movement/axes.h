// What the inference of shape and data-movement operators has in common: axes, and arithmetic on
// extents that may be unknown or symbolic.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "ir/op_def.h"

namespace dunlin {

inline Result<int> NormalizeAxis(int64_t axis, int rank) {
  if (axis < -int64_t{rank} || axis >= rank)
    return Fail(Code::kInvalidArgument, "axis {} is outside rank {}", axis, rank);
  return int(axis < 0 ? axis + rank : axis);
}

// All in [0, rank), none twice, in the given order.
inline Result<std::vector<int>> NormalizeAxes(std::span<const int64_t> axes, int rank) {
  std::vector<int> out;
  std::vector<bool> seen(static_cast<size_t>(rank));
  for (const int64_t a : axes) {
    const int n = TRY(NormalizeAxis(a, rank));
    if (seen[size_t(n)]) return Fail(Code::kInvalidArgument, "axis {} is given twice", a);
    seen[size_t(n)] = true;
    out.push_back(n);
  }
  return out;
}

// One extent known from two sides; nullopt when they cannot be equal. Known beats symbolic beats
// unknown.
inline std::optional<int64_t> MergeDim(int64_t a, int64_t b) {
  if (IsKnown(a) && IsKnown(b) && a != b) return std::nullopt;
  if (IsKnown(a) || IsKnown(b)) return IsKnown(a) ? a : b;
  return IsSymbol(a) ? a : b;
}

inline int64_t AddDims(int64_t a, int64_t b) {
  if (a == 0) return b;
  if (b == 0) return a;
  int64_t sum = 0;
  if (!IsKnown(a) || !IsKnown(b) || __builtin_add_overflow(a, b, &sum)) return kUnknownDim;
  return sum;
}

inline int64_t MulDims(int64_t a, int64_t b) {
  if (a == 0 || b == 0) return 0;
  if (a == 1) return b;
  if (b == 1) return a;
  int64_t product = 0;
  if (!IsKnown(a) || !IsKnown(b) || __builtin_mul_overflow(a, b, &product)) return kUnknownDim;
  return product;
}

// A shape longer than this is data, not a shape.
inline constexpr int64_t kMaxShapeEntries = 256;

// The entries of an integer scalar or vector through which a shape may flow; unknown entries, and
// negative numbers (which a shape's entries cannot tell from symbols), are kUnknownDim.
inline std::optional<Dims> ShapeEntries(const InferContext& ctx, int i) {
  if (!ctx.has(i)) return std::nullopt;
  if (const Tensor* t = ctx.value(i)) {
    if (t->rank() > 1 || t->count() > kMaxShapeEntries || !IsInteger(t->dtype()))
      return std::nullopt;
    auto v = ToInts(*t);
    if (!v) return std::nullopt;
    for (int64_t& x : *v) x = std::max(x, kUnknownDim);
    return Dims(std::span<const int64_t>(*v));
  }
  return ctx.shape_value(i);
}

// The ints of a constant input of rank 0 or 1; nullopt when it is not known. Negative numbers are
// numbers here.
inline Result<std::optional<std::vector<int64_t>>> IntList(const InferContext& ctx, int i) {
  if (!ctx.has(i)) return std::optional<std::vector<int64_t>>{};
  const Type& t = ctx.input(i);
  if (t.ranked && t.dims.rank() > 1)
    return Fail(Code::kInvalidArgument, "input {} is a list of integers but has rank {}", i,
                t.dims.rank());
  if (const Tensor* v = ctx.value(i)) return std::optional(TRY(ToInts(*v)));
  return ctx.ints(i);
}

// The integers of an i64 or i32 value at run time.
Result<std::vector<int64_t>> IntsOf(const TensorView& v);

inline Status CheckSize(const Dims& dims) {
  if (AllKnown(dims) && !ElementCount(dims))
    return Fail(Code::kInvalidArgument, "an output of extents {} is too large",
                ToString(std::span<const int64_t>(dims)));
  return {};
}

// Dims of a value whose extents may be anything.
inline Dims UnknownDims(size_t rank) { return Dims(rank, kUnknownDim); }

// Row-major or channels-last strides, in elements, in the order of the logical extents.
Dims StridesOf(std::span<const int64_t> dims, bool channels_last = false);

}  // namespace dunlin
