#include <algorithm>
#include <unordered_map>

#include "ops/evaluate.h"
#include "passes/passes.h"

namespace dunlin {
namespace {

// A folded result may grow the model by this much; beyond it, only if it is no larger than what
// went in.
struct FoldLimits {
  int64_t growth_bytes = int64_t{1} << 20;
  bool dequantise = true;  // whether a quantised constant may become a float one
};

// The nodes of `branch` become nodes of the graph in place of the If.
void InlineBranch(Graph& g, NodeId id, int branch) {
  std::unique_ptr<Graph> sub = std::move(g.node(id).subgraphs[size_t(branch)]);
  std::unordered_map<ValueId, ValueId> map;
  map[ValueId::kNone] = ValueId::kNone;
  {
    const Node& node = g.node(id);
    for (int c = 0; c < node.captures; ++c)
      map[sub->inputs()[sub->inputs().size() - size_t(node.captures - c)]] =
          node.inputs[size_t(node.formal_inputs() + c)];
  }
  const auto mapped = [&](ValueId v) {
    const auto it = map.find(v);
    if (it != map.end()) return it->second;
    DUNLIN_CHECK(sub->value(v).is_constant(), "a branch value without a definition");
    return map[v] = g.AddConstant(sub->value(v).name, sub->value(v).constant);
  };
  const double position = g.node(id).position;
  const auto order = sub->SoundOrder();
  double step = 0;
  for (const NodeId n : order) {
    Node& from = sub->node(n);
    std::vector<ValueId> inputs;
    for (const ValueId v : from.inputs) inputs.push_back(mapped(v));
    std::vector<std::string> names;
    for (const ValueId v : from.outputs)
      names.push_back(v == ValueId::kNone ? std::string() : sub->value(v).name);
    Node& to = g.AddNode(*from.op, from.attrs, std::move(inputs), names, from.name);
    to.captures = from.captures;
    to.subgraphs = std::move(from.subgraphs);
    to.position = position + ++step / double(order.size() + 1);
    for (size_t i = 0; i < from.outputs.size(); ++i) {
      if (from.outputs[i] == ValueId::kNone) continue;
      map[from.outputs[i]] = to.outputs[i];
      const GraphValue& v = sub->value(from.outputs[i]);
      g.value(to.outputs[i]).type = v.type;
    }
  }
  const std::vector<ValueId> outputs = g.node(id).outputs;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i] != ValueId::kNone && i < sub->outputs().size())
      g.ReplaceAllUses(outputs[i], mapped(sub->outputs()[i]));
  g.Erase(id);
}

Result<int> FoldNode(Graph& g, Node& n, const FoldLimits& limits) {
  if (!limits.dequantise && n.op->name == "DequantizeLinear") return 0;
  if (n.op->subgraphs > 0 || n.op->nondeterministic || n.inputs.empty()) return 0;
  std::vector<Tensor> inputs;
  int64_t bytes = 0;
  for (const ValueId v : n.inputs) {
    const auto index = ptrdiff_t(inputs.size());
    if (v == ValueId::kNone) {
      inputs.emplace_back();
      continue;
    }
    if (!g.value(v).is_constant()) return 0;
    inputs.push_back(g.value(v).constant);
    // Once each: a chain of Concat(c, c) would double without end.
    if (std::find(n.inputs.begin(), n.inputs.end(), v) == n.inputs.begin() + index)
      bytes += inputs.back().bytes();
  }
  int wanted = 0;
  for (const ValueId v : n.outputs) {
    if (v == ValueId::kNone) continue;
    ++wanted;
    const Type& t = g.value(v).type;
    if (t.kind != Type::Kind::kTensor) return 0;
    if (t.IsStatic()) {
      const auto count = ElementCount(t.dims);
      if (!count || ByteSize(t.dtype, *count) > std::max(limits.growth_bytes, bytes)) return 0;
    }
  }
  auto results = Evaluate(*n.op, *n.attrs, inputs, int(n.outputs.size()),
                          std::max(limits.growth_bytes, bytes));
  if (!results) {
    // The data break the operator's contract, or the result is too large: the run will say so, if
    // it gets there.
    return 0;
  }
  for (size_t i = 0; i < n.outputs.size(); ++i)
    if (n.outputs[i] != ValueId::kNone) g.MakeConstant(n.outputs[i], std::move((*results)[i]));
  return wanted > 0 ? 1 : 0;
}

bool AllOutputsConstant(const Graph& g, const Node& n) {
  for (const ValueId v : n.outputs)
    if (v != ValueId::kNone && !g.value(v).is_constant()) return false;
  return true;
}

Status Fold(Graph& g, RuleCounts& counts, const FoldLimits& limits) {
  bool again = true;
  while (again) {
    again = false;
    for (const NodeId id : TRY(g.Order())) {
      Node& n = g.node(id);
      TRY(InferNode(g, n));
      if (AllOutputsConstant(g, n)) {
        counts.Add("known-result");
        g.Erase(id);
        continue;
      }
      if (TRY(FoldNode(g, n, limits)) > 0) {
        counts.Add("constant-inputs");
        g.Erase(id);
        continue;
      }
      if (n.op->name == "If" && n.op->domain.empty() && n.subgraphs.size() == 2) {
        const GraphValue& cond = g.value(n.inputs[0]);
        if (cond.is_constant() && cond.constant.dtype() == DType::kBool &&
            cond.constant.count() == 1) {
          InlineBranch(g, id, cond.constant.as<bool>()[0] ? 0 : 1);
          counts.Add("decided-if");
          again = true;  // the new nodes have not been walked
          continue;
        }
      }
      // A branch that is impossible for these shapes reports it when it is entered, if ever.
      for (const auto& s : n.subgraphs) (void)Fold(*s, counts, limits);
    }
  }
  counts.Add("dead-node", g.RemoveDeadNodes());
  return {};
}

}  // namespace

Status FoldConstants(Graph& g, RuleCounts& counts) { return Fold(g, counts, {}); }

Status FoldForExport(Graph& g, RuleCounts& counts) {
  constexpr int64_t kScalars = 256;  // what no file is larger for
  return Fold(g, counts, {.growth_bytes = kScalars, .dequantise = false});
}

}  // namespace dunlin
