// What extents Reshape, Flatten, Squeeze and Unsqueeze give.
#include "ops/movement/axes.h"
#include "ops/shape/shape.h"

namespace dunlin {
namespace {

// A product of extents: a number times symbols.
struct Product {
  int64_t known = 1;
  std::vector<int64_t> symbols;
  bool opaque = false;  // an unknown factor, or too large a number
  bool zero = false;
  bool huge = false;  // the known factors alone overflow

  void Times(int64_t d) {
    if (d == kUnknownDim) {
      opaque = true;
    } else if (IsSymbol(d)) {
      symbols.push_back(d);
    } else if (d == 0) {
      zero = true;
    } else if (__builtin_mul_overflow(known, d, &known)) {
      known = 1;
      opaque = huge = true;
    }
  }
};

// a / b: equal symbols cancel. kUnknownDim when it is not one extent; nullopt when it cannot be
// whole.
std::optional<int64_t> Quotient(Product a, const Product& b) {
  if (b.zero) {
    // 0 / 0 is decided by the other factors: an empty batch keeps the extents of a full one.
    if (!a.zero) return a.opaque || !a.symbols.empty() ? std::optional(kUnknownDim) : std::nullopt;
    a.zero = false;
  }
  for (const int64_t s : b.symbols) {
    const auto it = std::find(a.symbols.begin(), a.symbols.end(), s);
    if (it == a.symbols.end()) return kUnknownDim;
    a.symbols.erase(it);
  }
  if (a.opaque || b.opaque) return kUnknownDim;
  if (a.zero) return 0;
  if (a.symbols.empty()) {
    if (a.known % b.known != 0) return std::nullopt;
    return a.known / b.known;
  }
  return a.symbols.size() == 1 && a.known == b.known ? a.symbols[0] : kUnknownDim;
}

Product ProductOf(const Dims& d, size_t begin, size_t end) {
  Product p;
  for (size_t i = begin; i < end; ++i) p.Times(d[i]);
  return p;
}

// Whether two products are equal; nullopt: not known.
std::optional<bool> Equal(const Product& a, const Product& b) {
  if (a.opaque || b.opaque || !a.symbols.empty() || !b.symbols.empty()) return std::nullopt;
  return a.zero || b.zero ? a.zero == b.zero : a.known == b.known;
}

// The product as one extent.
int64_t AsDim(const Product& p) {
  if (p.zero) return 0;
  if (p.opaque) return kUnknownDim;
  if (p.symbols.empty()) return p.known;
  return p.symbols.size() == 1 && p.known == 1 ? p.symbols[0] : kUnknownDim;
}

}  // namespace

Status Reshape::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const Type& list = ctx.input(1);
  const auto constant = TRY(IntList(ctx, 1));
  const auto entries = ShapeEntries(ctx, 1);
  if (!constant && !entries) {
    if (list.ranked && list.dims.rank() > 1)
      return Fail(Code::kInvalidArgument, "the shape has rank {}", list.dims.rank());
    if (list.ranked && list.dims.rank() == 1 && IsKnown(list.dims[0]) &&
        list.dims[0] <= kMaxShapeEntries)
      ctx.Set(0, Type::Of(x.dtype, UnknownDims(size_t(list.dims[0]))));
    else
      ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  // Of a computed shape -1 may be "infer" or an entry nobody knows; as long as there is one, both
  // mean that the element count decides.
  Dims out = constant ? Dims(std::span<const int64_t>(*constant)) : *entries;
  int unknown = 0;
  size_t inferred = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i] == 0 && !a.allowzero) {
      if (x.ranked && i >= x.dims.size())
        return Fail(Code::kInvalidArgument,
                    "shape entry {} copies an extent the input does not have", i);
      out[i] = x.ranked ? x.dims[i] : kUnknownDim;
      if (out[i] != kUnknownDim) continue;
      // An extent that is copied but not known is not the one to infer.
      unknown += 2;
    } else if (out[i] == kUnknownDim) {
      ++unknown;
      inferred = i;
    } else if (constant && out[i] < 0) {
      return Fail(Code::kInvalidArgument, "the shape has the entry {}", out[i]);
    }
  }
  if (constant) {
    const auto count = [&](int64_t v) { return std::count(constant->begin(), constant->end(), v); };
    if (count(-1) > 1) return Fail(Code::kInvalidArgument, "the shape has more than one entry -1");
    if (a.allowzero && count(-1) > 0 && count(0) > 0)
      return Fail(Code::kInvalidArgument, "the shape has both 0 and -1, and allowzero is set");
  }
  if (x.ranked && unknown <= 1) {
    const Product have = ProductOf(x.dims, 0, x.dims.size());
    Product want;
    for (size_t i = 0; i < out.size(); ++i)
      if (unknown == 0 || i != inferred) want.Times(out[i]);
    if (want.huge)
      return Fail(Code::kInvalidArgument, "an output of extents {} is too large",
                  ToString(std::span<const int64_t>(out)));
    if (unknown == 1) {
      const auto q = Quotient(have, want);
      if (!q)
        return Fail(Code::kInvalidArgument, "extents {} cannot be reshaped to {}",
                    ToString(std::span<const int64_t>(x.dims)),
                    ToString(std::span<const int64_t>(out)));
      out[inferred] = *q;
    } else if (!Equal(have, want).value_or(true)) {
      return Fail(Code::kInvalidArgument, "extents {} cannot be reshaped to {}",
                  ToString(std::span<const int64_t>(x.dims)),
                  ToString(std::span<const int64_t>(out)));
    }
  }
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, out));
  // A scalar or vector of integers made a scalar or vector is the same shape.
  if (out.rank() <= 1)
    if (auto e = ShapeEntries(ctx, 0); e && (out.rank() == 1 || e->rank() == 1))
      ctx.SetShapeValue(0, std::move(*e));
  return {};
}

Status Flatten::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  Dims out = UnknownDims(2);
  if (x.ranked) {
    const int rank = x.dims.rank();
    if (a.axis < -int64_t{rank} || a.axis > rank)
      return Fail(Code::kInvalidArgument, "axis {} is outside rank {}", a.axis, rank);
    const auto axis = size_t(a.axis < 0 ? a.axis + rank : a.axis);
    out = {AsDim(ProductOf(x.dims, 0, axis)), AsDim(ProductOf(x.dims, axis, x.dims.size()))};
    TRY(CheckSize(x.dims));
  }
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status Squeeze::Infer(const Attrs&, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const auto given = TRY(IntList(ctx, 1));
  if (!x.ranked || (ctx.has(1) && !given)) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  std::vector<bool> drop(x.dims.size());
  if (given) {
    for (const int axis : TRY(NormalizeAxes(*given, x.dims.rank()))) {
      const int64_t d = x.dims[size_t(axis)];
      if (IsKnown(d) && d != 1)
        return Fail(Code::kInvalidArgument, "axis {} has extent {}, only 1 can be squeezed", axis,
                    d);
      drop[size_t(axis)] = true;
    }
  } else {
    for (size_t i = 0; i < drop.size(); ++i) {
      if (!IsKnown(x.dims[i])) {  // it may turn out to be 1
        ctx.Set(0, Type::Unranked(x.dtype));
        return {};
      }
      drop[i] = x.dims[i] == 1;
    }
  }
  Dims out;
  for (size_t i = 0; i < drop.size(); ++i)
    if (!drop[i]) out.push_back(x.dims[i]);
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  if (x.dims.rank() <= 1)
    if (auto e = ShapeEntries(ctx, 0)) ctx.SetShapeValue(0, std::move(*e));
  return {};
}

Status Unsqueeze::Infer(const Attrs&, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const auto axes = TRY(IntList(ctx, 1));
  if (!axes || !x.ranked) {
    const Type& list = ctx.input(1);
    if (x.ranked && list.ranked && list.dims.rank() == 1 && IsKnown(list.dims[0]) &&
        list.dims[0] <= kMaxShapeEntries)
      ctx.Set(0, Type::Of(x.dtype, UnknownDims(x.dims.size() + size_t(list.dims[0]))));
    else
      ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const int rank = x.dims.rank() + int(axes->size());
  std::vector<bool> added(static_cast<size_t>(rank));
  for (const int axis : TRY(NormalizeAxes(*axes, rank))) added[size_t(axis)] = true;
  Dims out;
  size_t from = 0;
  for (size_t i = 0; i < size_t(rank); ++i) out.push_back(added[i] ? 1 : x.dims[from++]);
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  if (rank <= 1)
    if (auto e = ShapeEntries(ctx, 0)) ctx.SetShapeValue(0, std::move(*e));
  return {};
}

}  // namespace dunlin
