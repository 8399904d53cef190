// Activations, matrix products and convolutions of com.microsoft: what ONNX Runtime's optimiser
// makes of chains of standard operators, taken apart again.
#include <algorithm>

#include "formats/onnx/rewrite.h"

namespace dunlin::onnx_import {

ValueId Activate(Rewrite& r, ValueId x, const FusedActivation& f) {
  const auto with = [&](AttrMap attrs) { return r.Make(f.name, {x}, attrs); };
  if (f.name.empty()) return x;
  for (const std::string_view plain :
       {"Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Selu", "HardSwish"})
    if (f.name == plain) return with({});
  if (f.name == "LeakyRelu") return with({{"alpha", f.a.value_or(0.01f)}});
  if (f.name == "Elu" || f.name == "ThresholdedRelu") return with({{"alpha", f.a.value_or(1)}});
  if (f.name == "HardSigmoid")
    return with({{"alpha", f.a.value_or(0.2f)}, {"beta", f.b.value_or(0.5f)}});
  if (f.name == "Clip") {
    const auto bound = [&](const std::optional<float>& v) {
      return v ? r.Number(double(*v), x) : ValueId::kNone;
    };
    return r.Make("Clip", {x, bound(f.a), bound(f.b)});
  }
  if (f.name == "ScaledTanh")
    return r.Mul(r.Make("Tanh", {r.Mul(x, r.Number(double(f.b.value_or(1)), x))}),
                 r.Number(double(f.a.value_or(1)), x));
  if (f.name == "ParametricSoftplus")
    return r.Mul(r.Make("Softplus", {r.Mul(x, r.Number(double(f.b.value_or(1)), x))}),
                 r.Number(double(f.a.value_or(1)), x));
  r.Refuse(Code::kUnimplemented, "the activation '{}' is not supported", f.name);
  return ValueId::kNone;
}

namespace {

struct ConvActivationAttrs {
  std::string activation;
  std::vector<float> params;
  template <class V>
  void Visit(V& v) {
    v("activation", activation);
    v("activation_params", params);
  }
};

}  // namespace

FusedActivation TakeConvActivation(Rewrite& r) {
  const auto a = r.Take<ConvActivationAttrs>({"activation", "activation_params"});
  const auto param = [&](size_t i) {
    return i < a.params.size() ? std::optional(a.params[i]) : std::nullopt;
  };
  return {a.activation, param(0), param(1)};
}

namespace {

// ---- activations ----

ValueId GeluByTanh(Rewrite& r, ValueId x) {
  return r.Make("Gelu", {x}, {{"approximate", std::string("tanh")}});
}

ValueId Biased(Rewrite& r, size_t bias) {
  return r.has(bias) ? r.Add(r.Need(0), r.in(bias)) : r.Need(0);
}
void Gelu(Rewrite& r) {
  r.Attributes<NoAttrs>();
  r.Give(0, r.Make("Gelu", {Biased(r, 1)}));
}
void FastGelu(Rewrite& r) {
  r.Attributes<NoAttrs>();
  r.Give(0, GeluByTanh(r, Biased(r, 1)));
}

struct QuickGeluAttrs {
  float alpha = 1.702f;
  template <class V>
  void Visit(V& v) {
    v("alpha", alpha);
  }
};
void QuickGelu(Rewrite& r) {
  const auto a = r.Attributes<QuickGeluAttrs>();
  const ValueId x = r.Need(0);
  const ValueId scaled = a.alpha == 1 ? x : r.Mul(x, r.Number(double(a.alpha), x));
  r.Give(0, r.Mul(x, r.Make("Sigmoid", {scaled})));
}

// The left half of x + bias times the GELU of the right one.
void BiasSplitGelu(Rewrite& r) {
  r.Attributes<NoAttrs>();
  const auto halves = r.MakeMany("Split", {r.Add(r.Need(0), r.Need(1))}, 2,
                                 {{"axis", int64_t{-1}}, {"num_outputs", int64_t{2}}});
  r.Give(0, r.Mul(halves[0], r.Make("Gelu", {halves[1]})));
}

void BiasAdd(Rewrite& r) {
  r.Attributes<NoAttrs>();
  r.Give(0, r.Add(r.Add(r.Need(0), r.Need(1)), r.Need(2)));
}

struct SeedAttr {
  std::optional<int64_t> seed;
  template <class V>
  void Visit(V& v) {
    v("seed", seed);
  }
};
// Dropout(data + bias) + residual.
void BiasDropout(Rewrite& r) {
  r.Attributes<SeedAttr>();
  const auto dropped =
      r.MakeMany("Dropout", {r.Add(r.Need(0), r.Need(1)), r.in(3), r.in(4)}, r.wants(1) ? 2 : 1);
  r.Give(0, r.has(2) ? r.Add(dropped[0], r.in(2)) : dropped[0]);
  r.Give(1, dropped.back());
}

struct BiasSoftmaxAttrs {
  int64_t axis = 1;
  bool is_inner_broadcast = false;
  template <class V>
  void Visit(V& v) {
    v("axis", axis);
    v("is_inner_broadcast", is_inner_broadcast);
  }
};
// The softmax is over all extents from `axis` on. A bias of equal rank is broadcast as by Add; one
// of a lower rank that is broadcast within lacks the extents before `axis`.
void BiasSoftmax(Rewrite& r) {
  const auto a = r.Attributes<BiasSoftmaxAttrs>();
  const ValueId x = r.Need(0);
  ValueId bias = r.Need(1);
  const int rank = r.rank(x);
  if (rank < 0) return r.Refuse(Code::kUnimplemented, "the rank of the input must be known");
  const int64_t axis = a.axis < 0 ? a.axis + rank : a.axis;
  if (axis < 0 || axis >= rank)
    return r.Refuse(Code::kInvalidArgument, "axis {} of an input of rank {}", a.axis, rank);
  if (a.is_inner_broadcast && r.rank(bias) >= 0 && r.rank(bias) < rank) {
    std::vector<int64_t> between;
    const int64_t missing = rank - r.rank(bias);
    for (int64_t i = std::max<int64_t>(0, axis - missing); i < axis; ++i) between.push_back(i);
    bias = r.Unsqueeze(bias, between);
  }
  const ValueId sum = r.Add(x, bias);
  if (axis == rank - 1) return r.Give(0, r.Make("Softmax", {sum}, {{"axis", int64_t{-1}}}));
  const ValueId flat = r.Make("Flatten", {sum}, {{"axis", axis}});
  const ValueId y = r.Make("Softmax", {flat}, {{"axis", int64_t{1}}});
  r.Give(0, r.Make("Reshape", {y, r.Make("Shape", {sum})}));
}

// ---- matrix products ----

struct FusedMatMulAttrs {
  float alpha = 1;
  bool trans_a = false, trans_b = false, trans_batch_a = false, trans_batch_b = false;
  std::string activation;
  std::optional<float> act_a, act_b, act_c;
  std::optional<int64_t> axis;
  template <class V>
  void Visit(V& v) {
    v("alpha", alpha);
    v("transA", trans_a);
    v("transB", trans_b);
    v("transBatchA", trans_batch_a);
    v("transBatchB", trans_batch_b);
    v("activation", activation);
    v("activation_alpha", act_a);
    v("activation_beta", act_b);
    v("activation_gamma", act_c);
    v("activation_axis", axis);
  }
};

// The operand as MatMul wants it but for a swap of its last two extents. [M, batch…, K] is what
// "transposed over the batch" means.
ValueId BatchFirst(Rewrite& r, ValueId x, bool batch_inside) {
  if (!batch_inside) return x;
  const int rank = r.rank(x);
  if (rank < 0) r.Refuse(Code::kUnimplemented, "transBatch needs operands of known rank");
  if (rank < 3) return x;
  std::vector<int64_t> perm;
  for (int64_t i = 1; i < rank - 1; ++i) perm.push_back(i);
  perm.push_back(0);
  perm.push_back(rank - 1);
  return r.Transpose(x, perm);
}

void FusedMatMul(Rewrite& r) {
  const auto a = r.Attributes<FusedMatMulAttrs>();
  const ValueId y = r.Make(
      "dunlin.FusedMatMul",
      {BatchFirst(r, r.Need(0), a.trans_batch_a), BatchFirst(r, r.Need(1), a.trans_batch_b)},
      {{"alpha", a.alpha}, {"trans_a", int64_t{a.trans_a}}, {"trans_b", int64_t{a.trans_b}}});
  if (a.activation == "Softmax" || a.activation == "LogSoftmax")
    r.Give(0, r.Make(a.activation, {y}, {{"axis", a.axis.value_or(-1)}}));
  else
    r.Give(0, Activate(r, y, {a.activation, a.act_a, a.act_b}));
}

struct GemmActivationAttrs {
  std::string activation;
  std::optional<float> a, b, c;
  template <class V>
  void Visit(V& v) {
    v("activation", activation);
    v("activation_alpha", a);
    v("activation_beta", b);
    v("activation_gamma", c);
  }
};
void FusedGemm(Rewrite& r) {
  const auto f = r.Take<GemmActivationAttrs>(
      {"activation", "activation_alpha", "activation_beta", "activation_gamma"});
  const ValueId y = r.Make("Gemm", {r.Need(0), r.Need(1), r.in(2)}, r.Rest());
  r.Give(0, Activate(r, y, {f.activation, f.a, f.b}));
}

// GELU by tanh of x w + bias.
void GemmFastGelu(Rewrite& r) {
  r.Attributes<NoAttrs>();
  ValueId y = r.MatMul(r.Need(0), r.Need(1));
  if (r.has(2)) y = r.Add(y, r.in(2));
  r.Give(0, GeluByTanh(r, y));
}

// ---- convolutions ----

// activation(Conv(x, w, b) + z).
void FusedConv(Rewrite& r) {
  const auto activation = TakeConvActivation(r);
  ValueId y = r.Make("Conv", {r.Need(0), r.Need(1), r.in(2)}, r.Rest());
  if (r.has(3)) y = r.Add(y, r.in(3));
  r.Give(0, Activate(r, y, activation));
}

}  // namespace

std::span<const RewriteRule> MicrosoftRewrites() {
  static constexpr RewriteRule rules[] = {
      {kMicrosoft, "Gelu", Gelu},
      {kMicrosoft, "BiasGelu", Gelu},
      {kMicrosoft, "FastGelu", FastGelu},
      {kMicrosoft, "QuickGelu", QuickGelu},
      {kMicrosoft, "BiasSplitGelu", BiasSplitGelu},
      {kMicrosoft, "BiasAdd", BiasAdd},
      {kMicrosoft, "BiasDropout", BiasDropout},
      {kMicrosoft, "BiasSoftmax", BiasSoftmax},
      {kMicrosoft, "FusedMatMul", FusedMatMul},
      {kMicrosoft, "FusedMatMulActivation", FusedMatMul},
      {kMicrosoft, "TransposeMatMul", FusedMatMul},
      {kMicrosoft, "FusedGemm", FusedGemm},
      {kMicrosoft, "GemmFastGelu", GemmFastGelu},
      {kMicrosoft, "FusedConv", FusedConv},
  };
  return rules;
}

}  // namespace dunlin::onnx_import
