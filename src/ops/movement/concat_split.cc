#include "ops/movement/movement.h"

namespace dunlin {
namespace {

// The entries of a rank-1 integer result, when every input's length is known.
std::optional<Dims> ConcatEntries(const InferContext& ctx) {
  Dims entries;
  for (int i = 0; i < ctx.input_count(); ++i) {
    const Type& t = ctx.input(i);
    if (!IsInteger(t.dtype) || !t.ranked || t.dims.rank() != 1) return std::nullopt;
    if (const auto e = ShapeEntries(ctx, i)) {
      for (const int64_t x : *e) entries.push_back(x);
    } else {
      if (!IsKnown(t.dims[0]) || t.dims[0] > kMaxShapeEntries) return std::nullopt;
      for (int64_t k = 0; k < t.dims[0]; ++k) entries.push_back(kUnknownDim);
    }
    if (entries.rank() > kMaxShapeEntries) return std::nullopt;
  }
  return entries;
}

// Extents of `outputs` pieces; unknown where they cannot be told.
Result<Dims> SplitSizes(const Split::Attrs& a, int64_t extent, int outputs,
                        const std::optional<std::vector<int64_t>>& sizes, bool sizes_given) {
  Dims out(size_t(outputs), kUnknownDim);
  if (sizes_given) {
    if (a.num_outputs)
      return Fail(Code::kInvalidArgument,
                  "both the attribute num_outputs and the input split are given");
    if (!sizes) return out;
    if (int64_t(sizes->size()) != outputs)
      return Fail(Code::kInvalidArgument, "split has {} entries for {} outputs", sizes->size(),
                  outputs);
    int64_t sum = 0;
    for (size_t i = 0; i < sizes->size(); ++i) {
      const int64_t n = out[i] = (*sizes)[i];
      if (n < 0 || __builtin_add_overflow(sum, n, &sum))
        return Fail(Code::kInvalidArgument, "split has the entry {}", n);
    }
    if (IsKnown(extent) && sum != extent)
      return Fail(Code::kInvalidArgument, "split sums up to {}, the extent is {}", sum, extent);
    return out;
  }
  const int64_t n = a.num_outputs.value_or(outputs);
  if (n != outputs)
    return Fail(Code::kInvalidArgument, "num_outputs is {} but the node has {} outputs", n,
                outputs);
  if (n == 1) out[0] = extent;
  if (!IsKnown(extent)) return out;
  const int64_t chunk = (extent + n - 1) / n;
  for (int64_t i = 0; i < n; ++i)
    out[size_t(i)] = std::clamp<int64_t>(extent - chunk * i, 0, chunk);
  return out;
}

}  // namespace

Status Concat::Infer(const Attrs& a, InferContext& ctx) {
  if (!a.axis) return Fail(Code::kInvalidArgument, "the attribute axis is missing");
  DType dtype = DType::kUndefined;
  int rank = -1;
  for (int i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.has(i)) return Fail(Code::kInvalidArgument, "input {} is missing", i);
    const Type& t = ctx.input(i);
    if (t.dtype != DType::kUndefined) {
      if (dtype != DType::kUndefined && dtype != t.dtype)
        return Fail(Code::kInvalidArgument, "input {} has element type {}, the others {}", i,
                    DTypeName(t.dtype), DTypeName(dtype));
      dtype = t.dtype;
    }
    if (!t.ranked) continue;
    if (rank >= 0 && rank != t.dims.rank())
      return Fail(Code::kInvalidArgument, "input {} has rank {}, the others {}", i, t.dims.rank(),
                  rank);
    rank = t.dims.rank();
  }
  if (rank < 0) {
    ctx.Set(0, Type::Unranked(dtype));
    return {};
  }
  const auto axis = size_t(TRY(NormalizeAxis(*a.axis, rank)));
  Dims out = UnknownDims(size_t(rank));
  out[axis] = 0;
  for (int i = 0; i < ctx.input_count(); ++i) {
    const Type& t = ctx.input(i);
    for (size_t d = 0; d < out.size(); ++d) {
      const int64_t x = t.ranked ? t.dims[d] : kUnknownDim;
      if (d == axis) {
        // An unknown sum stays unknown: a later empty input adds nothing to it.
        out[d] = out[d] == kUnknownDim ? kUnknownDim : AddDims(out[d], x);
      } else if (const auto m = MergeDim(out[d], x)) {
        out[d] = *m;
      } else {
        return Fail(Code::kInvalidArgument, "input {} has extent {} on axis {}, the others {}", i,
                    x, d, out[d]);
      }
    }
  }
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(dtype, out));
  if (rank == 1)
    if (auto e = ConcatEntries(ctx)) ctx.SetShapeValue(0, std::move(*e));
  return {};
}

Result<std::vector<BoxCopy>> Concat::Moves(const Attrs& a, MoveQuery& q) {
  const Placed y = q.out(0);
  const auto axis = size_t(TRY(NormalizeAxis(a.axis.value_or(0), y.dims.rank())));
  std::vector<BoxCopy> copies;
  int64_t at = 0;
  for (int i = 0; i < q.input_count(); ++i) {
    const Placed x = q.in(i);
    copies.push_back({i, 0, x.dims, x.strides, y.strides, 0, at * y.strides[axis]});
    at += x.dims[axis];
  }
  return copies;
}

LayoutPlan Concat::Layouts(const Attrs&, const LayoutQuery& q) {
  // The layout that most of the bytes have already; the copy itself reorders the others.
  double last = 0, row = 0;
  for (size_t i = 0; i < q.inputs.size(); ++i) {
    double n = 1;
    for (const int64_t d : q.inputs[i].dims) n *= double(std::max<int64_t>(d, 1));
    (q.current[i] == Layout::kChannelsLast ? last : row) += n;
  }
  return InputsAsTheyAre(q, last > row ? Layout::kChannelsLast : Layout::kRowMajor);
}

Status Split::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const bool given = ctx.has(1);
  const auto sizes = TRY(IntList(ctx, 1));
  const int n = ctx.output_count();
  if (!x.ranked) {
    TRY(SplitSizes(a, kUnknownDim, n, sizes, given));
    for (int o = 0; o < n; ++o) ctx.Set(o, Type::Unranked(x.dtype));
    return {};
  }
  const auto axis = size_t(TRY(NormalizeAxis(a.axis, x.dims.rank())));
  const Dims pieces = TRY(SplitSizes(a, x.dims[axis], n, sizes, given));
  const auto entries = x.dims.rank() == 1 && IsInteger(x.dtype) && AllKnown(pieces)
                           ? ShapeEntries(ctx, 0)
                           : std::nullopt;
  int64_t at = 0;
  for (int o = 0; o < n; ++o) {
    Dims d = x.dims;
    d[axis] = pieces[size_t(o)];
    ctx.Set(o, Type::Of(x.dtype, std::move(d)));
    if (!entries || at + pieces[size_t(o)] > entries->rank()) continue;
    ctx.SetShapeValue(
        o, Dims(std::span<const int64_t>(entries->data() + at, size_t(pieces[size_t(o)]))));
    at += pieces[size_t(o)];
  }
  return {};
}

Result<std::vector<BoxCopy>> Split::Moves(const Attrs& a, MoveQuery& q) {
  const Placed x = q.in(0);
  const auto axis = size_t(TRY(NormalizeAxis(a.axis, x.dims.rank())));
  std::optional<std::vector<int64_t>> sizes;
  if (q.has(1)) sizes = TRY(q.ints(1));
  const Dims pieces = TRY(SplitSizes(a, x.dims[axis], q.output_count(), sizes, q.has(1)));
  std::vector<BoxCopy> copies;
  int64_t at = 0;
  for (int o = 0; o < q.output_count(); ++o) {
    if (q.wants(o)) {
      const Placed y = q.out(o);
      copies.push_back({0, o, y.dims, x.strides, y.strides, at * x.strides[axis], 0});
    }
    at += pieces[size_t(o)];
  }
  return copies;
}

}  // namespace dunlin
