// softmax(Q K^T) V as exporters write it, into one step; then the transposes around it.
#include <algorithm>
#include <cmath>

#include "ops/attention/attention.h"
#include "passes/fuse.h"

namespace dunlin {
namespace {

constexpr std::string_view kFused = "dunlin.Attention";

bool IsStaticF32(const Type& t) {
  return t.IsStatic() && t.dtype == DType::kF32 && t.dims.rank() == 4;
}
bool IsPlainProduct(const dunlin::Node& n, bool trans_b_allowed) {
  return IntAttr(*n.attrs, "trans_a").value_or(0) == 0 &&
         (trans_b_allowed || IntAttr(*n.attrs, "trans_b").value_or(0) == 0) &&
         IntAttr(*n.attrs, "activation").value_or(0) == 0;
}
// Broadcasts to the scores without enlarging them.
bool FitsScores(const Type& mask, const Type& scores) {
  if (!mask.IsStatic()) return false;
  const auto both = Broadcast(scores.dims, mask.dims);
  return both && *both == scores.dims;
}

// A filled mask is true where the scores give way, a kept one where they stay.
enum class MaskKind { kNone, kAdded, kFilled, kKept };

// true where the mask is false.
Result<ValueId> Negated(Rewriter& r, ValueId mask) {
  const GraphValue& value = r.value(mask);
  const std::string name = value.name + "/holes";
  if (value.is_constant()) {
    Tensor holes = TRY(Tensor::Create(DType::kBool, value.constant.dims()));
    for (int64_t i = 0; i < holes.count(); ++i)
      holes.mut<bool>()[i] = !value.constant.as<bool>()[i];
    return r.g.AddConstant(name, std::move(holes));
  }
  const double position = r.node(0).position;
  dunlin::Node& n = r.g.AddNode(OpNamed("Not"), AttrsWith(OpNamed("Not"), {}), {mask}, name);
  n.position = position;
  TRY(InferNode(r.g, n));
  return n.outputs[0];
}

// A constant mask that puts a number far below all scores in places, as one to be added; nullopt
// when a row has no other place, where the softmax would see the difference.
std::optional<Tensor> AsAdded(const Tensor& mask, float fill) {
  constexpr float kFarBelow = -1e4f;
  const int64_t n = mask.dims().back();
  if (fill > kFarBelow || n == 0) return std::nullopt;
  auto added = Tensor::Create(DType::kF32, mask.dims());
  if (!added) return std::nullopt;
  const bool* const from = mask.as<bool>();
  for (int64_t i = 0; i < mask.count(); i += n) {
    if (std::all_of(from + i, from + i + n, [](bool b) { return b; })) return std::nullopt;
    for (int64_t j = i; j < i + n; ++j) added->mut<float>()[j] = from[j] ? fill : 0;
  }
  return std::move(*added);
}

// Nodes: 0 the product with V, 1 the softmax, 2 the scores, 3 what applies the mask. Values: 0 Q,
// 1 K, 2 V, 3 the mask, 4 the fill.
template <MaskKind kMask>
Result<std::optional<ValueId>> MakeAttention(Rewriter& r, const Match& m) {
  const dunlin::Node& scores = r.node(2);
  const Type &q = r.type(m.var(0)), &k = r.type(m.var(1)), &v = r.type(m.var(2));
  const Type s = r.type(scores.outputs[0]);  // a copy: values may move when one is added
  if (!IsStaticF32(q) || !IsStaticF32(k) || !IsStaticF32(v) || !IsStaticF32(s)) return std::nullopt;
  if (!IsPlainProduct(scores, true) || !IsPlainProduct(r.node(0), false) ||
      FloatAttr(*r.node(0).attrs, "alpha").value_or(1) != 1)
    return std::nullopt;
  // Batches that repeat are left to the products; one head of keys and values may serve all.
  if (q.dims[0] != k.dims[0] || q.dims[0] != v.dims[0] || k.dims[1] != v.dims[1] ||
      (k.dims[1] != q.dims[1] && k.dims[1] != 1))
    return std::nullopt;
  const int64_t axis = IntAttr(*r.node(1).attrs, "axis").value_or(-1);
  if (axis != -1 && axis != 3) return std::nullopt;
  std::vector<ValueId> inputs = {m.var(0), m.var(1), m.var(2)};
  float fill = 0;
  if constexpr (kMask != MaskKind::kNone) {
    const Type& mask = r.type(m.var(3));
    const DType wanted = kMask == MaskKind::kAdded ? DType::kF32 : DType::kBool;
    if (mask.dtype != wanted || !FitsScores(mask, s)) return std::nullopt;
    inputs.push_back(m.var(3));
  }
  if constexpr (kMask == MaskKind::kFilled || kMask == MaskKind::kKept) {
    const auto value = UniformConstant(r.value(m.var(4)));
    if (!value || !FitsScores(r.type(m.var(4)), s)) return std::nullopt;
    fill = float(*value);
    if (kMask == MaskKind::kKept) inputs.back() = TRY(Negated(r, m.var(3)));
    const GraphValue& mask = r.value(inputs.back());
    if (mask.is_constant() && mask.type.dims.rank() > 0 && mask.type.dims.back() == s.dims.back())
      if (const auto added = AsAdded(mask.constant, fill))
        inputs.back() = r.g.AddConstant(mask.name + "/added", *added);
  }
  const bool transposed = IntAttr(*scores.attrs, "trans_b").value_or(0) != 0;
  return r.Node(kFused, std::move(inputs),
                {{"scale", FloatAttr(*scores.attrs, "alpha").value_or(1)},
                 {"k_order", int64_t(transposed ? HeadOrder::kHeadsFirst : HeadOrder::kWidthFirst)},
                 {"fill", fill}});
}

AttrSettings SettingsOf(const Attrs& a) {
  AttrSettings settings = {{"scale", *FloatAttr(a, "scale")}, {"fill", *FloatAttr(a, "fill")}};
  for (const std::string_view order : {"q_order", "k_order", "v_order", "y_order"})
    settings.emplace_back(order, *IntAttr(a, order));
  return settings;
}
AttrSettings With(AttrSettings settings, std::string_view name, AttrSetting to) {
  for (auto& [key, value] : settings)
    if (key == name) value = to;
  return settings;
}

using Perm = std::vector<int64_t>;
const Perm kSwapRowsAndHeads = {0, 2, 1, 3};

// Attention(…, Transpose(x), …): node 0 and its operand's node 1.
template <int kInput>
Result<std::optional<ValueId>> TakeTranspose(Rewriter& r, const Match&) {
  static constexpr std::string_view kNames[] = {"q_order", "k_order", "v_order"};
  const dunlin::Node& attention = r.node(0);
  const dunlin::Node& transpose = r.node(1);
  const Perm perm = IntsAttr(*transpose.attrs, "perm").value_or(Perm());
  const auto order = HeadOrder(*IntAttr(*attention.attrs, kNames[kInput]));
  HeadOrder taken;
  if (order == HeadOrder::kHeadsFirst && perm == kSwapRowsAndHeads)
    taken = HeadOrder::kRowsFirst;
  else if (order == HeadOrder::kWidthFirst && perm == Perm{0, 2, 3, 1})
    taken = HeadOrder::kRowsFirst;
  else if (order == HeadOrder::kWidthFirst && perm == Perm{0, 1, 3, 2})
    taken = HeadOrder::kHeadsFirst;
  else
    return std::nullopt;
  std::vector<ValueId> inputs = attention.inputs;
  inputs[kInput] = transpose.inputs[0];
  return r.Node(kFused, std::move(inputs),
                With(SettingsOf(*attention.attrs), kNames[kInput], int64_t(taken)));
}

// Attention(q, Reshape(Expand(Unsqueeze(k))), the same of v), which repeats every head of keys and
// values for a group of queries. Nodes: 0 the attention, 1 and 2 the expansions of k and v. Values:
// 5 k, 8 v.
Result<std::optional<ValueId>> TakeGroups(Rewriter& r, const Match& m) {
  const dunlin::Node& attention = r.node(0);
  for (const std::string_view order : {"k_order", "v_order"})
    if (*IntAttr(*attention.attrs, order) != int64_t(HeadOrder::kHeadsFirst)) return std::nullopt;
  std::vector<ValueId> inputs = attention.inputs;
  for (const int i : {1, 2}) {
    const ValueId from = m.var(i == 1 ? 5 : 8);
    const Type &x = r.type(from), &repeated = r.type(inputs[size_t(i)]),
               &expanded = r.type(r.node(i).outputs[0]), &before = r.type(r.node(i).inputs[0]);
    if (!IsStaticF32(x) || !IsStaticF32(repeated) || expanded.dims.rank() != 5) return std::nullopt;
    const Dims &d = x.dims, &e = expanded.dims;
    if (!(before.dims == Dims{d[0], d[1], 1, d[2], d[3]}) ||
        !(e == Dims{d[0], d[1], e[2], d[2], d[3]}) ||
        !(repeated.dims == Dims{d[0], d[1] * e[2], d[2], d[3]}))
      return std::nullopt;
    inputs[size_t(i)] = from;
  }
  if (r.type(inputs[1]).dims[1] != r.type(inputs[2]).dims[1]) return std::nullopt;
  return r.Node(kFused, std::move(inputs), SettingsOf(*attention.attrs));
}

// Attention(…, x * c, …) or x / c, as exporters of scaled_dot_product_attention write it, half of
// the scale on the queries and half on the keys: node 0 and its operand's node 1.
template <int kInput>
Result<std::optional<ValueId>> TakeScale(Rewriter& r, const Match&) {
  const dunlin::Node& attention = r.node(0);
  const dunlin::Node& op = r.node(1);
  const bool divides = op.op->name == "Div";
  for (const size_t at : {size_t(1), size_t(0)}) {
    const GraphValue& c = r.value(op.inputs[at]);
    const ValueId x = op.inputs[1 - at];
    const auto value = UniformConstant(c);
    if (!value || c.constant.count() != 1 || (divides && at == 0) ||
        !(r.type(x) == r.type(op.outputs[0])))
      continue;
    const float scale = *FloatAttr(*attention.attrs, "scale");
    const float scaled = float(divides ? double(scale) / *value : double(scale) * *value);
    if (!std::isfinite(scaled)) return std::nullopt;
    std::vector<ValueId> inputs = attention.inputs;
    inputs[kInput] = x;
    return r.Node(kFused, std::move(inputs), With(SettingsOf(*attention.attrs), "scale", scaled));
  }
  return std::nullopt;
}

// Transpose(Attention(…)).
Result<std::optional<ValueId>> GiveTransposed(Rewriter& r, const Match&) {
  const dunlin::Node& attention = r.node(1);
  if (IntsAttr(*r.node(0).attrs, "perm").value_or(Perm()) != kSwapRowsAndHeads ||
      *IntAttr(*attention.attrs, "y_order") != int64_t(HeadOrder::kHeadsFirst))
    return std::nullopt;
  return r.Node(kFused, attention.inputs,
                With(SettingsOf(*attention.attrs), "y_order", int64_t(HeadOrder::kRowsFirst)));
}

std::vector<Rule> MakeRules() {
  const auto product = [](Pat a, Pat b, int bind) {
    return Op({"MatMul", "dunlin.FusedMatMul"}, {std::move(a), std::move(b)}, bind);
  };
  const Pat scores = product(Var(0), Var(1), 2);
  const auto whole = [&](Pat masked) {
    return product(Op("Softmax", {std::move(masked)}, 1), Var(2), 0);
  };
  const Pat transposed = Op("Transpose", {Var(5)}, 1);
  const auto repeated = [](int bind, int var) {
    const Pat spread = Op({"Unsqueeze", "Reshape"}, {Var(var), Var(var + 1)});
    return Op("Reshape", {Op("Expand", {spread, Var(var + 2)}, bind), Var(bind)});
  };
  const Pat scaled = Op({"Mul", "Div"}, {Var(5), Var(6)}, 1);
  return {
      {"attention-mask", whole(Op("Add", {scores, Var(3)}, 3)), MakeAttention<MaskKind::kAdded>},
      {"attention-fill", whole(Op("Where", {Var(3), Var(4), scores}, 3)),
       MakeAttention<MaskKind::kFilled>},
      {"attention-keep", whole(Op("Where", {Var(3), scores, Var(4)}, 3)),
       MakeAttention<MaskKind::kKept>},
      {"attention", whole(scores), MakeAttention<MaskKind::kNone>},
      {"attention-scaled-queries", OpMore({kFused}, {scaled}, 0), TakeScale<0>},
      {"attention-scaled-keys", OpMore({kFused}, {Var(0), scaled}, 0), TakeScale<1>},
      {"attention-queries", OpMore({kFused}, {transposed}, 0), TakeTranspose<0>},
      {"attention-keys", OpMore({kFused}, {Var(0), transposed}, 0), TakeTranspose<1>},
      {"attention-values", OpMore({kFused}, {Var(0), Var(1), transposed}, 0), TakeTranspose<2>},
      {"attention-groups", OpMore({kFused}, {Var(0), repeated(1, 5), repeated(2, 8)}, 0),
       TakeGroups},
      {"attention-result", Op("Transpose", {OpMore({kFused}, {Var(0)}, 1)}, 0), GiveTransposed},
  };
}

}  // namespace

std::span<const Rule> AttentionRules() {
  static const std::vector<Rule> rules = MakeRules();
  return rules;
}

}  // namespace dunlin
