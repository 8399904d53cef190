// Quantised operators of com.microsoft by others: where dequantising, computing in f32 and
// quantising again is what they do, to the last code. Those with an arithmetic of their own are
// operators (ops/quant/qlinear.cc).
#include <algorithm>

#include "formats/onnx/rewrite.h"

namespace dunlin::onnx_import {
namespace {

constexpr ValueId kNone = ValueId::kNone;

ValueId Dequantize(Rewrite& r, ValueId codes, ValueId scale, ValueId zero) {
  return r.Make("DequantizeLinear", {codes, scale, zero});
}
// Codes of the type of zero, or of `like` when there is none.
ValueId Quantize(Rewrite& r, ValueId x, ValueId scale, ValueId zero, ValueId like) {
  AttrMap attrs;
  if (zero == kNone) attrs["output_dtype"] = int64_t{r.dtype(like) == DType::kI8 ? 3 : 2};
  return r.Make("QuantizeLinear", {x, scale, zero}, attrs);
}

// ---- the same operators as ai.onnx's -----------------------------------------------------------

void QuantizeLinear(Rewrite& r) {
  r.Give(0, r.Make("QuantizeLinear", {r.Need(0), r.Need(1), r.in(2)}, r.Rest()));
}
void DequantizeLinear(Rewrite& r) {
  r.Give(0, r.Make("DequantizeLinear", {r.Need(0), r.Need(1), r.in(2)}, r.Rest()));
}

// From opset 23 the quotient is rounded in the scale's type where `precision` does not say another.
void StandardQuantizeLinear(Rewrite& r) {
  AttrMap attrs = r.Rest();
  const DType scale = r.dtype(r.Need(1));
  const auto given = attrs.find("precision");
  const int64_t* said = given == attrs.end() ? nullptr : std::get_if<int64_t>(&given->second);
  const bool unsaid = given == attrs.end() || (said != nullptr && *said == 0);
  if (given != attrs.end() && unsaid) attrs.erase(given);
  if (r.opset() >= 23 && unsaid && (scale == DType::kF16 || scale == DType::kBF16))
    attrs["precision"] = int64_t{scale == DType::kF16 ? 10 : 16};
  r.Give(0, r.Make("QuantizeLinear", {r.Need(0), r.Need(1), r.in(2)}, attrs));
}

struct LayoutAttrs {
  bool channels_last = false;
  template <class V>
  void Visit(V& v) {
    v("channels_last", channels_last);
  }
};
// Channels last to second, or back.
ValueId MoveChannels(Rewrite& r, ValueId x, bool back) {
  const int64_t rank = r.rank(x);
  if (rank < 3) r.Refuse(Code::kUnimplemented, "images with the channels last, of unknown rank");
  std::vector<int64_t> perm(size_t(std::max<int64_t>(rank, 2)));
  for (size_t i = 0; i < perm.size(); ++i) perm[i] = int64_t(i);
  if (back)
    std::rotate(perm.begin() + 1, perm.begin() + 2, perm.end());
  else
    std::rotate(perm.begin() + 1, perm.end() - 1, perm.end());
  return r.Transpose(x, perm);
}
void QLinearConv(Rewrite& r) {
  const bool last = r.Take<LayoutAttrs>({"channels_last"}).channels_last;
  std::vector<ValueId> inputs;
  for (size_t i = 0; i < std::max<size_t>(8, r.inputs()); ++i) inputs.push_back(r.in(i));
  if (last) inputs[0] = MoveChannels(r, r.Need(0), false);
  const ValueId y = r.Make("QLinearConv", inputs, r.Rest());
  r.Give(0, last ? MoveChannels(r, y, true) : y);
}

// ---- between dequantising and quantising -------------------------------------------------------

// Inputs x, x_scale, x_zero_point, y_scale, y_zero_point.
ValueId Real(Rewrite& r) { return Dequantize(r, r.Need(0), r.Need(1), r.in(2)); }
void GiveCodes(Rewrite& r, ValueId y) { r.Give(0, Quantize(r, y, r.Need(3), r.in(4), r.Need(0))); }

void QLinearSigmoid(Rewrite& r) {
  r.Attributes<NoAttrs>();
  GiveCodes(r, r.Make("Sigmoid", {Real(r)}));
}
void QLinearLeakyRelu(Rewrite& r) { GiveCodes(r, r.Make("LeakyRelu", {Real(r)}, r.Rest())); }

struct ReduceAttrs {
  std::vector<int64_t> axes;
  int64_t keepdims = 1;
  template <class V>
  void Visit(V& v) {
    v("axes", axes);
    v("keepdims", keepdims);
  }
};
ValueId Reduce(Rewrite& r, std::string_view op, ValueId x) {
  const auto a = r.Attributes<ReduceAttrs>();
  return r.Make(op, {x, a.axes.empty() ? kNone : r.Ints(a.axes)}, {{"keepdims", a.keepdims}});
}
void QLinearReduceMean(Rewrite& r) { GiveCodes(r, Reduce(r, "ReduceMean", Real(r))); }

// Codes with another scale and zero point: unchanged where they are the same.
ValueId Requantize(Rewrite& r, size_t x, size_t y_scale, size_t y_zero) {
  return Quantize(r, Dequantize(r, r.Need(x), r.Need(x + 1), r.in(x + 2)), r.Need(y_scale),
                  r.in(y_zero), r.Need(x));
}
// Inputs y_scale, y_zero_point, then x, x_scale, x_zero_point of every part.
void QLinearConcat(Rewrite& r) {
  if (r.inputs() < 4 || r.inputs() % 3 == 0)
    r.Refuse(Code::kInvalidArgument, "has {} inputs: a part is codes, scale and zero point",
             r.inputs());
  std::vector<ValueId> parts;
  for (size_t i = 2; i < r.inputs(); i += 3) parts.push_back(Requantize(r, i, 0, 1));
  r.Give(0, r.Make("Concat", std::move(parts), r.Rest()));
}
// Inputs condition, x and y with scale and zero point each, z_scale, z_zero_point.
void QLinearWhere(Rewrite& r) {
  r.Attributes<NoAttrs>();
  r.Give(0, r.Make("Where", {r.Need(0), Requantize(r, 1, 7, 8), Requantize(r, 4, 7, 8)}));
}

// ---- integers ----------------------------------------------------------------------------------

ValueId Offset(Rewrite& r, size_t x, size_t zero) {
  const ValueId wide = r.Cast(r.Need(x), DType::kI32);
  return r.has(zero) ? r.Sub(wide, r.Cast(r.in(zero), DType::kI32)) : wide;
}
void MatMulInteger16(Rewrite& r) {
  r.Attributes<NoAttrs>();
  r.Give(0, r.MatMul(r.Cast(r.Need(0), DType::kI32), r.Cast(r.Need(1), DType::kI32)));
}
void MulInteger(Rewrite& r) {
  r.Attributes<NoAttrs>();
  r.Give(0, r.Mul(Offset(r, 0, 1), Offset(r, 2, 3)));
}
void ReduceSumInteger(Rewrite& r) {
  r.Give(0, Reduce(r, "ReduceSum", r.Cast(r.Need(0), DType::kI32)));
}

// ---- products that give real numbers -----------------------------------------------------------

// (sums of codes) * (a_scale * b_scale) + bias
ValueId ScaledProduct(Rewrite& r, ValueId a, ValueId a_scale, ValueId a_zero, ValueId b,
                      ValueId b_scale, ValueId b_zero, ValueId bias) {
  const ValueId sums = r.Make("MatMulInteger", {a, b, a_zero, b_zero});
  const DType to = r.dtype(b_scale);
  const ValueId scale = r.Mul(r.Cast(a_scale, DType::kF32), r.Cast(b_scale, DType::kF32));
  ValueId y = r.Mul(r.Cast(sums, DType::kF32), scale);
  if (to == DType::kF16 || to == DType::kBF16) y = r.Cast(y, to);
  return bias != kNone ? r.Add(y, bias) : y;
}
void MatMulIntegerToFloat(Rewrite& r) {
  r.Attributes<NoAttrs>();
  r.Give(0,
         ScaledProduct(r, r.Need(0), r.Need(2), r.in(4), r.Need(1), r.Need(3), r.in(5), r.in(6)));
}
void DynamicQuantizeMatMul(Rewrite& r) {
  r.Attributes<NoAttrs>();
  const auto a = r.MakeMany("DynamicQuantizeLinear", {r.Need(0)}, 3);
  r.Give(0, ScaledProduct(r, a[0], a[1], a[2], r.Need(1), r.Need(2), r.in(3), r.in(4)));
}

// Weights [directions, K, N] with a scale a direction, or one a column.
ValueId Weights(Rewrite& r, size_t codes, size_t scale, size_t zero) {
  const auto spread = [&](size_t i) {
    return r.rank(r.Need(i)) == 2 ? r.Unsqueeze(r.in(i), {1}) : r.Reshape(r.in(i), {-1, 1, 1});
  };
  ValueId x = r.Cast(r.Need(codes), DType::kF32);
  if (r.has(zero)) x = r.Sub(x, r.Cast(spread(zero), DType::kF32));
  return r.Transpose(r.Mul(x, spread(scale)), {0, 2, 1});
}
// The weights are what they stand for; the inputs are not quantised, so results are closer to the
// float model's than ONNX Runtime's.
void DynamicQuantizeLSTM(Rewrite& r) {
  const auto y = r.MakeMany("LSTM",
                            {r.Need(0), Weights(r, 1, 8, 9), Weights(r, 2, 10, 11), r.in(3),
                             r.in(4), r.in(5), r.in(6), r.in(7)},
                            3, r.Rest());
  for (size_t i = 0; i < 3; ++i) r.Give(i, y[i]);
}

// ---- by other operators of com.microsoft -------------------------------------------------------

// Inputs codes, weights, bias, their scales, mask, their zero points, past.
void QAttention(Rewrite& r) {
  r.Become("Attention",
           {Dequantize(r, r.Need(0), r.Need(3), r.in(6)),
            r.Make("DequantizeLinear", {r.Need(1), r.Need(4), r.in(7)}, {{"axis", int64_t{1}}}),
            r.Need(2), r.in(5), r.in(8)});
}
// Inputs ids, segment ids, five tables of codes, mask, five scales, five zero points.
void QEmbedLayerNormalization(Rewrite& r) {
  const auto table = [&](size_t i) {
    return r.has(2 + i) ? Dequantize(r, r.in(2 + i), r.Need(8 + i), r.in(13 + i)) : kNone;
  };
  r.Become("EmbedLayerNormalization",
           {r.Need(0), r.in(1), table(0), table(1), table(2), table(3), table(4), r.in(7)});
}

}  // namespace

std::span<const RewriteRule> QuantisedRewrites() {
  static constexpr RewriteRule rules[] = {
      {"", "QuantizeLinear", StandardQuantizeLinear},
      {kMicrosoft, "QuantizeLinear", QuantizeLinear},
      {kMicrosoft, "DequantizeLinear", DequantizeLinear},
      {kMicrosoft, "QLinearConv", QLinearConv},
      {kMicrosoft, "QLinearSigmoid", QLinearSigmoid},
      {kMicrosoft, "QLinearLeakyRelu", QLinearLeakyRelu},
      {kMicrosoft, "QLinearReduceMean", QLinearReduceMean},
      {kMicrosoft, "QLinearConcat", QLinearConcat},
      {kMicrosoft, "QLinearWhere", QLinearWhere},
      {kMicrosoft, "MatMulInteger16", MatMulInteger16},
      {kMicrosoft, "MulInteger", MulInteger},
      {kMicrosoft, "ReduceSumInteger", ReduceSumInteger},
      {kMicrosoft, "MatMulIntegerToFloat", MatMulIntegerToFloat},
      {kMicrosoft, "DynamicQuantizeMatMul", DynamicQuantizeMatMul},
      {kMicrosoft, "DynamicQuantizeLSTM", DynamicQuantizeLSTM},
      {kMicrosoft, "QAttention", QAttention},
      {kMicrosoft, "QEmbedLayerNormalization", QEmbedLayerNormalization},
  };
  return rules;
}

}  // namespace dunlin::onnx_import
