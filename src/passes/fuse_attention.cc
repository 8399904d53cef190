// softmax(Q K^T) V as exporters write it, into one step; then the transposes around it.
#include <algorithm>
#include <cmath>

#include "ops/attention/attention.h"
#include "passes/fuse.h"

namespace dunlin {
namespace {

constexpr std::string_view kFused = "dunlin.Attention";

using Perm = std::vector<int64_t>;

bool IsStaticF32(const Type& t, int rank = 4) {
  return t.IsStatic() && t.dtype == DType::kF32 && t.dims.rank() == rank;
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

// A node beside the one that is being replaced.
Result<ValueId> AddBeside(Rewriter& r, std::string_view op, std::vector<ValueId> inputs,
                          const std::string& name, const AttrSettings& attrs = {}) {
  const double position = r.node(0).position;
  dunlin::Node& n =
      r.g.AddNode(OpNamed(op), AttrsWith(OpNamed(op), attrs), std::move(inputs), name);
  n.position = position;
  TRY(InferNode(r.g, n));
  return n.outputs[0];
}

// x [N, S, D] as [1, N, S, D]. A transpose or a scale by one number that made x stays the last
// step, so that the rules for those find it.
Result<ValueId> WithBatch(Rewriter& r, ValueId x) {
  const std::string name = r.value(x).name + "/heads";
  const NodeId made_by = r.value(x).producer;
  if (made_by != NodeId::kNone && r.g.UseCount(x) == 1) {
    const dunlin::Node& made = r.g.node(made_by);
    if (made.op->name == "Transpose" && made.op->domain.empty()) {
      Perm perm = {0};
      for (const int64_t axis : IntsAttr(*made.attrs, "perm").value_or(Perm()))
        perm.push_back(axis + 1);
      if (perm.size() == 4)
        return AddBeside(r, "Transpose", {TRY(WithBatch(r, made.inputs[0]))}, name,
                         {{"perm", perm}});
    }
    const bool scales =
        made.op->domain.empty() && (made.op->name == "Mul" || made.op->name == "Div");
    if (scales && r.value(made.inputs[1]).is_constant() &&
        r.value(made.inputs[1]).constant.count() == 1 && r.type(made.inputs[0]) == r.type(x))
      return AddBeside(r, made.op->name, {TRY(WithBatch(r, made.inputs[0])), made.inputs[1]}, name);
  }
  const Dims& d = r.type(x).dims;
  const std::vector<int64_t> to = {1, d[0], d[1], d[2]};
  const ValueId shape = r.g.AddConstant(name + "/shape", Tensor::Ints(to));
  return AddBeside(r, "Reshape", {x, shape}, name);
}

// Nodes: 0 the product with V, 1 the softmax, 2 the scores, 3 what applies the mask. Values: 0 Q,
// 1 K, 2 V, 3 the mask, 4 the fill.
template <MaskKind kMask>
Result<std::optional<ValueId>> MakeAttention(Rewriter& r, const Match& m) {
  const dunlin::Node& scores = r.node(2);
  const Type &q = r.type(m.var(0)), &k = r.type(m.var(1)), &v = r.type(m.var(2));
  const Type s = r.type(scores.outputs[0]);  // a copy: values may move when one is added
  const int rank = s.dims.rank();            // 3 where batch and heads are one extent
  if (rank != 3 && rank != 4) return std::nullopt;
  for (const Type* t : {&q, &k, &v, &s})
    if (!IsStaticF32(*t, rank)) return std::nullopt;
  if (!IsPlainProduct(scores, true) || !IsPlainProduct(r.node(0), false) ||
      FloatAttr(*r.node(0).attrs, "alpha").value_or(1) != 1)
    return std::nullopt;
  // Batches that repeat are left to the products; one head of keys and values may serve all.
  const size_t heads = size_t(rank) - 3;
  if (q.dims[0] != k.dims[0] || q.dims[0] != v.dims[0] || k.dims[heads] != v.dims[heads] ||
      (k.dims[heads] != q.dims[heads] && k.dims[heads] != 1))
    return std::nullopt;
  const int64_t axis = IntAttr(*r.node(1).attrs, "axis").value_or(-1);
  if (axis != -1 && axis != rank - 1) return std::nullopt;
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
  if (r.node(1).inputs.size() > 1) {
    if (q.dims[0] != 1 && rank == 4) return std::nullopt;
    inputs.resize(4, ValueId::kNone);
    inputs.push_back(r.node(1).inputs[1]);  // the offsets of segments
  }
  const bool transposed = IntAttr(*scores.attrs, "trans_b").value_or(0) != 0;
  const AttrSettings settings = {
      {"scale", FloatAttr(*scores.attrs, "alpha").value_or(1)},
      {"k_order", int64_t(transposed ? HeadOrder::kHeadsFirst : HeadOrder::kWidthFirst)},
      {"fill", fill}};
  if (rank == 4) return r.Node(kFused, std::move(inputs), settings);
  for (size_t i = 0; i < 3; ++i) inputs[i] = TRY(WithBatch(r, inputs[i]));
  const GraphValue& y = r.value(r.node(0).outputs[0]);
  const std::string name = y.name;
  const ValueId shape =
      r.g.AddConstant(name + "/shape", Tensor::Ints(Perm(y.type.dims.begin(), y.type.dims.end())));
  return r.Node("Reshape",
                {TRY(AddBeside(r, kFused, std::move(inputs), name + "/heads", settings)), shape});
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

// Transpose(Reshape(Attention(…))) where the reshape only drops a batch of one: nodes 0, 2, 1.
Result<std::optional<ValueId>> GiveTransposedHeads(Rewriter& r, const Match&) {
  const dunlin::Node& attention = r.node(1);
  const Dims from = r.type(attention.outputs[0]).dims;
  const Type& to = r.type(r.node(2).outputs[0]);
  if (from[0] != 1 || !IsStaticF32(to, 3) || !(to.dims == Dims{from[1], from[2], from[3]}) ||
      IntsAttr(*r.node(0).attrs, "perm").value_or(Perm()) != Perm{1, 0, 2} ||
      *IntAttr(*attention.attrs, "y_order") != int64_t(HeadOrder::kHeadsFirst))
    return std::nullopt;
  const std::string name = r.value(attention.outputs[0]).name + "/rows";
  const AttrSettings settings =
      With(SettingsOf(*attention.attrs), "y_order", int64_t(HeadOrder::kRowsFirst));
  const ValueId y = TRY(AddBeside(r, kFused, attention.inputs, name, settings));
  const ValueId shape =
      r.g.AddConstant(name + "/shape", Tensor::Ints(Perm{from[2], from[1], from[3]}));
  return r.Node("Reshape", {y, shape});
}

std::vector<Rule> MakeRules() {
  const auto product = [](Pat a, Pat b, int bind) {
    return Op({"MatMul", "dunlin.FusedMatMul"}, {std::move(a), std::move(b)}, bind);
  };
  const Pat scores = product(Var(0), Var(1), 2);
  const auto whole = [&](Pat masked) {
    return product(OpMore({"Softmax", "dunlin.SegmentSoftmax"}, {std::move(masked)}, 1), Var(2), 0);
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
      {"attention-result-heads",
       Op("Transpose", {Op("Reshape", {OpMore({kFused}, {Var(0)}, 1), Var(5)}, 2)}, 0),
       GiveTransposedHeads},
  };
}

}  // namespace

std::span<const Rule> AttentionRules() {
  static const std::vector<Rule> rules = MakeRules();
  return rules;
}

}  // namespace dunlin
