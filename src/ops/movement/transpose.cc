#include "ops/movement/movement.h"

namespace dunlin {
namespace {

Result<std::vector<int>> Permutation(const Transpose::Attrs& a, int rank) {
  if (!a.perm.empty() || rank == 0) {
    if (int64_t(a.perm.size()) != rank)
      return Fail(Code::kInvalidArgument, "perm has {} entries for rank {}", a.perm.size(), rank);
    return NormalizeAxes(a.perm, rank);
  }
  std::vector<int> perm(static_cast<size_t>(rank));
  for (int i = 0; i < rank; ++i) perm[size_t(i)] = rank - 1 - i;
  return perm;
}

// Whether walking y in the order of its memory walks x in the order of its own.
bool SameOrder(std::span<const int64_t> dims, const std::vector<int>& perm, Layout x, Layout y) {
  Dims x_dims(dims);
  for (size_t i = 0; i < perm.size(); ++i) x_dims[size_t(perm[i])] = dims[i];
  const bool can = dims.size() >= 3;
  const Dims xs = StridesOf(x_dims, can && x == Layout::kChannelsLast);
  const Dims ys = StridesOf(dims, can && y == Layout::kChannelsLast);
  for (size_t i = 0; i < perm.size(); ++i)
    if (dims[i] != 1 && xs[size_t(perm[i])] != ys[i]) return false;
  return true;
}

}  // namespace

Status Transpose::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (!x.ranked) {
    if (a.perm.empty()) {
      ctx.Set(0, Type::Unranked(x.dtype));
    } else {
      TRY(NormalizeAxes(a.perm, int(a.perm.size())));
      ctx.Set(0, Type::Of(x.dtype, UnknownDims(a.perm.size())));
    }
    return {};
  }
  const auto perm = TRY(Permutation(a, x.dims.rank()));
  Dims out;
  for (const int p : perm) out.push_back(x.dims[size_t(p)]);
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Result<std::vector<BoxCopy>> Transpose::Moves(const Attrs& a, MoveQuery& q) {
  const Placed x = q.in(0), y = q.out(0);
  BoxCopy c{0, 0, y.dims, {}, y.strides, 0, 0};
  for (const int p : TRY(Permutation(a, x.dims.rank())))
    c.x_strides.push_back(x.strides[size_t(p)]);
  return std::vector<BoxCopy>{c};
}

LayoutPlan Transpose::Layouts(const Attrs& a, const LayoutQuery& q) {
  const Type& y = q.outputs[0];
  Layout out = Layout::kRowMajor;
  const auto perm = Permutation(a, y.dims.rank());
  if (y.ranked && y.dims.rank() >= 3 && perm) {
    // Unknown extents stand for large ones.
    Dims dims = y.dims;
    for (size_t i = 0; i < dims.size(); ++i)
      if (!IsKnown(dims[i])) dims[i] = 2 + int64_t(i);
    if (ElementCount(dims).value_or(0) > 0 && !SameOrder(dims, *perm, q.current[0], out) &&
        SameOrder(dims, *perm, q.current[0], Layout::kChannelsLast))
      out = Layout::kChannelsLast;
  }
  return InputsAsTheyAre(q, out);
}

}  // namespace dunlin
