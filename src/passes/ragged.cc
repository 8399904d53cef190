#include "passes/ragged.h"

#include <fmt/format.h>

#include <map>
#include <string>

#include "ops/attention/segments.h"
#include "ops/elementwise/elementwise.h"
#include "passes/passes.h"
#include "passes/pattern.h"
#include "passes/ragged_roles.h"

namespace dunlin {
namespace {

using Kind = Role::Kind;

Status Need(bool holds, std::string_view why) {
  if (holds) return {};
  return Fail(Code::kUnimplemented, "{}", why);
}
constexpr std::string_view kMixes = "mixes positions";
constexpr std::string_view kByData = "has parameters that are not constant";

// Walks the nodes in order, gives every value its role, and puts other nodes in the place of those
// that mean something else on packed sequences.
class Packer {
 public:
  explicit Packer(const Graph& graph) : owned_(graph.Clone()), g_(*owned_) {}

  Result<RaggedGraph> Pack() {
    RaggedGraph result;
    TRY(EmptyThePast());
    for (size_t v = 0; v < g_.value_count(); ++v)
      roles_.push_back(Role::Fixed(g_.value(ValueId(v)).type.dims));
    TRY(FindInputs(result.inputs));
    const std::vector<NodeId> order = g_.SoundOrder();
    AddIndices();
    for (const NodeId id : order) {
      Node& n = g_.node(id);
      if (auto s = Visit(n); !s)
        return Fail(s.error().code, "not raggable: node '{}' of type {} {}", n.name, n.op->name,
                    s.error().message);
    }
    for (size_t i = 0; i < g_.outputs().size(); ++i) {
      const auto port = PortOf(role(g_.outputs()[i]));
      if (!port)
        return Fail(Code::kUnimplemented, "not raggable: output '{}' {}",
                    g_.value(g_.outputs()[i]).name, port.error().message);
      result.outputs.push_back(*port);
    }
    g_.RemoveDeadNodes();
    if (auto s = InferGraph(g_); !s)
      return Fail(Code::kUnimplemented, "not raggable: {}", s.error().message);
    result.graph = std::move(owned_);
    return result;
  }

 private:
  using Handler = Status (Packer::*)(Node&);
  using Ints = std::vector<int64_t>;

  Role& role(ValueId v) { return roles_[size_t(v)]; }

  // ---- Inputs and outputs ----------------------------------------------------------------------

  // Keys and values of earlier tokens come with an open extent of their own. Where it is 0, they
  // are nothing, and what is joined to them stands alone.
  Status EmptyThePast() {
    bool any = false;
    for (const ValueId v : g_.inputs()) {
      Type& t = g_.value(v).type;
      if (t.kind == Type::Kind::kTensor && t.ranked && t.dims.size() > 1 && IsSymbol(t.dims[1]) &&
          tokens_ == 0)
        tokens_ = t.dims[1];
    }
    if (tokens_ == 0)
      return Fail(Code::kUnimplemented, "not raggable: no input has a length that varies");
    for (const ValueId v : g_.inputs()) {
      Type& t = g_.value(v).type;
      if (g_.value(v).is_constant() || t.kind != Type::Kind::kTensor || !t.ranked) continue;
      for (size_t i = 2; i < t.dims.size(); ++i)
        if (IsSymbol(t.dims[i]) && t.dims[i] != tokens_ && t.dims[i] != t.dims[0]) {
          t.dims[i] = 0;
          any = true;
        }
    }
    RuleCounts counts;
    if (const Status s = any ? FoldConstants(g_, counts) : Status(); !s)
      return Fail(Code::kUnimplemented, "not raggable: without a past, {}", s.error().message);
    return {};
  }

  // [batch, tokens, …] or [batch, …], with the same two symbols in all.
  Status FindInputs(std::vector<RaggedPort>& ports) {
    for (const ValueId v : g_.inputs()) {
      ports.push_back({RaggedPort::Kind::kShared, 1});
      if (g_.value(v).is_constant()) continue;
      const Type t = g_.value(v).type;
      const auto refuse = [&](std::string_view why) {
        return Fail(Code::kUnimplemented, "not raggable: input '{}' {}", g_.value(v).name, why);
      };
      if (t.kind != Type::Kind::kTensor || !t.ranked || t.dims.empty() || !IsSymbol(t.dims[0]))
        return refuse("has no batch of named, open extent as its first axis");
      if (batch_ == 0) batch_ = t.dims[0];
      if (t.dims[0] != batch_ || batch_ == tokens_)
        return refuse("has another batch than the inputs before it");
      Role r{Kind::kPacked, {AxisRole::kBatch}, t.dims};
      for (size_t i = 1; i < t.dims.size(); ++i) {
        const bool open = !IsKnown(t.dims[i]);
        if (open && i != 1)
          return refuse(fmt::format("has its length at axis {}; only axis 1 may be it", i));
        if (open && t.dims[i] != tokens_) return refuse("has another length than those before it");
        r.axes.push_back(open ? AxisRole::kTokens : AxisRole::kPlain);
      }
      const bool empty = std::find(t.dims.begin(), t.dims.end(), 0) != t.dims.end();
      ports.back().kind = r.has_tokens() ? RaggedPort::Kind::kTokens
                          : empty        ? RaggedPort::Kind::kEmpty
                                         : RaggedPort::Kind::kSegments;
      if (ports.back().kind != RaggedPort::Kind::kSegments) g_.value(v).type.dims[0] = 1;
      role(v) = std::move(r);
    }
    return {};
  }

  // The symbols of the inputs stand for the number of sequences and of all tokens from here on.
  void AddIndices() {
    const auto add = [&](const char* name, int64_t extent) {
      const ValueId v = g_.AddInput(name, Type::Of(DType::kI64, {extent}));
      SetRole(v, {Kind::kPacked, {}, {}});
      return v;
    };
    offsets_ = add("ragged/offsets", kUnknownDim);
    positions_ = add("ragged/positions", tokens_);
    firsts_ = add("ragged/firsts", batch_);
    lasts_ = add("ragged/lasts", batch_);
  }

  static Result<RaggedPort> PortOf(const Role& r) {
    if (r.kind == Kind::kFixed) return RaggedPort{RaggedPort::Kind::kShared, 0};
    TRY(Need(r.packed(), "holds extents of the inputs"));
    TRY(Need(!r.axes.empty() && r.axes[0] == AxisRole::kBatch,
             "does not have the batch as its first axis"));
    TRY(Need(r.count(AxisRole::kTokens) <= 1, "pairs positions"));
    if (!r.has_tokens()) return RaggedPort{RaggedPort::Kind::kSegments, 0};
    const auto at = std::find(r.axes.begin(), r.axes.end(), AxisRole::kTokens);
    return RaggedPort{RaggedPort::Kind::kTokens, int(at - r.axes.begin())};
  }

  // ---- Roles and nodes -------------------------------------------------------------------------

  void SetRole(ValueId v, Role r) {
    if (roles_.size() < g_.value_count()) roles_.resize(g_.value_count());
    role(v) = std::move(r);
  }
  Role RoleOf(const Node& n, size_t i) const {
    return i < n.inputs.size() && n.inputs[i] != ValueId::kNone ? roles_[size_t(n.inputs[i])]
                                                                : Role::Fixed({});
  }
  // Of the only output that anybody reads.
  Status Give(Node& n, Role r) {
    for (size_t o = 1; o < n.outputs.size(); ++o)
      TRY(Need(n.outputs[o] == ValueId::kNone || g_.UseCount(n.outputs[o]) == 0,
               "has further outputs"));
    const Dims& inferred = g_.value(n.outputs[0]).type.dims;
    for (size_t i = 0; i < r.axes.size() && inferred.size() == r.axes.size(); ++i)
      if (IsKnown(inferred[i]) || !IsKnown(r.dims[i])) r.dims[i] = inferred[i];
    SetRole(n.outputs[0], std::move(r));
    return {};
  }
  // `to` takes the place of output 0.
  Status Replace(Node& n, ValueId to, Role r) {
    TRY(Give(n, std::move(r)));
    SetRole(to, Role(role(n.outputs[0])));
    g_.value(to).type = g_.value(n.outputs[0]).type;  // as it was before packing
    g_.ReplaceAllUses(n.outputs[0], to);
    return {};
  }
  // A node in the place of n; its type is inferred in the end, when those of all are.
  ValueId Make(const Node& n, std::string_view op, std::vector<ValueId> inputs,
               const AttrSettings& attrs = {}) {
    const double position = n.position;
    Node& made = g_.AddNode(OpNamed(op), AttrsWith(OpNamed(op), attrs), std::move(inputs),
                            fmt::format("{}/{}", n.name, op));
    made.position = position;
    SetRole(made.outputs[0], {});
    return made.outputs[0];
  }
  ValueId Numbers(const Node& n, const Ints& values) {
    const ValueId v = g_.AddConstant(n.name + "/numbers", Tensor::Ints(values));
    SetRole(v, Role::Fixed({int64_t(values.size())}));
    return v;
  }
  ValueId Number(const Node& n, int64_t value) {
    const ValueId v = g_.AddConstant(n.name + "/number", Tensor::Scalar<int64_t>(value));
    SetRole(v, Role::Fixed({}));
    return v;
  }
  // The constant integers of an input; nullopt: not given, or not constant.
  std::optional<Ints> IntsOf(const Node& n, size_t i) const {
    if (i >= n.inputs.size() || n.inputs[i] == ValueId::kNone) return std::nullopt;
    const GraphValue& v = g_.value(n.inputs[i]);
    if (!v.is_constant() || !IsInteger(v.constant.dtype())) return std::nullopt;
    const auto ints = ToInts(v.constant);
    return ints ? std::optional<Ints>(*ints) : std::nullopt;
  }
  // The same of numbers that are extents, which may be symbols.
  std::optional<Dims> ExtentsOf(const Node& n, size_t i) const {
    if (const auto ints = IntsOf(n, i)) {
      if (std::any_of(ints->begin(), ints->end(), [](int64_t x) { return x < 0; }))
        return std::nullopt;
      return Dims(std::span<const int64_t>(*ints));
    }
    return i < n.inputs.size() ? g_.value(n.inputs[i]).shape_value : std::nullopt;
  }
  static Result<int> Axis(int64_t axis, int rank) {
    TRY(Need(axis >= -rank && axis < rank, "has an axis outside its rank"));
    return int(axis < 0 ? axis + rank : axis);
  }
  // Extents with the inputs' symbols, as roles.
  Result<Role> RoleOfDims(const Dims& dims) const {
    Role r{Kind::kPacked, {}, dims};
    for (const int64_t d : dims) {
      TRY(Need(IsKnown(d) || d == batch_ || d == tokens_, "has extents that are not known"));
      r.axes.push_back(d == batch_    ? AxisRole::kBatch
                       : d == tokens_ ? AxisRole::kTokens
                                      : AxisRole::kPlain);
    }
    return r;
  }
  // The extents of a packed value, as an input of Reshape or Expand. `segments`: what it becomes a
  // part of is a value per sequence.
  ValueId PackedShape(const Node& n, const Role& r, bool segments) {
    Ints entries;
    std::vector<ValueId> parts;
    for (size_t i = 0; i < r.axes.size(); ++i) {
      const bool dynamic =
          r.axes[i] == AxisRole::kTokens || (r.axes[i] == AxisRole::kBatch && segments);
      if (!dynamic) {
        parts.push_back(Numbers(n, {r.axes[i] == AxisRole::kBatch ? 1 : r.dims[i]}));
        entries.push_back(r.axes[i] == AxisRole::kBatch ? 1 : r.dims[i]);
      } else {
        parts.push_back(Make(n, "Shape", {segments ? firsts_ : positions_}));
      }
    }
    if (entries.size() == r.axes.size()) return Numbers(n, entries);
    return Make(n, "Concat", std::move(parts), {{"axis", int64_t{0}}});
  }

  // ---- Nodes ----------------------------------------------------------------------------------

  Status Visit(Node& n) {
    bool packed = false, extents = false;
    for (const ValueId v : n.inputs) {
      if (v == ValueId::kNone) continue;
      packed |= role(v).kind == Kind::kPacked;
      extents |= role(v).kind == Kind::kExtents;
    }
    TRY(Need(!n.op->nondeterministic, "draws random numbers"));
    if (!packed && !extents) return GiveAll(n, Kind::kFixed);
    TRY(Need(n.subgraphs.empty(), "has sub-graphs"));
    const std::string_view op = n.op->name;
    if (n.op->domain.empty() && (op == "Shape" || op == "Size")) return GiveAll(n, Kind::kExtents);
    if (!packed && !MakesValuesOfExtents(n)) return GiveAll(n, Kind::kExtents);
    const auto& handlers = Handlers();
    const auto it = handlers.find(n.op->domain.empty() ? std::string(op)
                                                       : fmt::format("{}.{}", n.op->domain, op));
    TRY(Need(it != handlers.end(), kMixes));
    return (this->*it->second)(n);
  }
  Status GiveAll(Node& n, Kind kind) {
    for (const ValueId v : n.outputs)
      if (v != ValueId::kNone) {
        Role r = Role::Fixed(g_.value(v).type.dims);
        r.kind = kind;
        SetRole(v, std::move(r));
      }
    return {};
  }
  // Whether a node that reads nothing but constants and extents makes other values of them.
  bool MakesValuesOfExtents(const Node& n) const {
    const std::string_view op = n.op->name;
    if (!n.op->domain.empty()) return false;
    if (op == "Range" || op == "ConstantOfShape" || op == "Expand") return true;
    return op == "Slice" && RoleOf(n, 0).kind == Kind::kFixed;
  }

  static const std::map<std::string, Handler>& Handlers() {
    static const std::map<std::string, Handler> handlers = [] {
      std::map<std::string, Handler> h;
      for (const auto& family : {UnaryOps(), BinaryOps(), VariadicOps(), SelectOps(), ConvertOps()})
        for (const OpDef& op : family) h[std::string(op.name)] = &Packer::Elementwise;
      for (const char* op : {"QuantizeLinear", "DequantizeLinear"}) h[op] = &Packer::Quantise;
      for (const char* op : {"Softmax", "LogSoftmax", "Hardmax", "LpNormalization"})
        h[op] = &Packer::AlongAxis;
      for (const char* op : {"LayerNormalization", "RMSNormalization"}) h[op] = &Packer::Normalise;
      for (const char* op :
           {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
            "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"})
        h[op] = &Packer::Reduce;
      for (const char* op : {"MatMul", "dunlin.FusedMatMul", "Gemm"}) h[op] = &Packer::Product;
      h["CumSum"] = &Packer::CumSum;
      h["Gather"] = &Packer::Gather;
      h["Slice"] = &Packer::Slice;
      h["Range"] = &Packer::Range;
      h["ConstantOfShape"] = &Packer::ConstantOfShape;
      h["Expand"] = &Packer::Expand;
      for (const char* op : {"Reshape", "Flatten"}) h[op] = &Packer::Reshape;
      h["Squeeze"] = &Packer::Squeeze;
      h["Unsqueeze"] = &Packer::Unsqueeze;
      h["Transpose"] = &Packer::Transpose;
      h["Concat"] = &Packer::Concat;
      h["Split"] = &Packer::Split;
      return h;
    }();
    return handlers;
  }

  // [batch, tokens, …]
  static bool IsBatchOfTokens(const Role& x) {
    return x.rank() >= 2 && x.axes[0] == AxisRole::kBatch && x.axes[1] == AxisRole::kTokens &&
           x.count(AxisRole::kTokens) == 1;
  }
  // The types that sums over segments take.
  static bool IsSummed(DType t) { return t == DType::kF32 || t == DType::kI64 || t == DType::kI32; }

  std::vector<Role> RolesOf(const Node& n, size_t from = 0) const {
    std::vector<Role> roles;
    for (size_t i = from; i < n.inputs.size(); ++i)
      if (n.inputs[i] != ValueId::kNone) roles.push_back(roles_[size_t(n.inputs[i])]);
    return roles;
  }

  Status Elementwise(Node& n) {
    TRY(CheckLevels(RolesOf(n)));
    return Give(n, TRY(Combine(RolesOf(n))));
  }

  // With one scale for all, or one per place of a plain axis.
  Status Quantise(Node& n) {
    const Role x = RoleOf(n, 0);
    TRY(Need(x.packed() && RoleOf(n, 1).kind == Kind::kFixed, kByData));
    const Dims& scale = RoleOf(n, 1).dims;
    if (!scale.empty() && !(scale == Dims{1})) {
      const int axis = TRY(Axis(IntAttr(*n.attrs, "axis").value_or(1), x.rank()));
      TRY(Need(scale.size() == 1 && x.axes[size_t(axis)] == AxisRole::kPlain, kMixes));
    }
    return Give(n, x);
  }

  Status AlongAxis(Node& n) {
    const Role x = RoleOf(n, 0);
    const int axis = TRY(Axis(IntAttr(*n.attrs, "axis").value_or(-1), x.rank()));
    if (x.axes[size_t(axis)] == AxisRole::kPlain) return Give(n, x);
    // The scores of attention: keys last, queries before them.
    const bool scores = n.op->name == "Softmax" && axis == x.rank() - 1 && axis > 0 &&
                        x.axes[size_t(axis)] == AxisRole::kTokens &&
                        x.axes[size_t(axis) - 1] == AxisRole::kTokens &&
                        x.count(AxisRole::kTokens) == 2 &&
                        g_.value(n.inputs[0]).type.dtype == DType::kF32;
    TRY(Need(scores, kMixes));
    return Replace(n, Make(n, "dunlin.SegmentSoftmax", {n.inputs[0], offsets_}), x);
  }

  Status Normalise(Node& n) {
    const Role x = RoleOf(n, 0);
    TRY(Need(x.packed(), kByData));
    const int axis = TRY(Axis(IntAttr(*n.attrs, "axis").value_or(-1), x.rank()));
    for (size_t i = size_t(axis); i < x.axes.size(); ++i)
      TRY(Need(x.axes[i] == AxisRole::kPlain, kMixes));
    for (const Role& r : RolesOf(n, 1)) TRY(Need(r.kind == Kind::kFixed, kByData));
    return Give(n, x);
  }

  Status Reduce(Node& n) {
    const Role x = RoleOf(n, 0);
    auto axes = IntsOf(n, 1);
    const bool given = n.inputs.size() > 1 && n.inputs[1] != ValueId::kNone;
    TRY(Need(x.packed() && given && axes && !axes->empty(), kMixes));
    for (int64_t& a : *axes) a = TRY(Axis(a, x.rank()));
    const bool keep = IntAttr(*n.attrs, "keepdims").value_or(1) != 0;
    const auto reduced = [&](size_t i) {
      return std::find(axes->begin(), axes->end(), int64_t(i)) != axes->end();
    };
    bool plain = true;
    Role out{Kind::kPacked, {}, {}};
    for (size_t i = 0; i < x.axes.size(); ++i) {
      plain &= !reduced(i) || x.axes[i] == AxisRole::kPlain;
      if (reduced(i) && !keep) continue;
      out.axes.push_back(reduced(i) ? AxisRole::kPlain : x.axes[i]);
      out.dims.push_back(reduced(i) ? 1 : x.dims[i]);
    }
    if (plain) return Give(n, out);
    static const std::map<std::string_view, SegmentReduction> kSegmented = {
        {"ReduceSum", SegmentReduction::kSum},
        {"ReduceMean", SegmentReduction::kMean},
        {"ReduceMax", SegmentReduction::kMax}};
    const auto how = kSegmented.find(n.op->name);
    const DType dtype = g_.value(n.inputs[0]).type.dtype;
    TRY(Need(how != kSegmented.end() && *axes == Ints{1} && IsBatchOfTokens(x) && IsSummed(dtype),
             kMixes));
    ValueId y = Make(n, "dunlin.SegmentReduce", {n.inputs[0], offsets_},
                     {{"reduction", int64_t(how->second)}});
    if (keep) y = Make(n, "Unsqueeze", {y, Numbers(n, {1})});
    return Replace(n, y, out);
  }

  Status CumSum(Node& n) {
    const Role x = RoleOf(n, 0);
    const auto axis = IntsOf(n, 1);
    const bool turned = IntAttr(*n.attrs, "exclusive").value_or(0) != 0 ||
                        IntAttr(*n.attrs, "reverse").value_or(0) != 0;
    TRY(Need(axis && axis->size() == 1 && x.packed(), kByData));
    const int at = TRY(Axis((*axis)[0], x.rank()));
    if (x.axes[size_t(at)] == AxisRole::kPlain) return Give(n, x);
    TRY(Need(at == 1 && !turned && IsBatchOfTokens(x) && IsSummed(g_.value(n.inputs[0]).type.dtype),
             kMixes));
    return Replace(n, Make(n, "dunlin.SegmentCumSum", {n.inputs[0], offsets_}), x);
  }

  // [batch axes…, M, K] of operand a, [batch axes…, K, N] of b.
  Status Product(Node& n) {
    Role a = RoleOf(n, 0), b = RoleOf(n, 1);
    TRY(Need(a.rank() >= 2 && b.rank() >= 2, "multiplies vectors"));
    TRY(CheckLevels(RolesOf(n)));
    const bool gemm = n.op->name == "Gemm";
    const auto orient = [&](Role& r, std::string_view attr) {
      if (IntAttr(*n.attrs, attr).value_or(0) == 0) return;
      std::swap(r.axes[r.axes.size() - 1], r.axes[r.axes.size() - 2]);
      std::swap(r.dims[r.dims.size() - 1], r.dims[r.dims.size() - 2]);
    };
    orient(a, gemm ? "transA" : "trans_a");
    orient(b, gemm ? "transB" : "trans_b");
    const AxisRole ka = a.axes.back(), kb = b.axes[b.axes.size() - 2];
    const Node* const made_a = g_.producer(n.inputs[0]);
    // Weights of one segment are 0 for the values of all others.
    const bool weighs = ka == AxisRole::kTokens && kb == AxisRole::kTokens && made_a != nullptr &&
                        made_a->op == &OpNamed("dunlin.SegmentSoftmax");
    TRY(Need(weighs || (ka == AxisRole::kPlain && kb == AxisRole::kPlain), kMixes));
    // The sum's axis is gone: what is left of each broadcasts to the result.
    a.axes.back() = b.axes[b.axes.size() - 2] = AxisRole::kPlain;
    a.dims.back() = b.dims[b.dims.size() - 2] = 1;
    std::vector<Role> parts = RolesOf(n, 2);
    parts.push_back(std::move(a));
    parts.push_back(std::move(b));
    return Give(n, TRY(Combine(parts)));
  }

  // The first or last token of every sequence.
  Status OneToken(Node& n, int64_t axis, int64_t index, bool keep) {
    const Role x = RoleOf(n, 0);
    TRY(Need(axis == 1 && IsBatchOfTokens(x) && (index == 0 || index == -1),
             "takes positions other than the first and the last"));
    ValueId y =
        Make(n, "Gather", {n.inputs[0], index == 0 ? firsts_ : lasts_}, {{"axis", int64_t{1}}});
    y = Make(n, "Squeeze", {y, Numbers(n, {0})});
    Role out = x;
    out.axes.erase(out.axes.begin() + 1);
    out.dims.erase(1);
    if (keep) {
      y = Make(n, "Unsqueeze", {y, Numbers(n, {1})});
      out.axes.insert(out.axes.begin() + 1, AxisRole::kPlain);
      out.dims.insert(1, 1);
    }
    return Replace(n, y, out);
  }

  Status Gather(Node& n) {
    const Role x = RoleOf(n, 0), at = RoleOf(n, 1);
    const int axis = TRY(Axis(IntAttr(*n.attrs, "axis").value_or(0), x.rank()));
    TRY(Need(x.kind != Kind::kExtents && at.kind != Kind::kExtents && x.packed() != at.packed(),
             kByData));
    if (x.packed() && x.axes[size_t(axis)] != AxisRole::kPlain) {
      const auto index = IntsOf(n, 1);
      TRY(Need(x.axes[size_t(axis)] == AxisRole::kTokens && index && index->size() == 1 &&
                   at.rank() <= 1,
               kMixes));
      return OneToken(n, axis, (*index)[0], at.rank() == 1);
    }
    Role out{Kind::kPacked, x.axes, x.dims};
    out.axes.erase(out.axes.begin() + axis);
    out.axes.insert(out.axes.begin() + axis, at.axes.begin(), at.axes.end());
    out.dims.erase(size_t(axis));
    for (size_t i = 0; i < at.dims.size(); ++i) out.dims.insert(size_t(axis) + i, at.dims[i]);
    return Give(n, out);
  }

  Status Slice(Node& n) {
    const Role x = RoleOf(n, 0);
    const auto starts = IntsOf(n, 1), steps = IntsOf(n, 4);
    auto axes = IntsOf(n, 3);
    const bool stepped = n.inputs.size() > 4 && n.inputs[4] != ValueId::kNone;
    TRY(Need(starts && (!stepped || steps), kByData));
    if (!axes) {
      TRY(Need(n.inputs.size() < 4 || n.inputs[3] == ValueId::kNone, kByData));
      axes.emplace();
      for (size_t i = 0; i < starts->size(); ++i) axes->push_back(int64_t(i));
    }
    TRY(Need(axes->size() == starts->size(), kByData));
    for (int64_t& a : *axes) a = TRY(Axis(a, x.rank()));
    if (!x.packed()) return SliceToLength(n, *axes, *starts, steps.value_or(Ints()));
    const auto ends = IntsOf(n, 2);
    constexpr int64_t kFar = int64_t{1} << 30;  // what exporters write for 'to the end'
    for (size_t i = 0; i < axes->size(); ++i) {
      if (x.axes[size_t((*axes)[i])] == AxisRole::kPlain) continue;
      TRY(Need(
          ends && x.axes[size_t((*axes)[i])] == AxisRole::kTokens && (!steps || (*steps)[i] == 1),
          kMixes));
      const int64_t start = (*starts)[i], end = (*ends)[i];
      if (start == 0 && end >= kFar) continue;
      TRY(Need(axes->size() == 1 && ((start == 0 && end == 1) || (start == -1 && end >= kFar)),
               "takes positions other than the first and the last"));
      return OneToken(n, (*axes)[0], start, true);
    }
    return Give(n, x);
  }

  // A constant cut to the length of a sequence, as tables of positions are.
  Status SliceToLength(Node& n, const Ints& axes, const Ints& starts, const Ints& steps) {
    const auto ends = ExtentsOf(n, 2);
    TRY(Need(ends && ends->size() == axes.size(), kByData));
    Role out = RoleOf(n, 0);
    out.kind = Kind::kPacked;
    ValueId y = n.inputs[0];
    for (size_t i = 0; i < axes.size(); ++i) {
      TRY(Need((*ends)[i] == tokens_ && starts[i] == 0 && (steps.empty() || steps[i] == 1),
               "cuts constants in a way that depends on the lengths"));
      y = Make(n, "Gather", {y, positions_}, {{"axis", axes[i]}});
      out.axes[size_t(axes[i])] = AxisRole::kTokens;
    }
    return Replace(n, y, out);
  }

  Status Range(Node& n) {
    const auto start = IntsOf(n, 0), step = IntsOf(n, 2);
    const auto limit = ExtentsOf(n, 1);
    TRY(Need(
        start && *start == Ints{0} && step && *step == Ints{1} && limit && *limit == Dims{tokens_},
        "counts something other than the positions"));
    const DType dtype = g_.value(n.outputs[0]).type.dtype;
    const ValueId y =
        dtype == DType::kI64 ? positions_ : Make(n, "Cast", {positions_}, {{"to", dtype}});
    const Role out{Kind::kPacked, {AxisRole::kTokens}, {tokens_}};
    TRY(Replace(n, y, out));
    return {};
  }

  Status ConstantOfShape(Node& n) {
    const auto dims = ExtentsOf(n, 0);
    TRY(Need(dims.has_value(), "has extents that are not known"));
    const Role out = TRY(RoleOfDims(*dims));
    g_.SetInput(n, 0, PackedShape(n, out, out.per_segment()));
    return Give(n, out);
  }

  Status Expand(Node& n) {
    const Role x = RoleOf(n, 0);
    const auto to = ExtentsOf(n, 1);
    TRY(Need(to.has_value(), "has extents that are not known"));
    const Role wanted = TRY(RoleOfDims(*to));
    const Role out = TRY(Combine({x, wanted}));
    TRY(Need(!out.has_tokens() || !x.per_segment(), kMixes));
    if (RoleOf(n, 1).kind == Kind::kExtents)
      g_.SetInput(n, 1, PackedShape(n, wanted, out.per_segment()));
    return Give(n, out);
  }

  Status Reshape(Node& n) {
    const Role x = RoleOf(n, 0);
    TRY(Need(x.packed(), kByData));
    const Role out = TRY(Regroup(x, g_.value(n.outputs[0]).type.dims, batch_, tokens_));
    TRY(Need(out.per_segment() == x.per_segment(), kMixes));
    return Replace(n, Make(n, "Reshape", {n.inputs[0], PackedShape(n, out, x.per_segment())}), out);
  }

  Status Squeeze(Node& n) {
    Role x = RoleOf(n, 0);
    auto axes = IntsOf(n, 1);
    TRY(Need(x.packed() && axes, "drops whatever extents are 1"));
    for (int64_t& a : *axes) a = TRY(Axis(a, x.rank()));
    std::sort(axes->rbegin(), axes->rend());
    for (const int64_t a : *axes) {
      TRY(Need(x.axes[size_t(a)] == AxisRole::kPlain, kMixes));
      x.axes.erase(x.axes.begin() + a);
      x.dims.erase(size_t(a));
    }
    return Give(n, x);
  }

  Status Unsqueeze(Node& n) {
    Role x = RoleOf(n, 0);
    auto axes = IntsOf(n, 1);
    TRY(Need(x.packed() && axes, kByData));
    for (int64_t& a : *axes) a = TRY(Axis(a, x.rank() + int(axes->size())));
    std::sort(axes->begin(), axes->end());
    for (const int64_t a : *axes) {
      x.axes.insert(x.axes.begin() + a, AxisRole::kPlain);
      x.dims.insert(size_t(a), 1);
    }
    return Give(n, x);
  }

  Status Transpose(Node& n) {
    const Role x = RoleOf(n, 0);
    const Ints perm = IntsAttr(*n.attrs, "perm").value_or(Ints());
    Role out{Kind::kPacked, {}, {}};
    for (size_t i = 0; i < x.axes.size(); ++i) {
      const size_t from = perm.empty() ? x.axes.size() - 1 - i : size_t(perm[i]);
      out.axes.push_back(x.axes[from]);
      out.dims.push_back(x.dims[from]);
    }
    return Give(n, out);
  }

  Status Concat(Node& n) {
    const int axis = TRY(Axis(IntAttr(*n.attrs, "axis").value_or(0), RoleOf(n, 0).rank()));
    std::vector<Role> parts;
    ValueId last = ValueId::kNone;
    for (int i = 0; i < int(n.inputs.size());) {
      const Role part = RoleOf(n, size_t(i));
      if (part.rank() > axis && part.dims[size_t(axis)] == 0) {  // adds nothing
        g_.RemoveInput(n, i);
        continue;
      }
      last = n.inputs[size_t(i++)];
      parts.push_back(part);
    }
    TRY(Need(!parts.empty(), kMixes));
    if (parts.size() == 1) return Replace(n, last, parts[0]);
    for (const Role& p : parts)
      TRY(Need(p.rank() == parts[0].rank() && p.axes[size_t(axis)] == AxisRole::kPlain, kMixes));
    for (Role& p : parts) p.dims[size_t(axis)] = 1;
    const Role out = TRY(Combine(parts));
    // Nothing broadcasts here: where one part has the batch or the tokens, all have.
    for (const Role& p : parts) TRY(Need(p.axes == out.axes, kMixes));
    return Give(n, out);
  }

  Status Split(Node& n) {
    const Role x = RoleOf(n, 0);
    const int axis = TRY(Axis(IntAttr(*n.attrs, "axis").value_or(0), x.rank()));
    TRY(Need(x.packed() && x.axes[size_t(axis)] == AxisRole::kPlain, kMixes));
    for (const ValueId v : n.outputs) {
      if (v == ValueId::kNone) continue;
      Role r = x;
      r.dims[size_t(axis)] = g_.value(v).type.dims[size_t(axis)];
      SetRole(v, std::move(r));
    }
    return {};
  }

  std::unique_ptr<Graph> owned_;
  Graph& g_;
  std::vector<Role> roles_;         // by value
  int64_t batch_ = 0, tokens_ = 0;  // symbols; 0: not met yet
  ValueId offsets_{}, positions_{}, firsts_{}, lasts_{};
};

}  // namespace

Result<RaggedGraph> MakeRagged(const Graph& graph) { return Packer(graph).Pack(); }

}  // namespace dunlin
