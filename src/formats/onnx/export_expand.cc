// Operators that the wanted opset does not have, by those it has.
#include <algorithm>
#include <cmath>

#include "formats/onnx/export_expand.h"

namespace dunlin::onnx_export {
namespace {

struct First {
  std::string_view op;
  int opset;
};
// The first opsets of operators that opset 7 does not have. Sorted.
constexpr First kFirst[] = {
    {"Acosh", 9},
    {"AffineGrid", 20},
    {"Asinh", 9},
    {"Atanh", 9},
    {"Attention", 23},
    {"Bernoulli", 15},
    {"BitShift", 11},
    {"BitwiseAnd", 18},
    {"BitwiseNot", 18},
    {"BitwiseOr", 18},
    {"BitwiseXor", 18},
    {"BlackmanWindow", 17},
    {"CastLike", 15},
    {"Celu", 12},
    {"CenterCropPad", 18},
    {"Col2Im", 18},
    {"Compress", 9},
    {"ConcatFromSequence", 11},
    {"ConstantOfShape", 9},
    {"ConvInteger", 10},
    {"Cosh", 9},
    {"CumSum", 11},
    {"DFT", 17},
    {"DeformConv", 19},
    {"DequantizeLinear", 10},
    {"Det", 11},
    {"DynamicQuantizeLinear", 11},
    {"Einsum", 12},
    {"Erf", 9},
    {"Expand", 8},
    {"EyeLike", 9},
    {"GatherElements", 11},
    {"GatherND", 11},
    {"Gelu", 20},
    {"GreaterOrEqual", 12},
    {"GridSample", 16},
    {"GroupNormalization", 21},  // 18 had a scale for each group
    {"HammingWindow", 17},
    {"HannWindow", 17},
    {"HardSwish", 14},
    {"ImageDecoder", 20},
    {"IsInf", 10},
    {"IsNaN", 9},
    {"LayerNormalization", 17},
    {"LessOrEqual", 12},
    {"MatMulInteger", 10},
    {"MaxUnpool", 9},
    {"MeanVarianceNormalization", 9},
    {"MelWeightMatrix", 17},
    {"Mish", 18},
    {"Mod", 10},
    {"NegativeLogLikelihoodLoss", 12},
    {"NonMaxSuppression", 10},
    {"NonZero", 9},
    {"OneHot", 9},
    {"Optional", 15},
    {"OptionalGetElement", 15},
    {"OptionalHasElement", 15},
    {"QLinearConv", 10},
    {"QLinearMatMul", 10},
    {"QuantizeLinear", 10},
    {"RMSNormalization", 23},
    {"Range", 11},
    {"RegexFullMatch", 20},
    {"ReverseSequence", 10},
    {"RoiAlign", 10},
    {"RotaryEmbedding", 23},
    {"Round", 11},
    {"STFT", 17},
    {"Scan", 9},
    {"ScatterElements", 9},  // as Scatter
    {"ScatterND", 11},
    {"SequenceAt", 11},
    {"SequenceConstruct", 11},
    {"SequenceEmpty", 11},
    {"SequenceErase", 11},
    {"SequenceInsert", 11},
    {"SequenceLength", 11},
    {"SequenceMap", 17},
    {"Shrink", 9},
    {"Sign", 9},
    {"Sinh", 9},
    {"SoftmaxCrossEntropyLoss", 12},
    {"SplitToSequence", 11},
    {"StringConcat", 20},
    {"StringNormalizer", 10},
    {"StringSplit", 20},
    {"Swish", 24},
    {"TensorScatter", 24},
    {"TfIdfVectorizer", 9},
    {"ThresholdedRelu", 10},
    {"Trilu", 14},
    {"Unique", 11},
    {"Where", 9},
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
  const auto* it =
      std::lower_bound(std::begin(kFirst), std::end(kFirst), op,
                       [](const First& f, std::string_view name) { return f.op < name; });
  return it != std::end(kFirst) && it->op == op ? it->opset : 1;
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
