// Operators that the wanted opset does not have, by those it has.
#include <algorithm>
#include <cmath>

#include "formats/onnx/export_expand.h"
#include "formats/onnx_operators.h"

namespace dunlin::onnx_export {
namespace {

struct First {
  std::string_view op;
  int opset;
};
// What can be written before the operator came, under another name, or not in its first form.
constexpr First kOwnFirst[] = {
    {"GroupNormalization", 21},  // 18 had a scale for each group
    {"Resize", 7},               // as Upsample
    {"Scan", 9},                 // 8 had batches
    {"ScatterElements", 9},      // as Scatter
};

// So many that an expansion of an expansion (Gelu at opset 8) ends.
constexpr int kMaxRounds = 4;

const Expansion* FindExpansion(const Graph& g, const Node& n, int opset, int first) {
  for (const Expansion& e : n.op->domain.empty() ? Expansions() : FusedExpansions())
    if (e.op == n.op->name && e.domain == n.op->domain &&
        (first > opset || (e.also != nullptr && e.also(g, n, opset))))
      return &e;
  return nullptr;
}

Result<bool> ExpandNode(Graph& g, NodeId id, int opset, std::vector<Refusal>& refusals) {
  const Node& n = g.node(id);
  if (!n.op->domain.empty() && n.op->domain != "dunlin") return false;
  if (n.op->name == kBatchScan) {  // written as the Scan that it was
    if (opset != kBatchScanOpset)
      refusals.push_back({Place(n), "scanning by item of a batch", kBatchScanOpset});
    return false;
  }
  const int first = n.op->domain.empty() ? FirstOpset(n.op->name) : kNever;
  const Expansion* e = FindExpansion(g, n, opset, first);
  if (e == nullptr) {
    if (first > opset) refusals.push_back({Place(n), "the operator", first});
    return false;
  }
  const std::string place = Place(n);
  ExpandContext c(g, id, opset);
  const bool done = e->expand(c);
  TRY(std::move(c.status));
  if (!done) refusals.push_back({place, c.why.empty() ? "the operator" : c.why, first});
  return done;
}

}  // namespace

int FirstOpset(std::string_view op) {
  for (const First& f : kOwnFirst)
    if (f.op == op) return f.opset;
  const OnnxOperator* known = FindOnnxOperator(op, "");
  return known != nullptr ? known->Versions().front() : 1;
}

ValueId ExpandContext::In(size_t i) const {
  const Node& n = g.node(id);
  return i < n.inputs.size() ? n.inputs[i] : ValueId::kNone;
}

ValueId ExpandContext::Op(std::string_view op, std::vector<ValueId> inputs, const AttrMap& attrs) {
  if (!status) return ValueId::kNone;
  const OpDef* def = FindOp(op);
  DUNLIN_CHECK(def != nullptr, "an expansion names an operator that does not exist");
  auto a = DefaultAttrs(*def);
  status = onnx_import::FillAttrs(*a, attrs);
  if (!status) return ValueId::kNone;
  const Node& from = g.node(id);
  const double position = from.position;
  const std::string name = fmt::format("{}/{}{}", from.name, op, ++made_);
  Node& to = g.AddNode(*def, std::move(a), std::move(inputs), name);
  to.position = position;
  const ValueId result = to.outputs[0];
  status = InferNode(g, to);
  return result;
}

ValueId ExpandContext::Const(Tensor t) {
  return g.AddConstant(fmt::format("{}/constant{}", g.node(id).name, ++made_), std::move(t));
}

ValueId ExpandContext::Number(double v, DType dtype) {
  auto t = Convert(Tensor::Scalar<double>(v), dtype);
  if (t) return Const(std::move(*t));
  if (status) status = Fail(t.error());
  return ValueId::kNone;
}

bool ExpandContext::Become(ValueId v) {
  if (!status) return false;
  const ValueId old = g.node(id).outputs[0];
  // The last node takes the name, so that what is written names values as the model did.
  g.value(v).name = g.value(old).name;
  g.ReplaceAllUses(old, v);
  g.Erase(id);
  return true;
}

void ExpandContext::BecomesToo(size_t output, ValueId v) {
  const ValueId old = node().outputs[output];
  if (!status || old == ValueId::kNone) return;
  g.value(v).name = g.value(old).name;
  g.ReplaceAllUses(old, v);
}

Status ExpandFor(Graph& g, int opset, std::vector<Refusal>& refusals) {
  for (int round = 0; round < kMaxRounds; ++round) {
    std::vector<Refusal> here;
    bool again = false;
    for (const NodeId id : TRY(g.Order())) again |= TRY(ExpandNode(g, id, opset, here));
    if (again && round + 1 < kMaxRounds) continue;
    refusals.insert(refusals.end(), here.begin(), here.end());
    break;
  }
  for (const NodeId id : TRY(g.Order()))
    for (const auto& s : g.node(id).subgraphs) TRY(ExpandFor(*s, opset, refusals));
  return {};
}

}  // namespace dunlin::onnx_export
