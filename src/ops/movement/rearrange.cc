// Tile, Expand, DepthToSpace, SpaceToDepth, CenterCropPad.
#include "ops/movement/movement.h"

namespace dunlin {
namespace {

Result<Dims> BlockExtents(const Type& x, int64_t block, bool to_space) {
  if (x.dims.rank() != 4)
    return Fail(Code::kInvalidArgument, "the input must have rank 4, it has {}", x.dims.rank());
  if (block < 1 || block > INT32_MAX) return Fail(Code::kInvalidArgument, "blocksize is {}", block);
  const auto divide = [](int64_t n, int64_t by, const char* what) -> Result<int64_t> {
    if (!IsKnown(n)) return by == 1 ? n : kUnknownDim;
    if (n % by != 0)
      return Fail(Code::kInvalidArgument, "{} {} is not a multiple of {}", what, n, by);
    return n / by;
  };
  const int64_t square = block * block;
  Dims out{x.dims[0], kUnknownDim, kUnknownDim, kUnknownDim};
  if (to_space) {
    out[1] = TRY(divide(x.dims[1], square, "the number of channels"));
    out[2] = MulDims(x.dims[2], block);
    out[3] = MulDims(x.dims[3], block);
  } else {
    out[1] = MulDims(x.dims[1], square);
    out[2] = TRY(divide(x.dims[2], block, "the height"));
    out[3] = TRY(divide(x.dims[3], block, "the width"));
  }
  TRY(CheckSize(out));
  return out;
}

Status InferBlocks(InferContext& ctx, int64_t block, bool to_space) {
  const Type& x = ctx.input(0);
  Dims out = UnknownDims(4);
  if (x.ranked) out = TRY(BlockExtents(x, block, to_space));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

}  // namespace

Status Tile::Infer(const Attrs&, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (!x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  Dims out = UnknownDims(x.dims.size());
  if (const auto repeats = TRY(IntList(ctx, 1))) {
    if (repeats->size() != x.dims.size())
      return Fail(Code::kInvalidArgument, "repeats has {} entries for rank {}", repeats->size(),
                  x.dims.rank());
    for (size_t i = 0; i < out.size(); ++i) {
      const int64_t r = (*repeats)[i];
      if (r < 0) return Fail(Code::kInvalidArgument, "repeats has the entry {}", r);
      out[i] = MulDims(x.dims[i], r);
      if (IsKnown(x.dims[i]) && !IsKnown(out[i]))
        return Fail(Code::kInvalidArgument, "an extent of {} repeated {} times is too large",
                    x.dims[i], r);
    }
  } else if (const auto entries = ShapeEntries(ctx, 1); entries && entries->size() == out.size()) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = MulDims(x.dims[i], (*entries)[i]);
  }
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Result<std::vector<BoxCopy>> Tile::Moves(const Attrs&, MoveQuery& q) {
  const Placed x = q.in(0), y = q.out(0);
  BoxCopy c;
  for (size_t i = 0; i < x.dims.size(); ++i) {
    const int64_t n = x.dims[i];
    c.dims.push_back(n == 0 ? 0 : y.dims[i] / n);
    c.x_strides.push_back(0);
    c.y_strides.push_back(n * y.strides[i]);
    c.dims.push_back(n);
    c.x_strides.push_back(x.strides[i]);
    c.y_strides.push_back(y.strides[i]);
  }
  return std::vector<BoxCopy>{c};
}

Status Expand::Infer(const Attrs&, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const Type& list = ctx.input(1);
  if (list.ranked && list.dims.rank() > 1)
    return Fail(Code::kInvalidArgument, "the shape has rank {}", list.dims.rank());
  const auto known = TRY(IntList(ctx, 1));
  std::optional<Dims> shape = known ? Dims(std::span<const int64_t>(*known)) : ShapeEntries(ctx, 1);
  if (known) {
    for (int64_t& s : *shape) {
      // Some exporters write -1 for "as it is".
      if (s == -1) s = 1;
      if (s < 0) return Fail(Code::kInvalidArgument, "the shape has the entry {}", s);
    }
  }
  if (!shape && list.ranked && list.dims.rank() == 1 && IsKnown(list.dims[0]) &&
      list.dims[0] <= kMaxShapeEntries)
    shape = UnknownDims(size_t(list.dims[0]));
  if (!shape || !x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  auto out = Broadcast(x.dims, *shape);
  if (!out)
    return Fail(Code::kInvalidArgument, "extents {} cannot be expanded to {}",
                ToString(std::span<const int64_t>(x.dims)),
                ToString(std::span<const int64_t>(*shape)));
  TRY(CheckSize(*out));
  ctx.Set(0, Type::Of(x.dtype, std::move(*out)));
  return {};
}

Result<std::vector<BoxCopy>> Expand::Moves(const Attrs&, MoveQuery& q) {
  const Placed x = q.in(0), y = q.out(0);
  BoxCopy c{0, 0, y.dims, Dims(y.dims.size(), 0), y.strides, 0, 0};
  const size_t shift = y.dims.size() - x.dims.size();
  for (size_t i = 0; i < x.dims.size(); ++i)
    if (x.dims[i] != 1) c.x_strides[shift + i] = x.strides[i];
  return std::vector<BoxCopy>{c};
}

Status DepthToSpace::Infer(const Attrs& a, InferContext& ctx) {
  if (a.mode != "DCR" && a.mode != "CRD")
    return Fail(Code::kInvalidArgument, "the mode '{}' is neither DCR nor CRD", a.mode);
  return InferBlocks(ctx, a.blocksize, true);
}

Result<std::vector<BoxCopy>> DepthToSpace::Moves(const Attrs& a, MoveQuery& q) {
  const Placed x = q.in(0), y = q.out(0);
  const int64_t b = a.blocksize, channels = y.dims[1], stride = x.strides[1];
  // Channel of x: DCR (row, column, channel), CRD (channel, row, column).
  const bool dcr = a.mode == "DCR";
  const int64_t channel = dcr ? stride : b * b * stride;
  const int64_t row = (dcr ? b * channels : b) * stride, column = dcr ? channels * stride : stride;
  BoxCopy c;
  c.dims = {y.dims[0], channels, x.dims[2], b, x.dims[3], b};
  c.x_strides = {x.strides[0], channel, x.strides[2], row, x.strides[3], column};
  c.y_strides = {y.strides[0], y.strides[1],     b * y.strides[2],
                 y.strides[2], b * y.strides[3], y.strides[3]};
  return std::vector<BoxCopy>{c};
}

Status SpaceToDepth::Infer(const Attrs& a, InferContext& ctx) {
  return InferBlocks(ctx, a.blocksize, false);
}

Result<std::vector<BoxCopy>> SpaceToDepth::Moves(const Attrs& a, MoveQuery& q) {
  const Placed x = q.in(0), y = q.out(0);
  const int64_t b = a.blocksize, channels = x.dims[1], stride = y.strides[1];
  BoxCopy c;
  c.dims = {y.dims[0], channels, y.dims[2], b, y.dims[3], b};
  c.x_strides = {x.strides[0], x.strides[1],     b * x.strides[2],
                 x.strides[2], b * x.strides[3], x.strides[3]};
  c.y_strides = {y.strides[0],          stride,       y.strides[2],
                 b * channels * stride, y.strides[3], channels * stride};
  return std::vector<BoxCopy>{c};
}

Status CenterCropPad::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (!x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const int rank = x.dims.rank();
  std::vector<int> axes = TRY(NormalizeAxes(a.axes, rank));
  if (axes.empty())
    for (int i = 0; i < rank; ++i) axes.push_back(i);
  const auto known = TRY(IntList(ctx, 1));
  const auto shape = known ? Dims(std::span<const int64_t>(*known)) : ShapeEntries(ctx, 1);
  if (shape && shape->size() != axes.size())
    return Fail(Code::kInvalidArgument, "the shape has {} entries for {} axes", shape->size(),
                axes.size());
  Dims out = x.dims;
  for (size_t i = 0; i < axes.size(); ++i) {
    out[size_t(axes[i])] = shape ? (*shape)[i] : kUnknownDim;
    if (known && (*known)[i] < 0)
      return Fail(Code::kInvalidArgument, "the shape has the entry {}", (*known)[i]);
  }
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Result<std::vector<BoxCopy>> CenterCropPad::Moves(const Attrs&, MoveQuery& q) {
  const Placed x = q.in(0), y = q.out(0);
  Dims begin, inner;
  BoxCopy c{0, 0, {}, x.strides, y.strides, 0, 0};
  for (size_t i = 0; i < x.dims.size(); ++i) {
    const int64_t more = y.dims[i] - x.dims[i];
    begin.push_back(more > 0 ? more / 2 : 0);
    inner.push_back(std::min(x.dims[i], y.dims[i]));
    c.x_offset += (more < 0 ? -more / 2 : 0) * x.strides[i];
    c.y_offset += begin[i] * y.strides[i];
  }
  std::vector<BoxCopy> copies;
  FillOutside(y, begin, inner, 0, -1, copies);
  c.dims = inner;
  if (CountOf(inner) > 0) copies.push_back(std::move(c));
  return copies;
}

}  // namespace dunlin
