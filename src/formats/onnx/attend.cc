#include "formats/onnx/attend.h"

#include <cmath>
#include <limits>

namespace dunlin::onnx_import {
namespace {

// Every head of keys or values x repeated for its group of queries.
ValueId Repeated(Rewrite& r, ValueId x, const AttentionOperands& o) {
  if (o.heads == o.key_heads && o.heads != kAnyHeads) return x;
  const bool known = o.heads > 0 && o.key_heads > 0;
  if (known && o.heads % o.key_heads != 0)
    r.Refuse(Code::kInvalidArgument, "{} heads of queries are no multiple of {} of keys", o.heads,
             o.key_heads);
  if (!r.ok()) return x;
  const ValueId one = r.Ints({1});
  const ValueId times =
      known ? r.Ints({o.heads / o.key_heads}) : r.Div(r.Extent(o.q, 1), r.Extent(x, 1));
  const ValueId wide =
      r.Make("Expand", {r.Unsqueeze(x, {2}), r.Concat({one, one, times, one, one}, 0)});
  return r.Make("Reshape", {wide, r.Concat({r.Extent(x, 0), r.Mul(r.Extent(x, 1), times),
                                            r.Extent(x, 2), r.Extent(x, 3)},
                                           0)});
}

// The softmax of scores beside one more score a row, which is then left out.
ValueId SoftmaxWithSink(Rewrite& r, ValueId scores, ValueId sink) {
  const ValueId one = r.Ints({1});
  const ValueId shape =
      r.Concat({r.Extent(scores, 0), r.Extent(scores, 1), r.Extent(scores, 2), one}, 0);
  if (r.rank(sink) == 1) sink = r.Reshape(sink, {1, -1, 1, 1});
  const ValueId all = r.Concat({scores, r.Make("Expand", {sink, shape})}, -1);
  const ValueId weights = r.Make("Softmax", {all}, {{"axis", int64_t{-1}}});
  return r.Slice(weights, 0, -1, -1);
}

}  // namespace

ValueId OpenRows(Rewrite& r, const AttentionOperands& o) {
  const auto largest = [&](ValueId x) { return r.Make("ReduceMax", {x, r.Ints({-1})}); };
  if (o.bias == ValueId::kNone && o.keep == ValueId::kNone) return ValueId::kNone;
  if (o.bias == ValueId::kNone) return r.Cast(largest(r.Cast(o.keep, DType::kI32)), DType::kBool);
  const ValueId never = r.Number(-HUGE_VAL, o.bias);
  const ValueId bias = o.keep == ValueId::kNone ? o.bias : r.Make("Where", {o.keep, o.bias, never});
  return r.Make("Greater", {largest(bias), never});
}

double LowestOf(Rewrite& r, ValueId like) {
  switch (r.dtype(like)) {
    case DType::kF16:
      return -65504;
    case DType::kBF16:
      return -3.3895313892515355e38;
    case DType::kF64:
      return std::numeric_limits<double>::lowest();
    default:
      return double(std::numeric_limits<float>::lowest());
  }
}

AttentionResult Attend(Rewrite& r, const AttentionOperands& o) {
  AttentionResult out{};
  ValueId q = o.q;
  float scale = o.scale.value_or(1);
  if (!o.scale) {
    const int64_t width = r.extent(q, -1);
    if (IsKnown(width))
      scale = width > 0 ? float(1 / std::sqrt(double(width))) : 1;
    else
      q = r.Div(
          q, r.Make("CastLike",
                    {r.Make("Sqrt", {r.Cast(r.Squeeze(r.Extent(q, -1), {0}), DType::kF32)}), q}));
  }
  const ValueId k = Repeated(r, o.k, o), v = Repeated(r, o.v, o);
  out.scores = r.Make("dunlin.FusedMatMul", {q, k}, {{"trans_b", int64_t{1}}, {"alpha", scale}});
  out.capped = out.scores;
  if (o.softcap > 0) {
    const ValueId cap = r.Number(double(o.softcap), q);
    out.capped = r.Mul(r.Make("Tanh", {r.Div(out.scores, cap)}), cap);
  }
  out.masked = out.capped;
  if (o.bias != ValueId::kNone && o.keep != ValueId::kNone)
    out.masked = r.Add(out.capped, r.Make("Where", {o.keep, o.bias, r.Number(o.hole, o.bias)}));
  else if (o.bias != ValueId::kNone)
    out.masked = r.Add(out.capped, o.bias);
  else if (o.keep != ValueId::kNone)
    out.masked = r.Make("Where", {o.keep, out.capped, r.Number(o.hole, q)});
  const DType own = r.dtype(o.q);
  const bool cast = o.softmax_type != DType::kUndefined && o.softmax_type != own;
  const ValueId in = cast ? r.Cast(out.masked, o.softmax_type) : out.masked;
  out.weights = o.sink != ValueId::kNone ? SoftmaxWithSink(r, in, o.sink)
                                         : r.Make("Softmax", {in}, {{"axis", int64_t{-1}}});
  if (cast) out.weights = r.Make("CastLike", {out.weights, o.q});
  out.y = r.MatMul(out.weights, v);
  return out;
}

ValueId SplitHeads(Rewrite& r, ValueId x, int64_t heads) {
  if (heads <= 0 || heads > INT32_MAX) r.Refuse(Code::kInvalidArgument, "{} heads", heads);
  return r.Transpose(r.Reshape(x, {0, 0, heads, -1}), {0, 2, 1, 3});
}

ValueId JoinHeads(Rewrite& r, ValueId x) {
  const int64_t heads = r.extent(x, 1), width = r.extent(x, 3);
  const bool known =
      IsKnown(heads) && IsKnown(width) && width < (int64_t{1} << 31) && heads < (int64_t{1} << 31);
  return r.Reshape(r.Transpose(x, {0, 2, 1, 3}), {0, 0, known ? heads * width : -1});
}

ValueId UpTo(Rewrite& r, ValueId n) {
  return r.Make("Range", {r.Int(0), r.Squeeze(n, {0}), r.Int(1)});
}

ValueId Causal(Rewrite& r, ValueId rows, ValueId columns, ValueId offset) {
  ValueId last = r.Unsqueeze(UpTo(r, rows), {1});
  if (offset != ValueId::kNone) last = r.Add(last, offset);
  return r.Make("LessOrEqual", {UpTo(r, columns), last});
}

ValueId Both(Rewrite& r, ValueId a, ValueId b) {
  return a == ValueId::kNone ? b : b == ValueId::kNone ? a : r.Make("And", {a, b});
}

ValueId Rotate(Rewrite& r, ValueId x, ValueId cosines, ValueId sines, const RotaryOptions& o) {
  const bool part = o.rotated > 0 && o.rotated != r.extent(x, -1);
  const ValueId turned = part ? r.Slice(x, 0, o.rotated, -1) : x;
  ValueId a, b;
  if (o.interleaved) {
    const auto every_second = [&](int64_t from) {
      return r.Make("Slice",
                    {turned, r.Ints({from}), r.Ints({INT64_MAX}), r.Ints({-1}), r.Ints({2})});
    };
    a = every_second(0);
    b = every_second(1);
  } else {
    const auto halves =
        r.MakeMany("Split", {turned}, 2, {{"axis", int64_t{-1}}, {"num_outputs", int64_t{2}}});
    a = halves[0];
    b = halves[1];
  }
  const ValueId first = r.Sub(r.Mul(a, cosines), r.Mul(b, sines));
  const ValueId second = r.Add(r.Mul(a, sines), r.Mul(b, cosines));
  std::vector<ValueId> parts = {first, second};
  if (o.interleaved)
    parts = {r.Reshape(r.Concat({r.Unsqueeze(first, {-1}), r.Unsqueeze(second, {-1})}, -1),
                       {0, 0, 0, -1})};
  if (part) parts.push_back(r.Slice(x, o.rotated, INT64_MAX, -1));
  return parts.size() == 1 ? parts[0] : r.Concat(parts, -1);
}

}  // namespace dunlin::onnx_import
