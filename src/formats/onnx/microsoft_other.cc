// What is left of com.microsoft: forms of standard operators, and small ones that others compute.
#include <cmath>

#include "formats/onnx/rewrite.h"

namespace dunlin::onnx_import {
namespace {

constexpr auto kNone = ValueId::kNone;

// ---- forms of standard operators ----

void SampleOp(Rewrite& r) { r.Give(0, r.Make("Identity", {r.Need(0)}, r.Rest())); }
void Trilu(Rewrite& r) { r.Give(0, r.Make("Trilu", {r.Need(0), r.in(1)}, r.Rest())); }

// The axis is an input, an i32 scalar.
void ExpandDims(Rewrite& r) {
  r.Attributes<NoAttrs>();
  const ValueId axis = r.Reshape(r.Cast(r.Need(1), DType::kI64), {1});
  r.Give(0, r.Make("Unsqueeze", {r.Need(0), axis}));
}
void GatherNd(Rewrite& r) {
  r.Attributes<NoAttrs>();
  r.Give(0, r.Make("GatherND", {r.Need(0), r.Cast(r.Need(1), DType::kI64)}));
}
void Range(Rewrite& r) {
  r.Attributes<NoAttrs>();
  const auto scalar = [&](ValueId v) { return r.Make("Reshape", {v, r.Ints({})}); };
  const ValueId start = scalar(r.Need(0));
  r.Give(0, r.Make("Range",
                   {start, scalar(r.Need(1)), r.has(2) ? scalar(r.in(2)) : r.Number(1, start)}));
}
// The amounts may have a leading extent of one.
void Pad(Rewrite& r) {
  const ValueId pads = r.Reshape(r.Need(1), {-1});
  const ValueId value = r.has(2) ? r.Make("Reshape", {r.in(2), r.Ints({})}) : kNone;
  r.Give(0, r.Make("Pad", {r.Need(0), pads, value}, r.Rest()));
}
// Outputs: the values in the order in which they come, the place of each element among them,
// counts.
void Unique(Rewrite& r) {
  r.Attributes<NoAttrs>();
  const auto y = r.MakeMany("Unique", {r.Need(0)}, 4, {{"sorted", int64_t{0}}});
  r.Give(0, y[0]);
  r.Give(1, y[2]);
  r.Give(2, y[3]);
}

struct GridAttrs {
  std::string mode = "bilinear", padding_mode = "zeros";
  int64_t align_corners = 0;
  template <class V>
  void Visit(V& v) {
    v("mode", mode);
    v("padding_mode", padding_mode);
    v("align_corners", align_corners);
  }
};
void GridSample(Rewrite& r) {
  const auto a = r.Attributes<GridAttrs>();
  const std::string mode = a.mode == "bilinear" ? "linear" : a.mode == "bicubic" ? "cubic" : a.mode;
  r.Give(0, r.Make("GridSample", {r.Need(0), r.Need(1)},
                   {{"mode", mode},
                    {"padding_mode", a.padding_mode},
                    {"align_corners", a.align_corners}}));
}

// Inputs: x, w, pads, bias.
void ConvTransposeWithDynamicPads(Rewrite& r) {
  AttrMap attrs = r.Rest();
  if (r.has(2)) {
    const Tensor* pads = r.constant(r.in(2));
    if (pads == nullptr)
      return r.Refuse(Code::kUnimplemented, "pads that are not constant; export them as constants");
    const auto ints = ToInts(*pads);
    if (!ints) return r.Refuse(ints.error().code, "pads: {}", ints.error().message);
    attrs["pads"] = *ints;
  }
  r.Give(0, r.Make("ConvTranspose", {r.Need(0), r.Need(1), r.in(3)}, attrs));
}

// ---- complex numbers, real and imaginary parts in the last extent ----

ValueId PartOf(Rewrite& r, ValueId x, int64_t i) { return r.Slice(x, i, i + 1, -1); }
template <bool conjugate>
void ComplexMul(Rewrite& r) {
  r.Attributes<NoAttrs>();
  const ValueId a = PartOf(r, r.Need(0), 0), b = PartOf(r, r.in(0), 1);
  const ValueId c = PartOf(r, r.Need(1), 0), d = PartOf(r, r.in(1), 1);
  const ValueId ac = r.Mul(a, c), bd = r.Mul(b, d), ad = r.Mul(a, d), bc = r.Mul(b, c);
  r.Give(0, conjugate ? r.Concat({r.Add(ac, bd), r.Sub(bc, ad)}, -1)
                      : r.Concat({r.Sub(ac, bd), r.Add(ad, bc)}, -1));
}

struct FftAttrs {
  int64_t normalized = 0, onesided = 1, signal_ndim = 1;
  template <class V>
  void Visit(V& v) {
    v("normalized", normalized);
    v("onesided", onesided);
    v("signal_ndim", signal_ndim);
  }
};
bool IsPlain(Rewrite& r, const FftAttrs& a) {
  if (a.normalized != 0 || a.onesided != 1 || a.signal_ndim != 1)
    r.Refuse(Code::kUnimplemented,
             "normalized {}, onesided {}, signal_ndim {}: only 0, 1 and 1 are supported",
             a.normalized, a.onesided, a.signal_ndim);
  return r.ok();
}
// [.., N] → [.., N / 2 + 1, 2].
void Rfft(Rewrite& r) {
  if (!IsPlain(r, r.Attributes<FftAttrs>())) return;
  const ValueId x = r.Unsqueeze(r.Need(0), {-1});
  r.Give(0, r.Make("DFT", {x, kNone, r.Int(-2)}, {{"onesided", int64_t{1}}}));
}
// [.., M, 2] → [.., 2 (M - 1)]: the other half of the spectrum mirrors the first.
void Irfft(Rewrite& r) {
  if (!IsPlain(r, r.Attributes<FftAttrs>())) return;
  const ValueId x = r.Need(0);
  const ValueId back = r.Make("Slice", {x, r.Ints({-2}), r.Ints({0}), r.Ints({-2}), r.Ints({-1})});
  const ValueId mirrored = r.Concat({PartOf(r, back, 0), r.Make("Neg", {PartOf(r, back, 1)})}, -1);
  const ValueId y =
      r.Make("DFT", {r.Concat({x, mirrored}, -2), kNone, r.Int(-2)}, {{"inverse", int64_t{1}}});
  r.Give(0, r.Squeeze(PartOf(r, y, 0), {-1}));
}

// ---- others ----

struct MetricAttr {
  std::string metric = "sqeuclidean";
  template <class V>
  void Visit(V& v) {
    v("metric", metric);
  }
};
// Distances of the rows of a [M, N] and b [K, N]: |a|^2 + |b|^2 - 2 a b.
void CDist(Rewrite& r) {
  const auto m = r.Attributes<MetricAttr>();
  if (m.metric != "euclidean" && m.metric != "sqeuclidean")
    return r.Refuse(Code::kUnimplemented,
                    "the metric '{}': euclidean and sqeuclidean are supported", m.metric);
  const ValueId a = r.Need(0), b = r.Need(1);
  const auto squares = [&](ValueId x) { return r.Make("ReduceSumSquare", {x, r.Ints({1})}); };
  const ValueId products =
      r.Make("dunlin.FusedMatMul", {a, b}, {{"trans_b", int64_t{1}}, {"alpha", -2.0f}});
  const ValueId sum = r.Add(r.Add(products, squares(a)), r.Transpose(squares(b), {1, 0}));
  const ValueId y = r.Make("Max", {sum, r.Number(0, a)});
  r.Give(0, m.metric == "euclidean" ? r.Make("Sqrt", {y}) : y);
}

struct CropAttrs {
  float extrapolation_value = 0;
  std::string mode = "bilinear";
  template <class V>
  void Visit(V& v) {
    v("extrapolation_value", extrapolation_value);
    v("mode", mode);
  }
};

// Samples along one axis of the boxes [R, 1]: pixels `at` [R, n], which of them lie inside, and
// their place between the corners, -1 to 1.
struct Samples {
  ValueId inside, place;
};
Samples SamplesOf(Rewrite& r, ValueId from, ValueId to, ValueId count, ValueId extent,
                  bool nearest) {
  const DType type = r.dtype(from);
  const ValueId one = r.Number(1, from), zero = r.Number(0, from), half = r.Number(0.5, from);
  const ValueId steps = r.Sub(r.Cast(count, type), one), last = r.Sub(r.Cast(extent, type), one);
  const ValueId i = r.Cast(r.Make("Range", {r.Int(0), r.Squeeze(count, {0}), r.Int(1)}), type);
  // A single sample is the middle of its box.
  const ValueId share = r.Make(
      "Where", {r.Make("Greater", {steps, zero}), r.Div(i, r.Make("Max", {steps, one})), half});
  ValueId at = r.Mul(r.Add(from, r.Mul(r.Sub(to, from), share)), last);
  const ValueId inside =
      r.Make("And", {r.Make("GreaterOrEqual", {at, zero}), r.Make("LessOrEqual", {at, last})});
  if (nearest) at = r.Make("Floor", {r.Add(at, half)});
  const ValueId place = r.Sub(r.Div(r.Mul(at, r.Number(2, from)), r.Make("Max", {last, one})), one);
  return {inside, place};
}

// Inputs: 0 pictures [N, C, H, W], 1 boxes [R, 4] of y1 x1 y2 x2 between 0 and 1, 2 the picture of
// each box [R], 3 height and width of the results.
void CropAndResize(Rewrite& r) {
  const auto a = r.Attributes<CropAttrs>();
  if (a.mode != "bilinear" && a.mode != "nearest")
    return r.Refuse(Code::kInvalidArgument, "the mode '{}'", a.mode);
  const ValueId x = r.Need(0), boxes = r.Need(1);
  const ValueId size = r.Cast(r.Need(3), DType::kI64);
  const auto edge = [&](int64_t i) { return r.Slice(boxes, i, i + 1, 1); };
  const bool nearest = a.mode == "nearest";
  const ValueId height = r.Slice(size, 0, 1, 0), width = r.Slice(size, 1, 2, 0);
  const Samples rows = SamplesOf(r, edge(0), edge(2), height, r.Extent(x, 2), nearest);
  const Samples columns = SamplesOf(r, edge(1), edge(3), width, r.Extent(x, 3), nearest);
  const ValueId shape = r.Concat({r.Extent(boxes, 0), height, width}, 0);
  const auto spread = [&](ValueId v, int64_t axis) {
    return r.Unsqueeze(r.Make("Expand", {r.Unsqueeze(v, {axis}), shape}), {-1});
  };
  const ValueId grid = r.Concat({spread(columns.place, 1), spread(rows.place, 2)}, -1);
  const ValueId sampled = r.Make("GridSample", {r.Make("Gather", {x, r.Need(2)}), grid},
                                 {{"mode", std::string(nearest ? "nearest" : "linear")},
                                  {"padding_mode", std::string("border")},
                                  {"align_corners", int64_t{1}}});
  const ValueId inside =
      r.Make("And", {r.Unsqueeze(rows.inside, {1, 3}), r.Unsqueeze(columns.inside, {1, 2})});
  r.Give(0, r.Make("Where", {inside, sampled, r.Number(double(a.extrapolation_value), x)}));
}

struct RelativeAttrs {
  int64_t max_distance = 0;
  bool is_bidirectional = false;
  template <class V>
  void Visit(V& v) {
    v("max_distance", max_distance);
    v("is_bidirectional", is_bidirectional);
  }
};
// T5's buckets of distances between keys and queries: near ones have their own, far ones share them
// by the logarithm. Inputs: 0 table [buckets, H], 1 and 2 lengths of queries and keys, i64.
void RelativePositionBias(Rewrite& r) {
  const auto a = r.Attributes<RelativeAttrs>();
  const ValueId table = r.Need(0);
  const int64_t all = r.extent(table, 0);
  if (!IsKnown(all)) return r.Refuse(Code::kUnimplemented, "the number of buckets must be known");
  const int64_t buckets = a.is_bidirectional ? all / 2 : all, near = buckets / 2;
  if (near < 1 || a.max_distance <= near)
    return r.Refuse(Code::kInvalidArgument, "{} buckets for distances up to {}", all,
                    a.max_distance);
  const auto up_to = [&](ValueId n) {
    return r.Make("Range", {r.Int(0), r.Make("Reshape", {n, r.Ints({})}), r.Int(1)});
  };
  // Queries behind keys are positive.
  ValueId distance = r.Sub(r.Unsqueeze(up_to(r.Need(1)), {1}), up_to(r.Need(2)));
  ValueId base = kNone;
  if (a.is_bidirectional) {
    base = r.Mul(r.Cast(r.Make("Less", {distance, r.Int(0)}), DType::kI64), r.Int(buckets));
    distance = r.Make("Abs", {distance});
  } else {
    distance = r.Make("Max", {distance, r.Int(0)});
  }
  const auto number = [&](double v) { return r.Const(Tensor::Scalar<float>(float(v))); };
  const ValueId wide = r.Cast(r.Make("Max", {distance, r.Int(near)}), DType::kF32);
  const ValueId logarithm = r.Make("Log", {r.Div(wide, number(double(near)))});
  const double steps = double(buckets - near) / std::log(double(a.max_distance) / double(near));
  const ValueId far =
      r.Make("Min", {r.Add(r.Cast(r.Mul(logarithm, number(steps)), DType::kI64), r.Int(near)),
                     r.Int(buckets - 1)});
  ValueId bucket = r.Make("Where", {r.Make("Less", {distance, r.Int(near)}), distance, far});
  if (base != kNone) bucket = r.Add(bucket, base);
  r.Give(0, r.Unsqueeze(r.Transpose(r.Make("Gather", {table, bucket}), {2, 0, 1}), {0}));
}

struct HeadsAttr {
  int64_t num_heads = 0;
  template <class V>
  void Visit(V& v) {
    v("num_heads", num_heads);
  }
};
// WavLM's gate on a bias of positions. Inputs: 0 queries [B, S, H D], 1 their bias, 2 the bias of
// positions [1, H, S, S], 3 weights [D, 8], 4 bias [8], 5 a factor of each head [1, H, 1, 1].
void GatedRelativePositionBias(Rewrite& r) {
  const auto a = r.Attributes<HeadsAttr>();
  if (r.has(6))
    return r.Refuse(Code::kUnimplemented, "token_offset is not supported; export without packing");
  if (a.num_heads <= 0) return r.Refuse(Code::kInvalidArgument, "{} heads", a.num_heads);
  const ValueId q = r.Reshape(r.Add(r.Need(0), r.Need(1)), {0, 0, a.num_heads, -1});
  const ValueId projected = r.Add(r.MatMul(r.Transpose(q, {0, 2, 1, 3}), r.Need(3)), r.Need(4));
  // Sums of the two fours of the last extent.
  const auto gate = [&](int64_t half) {
    const ValueId four = r.Slice(projected, half * 4, half * 4 + 4, -1);
    return r.Make("Sigmoid", {r.Make("ReduceSum", {four, r.Ints({-1})})});
  };
  const ValueId inner = r.Sub(r.Mul(gate(1), r.Need(5)), r.Number(1, q));
  const ValueId factor = r.Add(r.Mul(gate(0), inner), r.Number(2, q));
  r.Give(0, r.Mul(factor, r.Need(2)));
}

struct UnfoldAttrs {
  int64_t dim = -1, size = 0, step = 1;
  template <class V>
  void Visit(V& v) {
    v("dim", dim);
    v("size", size);
    v("step", step);
  }
};
// Windows of `size` elements along `dim`, every `step`; the elements of a window come last.
void UnfoldTensor(Rewrite& r) {
  const auto a = r.Attributes<UnfoldAttrs>();
  const ValueId x = r.Need(0);
  const int rank = r.rank(x);
  const int64_t axis = a.dim < 0 ? a.dim + rank : a.dim;
  if (rank < 1 || axis < 0 || axis >= rank)
    return r.Refuse(Code::kUnimplemented, "dim {} of an input of rank {}", a.dim, rank);
  if (a.size < 1 || a.step < 1 || a.size > INT32_MAX || a.step > INT32_MAX)
    return r.Refuse(Code::kInvalidArgument, "size {} and step {}", a.size, a.step);
  const ValueId last = r.Sub(r.Squeeze(r.Extent(x, axis), {0}), r.Int(a.size - 1));
  const ValueId starts = r.Make("Range", {r.Int(0), last, r.Int(a.step)});
  const ValueId within = r.Make("Range", {r.Int(0), r.Int(a.size), r.Int(1)});
  const ValueId windows =
      r.Make("Gather", {x, r.Add(r.Unsqueeze(starts, {1}), within)}, {{"axis", axis}});
  std::vector<int64_t> perm;
  for (int64_t i = 0; i <= rank; ++i)
    if (i != axis + 1) perm.push_back(i);
  perm.push_back(axis + 1);
  r.Give(0, r.Transpose(windows, perm));
}

struct CausalConvAttrs {
  std::string activation = "none";
  int64_t ndim = 1, dilation = 1, channels_last = 0, state_window = 0;
  template <class V>
  void Visit(V& v) {
    v("activation", activation);
    v("ndim", ndim);
    v("dilation", dilation);
    v("channels_last", channels_last);
    v("state_window", state_window);
  }
};
// A convolution of each channel over what has been: inputs 0 x [B, C, L], 1 kernels [C, 1, K], 2
// bias, 3 the last K - 1 columns before x, zeros if left out. Output 1: those for the next time.
void CausalConvWithState(Rewrite& r) {
  const auto a = r.Attributes<CausalConvAttrs>();
  if (a.ndim != 1 || a.dilation != 1 || a.channels_last != 0 || a.state_window != 0)
    return r.Refuse(Code::kUnimplemented,
                    "only ndim 1, dilation 1, channels first and no window of states");
  const ValueId x = r.Need(0), kernels = r.Need(1);
  const int64_t channels = r.extent(kernels, 0);
  if (!IsKnown(channels))
    return r.Refuse(Code::kUnimplemented, "the extents of the kernels must be known");
  const ValueId before = r.Sub(r.Extent(kernels, 2), r.Ints({1}));
  const ValueId all =
      r.has(3) ? r.Concat({r.in(3), x}, 2)
               : r.Make("Pad", {x, r.Concat({r.Ints({0, 0}), before, r.Ints({0, 0, 0})}, 0)});
  const ValueId y = r.Make("Conv", {all, kernels, r.in(2)}, {{"group", channels}});
  const bool silu = a.activation == "silu" || a.activation == "swish";
  if (!silu && a.activation != "none")
    return r.Refuse(Code::kInvalidArgument, "the activation '{}'", a.activation);
  r.Give(0, silu ? r.Mul(y, r.Make("Sigmoid", {y})) : y);
  if (r.wants(1)) r.Give(1, r.Slice(all, r.Extent(x, 2), r.Ints({INT64_MAX}), 2));
}

// Inputs: 0 angles, f32 [B, S, D], then q, q with its halves exchanged, k and the same of it.
void GemmaRotaryEmbedding(Rewrite& r) {
  r.Attributes<NoAttrs>();
  const ValueId angles = r.Unsqueeze(r.Need(0), {1});
  const ValueId q = r.Need(1);
  const auto of = [&](std::string_view f) { return r.Make("CastLike", {r.Make(f, {angles}), q}); };
  const ValueId sines = of("Sin"), cosines = of("Cos");
  r.Give(0, r.Add(r.Mul(q, cosines), r.Mul(r.Need(2), sines)));
  r.Give(1, r.Add(r.Mul(r.Need(3), cosines), r.Mul(r.Need(4), sines)));
}

}  // namespace

std::span<const RewriteRule> MicrosoftOtherRewrites() {
  static constexpr RewriteRule rules[] = {
      {kMicrosoft, "SampleOp", SampleOp},
      {kMicrosoft, "Trilu", Trilu},
      {kMicrosoft, "ExpandDims", ExpandDims},
      {kMicrosoft, "GatherND", GatherNd},
      {kMicrosoft, "Range", Range},
      {kMicrosoft, "Pad", Pad},
      {kMicrosoft, "Unique", Unique},
      {kMicrosoft, "GridSample", GridSample},
      {kMicrosoft, "ConvTransposeWithDynamicPads", ConvTransposeWithDynamicPads},
      {kMicrosoft, "ComplexMul", ComplexMul<false>},
      {kMicrosoft, "ComplexMulConj", ComplexMul<true>},
      {kMicrosoft, "Rfft", Rfft},
      {kMicrosoft, "Irfft", Irfft},
      {kMicrosoft, "CDist", CDist},
      {kMicrosoft, "CropAndResize", CropAndResize},
      {kMicrosoft, "RelativePositionBias", RelativePositionBias},
      {kMicrosoft, "GatedRelativePositionBias", GatedRelativePositionBias},
      {kMicrosoft, "GemmaRotaryEmbedding", GemmaRotaryEmbedding},
      {kMicrosoft, "UnfoldTensor", UnfoldTensor},
      {kMicrosoft, "CausalConvWithState", CausalConvWithState},
  };
  return rules;
}

}  // namespace dunlin::onnx_import
