#include <algorithm>
#include <array>
#include <unordered_map>

#include "passes/passes.h"
#include "passes/pattern.h"

namespace dunlin {
namespace {

bool IsHalf(DType t) { return t == DType::kF16 || t == DType::kBF16; }

// Smaller constants are converted at once: they are read as a whole before long.
constexpr int64_t kLazyBytes = 4096;

// What only moves elements: in halves it moves half as many bytes, so it widens nothing by itself.
bool OnlyMoves(const OpDef* op) {
  static const std::array kOps = [] {
    constexpr std::string_view kNames[] = {
        "Identity",       "Reshape",        "Squeeze", "Unsqueeze", "Flatten",
        "Transpose",      "Concat",         "Split",   "Slice",     "Gather",
        "GatherElements", "GatherND",       "Expand",  "Tile",      "DepthToSpace",
        "SpaceToDepth",   "Compress",       "Shape",   "Size",      "ReverseSequence",
        "ScatterND",      "ScatterElements"};
    std::array<const OpDef*, std::size(kNames)> ops;
    std::transform(std::begin(kNames), std::end(kNames), ops.begin(),
                   [](std::string_view n) { return &OpNamed(n); });
    return ops;
  }();
  return std::find(kOps.begin(), kOps.end(), op) != kOps.end();
}

class Widener {
 public:
  Widener(Graph& g, RuleCounts& counts) : g_(g), counts_(counts) {}

  Status Run() {
    for (const NodeId id : TRY(g_.Order())) {
      Node& n = g_.node(id);
      if (n.is(cast_))
        TRY(NoteCast(n));
      else if (ShouldWiden(n))
        TRY(WidenNode(n));
      else
        TRY(KeepNode(n));
    }
    const std::vector<ValueId> outputs = g_.outputs();
    for (const ValueId v : outputs)
      if (was_half_.contains(v) && g_.IsOutput(v)) TRY(RestoreOutput(v));
    return {};
  }

 private:
  const Type& TypeOf(ValueId v) const { return g_.value(v).type; }
  bool IsHalfTensor(ValueId v) const {
    return v != ValueId::kNone && TypeOf(v).kind == Type::Kind::kTensor && IsHalf(TypeOf(v).dtype);
  }
  // Known to be f32 where the model says half.
  bool IsWide(ValueId v) const { return was_half_.contains(v) || wide_of_.contains(v); }

  Result<ValueId> CastTo(ValueId v, DType to, double position) {
    const std::string name = g_.value(v).name + "." + std::string(DTypeName(to));
    const std::string names[] = {name};
    Node& n = g_.AddNode(*cast_, AttrsWith(*cast_, {{"to", to}}), {v}, names, name);
    n.position = position;
    TRY(InferNode(g_, n));
    return n.outputs[0];
  }

  Result<ValueId> Wide(ValueId v, double position) {
    if (was_half_.contains(v)) return v;
    if (const auto it = wide_of_.find(v); it != wide_of_.end()) return it->second;
    const GraphValue& x = g_.value(v);
    if (!x.is_constant()) return wide_of_[v] = TRY(CastTo(v, DType::kF32, position));
    Tensor t = x.constant.bytes() < kLazyBytes ? TRY(Convert(x.constant, DType::kF32))
                                               : Widened(x.constant);
    return wide_of_[v] = g_.AddConstant(x.name + ".f32", std::move(t));
  }
  // The value in the type that the model gives it.
  Result<ValueId> Half(ValueId v, double position) {
    const auto was = was_half_.find(v);
    if (was == was_half_.end()) return v;
    const auto it = half_of_.find(v);
    if (it != half_of_.end()) return it->second;
    return half_of_[v] = TRY(CastTo(v, was->second, position));
  }

  bool ShouldWiden(const Node& n) const {
    if (!n.subgraphs.empty() || n.op->nondeterministic) return false;
    bool half = false, wide = false;
    for (const ValueId v : n.inputs) {
      if (v == ValueId::kNone) continue;
      // What is not known may turn out to be half.
      if (TypeOf(v).kind != Type::Kind::kTensor || TypeOf(v).dtype == DType::kUndefined)
        return false;
      half |= IsHalfTensor(v);
      wide |= IsWide(v) && !g_.value(v).is_constant();
    }
    for (const ValueId v : n.outputs)
      if (v != ValueId::kNone && TypeOf(v).kind != Type::Kind::kTensor) return false;
    return wide || (half && !OnlyMoves(n.op));
  }

  Status WidenNode(Node& n) {
    const std::vector<ValueId> inputs = n.inputs;
    std::vector<std::pair<ValueId, DType>> outputs;
    for (const ValueId v : n.outputs)
      if (IsHalfTensor(v)) outputs.emplace_back(v, TypeOf(v).dtype);
    for (size_t i = 0; i < inputs.size(); ++i)
      if (IsHalfTensor(inputs[i])) g_.SetInput(n, int(i), TRY(Wide(inputs[i], n.position)));
    if (!InferNode(g_, n)) {  // an operator that takes halves but not f32
      for (size_t i = 0; i < inputs.size(); ++i)
        if (inputs[i] != n.inputs[i]) g_.SetInput(n, int(i), inputs[i]);
      return KeepNode(n);
    }
    for (const auto& [v, dtype] : outputs)
      if (TypeOf(v).dtype == DType::kF32) was_half_[v] = dtype;
    counts_.Add("half-to-f32");
    return {};
  }

  // The inputs get the types the model gives them.
  Status KeepNode(Node& n) {
    bool changed = false;
    const std::vector<ValueId> inputs = n.inputs;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i] == ValueId::kNone || !was_half_.contains(inputs[i])) continue;
      g_.SetInput(n, int(i), TRY(Half(inputs[i], n.position)));
      changed = true;
    }
    return changed ? InferNode(g_, n) : Status{};
  }

  // A cast from or to halves is where a value has both forms already.
  Status NoteCast(Node& n) {
    const ValueId from = n.inputs[0], to = n.outputs[0];
    if (from == ValueId::kNone || to == ValueId::kNone) return {};
    const double position = n.position;
    // A model that casts there and back means to round.
    const Node* maker = g_.producer(from);
    const bool rounds = maker != nullptr && maker->is(cast_);
    if (const auto it = wide_of_.find(from); it != wide_of_.end() && !rounds)
      g_.SetInput(n, 0, it->second);
    if (IsHalfTensor(from) && TypeOf(to).dtype == DType::kF32 && n.inputs[0] == from && !rounds)
      wide_of_[from] = to;
    if (!IsHalfTensor(to)) return {};
    const DType type = TypeOf(n.inputs[0]).dtype;
    if (type == DType::kF32)
      wide_of_[to] = n.inputs[0];
    else if (IsInteger(type) || type == DType::kBool || type == DType::kF64)
      wide_of_[to] = TRY(CastTo(n.inputs[0], DType::kF32, position));
    return {};
  }

  Status RestoreOutput(ValueId v) {
    const ValueId half = TRY(Half(v, g_.producer(v)->position));
    const std::vector<Use> uses = g_.value(v).uses;
    g_.ReplaceAllUses(v, half);
    for (const Use& u : uses) g_.SetInput(g_.node(u.node), u.index, v);
    std::swap(g_.value(v).name, g_.value(half).name);
    return {};
  }

  Graph& g_;
  RuleCounts& counts_;
  const OpDef* const cast_ = &OpNamed("Cast");
  std::unordered_map<ValueId, ValueId> wide_of_;  // halves that have an f32 twin
  std::unordered_map<ValueId, ValueId> half_of_;  // and back
  std::unordered_map<ValueId, DType> was_half_;   // values that are f32 now
};

}  // namespace

Status WidenHalves(Graph& g, RuleCounts& counts) { return Widener(g, counts).Run(); }

}  // namespace dunlin
