// What does nothing goes; what is computed twice is computed once.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "passes/passes.h"
#include "passes/pattern.h"

namespace dunlin {
namespace {

// Extents that are certainly equal when the model runs.
bool SameShape(const Type& a, const Type& b) {
  if (a.kind != Type::Kind::kTensor || b.kind != Type::Kind::kTensor || !a.ranked || !b.ranked ||
      a.dims != b.dims)
    return false;
  return std::find(a.dims.begin(), a.dims.end(), kUnknownDim) == a.dims.end();
}
bool SameType(const Type& a, const Type& b) {
  return a.dtype == b.dtype && a.dtype != DType::kUndefined && SameShape(a, b);
}

// The input that the node's output 0 always equals, or kNone.
ValueId PassedThrough(const Graph& g, const Node& n) {
  if (n.inputs.empty() || n.inputs[0] == ValueId::kNone || !n.op->domain.empty())
    return ValueId::kNone;
  for (size_t o = 1; o < n.outputs.size(); ++o)
    if (n.outputs[o] != ValueId::kNone && g.UseCount(n.outputs[o]) > 0) return ValueId::kNone;
  const ValueId x = n.inputs[0];
  const Type& in = g.value(x).type;
  const Type& out = g.value(n.outputs[0]).type;
  const std::string_view op = n.op->name;
  const auto literal = [&](size_t i) -> std::optional<double> {
    return i < n.inputs.size() && n.inputs[i] != ValueId::kNone
               ? UniformConstant(g.value(n.inputs[i]))
               : std::nullopt;
  };

  if (op == "Identity") return x;
  if (op == "Dropout") {
    const bool training =
        n.inputs.size() > 2 && n.inputs[2] != ValueId::kNone && literal(2).value_or(1) != 0;
    return training ? ValueId::kNone : x;
  }
  if (op == "Cast" || op == "CastLike")
    return in.dtype == out.dtype && in.dtype != DType::kUndefined ? x : ValueId::kNone;
  if (op == "Concat" || op == "Sum" || op == "Mean" || op == "Max" || op == "Min")
    return n.inputs.size() == 1 ? x : ValueId::kNone;
  static const std::set<std::string_view> kShapeOnly = {"Reshape",   "Flatten", "Squeeze",
                                                        "Unsqueeze", "Expand",  "Tile"};
  if (kShapeOnly.contains(op)) return SameType(in, out) ? x : ValueId::kNone;
  if (op == "Transpose") {
    const auto perm = IntsAttr(*n.attrs, "perm");
    if (!perm || perm->empty()) return ValueId::kNone;
    for (size_t i = 0; i < perm->size(); ++i)
      if ((*perm)[i] != int64_t(i)) return ValueId::kNone;
    return x;
  }
  if (op == "Slice") {
    const bool forward =
        n.inputs.size() < 5 || n.inputs[4] == ValueId::kNone || literal(4).value_or(-1) == 1;
    return forward && SameType(in, out) ? x : ValueId::kNone;
  }
  if (op == "Pad") return literal(1).value_or(-1) == 0 ? x : ValueId::kNone;
  // Neutral elements. A constant of higher rank or extent would widen the result: the types must
  // agree.
  const auto neutral = [&](size_t i, double e) {
    return literal(i) == e && SameType(g.value(n.inputs[1 - i]).type, out);
  };
  if (n.inputs.size() == 2 && n.inputs[1] != ValueId::kNone) {
    if (op == "Add")
      return neutral(1, 0) ? n.inputs[0] : neutral(0, 0) ? n.inputs[1] : ValueId::kNone;
    if (op == "Mul")
      return neutral(1, 1) ? n.inputs[0] : neutral(0, 1) ? n.inputs[1] : ValueId::kNone;
    if ((op == "Sub" && neutral(1, 0)) || ((op == "Div" || op == "Pow") && neutral(1, 1))) return x;
  }
  return ValueId::kNone;
}

int RemoveNoOps(Graph& g) {
  int changes = 0;
  for (const NodeId id : g.SoundOrder()) {
    const Node& n = g.node(id);
    if (n.outputs.empty() || n.outputs[0] == ValueId::kNone) continue;
    const ValueId to = PassedThrough(g, n);
    if (to == ValueId::kNone) continue;
    g.ReplaceAllUses(n.outputs[0], to);
    ++changes;
  }
  return changes;
}

// Common sub-expressions: the same operator, attributes and inputs.
int MergeEqual(Graph& g) {
  std::map<std::string, NodeId> seen;
  int changes = 0;
  for (const NodeId id : g.SoundOrder()) {
    const Node& n = g.node(id);
    if (n.op->nondeterministic || n.op->subgraphs > 0) continue;
    std::string key = fmt::format("{}|", static_cast<const void*>(n.op));
    for (const ValueId v : n.inputs) key += fmt::format("{},", int(v));
    key += fmt::format("|{}|", n.outputs.size());
    for (const ValueId v : n.outputs) key += v == ValueId::kNone ? '0' : '1';
    key += Fingerprint(*n.attrs);
    const auto [it, fresh] = seen.emplace(std::move(key), id);
    if (fresh) continue;
    const std::vector<ValueId> mine = n.outputs;
    const std::vector<ValueId> first = g.node(it->second).outputs;
    for (size_t o = 0; o < mine.size(); ++o)
      if (mine[o] != ValueId::kNone) g.ReplaceAllUses(mine[o], first[o]);
    ++changes;
  }
  return changes;
}

// Pairs that undo or absorb each other.
std::span<const Rule> PairRules() {
  static const Rule rules[] = {
      // Transpose(Transpose(x)) → Transpose(x)
      {"transpose-transpose", Op("Transpose", {Op("Transpose", {Var(0)}, 1)}, 0),
       [](Rewriter& r, const Match& m) -> Result<std::optional<ValueId>> {
         const auto outer = IntsAttr(*r.node(0).attrs, "perm"),
                    inner = IntsAttr(*r.node(1).attrs, "perm");
         if (!outer || !inner || outer->empty() || outer->size() != inner->size())
           return std::nullopt;
         std::vector<int64_t> perm;
         for (const int64_t o : *outer) perm.push_back((*inner)[size_t(o)]);
         bool identity = true;
         for (size_t i = 0; i < perm.size(); ++i) identity &= perm[i] == int64_t(i);
         if (identity) return std::optional<ValueId>(m.var(0));
         return r.Node("Transpose", {m.var(0)}, {{"perm", perm}});
       }},
      // A reshape of a reshape: only the last one counts, unless it copies extents (0) of the one
      // before.
      {"reshape-reshape",
       Op("Reshape", {OpMore({"Reshape", "Flatten", "Squeeze", "Unsqueeze"}, {Var(0)}, 1), Var(1)},
          0),
       [](Rewriter& r, const Match& m) -> Result<std::optional<ValueId>> {
         const GraphValue& shape = r.value(m.var(1));
         if (!shape.is_constant()) return std::nullopt;
         const auto dims = ToInts(shape.constant);
         if (!dims || std::find(dims->begin(), dims->end(), 0) != dims->end()) return std::nullopt;
         return r.NodeWith("Reshape", {m.var(0), m.var(1)}, r.node(0).attrs);
       }},
      {"relu-relu", Op("Relu", {Op("Relu", {Var(0)})}),
       [](Rewriter& r, const Match& m) { return r.Node("Relu", {m.var(0)}); }},
  };
  return rules;
}

}  // namespace

Status Simplify(Graph& g, RuleCounts& counts) {
  counts.Add("no-op", RemoveNoOps(g));
  g.RemoveDeadNodes();
  counts.Add("common-subexpression", MergeEqual(g));
  g.RemoveDeadNodes();
  TRY(ApplyRules(g, PairRules(), counts));
  for (const NodeId id : g.SoundOrder())
    // A branch that is impossible for these shapes reports it when it is entered, if ever.
    for (const auto& s : g.node(id).subgraphs) (void)Simplify(*s, counts);
  return {};
}

}  // namespace dunlin
