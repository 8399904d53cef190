// Drives the operators' own shape inference over a graph.
#include <algorithm>

#include "ir/graph.h"

namespace dunlin {

std::shared_ptr<Attrs> DefaultAttrs(const OpDef& op) {
  return std::shared_ptr<Attrs>(op.make_attrs());
}

namespace {

// Loops infer their bodies twice, the second time with what the first has shown. Inside as many
// others as this they get the first answer again, which is right but may leave extents open: times
// would multiply with each level.
constexpr int kRefinedNesting = 3;

Status InferAt(Graph& graph, Node& node, int nesting);

class NodeInfer : public InferContext {
 public:
  NodeInfer(Graph& g, Node& n, int nesting)
      : g_(g), n_(n), nesting_(nesting), known_(n.subgraphs.size()) {}
  int input_count() const override { return n_.formal_inputs(); }
  int output_count() const override { return int(n_.outputs.size()); }
  bool has(int i) const override {
    return i < n_.formal_inputs() && n_.inputs[size_t(i)] != ValueId::kNone;
  }
  bool wants(int o) const override {
    return o < int(n_.outputs.size()) && n_.outputs[size_t(o)] != ValueId::kNone;
  }
  const Type& input(int i) const override {
    // An input may be left out where no operator expects it: nothing is known of it then.
    static const Type absent;
    return has(i) ? In(i).type : absent;
  }
  const Tensor* value(int i) const override {
    return has(i) && In(i).is_constant() ? &In(i).constant : nullptr;
  }
  std::optional<Dims> shape_value(int i) const override {
    if (!has(i)) return std::nullopt;
    if (In(i).shape_value) return In(i).shape_value;
    // A constant integer vector or scalar is a shape value too; longer ones are data.
    const Tensor* t = value(i);
    if (t == nullptr || t->rank() > 1 || t->count() > 64 || !IsInteger(t->dtype()))
      return std::nullopt;
    const auto v = ToInts(*t);
    if (!v) return std::nullopt;
    // Negative constants (Reshape's -1) are not extents; only the operator can read those, through
    // ints().
    for (const int64_t d : *v)
      if (d < 0) return std::nullopt;
    return Dims(std::span<const int64_t>(*v));
  }
  void Set(int o, Type t) override {
    if (!wants(o)) return;
    GraphValue& v = g_.value(n_.outputs[size_t(o)]);
    // A constant here came from an earlier inference, perhaps of other input types (a Loop's
    // fixpoint).
    v.constant = Tensor();
    v.type = std::move(t);
    v.shape_value.reset();
  }
  void SetShapeValue(int o, Dims entries) override {
    if (!wants(o)) return;
    GraphValue& v = g_.value(n_.outputs[size_t(o)]);
    // Known in full: as good as a constant.
    if (AllKnown(entries) && v.type.IsStatic() && v.type.dims.rank() <= 1 &&
        CountOf(v.type.dims) == int64_t(entries.size()) &&
        (v.type.dtype == DType::kI64 || v.type.dtype == DType::kI32)) {
      Tensor t = Tensor::Of<int64_t>(v.type.dims, std::span<const int64_t>(entries));
      if (v.type.dtype == DType::kI64) {
        v.constant = std::move(t);
      } else if (auto c = Convert(t, v.type.dtype)) {
        v.constant = std::move(*c);
      }
    }
    v.shape_value = std::move(entries);
  }
  Result<std::vector<Type>> InferSubgraph(int branch, std::span<const Type> formal) override {
    if (branch < 0 || branch >= int(n_.subgraphs.size()))
      return Fail(Code::kInvalidArgument, "sub-graph {} is missing", branch);
    std::optional<Inferred>& known = known_[size_t(branch)];
    if (known && (nesting_ >= kRefinedNesting || std::ranges::equal(known->formal, formal)))
      return known->out;
    Graph& s = *n_.subgraphs[size_t(branch)];
    if (formal.size() + size_t(n_.captures) != s.inputs().size())
      return Fail(Code::kInvalidArgument, "sub-graph {} has {} inputs, expected {}", branch,
                  s.inputs().size() - size_t(n_.captures), formal.size());
    for (size_t i = 0; i < formal.size(); ++i) {
      GraphValue& v = s.value(s.inputs()[i]);
      if (formal[i].dtype != DType::kUndefined || formal[i].kind != Type::Kind::kTensor)
        v.type = formal[i];
      v.shape_value.reset();
    }
    for (int c = 0; c < n_.captures; ++c) {
      const GraphValue& outer = g_.value(n_.inputs[size_t(n_.formal_inputs() + c)]);
      GraphValue& inner = s.value(s.inputs()[formal.size() + size_t(c)]);
      inner.type = outer.type;
      inner.shape_value = outer.shape_value;
      inner.constant = outer.constant;
    }
    for (const NodeId id : TRY(s.Order())) TRY(InferAt(s, s.node(id), nesting_ + 1));
    std::vector<Type> out;
    for (const ValueId v : s.outputs()) out.push_back(s.value(v).type);
    known = Inferred{{formal.begin(), formal.end()}, out};
    return out;
  }

 private:
  struct Inferred {
    std::vector<Type> formal, out;
  };
  const GraphValue& In(int i) const { return g_.value(n_.inputs[size_t(i)]); }
  Graph& g_;
  Node& n_;
  int nesting_;
  std::vector<std::optional<Inferred>> known_;  // of each sub-graph, what was inferred last
};

Status InferAt(Graph& graph, Node& node, int nesting) {
  NodeInfer ctx(graph, node, nesting);
  if (auto s = node.op->infer(*node.attrs, ctx); !s)
    return FailAt(fmt::format("node '{}' ({})", node.name, node.op->name), s.error());
  return {};
}

}  // namespace

Status InferNode(Graph& graph, Node& node) { return InferAt(graph, node, 0); }

Status InferGraph(Graph& graph) {
  for (const NodeId id : TRY(graph.Order())) TRY(InferNode(graph, graph.node(id)));
  return {};
}

}  // namespace dunlin
