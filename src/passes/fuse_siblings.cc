// Narrow convolutions side by side, as detection heads and branches have them, into one.
//
//   y1 = conv(x, w1), y2 = conv(x, w2), …   →   y1, y2, … = Split(conv(x, [w1; w2; …]))
//   x1, x2, … = Split(x), yi = depthwise(xi, wi)   →   y1, y2, … = Split(depthwise(x, [w1; w2; …]))
#include <algorithm>

#include "ops/conv/conv.h"
#include "passes/fuse.h"
#include "passes/passes.h"

namespace dunlin {
namespace {

// Floats of the widest vector: a product makes so many outputs at once, wanted or not.
constexpr int64_t kLanes = 16;
// Shorter sums cost no more than copying their results, should that be needed.
constexpr int64_t kLeastTerms = 16;

using Nodes = std::vector<const Node*>;

bool IsConv(const Node& n) { return n.op->name == "Conv" || n.op->name == kFusedConvName; }

FusedConvAttrs AttrsOf(const Node& n) {
  if (n.op->name == kFusedConvName) return As<FusedConvAttrs>(*n.attrs);
  FusedConvAttrs a;
  static_cast<ConvAttrs&>(a) = As<ConvAttrs>(*n.attrs);
  return a;
}

const Tensor& WeightsOf(const Graph& g, const Node& n) { return g.value(n.inputs[1]).constant; }
int64_t OutputsOf(const Graph& g, const Node& n) { return WeightsOf(g, n).dims()[0]; }
ValueId BiasOf(const Node& n) { return n.inputs.size() > 2 ? n.inputs[2] : ValueId::kNone; }

// Whether the convolution's outputs depend on nothing but its first input. With known shapes only:
// residual sums are in place by then. What a Concat reads is better written there at once.
bool CanMerge(const Graph& g, const Node& n) {
  if (!IsConv(n) || (n.inputs.size() > 3 && n.inputs[3] != ValueId::kNone)) return false;
  const auto is_constant = [&](ValueId v) {
    return g.value(v).is_constant() && g.value(v).type.dtype == DType::kF32;
  };
  const auto joins = [&](const Use& u) { return g.node(u.node).op->name == "Concat"; };
  return std::ranges::none_of(g.value(n.outputs[0]).uses, joins) && is_constant(n.inputs[1]) &&
         WeightsOf(g, n).count() > 0 && (BiasOf(n) == ValueId::kNone || is_constant(BiasOf(n))) &&
         g.value(n.inputs[0]).type.IsStatic() && g.value(n.outputs[0]).type.IsStatic();
}

bool IsDepthwise(const Graph& g, const Node& n) {
  return WeightsOf(g, n).dims()[1] == 1 && AttrsOf(n).group == OutputsOf(g, n);
}

// Whether the two differ in their weights and their number of channels only. `group`: that of both
// counts.
bool SameGeometry(const Graph& g, const Node& a, const Node& b, bool group) {
  const auto text = [&](const Node& n) {
    FusedConvAttrs attrs = AttrsOf(n);
    if (!group) attrs.group = 1;
    return Fingerprint(*MakeAttrs(attrs));
  };
  const Dims &wa = WeightsOf(g, a).dims(), &wb = WeightsOf(g, b).dims();
  return wa.rank() == wb.rank() && std::equal(wa.begin() + 1, wa.end(), wb.begin() + 1) &&
         text(a) == text(b);
}

// Tensors one after the other along their first axis.
Result<Tensor> Stack(const std::vector<Tensor>& parts) {
  Dims dims = parts[0].dims();
  dims[0] = 0;
  for (const Tensor& t : parts) dims[0] += t.dims()[0];
  const Tensor whole = TRY(Tensor::Create(DType::kF32, dims));
  float* to = whole.mut<float>();
  for (const Tensor& t : parts) to = std::ranges::copy(t.values<float>(), to).out;
  return whole;
}

// One convolution of x in place of those, and a Split that gives their results.
Status Merge(Graph& g, const Nodes& convs, ValueId x, FusedConvAttrs attrs) {
  std::vector<Tensor> weights, biases;
  std::vector<int64_t> sizes;
  std::vector<std::string> names;
  std::vector<NodeId> ids;
  double position = convs[0]->position;
  for (const Node* n : convs) {
    weights.push_back(WeightsOf(g, *n));
    sizes.push_back(OutputsOf(g, *n));
    biases.push_back(BiasOf(*n) != ValueId::kNone
                         ? g.value(BiasOf(*n)).constant
                         : TRY(Tensor::Zeros(DType::kF32, {sizes.back()})));
    names.push_back(g.value(n->outputs[0]).name);
    ids.push_back(n->id);
    position = std::min(position, n->position);
  }
  const std::string name = convs[0]->name;
  const ValueId w = g.AddConstant(name + "/weights", TRY(Stack(weights)));
  const ValueId b = g.AddConstant(name + "/bias", TRY(Stack(biases)));
  Node& conv = g.AddNode(OpNamed("dunlin.FusedConv"), MakeAttrs(attrs), {x, w, b}, name);
  conv.position = position;
  TRY(InferNode(g, conv));
  const ValueId cut = g.AddConstant(name + "/sizes", Tensor::Ints(sizes));
  Node& split = g.AddNode(OpNamed("Split"), AttrsWith(OpNamed("Split"), {{"axis", int64_t{1}}}),
                          {conv.outputs[0], cut}, names, name + "/split");
  split.position = position;
  TRY(InferNode(g, split));
  for (size_t i = 0; i < ids.size(); ++i) {
    g.ReplaceAllUses(g.node(ids[i]).outputs[0], split.outputs[i]);
    g.Erase(ids[i]);
  }
  return {};
}

int64_t Vectors(int64_t outputs) { return (outputs + kLanes - 1) / kLanes; }

// Whether at least a quarter of the vectors that the convolutions fill one by one is padding that
// falls away.
bool Pays(const Graph& g, const Nodes& convs) {
  int64_t apart = 0, outputs = 0;
  for (const Node* n : convs) {
    apart += Vectors(OutputsOf(g, *n));
    outputs += OutputsOf(g, *n);
  }
  return 4 * Vectors(outputs) <= 3 * apart &&
         WeightsOf(g, *convs[0]).count() >= kLeastTerms * OutputsOf(g, *convs[0]);
}

// The readers of v that are as the first of them that can be merged with others.
Result<bool> MergeReaders(Graph& g, ValueId v) {
  Nodes left;
  for (const Use& u : g.value(v).uses)
    if (const Node& n = g.node(u.node); u.index == 0 && CanMerge(g, n) && AttrsOf(n).group == 1)
      left.push_back(&n);
  while (left.size() > 1) {
    Nodes same, other;
    for (const Node* n : left) (SameGeometry(g, *left[0], *n, true) ? same : other).push_back(n);
    if (same.size() > 1 && Pays(g, same)) {
      TRY(Merge(g, same, v, AttrsOf(*same[0])));
      return true;
    }
    left = std::move(other);
  }
  return false;
}

// Depthwise convolutions of all parts of a value, and of nothing else, into one of the whole.
Result<bool> MergeParts(Graph& g, const Node& split) {
  const ValueId x = split.inputs[0];
  const Type& whole = g.value(x).type;
  if (!whole.IsStatic() || IntAttr(*split.attrs, "axis").value_or(0) != 1) return false;
  Nodes convs;
  for (const ValueId part : split.outputs) {
    if (part == ValueId::kNone || g.UseCount(part) != 1 || g.IsOutput(part)) return false;
    const Use use = g.value(part).uses[0];
    const Node& n = g.node(use.node);
    if (use.index != 0 || !CanMerge(g, n) || !IsDepthwise(g, n) ||
        (!convs.empty() && !SameGeometry(g, *convs[0], n, false)))
      return false;
    convs.push_back(&n);
  }
  if (convs.size() < 2) return false;
  FusedConvAttrs attrs = AttrsOf(*convs[0]);
  attrs.group = whole.dims[1];
  TRY(Merge(g, convs, x, attrs));
  return true;
}

}  // namespace

Status MergeSiblings(Graph& g, RuleCounts& counts) {
  for (size_t v = 0; v < g.value_count(); ++v)  // those that merging adds, too
    while (TRY(MergeReaders(g, ValueId(v)))) counts.Add("sibling-convolutions");
  // A merged convolution may be split for others of its kind: they come later in the order.
  for (bool again = true; again;) {
    again = false;
    for (const NodeId id : g.SoundOrder()) {
      if (!g.alive(id)) continue;
      const Node& n = g.node(id);
      if (n.op->name == "Split" && TRY(MergeParts(g, n))) {
        counts.Add("sibling-depthwise");
        again = true;
      }
    }
    if (again) g.RemoveDeadNodes();
  }
  for (const NodeId id : g.SoundOrder())
    for (const auto& s : g.node(id).subgraphs) TRY(MergeSiblings(*s, counts));
  return {};
}

}  // namespace dunlin
