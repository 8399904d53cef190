// The engine's own operators (domain "dunlin") by standard ones.
#include <algorithm>

#include "formats/onnx/export_expand.h"
#include "ops/attention/attention.h"
#include "ops/conv/conv.h"
#include "ops/matmul/matmul.h"
#include "ops/movement/shuffle.h"

namespace dunlin::onnx_export {
namespace {

ValueId Activate(ExpandContext& c, ValueId x, const FusedConvAttrs& a) {
  const DType t = c.type(x).dtype;
  switch (Activation(a.activation)) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return c.Op("Relu", {x});
    case Activation::kClip:
      return c.Op("Clip", {x, c.Number(double(a.act_a), t), c.Number(double(a.act_b), t)});
    case Activation::kLeakyRelu:
      return c.Op("LeakyRelu", {x}, {{"alpha", a.act_a}});
    case Activation::kSigmoid:
      return c.Op("Sigmoid", {x});
    case Activation::kTanh:
      return c.Op("Tanh", {x});
    case Activation::kSilu:
      return c.Op("Mul", {x, c.Op("Sigmoid", {x})});
    case Activation::kHardSigmoid:
      return c.Op("HardSigmoid", {x}, {{"alpha", a.act_a}, {"beta", a.act_b}});
    case Activation::kHardSwish:
      return c.Op("HardSwish", {x});
    case Activation::kGelu:
      return c.Op("Gelu", {x});
    case Activation::kGeluTanh:
      return c.Op("Gelu", {x}, {{"approximate", std::string("tanh")}});
  }
  return x;
}

ValueId AddIfGiven(ExpandContext& c, ValueId x, ValueId y) {
  return y == ValueId::kNone ? x : c.Op("Add", {x, y});
}

bool FusedConv(ExpandContext& c) {
  const FusedConvAttrs a = As<FusedConvAttrs>(*c.node().attrs);
  AttrMap attrs = WrittenAttrs(c.node());
  for (const char* own : {"activation", "act_a", "act_b"}) attrs.erase(own);
  const ValueId residual = c.In(3);
  std::vector<ValueId> in = {c.In(0), c.In(1)};
  if (c.In(2) != ValueId::kNone) in.push_back(c.In(2));
  const ValueId y = AddIfGiven(c, c.Op("Conv", std::move(in), attrs), residual);
  return c.Become(Activate(c, y, a));
}

// With its last two extents swapped; kNone: the rank is not known.
ValueId Swapped(ExpandContext& c, ValueId x) {
  if (!c.type(x).ranked || c.type(x).dims.rank() < 2) return ValueId::kNone;
  std::vector<int64_t> perm(c.type(x).dims.size());
  for (size_t i = 0; i < perm.size(); ++i) perm[i] = int64_t(i);
  std::swap(perm[perm.size() - 2], perm.back());
  return c.Op("Transpose", {x}, {{"perm", perm}});
}

bool FusedMatMul(ExpandContext& c) {
  const FusedMatMulAttrs m = As<FusedMatMulAttrs>(*c.node().attrs);
  const ValueId bias = c.In(2), residual = c.In(3);
  const ValueId a = m.trans_a ? Swapped(c, c.In(0)) : c.In(0);
  const ValueId b = m.trans_b ? Swapped(c, c.In(1)) : c.In(1);
  if (a == ValueId::kNone || b == ValueId::kNone) return c.No("an operand of unknown rank");
  ValueId y = c.Op("MatMul", {a, b});
  if (!c.status) return false;
  if (m.alpha != 1) {
    const DType t = c.type(y).dtype;
    if (!IsFloat(t)) return c.No("a factor of an element type that is not known");
    y = c.Op("Mul", {y, c.Number(double(m.alpha), t)});
  }
  FusedConvAttrs activation;
  activation.activation = m.activation;
  activation.act_a = m.act_a;
  activation.act_b = m.act_b;
  y = AddIfGiven(c, AddIfGiven(c, y, bias), residual);
  return c.status && c.Become(Activate(c, y, activation));
}

bool BatchNormRelu(ExpandContext& c) {
  const AttrMap attrs = WrittenAttrs(c.node());
  const std::vector<ValueId> in = c.node().inputs;
  return c.Become(c.Op("Relu", {c.Op("BatchNormalization", in, attrs)}));
}

// [N, groups, C/groups, …] with the two in the middle swapped.
bool Shuffle(ExpandContext& c) {
  const int64_t groups = As<ChannelShuffle::Attrs>(*c.node().attrs).groups;
  const Type y = c.type(c.node().outputs[0]);
  if (!y.IsStatic() || y.dims.rank() < 2 || groups < 1) return c.No("extents that are not known");
  const std::vector<ValueId> in = c.node().inputs;
  const ValueId all = in.size() == 1 ? in[0] : c.Op("Concat", in, {{"axis", int64_t{1}}});
  std::vector<int64_t> apart = {y.dims[0], groups, y.dims[1] / groups}, perm = {0, 2, 1};
  for (size_t i = 2; i < y.dims.size(); ++i) {
    apart.push_back(y.dims[i]);
    perm.push_back(int64_t(i) + 1);
  }
  const ValueId turned =
      c.Op("Transpose", {c.Op("Reshape", {all, c.Ints(apart)})}, {{"perm", perm}});
  return c.Become(
      c.Op("Reshape", {turned, c.Ints(std::vector<int64_t>(y.dims.begin(), y.dims.end()))}));
}

// As [B, H, S, D], or back.
ValueId Ordered(ExpandContext& c, ValueId x, int64_t order) {
  if (HeadOrder(order) == HeadOrder::kHeadsFirst) return x;
  const bool width = HeadOrder(order) == HeadOrder::kWidthFirst;
  return c.Op(
      "Transpose", {x},
      {{"perm", width ? std::vector<int64_t>{0, 1, 3, 2} : std::vector<int64_t>{0, 2, 1, 3}}});
}

// Each head of [B, KH, T, D] as often as there are heads of queries for it.
ValueId Repeated(ExpandContext& c, ValueId x, int64_t heads) {
  if (!c.status) return x;
  const Dims d = c.type(x).dims;
  if (d[1] == heads) return x;
  const ValueId apart = c.Op("Reshape", {x, c.Ints({d[0], d[1], 1, d[2], d[3]})});
  const ValueId wide = c.Op("Expand", {apart, c.Ints({d[0], d[1], heads / d[1], d[2], d[3]})});
  return c.Op("Reshape", {wide, c.Ints({d[0], heads, d[2], d[3]})});
}

bool Attention(ExpandContext& c) {
  const AttentionAttrs a = As<AttentionAttrs>(*c.node().attrs);
  const ValueId mask = c.In(3);
  for (size_t i = 0; i < 3; ++i)
    if (!c.type(c.In(i)).IsStatic() || c.type(c.In(i)).dims.rank() != 4)
      return c.No("extents that are not known");
  const DType t = c.type(c.In(0)).dtype;
  const ValueId q = Ordered(c, c.In(0), a.q_order);
  if (!c.status) return false;
  const int64_t heads = c.type(q).dims[1];
  const ValueId k = Repeated(c, Ordered(c, c.In(1), a.k_order), heads);
  const ValueId v = Repeated(c, Ordered(c, c.In(2), a.v_order), heads);
  ValueId scores = c.Op("MatMul", {q, Ordered(c, k, int64_t(HeadOrder::kWidthFirst))});
  scores = c.Op("Mul", {scores, c.Number(double(a.scale), t)});
  if (mask != ValueId::kNone)
    scores = c.type(mask).dtype == DType::kBool
                 ? c.Op("Where", {mask, c.Number(double(a.fill), t), scores})
                 : c.Op("Add", {scores, mask});
  const ValueId y = c.Op("MatMul", {c.Op("Softmax", {scores}, {{"axis", int64_t{-1}}}), v});
  return c.Become(Ordered(c, y, a.y_order));
}

constexpr Expansion kFused[] = {
    {"FusedConv", "dunlin", FusedConv},         {"FusedMatMul", "dunlin", FusedMatMul},
    {"BatchNormRelu", "dunlin", BatchNormRelu}, {"ChannelShuffle", "dunlin", Shuffle},
    {"Attention", "dunlin", Attention},
};

}  // namespace

std::span<const Expansion> FusedExpansions() { return kFused; }

}  // namespace dunlin::onnx_export
