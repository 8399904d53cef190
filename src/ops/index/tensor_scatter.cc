// TensorScatter: writes new rows into a cache, for each item of the batch from its own place.
#include <cstring>

#include "ops/index/index.h"
#include "ops/index/indices.h"
#include "ops/movement/axes.h"
#include "ops/movement/elements.h"

namespace dunlin {
namespace {

Result<bool> IsCircular(const std::string& mode) {
  if (mode == "linear" || mode == "circular") return mode == "circular";
  return Fail(Code::kInvalidArgument, "the mode '{}' is neither linear nor circular", mode);
}

// The sequence's axis; what is wrong with the extents of cache, update or write indices.
Result<int> AxisOf(const TensorScatter::Attrs& a, const Dims& cache, const Dims& update) {
  const int axis = TRY(NormalizeAxis(a.axis, cache.rank()));
  if (axis == 0) return Fail(Code::kInvalidArgument, "axis 0 is the batch, not the sequence");
  bool fits = update.rank() == cache.rank();
  for (size_t i = 0; fits && i < cache.size(); ++i)
    fits = int(i) == axis ? !IsKnown(cache[i]) || !IsKnown(update[i]) || update[i] <= cache[i]
                          : MergeDim(cache[i], update[i]).has_value();
  if (!fits)
    return Fail(Code::kInvalidArgument, "an update of extents {} does not fit a cache of {}",
                ToString(update), ToString(cache));
  return axis;
}

}  // namespace

Status TensorScatter::Infer(const Attrs& a, InferContext& ctx) {
  TRY(IsCircular(a.mode));
  const Type &cache = ctx.input(0), &update = ctx.input(1);
  if (cache.dtype != DType::kUndefined && update.dtype != DType::kUndefined &&
      cache.dtype != update.dtype)
    return Fail(Code::kInvalidArgument, "the update is {}, the cache {}", DTypeName(update.dtype),
                DTypeName(cache.dtype));
  if (cache.ranked && update.ranked) TRY(AxisOf(a, cache.dims, update.dims));
  if (ctx.has(2)) {
    TRY(CheckIndexType(ctx, 2));
    const Type& at = ctx.input(2);
    if (at.ranked && (at.dims.rank() != 1 || (cache.ranked && cache.dims.rank() > 0 &&
                                              !MergeDim(at.dims[0], cache.dims[0]))))
      return Fail(Code::kInvalidArgument, "write_indices {} has not one entry for each item of {}",
                  ToString(at), ToString(cache));
  }
  ctx.Set(0, cache);
  return {};
}

Status TensorScatter::Reference(const Attrs& a, RunContext& ctx) {
  const bool circular = TRY(IsCircular(a.mode));
  const TensorView &cache = ctx.in(0), &update = ctx.in(1);
  TensorView& y = ctx.out(0);
  const auto axis = size_t(TRY(AxisOf(a, cache.dims, update.dims)));
  const int64_t batch = cache.dims[0], room = cache.dims[axis], length = update.dims[axis];
  if (ctx.has(2) && ctx.in(2).count() != batch)
    return Fail(Code::kInvalidArgument, "{} write_indices for a batch of {}", ctx.in(2).count(),
                batch);
  TRY(CopyAll(cache, y));
  if (update.count() == 0) return {};
  int64_t rows = 1, inner = 1;  // of one item of the batch
  for (size_t i = 1; i < axis; ++i) rows *= cache.dims[i];
  for (size_t i = axis + 1; i < cache.dims.size(); ++i) inner *= cache.dims[i];
  for (int64_t b = 0; b < batch; ++b) {
    int64_t first = ctx.has(2) ? Indices(ctx.in(2))[b] : 0;
    if (circular)
      first = (first % room + room) % room;
    else if (first < 0 || first > room - length)
      return Fail(Code::kInvalidArgument, "{} entries from place {} on, in a cache of {}", length,
                  first, room);
    TRY(VisitStorage(y.dtype, [&]<class S>(S) -> Status {
      for (int64_t r = b * rows; r < (b + 1) * rows; ++r)
        for (int64_t s = 0; s < length; ++s) {
          const int64_t to = (r * room + (first + s) % room) * inner;
          const int64_t from = (r * length + s) * inner;
          for (int64_t i = 0; i < inner; ++i) S::Set(y.data, to + i, S::Get(update.data, from + i));
        }
      return {};
    }));
  }
  return {};
}

}  // namespace dunlin
