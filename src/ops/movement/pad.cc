#include "ops/movement/elements.h"
#include "ops/movement/movement.h"

namespace dunlin {
namespace {

// More pieces than this are no longer a plan; the reference computes such padding.
constexpr size_t kMaxPieces = 4096;
constexpr int64_t kMaxPlannedExtent = int64_t{1} << 24;

struct Amounts {
  Dims begin, end;  // per axis of the data
};

Result<Amounts> Spread(const std::vector<int64_t>& pads, const std::vector<int>& axes, int rank) {
  if (pads.size() != 2 * axes.size())
    return Fail(Code::kInvalidArgument, "pads has {} entries for {} axes", pads.size(),
                axes.size());
  Amounts p{Dims(size_t(rank), 0), Dims(size_t(rank), 0)};
  for (size_t i = 0; i < axes.size(); ++i) {
    p.begin[size_t(axes[i])] = pads[i];
    p.end[size_t(axes[i])] = pads[i + axes.size()];
  }
  return p;
}

std::vector<int> AllAxes(int rank) {
  std::vector<int> axes;
  for (int i = 0; i < rank; ++i) axes.push_back(i);
  return axes;
}

Result<int64_t> PaddedExtent(int64_t n, int64_t begin, int64_t end, bool constant) {
  constexpr int64_t kLimit = int64_t{1} << 56;
  const bool absurd = std::max(begin, end) > kLimit || std::min(begin, end) < -kLimit;
  const int64_t out = absurd ? -1 : n + begin + end;
  if (out < 0)
    return Fail(Code::kInvalidArgument, "an extent of {} padded by {} and {} is no extent", n,
                begin, end);
  if (!constant && out > 0 && n + std::min<int64_t>(begin, 0) + std::min<int64_t>(end, 0) <= 0)
    return Fail(Code::kInvalidArgument,
                "nothing is left of an extent of {} to continue it by {} and {}", n, begin, end);
  return out;
}

enum class Mode { kConstant, kReflect, kEdge, kWrap };
Result<Mode> ParseMode(const std::string& s) {
  if (s == "constant") return Mode::kConstant;
  if (s == "reflect") return Mode::kReflect;
  if (s == "edge") return Mode::kEdge;
  if (s == "wrap") return Mode::kWrap;
  return Fail(Code::kInvalidArgument, "the mode '{}' is none of constant, reflect, edge, wrap", s);
}

// One axis of one Pad: where an output position comes from.
struct AxisMap {
  int64_t first, n;  // what is left of the input after negative pads
  int64_t begin;     // output position of `first`
  Mode mode;

  AxisMap(int64_t extent, int64_t begin_pad, int64_t end_pad, Mode m)
      : first(std::max<int64_t>(0, -begin_pad)),
        n(extent + std::min<int64_t>(begin_pad, 0) + std::min<int64_t>(end_pad, 0)),
        begin(std::max<int64_t>(0, begin_pad)),
        mode(m) {}

  // -1: outside, of mode constant.
  int64_t operator()(int64_t o) const {
    int64_t i = o - begin;
    if (i >= 0 && i < n) return first + i;
    switch (mode) {
      case Mode::kConstant:
        return -1;
      case Mode::kEdge:
        return first + std::clamp<int64_t>(i, 0, n - 1);
      case Mode::kWrap:
        return first + (i % n + n) % n;
      case Mode::kReflect: {
        if (n == 1) return first;
        const int64_t period = 2 * (n - 1);
        i = (i % period + period) % period;
        return first + (i < n ? i : period - i);
      }
    }
    return -1;
  }
};

// A stretch of output positions whose sources are equally spaced.
struct Piece {
  int64_t at, n, from, step;
};
std::vector<Piece> Pieces(const AxisMap& map, int64_t extent) {
  std::vector<Piece> pieces;
  for (int64_t o = 0; o < extent;) {
    Piece p{o, 1, map(o), 1};
    if (o + 1 < extent) {
      p.step = map(o + 1) - p.from;
      if (p.step < -1 || p.step > 1) p.step = 1;
      while (o + p.n < extent && map(o + p.n) == p.from + p.n * p.step) ++p.n;
    }
    o += p.n;
    pieces.push_back(p);
  }
  return pieces;
}

Result<Amounts> AmountsOf(MoveQuery& q, int rank) {
  const auto pads = TRY(q.ints(1));
  if (!q.has(3)) return Spread(pads, AllAxes(rank), rank);
  const auto list = TRY(q.ints(3));
  const auto axes = TRY(NormalizeAxes(list, rank));
  return Spread(pads, axes, rank);
}

Result<std::vector<BoxCopy>> ConstantMoves(const Placed& x, const Placed& y, const Amounts& p,
                                           int fill) {
  Dims begin, inner;
  BoxCopy c{0, 0, {}, x.strides, y.strides, 0, 0};
  bool empty = false;
  for (size_t a = 0; a < x.dims.size(); ++a) {
    begin.push_back(std::clamp<int64_t>(p.begin[a], 0, y.dims[a]));
    const int64_t from = begin[a] - p.begin[a];
    inner.push_back(std::max<int64_t>(0, std::min(y.dims[a] - begin[a], x.dims[a] - from)));
    c.x_offset += from * x.strides[a];
    c.y_offset += begin[a] * y.strides[a];
    empty |= inner[a] == 0;
  }
  std::vector<BoxCopy> copies;
  FillOutside(y, begin, inner, 0, fill, copies);
  c.dims = inner;
  if (!empty) copies.push_back(std::move(c));
  return copies;
}

Result<std::vector<BoxCopy>> PadMoves(const Attrs& attrs, MoveQuery& q) {
  const Mode mode = TRY(ParseMode(As<Pad::Attrs>(attrs).mode));
  const Placed x = q.in(0), y = q.out(0);
  const Amounts p = TRY(AmountsOf(q, x.dims.rank()));
  for (size_t a = 0; a < x.dims.size(); ++a)
    if (TRY(PaddedExtent(x.dims[a], p.begin[a], p.end[a], mode == Mode::kConstant)) != y.dims[a])
      return Fail(Code::kInternal, "pads give another extent on axis {} than was planned", a);
  if (mode == Mode::kConstant) return ConstantMoves(x, y, p, q.has(2) ? 2 : -1);
  // The product of each axis's pieces.
  std::vector<BoxCopy> copies{{0, 0, {}, {}, y.strides, 0, 0}};
  for (size_t a = 0; a < x.dims.size(); ++a) {
    if (y.dims[a] == 0) return std::vector<BoxCopy>{};
    const auto pieces = Pieces(AxisMap(x.dims[a], p.begin[a], p.end[a], mode), y.dims[a]);
    if (pieces.size() * copies.size() > kMaxPieces)
      return Fail(Code::kUnimplemented, "padding in too many pieces");
    std::vector<BoxCopy> next;
    for (const BoxCopy& c : copies)
      for (const Piece& piece : pieces) {
        BoxCopy& n = next.emplace_back(c);
        n.dims.push_back(piece.n);
        n.x_strides.push_back(piece.step * x.strides[a]);
        n.x_offset += piece.from * x.strides[a];
        n.y_offset += piece.at * y.strides[a];
      }
    copies = std::move(next);
  }
  return copies;
}

}  // namespace

Status Pad::Infer(const Attrs& a, InferContext& ctx) {
  const Mode mode = TRY(ParseMode(a.mode));
  const Type& x = ctx.input(0);
  if (!x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const int rank = x.dims.rank();
  if (mode == Mode::kConstant && ctx.has(2)) {
    const Type& v = ctx.input(2);
    if ((v.dtype != DType::kUndefined && x.dtype != DType::kUndefined && v.dtype != x.dtype) ||
        (v.ranked && AllKnown(v.dims) && ElementCount(v.dims).value_or(0) != 1))
      return Fail(Code::kInvalidArgument, "constant_value must be one {}, it is {}",
                  DTypeName(x.dtype), ToString(v));
  }
  const auto pads = TRY(IntList(ctx, 1));
  const auto axes = TRY(IntList(ctx, 3));
  Dims out = UnknownDims(size_t(rank));
  if (pads && (axes || !ctx.has(3))) {
    const auto padded = axes ? TRY(NormalizeAxes(*axes, rank)) : AllAxes(rank);
    const Amounts p = TRY(Spread(*pads, padded, rank));
    for (size_t i = 0; i < out.size(); ++i) {
      if (IsKnown(x.dims[i]))
        out[i] = TRY(PaddedExtent(x.dims[i], p.begin[i], p.end[i], mode == Mode::kConstant));
      else if (p.begin[i] == 0 && p.end[i] == 0)
        out[i] = x.dims[i];
    }
  }
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status Pad::Reference(const Attrs& a, RunContext& ctx) {
  const Mode mode = TRY(ParseMode(a.mode));
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const int rank = x.rank();
  std::vector<int> axes = AllAxes(rank);
  if (ctx.has(3)) {
    const auto list = TRY(IntsOf(ctx.in(3)));
    axes = TRY(NormalizeAxes(list, rank));
  }
  const auto pads = TRY(IntsOf(ctx.in(1)));
  const Amounts p = TRY(Spread(pads, axes, rank));
  std::vector<AxisMap> maps;
  for (size_t i = 0; i < size_t(rank); ++i) {
    TRY(PaddedExtent(x.dims[i], p.begin[i], p.end[i], mode == Mode::kConstant));
    maps.emplace_back(x.dims[i], p.begin[i], p.end[i], mode);
  }
  const Dims strides = StridesOf(x.dims);
  const int64_t count = y.count();
  return VisitStorage(x.dtype, [&]<class S>(S) -> Status {
    for (int64_t o = 0; o < count; ++o) {
      int64_t rest = o, from = 0;
      bool outside = false;
      for (size_t i = size_t(rank); i-- > 0; rest /= y.dims[i]) {
        const int64_t at = maps[i](rest % y.dims[i]);
        outside |= at < 0;
        from += at * strides[i];
      }
      if (!outside)
        S::Set(y.data, o, S::Get(x.data, from));
      else if (ctx.has(2))
        S::Set(y.data, o, S::Get(ctx.in(2).data, 0));
      else
        S::Set(y.data, o, S::Zero());
    }
    return {};
  });
}

LayoutPlan Pad::Layouts(const Attrs& a, const LayoutQuery& q) {
  if (a.mode == "constant") return LikeFirstInput(q);
  // What Lower plans for certain: known amounts, and few pieces to an axis.
  const Type &x = q.inputs[0], &y = q.outputs[0];
  bool certain = x.IsStatic() && y.IsStatic() && x.dims.rank() <= 5 && q.constant[1] &&
                 (q.inputs.size() < 4 || q.inputs[3].dtype == DType::kUndefined || q.constant[3]);
  for (size_t i = 0; certain && i < x.dims.size(); ++i)
    certain = y.dims[i] <= x.dims[i] + 2 * (x.dims[i] - 1) && y.dims[i] <= kMaxPlannedExtent;
  return certain ? LikeFirstInput(q) : AllRowMajor(q);
}

Result<KernelPtr> Pad::Lower(const Attrs& a, LowerContext& ctx) {
  const bool constant = a.mode == "constant";
  // A continued border is planned here or not at all.
  if (!constant) {
    if (ctx.value(1) == nullptr || (ctx.has(3) && ctx.value(3) == nullptr)) return KernelPtr();
    for (const int64_t d : ctx.output(0).dims)
      if (d > kMaxPlannedExtent) return KernelPtr();
  }
  return LowerMoves(&PadMoves, AttrsOf<Attrs>(a), ctx);
}

}  // namespace dunlin
