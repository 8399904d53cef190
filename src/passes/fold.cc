#include <algorithm>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "ops/evaluate.h"
#include "passes/passes.h"
#include "tensor/memory.h"

namespace dunlin {
namespace {

// A folded result may grow the model by this much; beyond it, only if it is no larger than what
// went in.
struct FoldLimits {
  int64_t growth_bytes = int64_t{1} << 20;
  bool dequantise = true;  // whether a quantised constant may become a float one
};

// What may still be spent: bytes of new constants, and work to make them.
struct Budget {
  int64_t bytes = 0;
  double work = 0;
};

// All constants that a model got by folding, by whichever pass, sub-graphs included. Each may grow
// a little, so a chain of them could double without end. A node that is left over is computed by
// each run, which frees what it made.
constexpr int64_t kLeastBudget = int64_t{64} << 20, kBudgetPerConstantByte = 4;
// Work is bytes that are read and written, and multiplications. A weight passes a few operators
// before its use; this leaves it four times that many.
constexpr double kWorkPerBudgetByte = 16;
constexpr double kWorkPerMac = 4;
// The output_index of a constant that folding made, in place of that of the node which is gone.
constexpr int kFolded = -1;

struct ConstantBytes {
  int64_t given = 0, folded = 0;
};
void AddConstants(const Graph& g, std::unordered_set<const std::byte*>& seen, ConstantBytes& sum) {
  for (size_t i = 0; i < g.value_count(); ++i) {
    const GraphValue& v = g.value(ValueId(i));
    // Sub-graphs hold copies that share their bytes.
    if (!v.is_constant() || v.constant.bytes() == 0 || !seen.insert(v.constant.origin()).second)
      continue;
    (v.output_index == kFolded ? sum.folded : sum.given) += v.constant.bytes();
  }
  for (const NodeId id : g.SoundOrder())
    for (const auto& s : g.node(id).subgraphs) AddConstants(*s, seen, sum);
}

Budget BudgetOf(const Graph& g) {
  std::unordered_set<const std::byte*> seen;
  ConstantBytes sum;
  AddConstants(g, seen, sum);
  const auto most = int64_t(MemoryLimit() / 2);
  const int64_t whole =
      std::min(most, std::max(kLeastBudget, kBudgetPerConstantByte * std::min(most, sum.given)));
  return {std::max<int64_t>(0, whole - sum.folded), kWorkPerBudgetByte * double(whole)};
}

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
    map[v] = g.AddConstant(sub->value(v).name, sub->value(v).constant);
    g.value(map[v]).output_index = sub->value(v).output_index;
    return map[v];
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

// What computing the node may cost, in units of the budget; its types are static.
double WorkOf(const Graph& g, const Node& n, double in_bytes, double out_bytes) {
  // Each element of their results may read the whole of an input.
  static const std::set<std::string_view> kDense = {
      "AveragePool", "Col2Im", "DFT",      "Det",  "Einsum",           "LRN", "LpPool", "MaxPool",
      "MaxUnpool",   "Resize", "RoiAlign", "STFT", "NonMaxSuppression"};
  const double moved = in_bytes + out_bytes;
  if (kDense.contains(n.op->name)) return moved + in_bytes * (out_bytes / 4 + 1);
  if (n.op->impl->macs == nullptr) return moved;
  const auto types = [&](std::span<const ValueId> values) {
    std::vector<Type> all;
    for (const ValueId v : values) all.push_back(v == ValueId::kNone ? Type{} : g.value(v).type);
    return all;
  };
  return moved +
         kWorkPerMac * double(n.op->impl->macs(*n.attrs, types(n.inputs), types(n.outputs)));
}

Result<int> FoldNode(Graph& g, Node& n, const FoldLimits& limits, Budget& budget) {
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
  const int64_t most = std::min(budget.bytes, std::max(limits.growth_bytes, bytes));
  int wanted = 0;
  int64_t planned = 0;
  bool known = true;
  for (const ValueId v : n.outputs) {
    if (v == ValueId::kNone) continue;
    ++wanted;
    const Type& t = g.value(v).type;
    if (t.kind != Type::Kind::kTensor) return 0;
    known &= t.IsStatic();
    if (!t.IsStatic()) continue;
    const auto count = ElementCount(t.dims);
    if (!count || ByteSize(t.dtype, *count) > std::max(limits.growth_bytes, bytes)) return 0;
    planned += ByteSize(t.dtype, *count);
  }
  const double work = known ? WorkOf(g, n, double(bytes), double(planned)) : double(bytes + most);
  if (work > budget.work || (planned > budget.bytes && !n.op->is_view)) return 0;
  budget.work -= work;
  auto results = Evaluate(*n.op, *n.attrs, inputs, int(n.outputs.size()),
                          n.op->is_view ? std::max(most, planned) : most);
  if (!results) {
    // The data break the operator's contract, or the result is too large: the run will say so, if
    // it gets there.
    return 0;
  }
  for (const Tensor& made : *results)
    if (std::ranges::none_of(inputs, [&](const Tensor& t) { return t.buffer() == made.buffer(); }))
      budget.bytes = std::max<int64_t>(0, budget.bytes - made.bytes());
  for (size_t i = 0; i < n.outputs.size(); ++i)
    if (n.outputs[i] != ValueId::kNone) {
      g.MakeConstant(n.outputs[i], std::move((*results)[i]));
      g.value(n.outputs[i]).output_index = kFolded;
    }
  return wanted > 0 ? 1 : 0;
}

bool AllOutputsConstant(const Graph& g, const Node& n) {
  for (const ValueId v : n.outputs)
    if (v != ValueId::kNone && !g.value(v).is_constant()) return false;
  return true;
}

Status Fold(Graph& g, RuleCounts& counts, const FoldLimits& limits, Budget& budget) {
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
      if (TRY(FoldNode(g, n, limits, budget)) > 0) {
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
      for (const auto& s : n.subgraphs) (void)Fold(*s, counts, limits, budget);
    }
  }
  counts.Add("dead-node", g.RemoveDeadNodes());
  return {};
}

}  // namespace

Status FoldConstants(Graph& g, RuleCounts& counts) {
  Budget budget = BudgetOf(g);
  return Fold(g, counts, {}, budget);
}

Status FoldAroundCodes(Graph& g, RuleCounts& counts) {
  Budget budget = BudgetOf(g);
  return Fold(g, counts, {.dequantise = false}, budget);
}

Status FoldForExport(Graph& g, RuleCounts& counts) {
  constexpr int64_t kScalars = 256;  // what no file is larger for
  Budget budget = BudgetOf(g);
  return Fold(g, counts, {.growth_bytes = kScalars, .dequantise = false}, budget);
}

}  // namespace dunlin
