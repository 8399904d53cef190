// Fusions into convolutions and matrix products: scales and biases into weights, activations and
// residual sums into the epilogue.
#include <algorithm>
#include <cmath>

#include "ops/conv/conv.h"
#include "ops/matmul/matmul.h"
#include "passes/fuse.h"

namespace dunlin {
namespace {

bool IsF32(const Type& t) { return t.dtype == DType::kF32; }

// A constant that scales or shifts channels: one element, or C elements in [C,1,1] / [1,C,1,1]
// form.
std::optional<std::vector<double>> PerChannel(const GraphValue& v, int64_t channels, int out_rank) {
  if (!v.is_constant() || !IsF32(v.type)) return std::nullopt;
  const Tensor& t = v.constant;
  const auto values = t.values<float>();
  if (t.count() == 1 && t.rank() <= out_rank)
    return std::vector<double>(size_t(channels), double(values[0]));
  if (t.count() != channels || t.rank() > out_rank) return std::nullopt;
  const int axis = 1 - (out_rank - t.rank());  // of the channels within t
  if (axis < 0 || t.dims()[size_t(axis)] != channels) return std::nullopt;
  return std::vector<double>(values.begin(), values.end());
}

// conv(x) * scale + shift → a conv with other weights. `transposed`: w is [C, M/group, …].
Result<std::optional<ValueId>> ScaleConv(Rewriter& r, const dunlin::Node& conv,
                                         const std::vector<double>& scale,
                                         const std::vector<double>& shift) {
  Graph& g = r.g;
  const bool transposed = conv.op->name == "ConvTranspose";
  const GraphValue& wv = g.value(conv.inputs[1]);
  const bool has_bias = conv.inputs.size() > 2 && conv.inputs[2] != ValueId::kNone;
  if (!wv.is_constant() || !IsF32(wv.type) || (has_bias && !g.value(conv.inputs[2]).is_constant()))
    return std::nullopt;
  const Tensor& w = wv.constant;
  const int64_t group =
      transposed ? As<ConvTransposeAttrs>(*conv.attrs).group : As<ConvAttrs>(*conv.attrs).group;
  const int64_t outputs = transposed ? w.dims()[1] * group : w.dims()[0];
  if (int64_t(scale.size()) != outputs || group < 1) return std::nullopt;
  const Tensor scaled = TRY(Tensor::Create(DType::kF32, w.dims()));
  const float* from = w.as<float>();
  float* to = scaled.mut<float>();
  if (transposed) {
    const int64_t C = w.dims()[0], per_group = w.dims()[1],
                  taps = C * per_group != 0 ? w.count() / (C * per_group) : 0;
    for (int64_t c = 0; c < C; ++c)
      for (int64_t o = 0; o < per_group; ++o)
        for (int64_t t = 0; t < taps; ++t) {
          const int64_t i = (c * per_group + o) * taps + t;
          to[i] = float(double(from[i]) * scale[size_t(c / (C / group) * per_group + o)]);
        }
  } else {
    const int64_t each = outputs ? w.count() / outputs : 0;
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t i = 0; i < each; ++i)
        to[o * each + i] = float(double(from[o * each + i]) * scale[size_t(o)]);
  }
  const Tensor bias = TRY(Tensor::Create(DType::kF32, Dims{outputs}));
  for (int64_t o = 0; o < outputs; ++o) {
    const double b = has_bias ? double(g.value(conv.inputs[2]).constant.as<float>()[o]) : 0.0;
    bias.mut<float>()[o] = float(b * scale[size_t(o)] + shift[size_t(o)]);
  }
  const std::string name = wv.name;
  const ValueId x = conv.inputs[0];
  const auto attrs = conv.attrs;
  const std::string op(conv.op->name);
  const ValueId w2 = g.AddConstant(name + "/scaled", scaled);
  const ValueId b2 = g.AddConstant(name + "/bias", bias);
  return r.NodeWith(op, {x, w2, b2}, attrs);
}

int64_t OutputChannels(const Graph& g, const dunlin::Node& conv) {
  const Type& t = g.value(conv.outputs[0]).type;
  return t.ranked && t.dims.rank() >= 3 && IsKnown(t.dims[1]) ? t.dims[1] : -1;
}

// BatchNormalization(conv(x)) → conv
Result<std::optional<ValueId>> FoldBatchNorm(Rewriter& r, const Match&) {
  const dunlin::Node& bn = r.node(0);
  const dunlin::Node& conv = r.node(1);
  const int64_t C = OutputChannels(r.g, conv);
  if (C < 0 || IntAttr(*bn.attrs, "training_mode").value_or(0) != 0) return std::nullopt;
  std::vector<double> p[4];
  for (int i = 0; i < 4; ++i) {
    const GraphValue& v = r.value(bn.inputs[size_t(i) + 1]);
    if (!v.is_constant() || !IsF32(v.type) || v.constant.count() != C) return std::nullopt;
    const auto values = v.constant.values<float>();
    p[i].assign(values.begin(), values.end());
  }
  const double epsilon = double(FloatAttr(*bn.attrs, "epsilon").value_or(1e-5f));
  std::vector<double> scale(static_cast<size_t>(C)), shift(static_cast<size_t>(C));
  for (size_t c = 0; c < size_t(C); ++c) {
    scale[c] = p[0][c] / std::sqrt(p[3][c] + epsilon);
    shift[c] = p[1][c] - p[2][c] * scale[c];
  }
  return ScaleConv(r, conv, scale, shift);
}

// conv(x) op constant → conv
Result<std::optional<ValueId>> FoldChannelConstant(Rewriter& r, const Match& m) {
  const dunlin::Node& op = r.node(0);
  const dunlin::Node& conv = r.node(1);
  const int64_t C = OutputChannels(r.g, conv);
  if (C < 0 || r.type(op.outputs[0]).dims.size() != r.type(conv.outputs[0]).dims.size())
    return std::nullopt;
  const auto k = PerChannel(r.value(m.var(3)), C, r.type(conv.outputs[0]).dims.rank());
  if (!k) return std::nullopt;
  const bool constant_first = op.inputs[0] == m.var(3);
  std::vector<double> scale(size_t(C), 1.0), shift(size_t(C), 0.0);
  const std::string_view name = op.op->name;
  if (name == "Mul")
    scale = *k;
  else if (name == "Add")
    shift = *k;
  else if (constant_first)
    return std::nullopt;
  else
    for (size_t c = 0; c < size_t(C); ++c)
      (name == "Sub" ? shift[c] : scale[c]) = name == "Sub" ? -(*k)[c] : 1.0 / (*k)[c];
  return ScaleConv(r, conv, scale, shift);
}

// conv(Pad(x)) with zeros around the spatial axes → conv with larger pads
Result<std::optional<ValueId>> FoldPad(Rewriter& r, const Match& m) {
  const dunlin::Node& conv = r.node(0);
  const dunlin::Node& pad = r.node(1);
  const Type& x = r.type(pad.inputs[0]);
  if (!x.ranked || x.dims.rank() < 3 || StringAttr(*pad.attrs, "mode").value_or("") != "constant")
    return std::nullopt;
  if (pad.inputs.size() > 3 && pad.inputs[3] != ValueId::kNone) return std::nullopt;
  if (pad.inputs.size() > 2 && pad.inputs[2] != ValueId::kNone &&
      UniformConstant(r.value(pad.inputs[2])) != 0.0)
    return std::nullopt;
  const GraphValue& amounts = r.value(pad.inputs[1]);
  if (!amounts.is_constant()) return std::nullopt;
  const auto pads = ToInts(amounts.constant);
  const int rank = x.dims.rank();
  if (!pads || int(pads->size()) != 2 * rank) return std::nullopt;
  for (int i = 0; i < 2 * rank; ++i)
    if ((*pads)[size_t(i)] < 0 || (i % rank < 2 && (*pads)[size_t(i)] != 0)) return std::nullopt;
  ConvAttrs a = As<ConvAttrs>(*conv.attrs);
  if (a.auto_pad != "NOTSET" && a.auto_pad != "VALID") return std::nullopt;
  if (a.auto_pad == "VALID" || a.pads.empty()) a.pads.assign(size_t(2 * (rank - 2)), 0);
  a.auto_pad = "NOTSET";
  for (int i = 0; i < rank - 2; ++i) {
    a.pads[size_t(i)] += (*pads)[size_t(i + 2)];
    a.pads[size_t(i + rank - 2)] += (*pads)[size_t(rank + i + 2)];
  }
  std::vector<ValueId> inputs = conv.inputs;
  inputs[0] = m.var(0);
  return r.NodeWith("Conv", std::move(inputs), MakeAttrs(a));
}

// ---- activations ----

}  // namespace

std::optional<ActivationParams> EpilogueOf(const Graph& g, const dunlin::Node& n) {
  const std::string_view op = n.op->name;
  const auto attr = [&](std::string_view name, float otherwise) {
    return FloatAttr(*n.attrs, name).value_or(otherwise);
  };
  if (op == "Relu") return ActivationParams{Activation::kRelu};
  if (op == "LeakyRelu") return ActivationParams{Activation::kLeakyRelu, attr("alpha", 0.01f)};
  if (op == "Sigmoid") return ActivationParams{Activation::kSigmoid};
  if (op == "Tanh") return ActivationParams{Activation::kTanh};
  if (op == "HardSigmoid")
    return ActivationParams{Activation::kHardSigmoid, attr("alpha", 0.2f), attr("beta", 0.5f)};
  if (op == "HardSwish") return ActivationParams{Activation::kHardSwish};
  if (op == "Swish" && attr("alpha", 1) == 1) return ActivationParams{Activation::kSilu};
  if (op == "Gelu")
    return ActivationParams{StringAttr(*n.attrs, "approximate").value_or("none") == "tanh"
                                ? Activation::kGeluTanh
                                : Activation::kGelu};
  if (op == "Clip") {
    ActivationParams e{Activation::kClip, -INFINITY, INFINITY};
    for (const size_t i : {size_t(1), size_t(2)}) {
      if (i >= n.inputs.size() || n.inputs[i] == ValueId::kNone) continue;
      const GraphValue& v = g.value(n.inputs[i]);
      if (!v.is_constant() || v.constant.count() != 1 || !IsF32(v.type)) return std::nullopt;
      (i == 1 ? e.a : e.b) = v.constant.as<float>()[0];
    }
    return e;
  }
  return std::nullopt;
}

namespace {

FusedConvAttrs AsFusedConv(const dunlin::Node& n) {
  if (n.op->name == kFusedConvName) return As<FusedConvAttrs>(*n.attrs);
  FusedConvAttrs f;
  static_cast<ConvAttrs&>(f) = As<ConvAttrs>(*n.attrs);
  return f;
}
FusedMatMulAttrs AsFusedMatMul(const dunlin::Node& n) {
  return n.op->name == kFusedMatMulName ? As<FusedMatMulAttrs>(*n.attrs) : FusedMatMulAttrs{};
}

// activation(conv(…)) → conv with that epilogue
Result<std::optional<ValueId>> FuseActivation(Rewriter& r, const Match&) {
  const dunlin::Node& act = r.node(0);
  const dunlin::Node& x = r.node(1);
  const auto e = EpilogueOf(r.g, act);
  if (!e || !IsF32(r.type(x.outputs[0]))) return std::nullopt;
  if (x.op->name == "Conv" || x.op->name == kFusedConvName) {
    FusedConvAttrs a = AsFusedConv(x);
    if (a.activation != 0) return std::nullopt;
    a.activation = int64_t(e->kind);
    a.act_a = e->a;
    a.act_b = e->b;
    return r.NodeWith("dunlin.FusedConv", x.inputs, MakeAttrs(a));
  }
  FusedMatMulAttrs a = AsFusedMatMul(x);
  if (a.activation != 0) return std::nullopt;
  a.activation = int64_t(e->kind);
  a.act_a = e->a;
  a.act_b = e->b;
  return r.NodeWith("dunlin.FusedMatMul", x.inputs, MakeAttrs(a));
}

// relu(BatchNormalization(x)) → one step, where x is no convolution that might take it all, now or
// when its shapes are known
Result<std::optional<ValueId>> FuseNormRelu(Rewriter& r, const Match& m) {
  const dunlin::Node& bn = r.node(1);
  const dunlin::Node* from = r.g.producer(m.var(0));
  const bool conv =
      from != nullptr && (from->op->name == "Conv" || from->op->name == "ConvTranspose");
  const bool taken = conv && r.g.UseCount(m.var(0)) == 1;
  if (taken || bn.outputs.size() != 1 || !IsF32(r.type(bn.outputs[0])) ||
      IntAttr(*bn.attrs, "training_mode").value_or(0) != 0)
    return std::nullopt;
  return r.NodeWith("dunlin.BatchNormRelu", bn.inputs, bn.attrs);
}

// conv(x) + y, y of the same shape and made before → conv with residual y
Result<std::optional<ValueId>> FuseResidual(Rewriter& r, const Match& m) {
  const dunlin::Node& x = r.node(1);
  const ValueId y = m.var(0);
  const Type& tx = r.type(x.outputs[0]);
  const Type& ty = r.type(y);
  if (!IsF32(tx) || !(tx == ty) || !tx.IsStatic() || r.value(y).is_constant()) return std::nullopt;
  const bool conv = x.op->name == "Conv" || x.op->name == kFusedConvName;
  std::vector<ValueId> inputs = x.inputs;
  inputs.resize(4, ValueId::kNone);
  if (inputs[3] != ValueId::kNone) return std::nullopt;
  // Of two products added together the one made later takes the other as residual.
  const dunlin::Node* other = r.g.producer(y);
  if (other != nullptr && other->position > x.position) return std::nullopt;
  inputs[3] = y;
  if (conv) {
    const FusedConvAttrs a = AsFusedConv(x);
    if (a.activation != 0) return std::nullopt;
    return r.NodeWith("dunlin.FusedConv", std::move(inputs), MakeAttrs(a));
  }
  const FusedMatMulAttrs a = AsFusedMatMul(x);
  if (a.activation != 0) return std::nullopt;
  return r.NodeWith("dunlin.FusedMatMul", std::move(inputs), MakeAttrs(a));
}

// ---- matrix products ----

// matmul(x, w) + constant vector → matmul with bias
Result<std::optional<ValueId>> FuseBias(Rewriter& r, const Match& m) {
  const dunlin::Node& x = r.node(1);
  const GraphValue& b = r.value(m.var(0));
  const Type& t = r.type(x.outputs[0]);
  if (!b.is_constant() || !IsF32(t) || !IsF32(b.type) || !t.ranked || t.dims.rank() < 2 ||
      !IsKnown(t.dims.back()))
    return std::nullopt;
  if (b.constant.count() != t.dims.back() || b.constant.rank() < 1 ||
      b.constant.rank() > t.dims.rank() || b.constant.dims().back() != t.dims.back())
    return std::nullopt;
  std::vector<ValueId> inputs = x.inputs;
  inputs.resize(std::max<size_t>(3, inputs.size()), ValueId::kNone);
  const FusedMatMulAttrs a = AsFusedMatMul(x);
  if (inputs[2] != ValueId::kNone || a.activation != 0) return std::nullopt;
  inputs[2] =
      b.constant.rank() == 1
          ? m.var(0)
          : r.g.AddConstant(b.name + "/bias", b.constant.Reshaped(Dims{b.constant.count()}));
  return r.NodeWith("dunlin.FusedMatMul", std::move(inputs), MakeAttrs(a));
}

// matmul(x, y) * k or / k → matmul with alpha, before any bias
Result<std::optional<ValueId>> FuseScale(Rewriter& r, const Match& m) {
  const dunlin::Node& op = r.node(0);
  const dunlin::Node& x = r.node(1);
  const auto k = UniformConstant(r.value(m.var(0)));
  if (!k || r.value(m.var(0)).constant.count() != 1 || !IsF32(r.type(x.outputs[0])) ||
      !std::isfinite(*k))
    return std::nullopt;
  if (r.value(m.var(0)).constant.rank() > r.type(x.outputs[0]).dims.rank() ||
      !r.type(x.outputs[0]).ranked)
    return std::nullopt;
  if (op.op->name == "Div" && (op.inputs[0] == m.var(0) || *k == 0)) return std::nullopt;
  FusedMatMulAttrs a = AsFusedMatMul(x);
  if (a.activation != 0 || x.inputs.size() > 2) return std::nullopt;
  a.alpha = float(op.op->name == "Div" ? double(a.alpha) / *k : double(a.alpha) * *k);
  return r.NodeWith("dunlin.FusedMatMul", x.inputs, MakeAttrs(a));
}

// Gemm with a vector bias (or none) → FusedMatMul
Result<std::optional<ValueId>> GemmToMatMul(Rewriter& r, const Match&) {
  const dunlin::Node& n = r.node(0);
  const GemmAttrs& a = As<GemmAttrs>(*n.attrs);
  if (!IsF32(r.type(n.inputs[0])) || !r.type(n.outputs[0]).ranked) return std::nullopt;
  std::vector<ValueId> inputs = {n.inputs[0], n.inputs[1]};
  if (n.inputs.size() > 2 && n.inputs[2] != ValueId::kNone) {
    const GraphValue& c = r.value(n.inputs[2]);
    const int64_t N = r.type(n.outputs[0]).dims.back();
    if (a.beta != 1 || !c.is_constant() || !IsKnown(N) || c.constant.count() != N ||
        c.constant.dims().empty() || c.constant.dims().back() != N)
      return std::nullopt;
    inputs.push_back(c.constant.rank() == 1
                         ? n.inputs[2]
                         : r.g.AddConstant(c.name + "/bias", c.constant.Reshaped(Dims{N})));
  }
  FusedMatMulAttrs f;
  f.trans_a = a.trans_a;
  f.trans_b = a.trans_b;
  f.alpha = a.alpha;
  return r.NodeWith("dunlin.FusedMatMul", std::move(inputs), MakeAttrs(f));
}

// matmul(a, transpose(b)): the swap of the last two axes is the product's own business
Result<std::optional<ValueId>> FuseTranspose(Rewriter& r, const Match& m) {
  const dunlin::Node& x = r.node(0);
  const dunlin::Node& t = r.node(1);
  auto perm = IntsAttr(*t.attrs, "perm");
  if (!perm || perm->size() < 2 || !IsF32(r.type(x.outputs[0])) || x.inputs.size() > 4)
    return std::nullopt;
  // Only when without the swap the innermost axis stays innermost: then what is left is cheap or
  // nothing.
  if ((*perm)[perm->size() - 2] != int64_t(perm->size()) - 1) return std::nullopt;
  std::swap((*perm)[perm->size() - 2], (*perm)[perm->size() - 1]);
  FusedMatMulAttrs a = AsFusedMatMul(x);
  a.trans_b = !a.trans_b;
  ValueId b = m.var(1);
  bool identity = true;
  for (size_t i = 0; i < perm->size(); ++i) identity &= (*perm)[i] == int64_t(i);
  if (!identity) {
    const std::string name = t.name + "/heads";
    const double position = t.position;
    dunlin::Node& n = r.g.AddNode(OpNamed("Transpose"),
                                  AttrsWith(OpNamed("Transpose"), {{"perm", *perm}}), {b}, name);
    n.position = position;
    TRY(InferNode(r.g, n));
    b = n.outputs[0];
  }
  std::vector<ValueId> inputs = r.node(0).inputs;
  inputs[1] = b;
  return r.NodeWith("dunlin.FusedMatMul", std::move(inputs), MakeAttrs(a));
}

}  // namespace

std::span<const Rule> ConvolutionRules() {
  static const Rule rules[] = {
      {"conv-batchnorm",
       OpMore({"BatchNormalization"}, {OpMore({"Conv", "ConvTranspose"}, {Var(0)}, 1)}, 0),
       FoldBatchNorm},
      {"conv-constant",
       Op({"Mul", "Add"}, {OpMore({"Conv", "ConvTranspose"}, {Var(0)}, 1), Var(3)}, 0),
       FoldChannelConstant},
      {"conv-constant-2",
       Op({"Sub", "Div"}, {OpMore({"Conv", "ConvTranspose"}, {Var(0)}, 1), Var(3)}, 0),
       FoldChannelConstant},
      {"pad-conv", OpMore({"Conv"}, {OpMore({"Pad"}, {Var(0)}, 1)}, 0), FoldPad},
  };
  return rules;
}

std::span<const Rule> ProductRules() {
  static const Rule rules[] = {
      {"gemm-matmul", OpMore({"Gemm"}, {Var(0)}, 0), GemmToMatMul},
      {"matmul-bias", Op("Add", {OpMore({"MatMul", "dunlin.FusedMatMul"}, {Var(2)}, 1), Var(0)}, 0),
       FuseBias},
      {"matmul-scale",
       Op({"Mul", "Div"}, {OpMore({"MatMul", "dunlin.FusedMatMul"}, {Var(2)}, 1), Var(0)}, 0),
       FuseScale},
      {"matmul-transpose",
       OpMore({"MatMul", "dunlin.FusedMatMul"}, {Var(0), Op("Transpose", {Var(1)}, 1)}, 0),
       FuseTranspose},
  };
  return rules;
}

std::span<const Rule> EpilogueRules() {
  static const Rule rules[] = {
      {"residual",
       Op("Add",
          {OpMore({"Conv", "dunlin.FusedConv", "MatMul", "dunlin.FusedMatMul"}, {Var(2)}, 1),
           Var(0)},
          0),
       FuseResidual},
      {"residual-second",
       Op("Add",
          {Var(0),
           OpMore({"Conv", "dunlin.FusedConv", "MatMul", "dunlin.FusedMatMul"}, {Var(2)}, 1)},
          0),
       FuseResidual},
      {"activation",
       OpMore({"Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Swish", "Gelu",
               "Clip"},
              {OpMore({"Conv", "dunlin.FusedConv", "MatMul", "dunlin.FusedMatMul"}, {Var(2)}, 1)},
              0),
       FuseActivation},
      {"batchnorm-relu", OpMore({"Relu"}, {OpMore({"BatchNormalization"}, {Var(0)}, 1)}, 0),
       FuseNormRelu},
  };
  return rules;
}

}  // namespace dunlin
