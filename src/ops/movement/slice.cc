#include "ops/movement/movement.h"

namespace dunlin {
namespace {

// Exporters write the largest integer of some width for "to the end".
constexpr int64_t kHuge = INT32_MAX;

struct Range {
  int64_t start = 0, count = 0;
};

// Python's slice of an extent: indices start, start + step, … inside it.
Range Clamp(int64_t extent, int64_t start, int64_t end, int64_t step) {
  if (extent == 0) return {};
  // Backwards "to the end" is the smallest integer; models that write the largest mean the same, as
  // the empty slice that it literally is would be of no use.
  if (step < 0 && end >= kHuge) end = INT64_MIN;
  if (start < 0) start += extent;
  if (end < 0) end += extent;
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? extent : extent - 1;
  start = std::clamp(start, int64_t{0}, high);
  end = std::clamp(end, low, high);
  const int64_t distance = step > 0 ? end - start : start - end;
  if (distance <= 0) return {};
  const uint64_t stride = step > 0 ? uint64_t(step) : uint64_t(0) - uint64_t(step);
  return {start, int64_t((uint64_t(distance) + stride - 1) / stride)};
}

struct Lists {
  std::optional<std::vector<int64_t>> starts, ends, steps;
  std::optional<Dims> symbolic_ends;
  std::vector<int> axes;
};

Status CheckLists(const Lists& l) {
  const auto check = [&](const char* what, const auto& v) -> Status {
    if (v && v->size() != l.axes.size())
      return Fail(Code::kInvalidArgument, "{} has {} entries for {} axes", what, v->size(),
                  l.axes.size());
    return {};
  };
  TRY(check("starts", l.starts));
  TRY(check("ends", l.ends));
  TRY(check("steps", l.steps));
  if (l.steps)
    for (const int64_t s : *l.steps)
      if (s == 0) return Fail(Code::kInvalidArgument, "a step is 0");
  return {};
}

// The extent of entry i's axis, as far as it can be told.
int64_t SlicedExtent(const Lists& l, size_t i, int64_t extent) {
  if (!l.starts || !l.steps) return kUnknownDim;
  const int64_t start = (*l.starts)[i], step = (*l.steps)[i];
  if (l.ends) {
    const int64_t end = (*l.ends)[i];
    if (IsKnown(extent)) return Clamp(extent, start, end, step).count;
    const bool all_forward = step == 1 && (start == 0 || start <= -kHuge) && end >= kHuge;
    const bool all_backward =
        step == -1 && (start == -1 || start >= kHuge) && (end <= -kHuge || end >= kHuge);
    return all_forward || all_backward ? extent : kUnknownDim;
  }
  // [0, s) of an extent s is the whole.
  if (l.symbolic_ends && l.symbolic_ends->size() == l.axes.size() && start == 0 && step == 1 &&
      IsSymbol(extent) && (*l.symbolic_ends)[i] == extent)
    return extent;
  return kUnknownDim;
}

}  // namespace

Status Slice::Infer(const Attrs&, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (!x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const int rank = x.dims.rank();
  if (rank == 0) return Fail(Code::kInvalidArgument, "a scalar cannot be sliced");
  Lists l;
  l.starts = TRY(IntList(ctx, 1));
  l.ends = TRY(IntList(ctx, 2));
  l.symbolic_ends = ShapeEntries(ctx, 2);
  const auto axes = TRY(IntList(ctx, 3));
  l.steps = TRY(IntList(ctx, 4));
  size_t n = 0;
  if (axes) {
    l.axes = TRY(NormalizeAxes(*axes, rank));
    n = l.axes.size();
  } else if (ctx.has(3)) {
    ctx.Set(0, Type::Of(x.dtype, UnknownDims(size_t(rank))));
    return {};
  } else {
    // Axes 0, 1, … as many as the lists are long.
    const Type& starts = ctx.input(1);
    if (l.starts)
      n = l.starts->size();
    else if (l.ends)
      n = l.ends->size();
    else if (l.symbolic_ends)
      n = l.symbolic_ends->size();
    else if (starts.ranked && starts.dims.rank() == 1 && IsKnown(starts.dims[0]))
      n = size_t(starts.dims[0]);
    else
      n = size_t(rank);
    if (n > size_t(rank))
      return Fail(Code::kInvalidArgument, "{} axes are sliced of a value of rank {}", n, rank);
    for (size_t i = 0; i < n; ++i) l.axes.push_back(int(i));
    if (!l.starts && !l.ends && !l.symbolic_ends) l.steps.reset();
  }
  if (!ctx.has(4)) l.steps = std::vector<int64_t>(n, 1);
  TRY(CheckLists(l));
  Dims out = x.dims;
  for (size_t i = 0; i < n; ++i)
    out[size_t(l.axes[i])] = SlicedExtent(l, i, x.dims[size_t(l.axes[i])]);
  ctx.Set(0, Type::Of(x.dtype, out));
  if (rank == 1 && n == 1 && l.starts && l.ends && l.steps && IsInteger(x.dtype))
    if (const auto e = ShapeEntries(ctx, 0)) {
      const Range r = Clamp(e->rank(), (*l.starts)[0], (*l.ends)[0], (*l.steps)[0]);
      Dims picked;
      for (int64_t k = 0; k < r.count; ++k)
        picked.push_back((*e)[size_t(r.start + k * (*l.steps)[0])]);
      ctx.SetShapeValue(0, std::move(picked));
    }
  return {};
}

Result<std::vector<BoxCopy>> Slice::Moves(const Attrs&, MoveQuery& q) {
  const Placed x = q.in(0), y = q.out(0);
  Lists l;
  l.starts = TRY(q.ints(1));
  l.ends = TRY(q.ints(2));
  if (q.has(3)) {
    const auto axes = TRY(q.ints(3));
    l.axes = TRY(NormalizeAxes(axes, x.dims.rank()));
  } else {
    for (size_t i = 0; i < std::min(l.starts->size(), x.dims.size()); ++i) l.axes.push_back(int(i));
  }
  l.steps = q.has(4) ? TRY(q.ints(4)) : std::vector<int64_t>(l.axes.size(), 1);
  TRY(CheckLists(l));
  BoxCopy c{0, 0, y.dims, x.strides, y.strides, 0, 0};
  Dims expected = x.dims;
  for (size_t i = 0; i < l.axes.size(); ++i) {
    const auto axis = size_t(l.axes[i]);
    const int64_t step = (*l.steps)[i];
    const Range r = Clamp(x.dims[axis], (*l.starts)[i], (*l.ends)[i], step);
    expected[axis] = r.count;
    c.x_offset += r.start * x.strides[axis];
    // A step that is never taken may be absurdly large.
    c.x_strides[axis] = r.count > 1 ? step * x.strides[axis] : 0;
  }
  if (expected != y.dims)
    return Fail(Code::kInternal, "the slice has extents {}, planned were {}",
                ToString(std::span<const int64_t>(expected)),
                ToString(std::span<const int64_t>(y.dims)));
  return std::vector<BoxCopy>{c};
}

}  // namespace dunlin
