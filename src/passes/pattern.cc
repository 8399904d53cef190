#include "passes/pattern.h"

#include <algorithm>
#include <cmath>

namespace dunlin {

const OpDef& OpNamed(std::string_view qualified) {
  const size_t dot = qualified.rfind('.');
  const OpDef* op = dot == std::string_view::npos
                        ? FindOp(qualified)
                        : FindOp(qualified.substr(dot + 1), qualified.substr(0, dot));
  DUNLIN_CHECK(op != nullptr, "a rule names an operator that is not declared");
  return *op;
}

Pat Var(int index) {
  Pat p;
  p.index = index;
  return p;
}
Pat Lit(double value) {
  Pat p;
  p.kind = Pat::Kind::kLit;
  p.literal = value;
  return p;
}
Pat Op(std::initializer_list<std::string_view> names, std::vector<Pat> inputs, int bind) {
  Pat p;
  p.kind = Pat::Kind::kOp;
  p.index = bind;
  for (const auto n : names) p.ops.push_back(&OpNamed(n));
  p.inputs = std::move(inputs);
  return p;
}
Pat Op(std::string_view name, std::vector<Pat> inputs, int bind) {
  return Op({name}, std::move(inputs), bind);
}
Pat OpMore(std::initializer_list<std::string_view> names, std::vector<Pat> inputs, int bind) {
  Pat p = Op(names, std::move(inputs), bind);
  p.literal = 1;
  return p;
}

std::optional<double> UniformConstant(const GraphValue& v) {
  if (!v.is_constant() || v.constant.count() < 1 ||
      !(IsFloat(v.constant.dtype()) || IsInteger(v.constant.dtype())))
    return std::nullopt;
  // Larger constants are weights; comparing all their elements would cost more than it can win.
  if (v.constant.count() > 4096) return std::nullopt;
  const auto d = Convert(v.constant, DType::kF64);
  if (!d) return std::nullopt;
  const auto values = d->values<double>();
  for (const double x : values)
    if (x != values[0]) return std::nullopt;
  return values[0];
}

namespace {

bool IsCommutative(const OpDef* op) {
  static const OpDef* const kOps[] = {&OpNamed("Add"), &OpNamed("Mul"), &OpNamed("Max"),
                                      &OpNamed("Min"), &OpNamed("Sum")};
  return std::find(std::begin(kOps), std::end(kOps), op) != std::end(kOps);
}

class Matcher {
 public:
  explicit Matcher(const Graph& g) : g_(g) {}

  bool Root(const Pat& p, const Node& n, Match& m) {
    if (!MatchNode(p, n, m)) return false;
    for (const NodeId id : m.covered) {
      if (id == n.id) continue;
      for (const ValueId v : g_.node(id).outputs) {
        if (v == ValueId::kNone) continue;
        if (g_.IsOutput(v)) return false;
        for (const Use& u : g_.value(v).uses)
          if (std::find(m.covered.begin(), m.covered.end(), u.node) == m.covered.end())
            return false;
      }
    }
    return true;
  }

 private:
  bool MatchValue(const Pat& p, ValueId v, Match& m) {
    if (v == ValueId::kNone) return false;
    switch (p.kind) {
      case Pat::Kind::kVar:
        if (m.vars[p.index] == ValueId::kNone) m.vars[p.index] = v;
        return m.vars[p.index] == v;
      case Pat::Kind::kLit: {
        const auto x = UniformConstant(g_.value(v));
        return x && std::abs(*x - p.literal) <= 1e-5 * std::max(1e-3, std::abs(p.literal));
      }
      case Pat::Kind::kOp: {
        const Node* n = g_.value(v).is_constant() ? nullptr : g_.producer(v);
        return n != nullptr && n->outputs[0] == v && MatchNode(p, *n, m);
      }
    }
    return false;
  }
  bool MatchNode(const Pat& p, const Node& n, Match& m) {
    if (std::find(p.ops.begin(), p.ops.end(), n.op) == p.ops.end()) return false;
    if (n.inputs.size() < p.inputs.size()) return false;
    const bool more = p.literal != 0;
    if (!more)
      for (size_t i = p.inputs.size(); i < n.inputs.size(); ++i)
        if (n.inputs[i] != ValueId::kNone) return false;
    for (size_t o = 1; o < n.outputs.size(); ++o)
      if (n.outputs[o] != ValueId::kNone && g_.UseCount(n.outputs[o]) > 0) return false;
    const Match saved = m;
    const auto attempt = [&](bool swapped) {
      m = saved;
      if (std::find(m.covered.begin(), m.covered.end(), n.id) == m.covered.end())
        m.covered.push_back(n.id);
      if (p.index >= 0) m.nodes[p.index] = n.id;
      for (size_t i = 0; i < p.inputs.size(); ++i)
        if (!MatchValue(p.inputs[i], n.inputs[swapped ? 1 - i : i], m)) return false;
      return true;
    };
    if (attempt(false)) return true;
    if (p.inputs.size() == 2 && IsCommutative(n.op) && attempt(true)) return true;
    m = saved;
    return false;
  }
  const Graph& g_;
};

class Setter : public AttrVisitor {
 public:
  explicit Setter(const AttrSettings& s) : settings_(s) {}
  size_t used = 0;
  void operator()(std::string_view n, int64_t& v) override { Set(n, v); }
  void operator()(std::string_view n, float& v) override { Set(n, v); }
  void operator()(std::string_view n, bool& v) override { Set(n, v); }
  void operator()(std::string_view n, std::string& v) override { Set(n, v); }
  void operator()(std::string_view, Tensor&) override {}
  void operator()(std::string_view n, std::vector<int64_t>& v) override { Set(n, v); }
  void operator()(std::string_view, std::vector<float>&) override {}
  void operator()(std::string_view, std::vector<std::string>&) override {}
  void operator()(std::string_view n, std::optional<int64_t>& v) override { SetOptional(n, v); }
  void operator()(std::string_view n, std::optional<float>& v) override { SetOptional(n, v); }
  void operator()(std::string_view n, DType& v) override { Set(n, v); }

 private:
  template <class T>
  bool Set(std::string_view n, T& v) {
    for (const auto& [name, value] : settings_) {
      if (name != n) continue;
      const T* p = std::get_if<T>(&value);
      DUNLIN_CHECK(p != nullptr, "a rule sets an attribute of another type");
      v = *p;
      ++used;
      return true;
    }
    return false;
  }
  template <class T>
  void SetOptional(std::string_view n, std::optional<T>& v) {
    T x{};
    if (Set(n, x)) v = x;
  }
  const AttrSettings& settings_;
};

template <class T>
class Getter : public AttrVisitor {
 public:
  explicit Getter(std::string_view name) : name_(name) {}
  std::optional<T> found;
  void operator()(std::string_view n, int64_t& v) override { Get(n, v); }
  void operator()(std::string_view n, float& v) override { Get(n, v); }
  void operator()(std::string_view n, bool& v) override { Get(n, int64_t{v}); }
  void operator()(std::string_view n, std::string& v) override { Get(n, v); }
  void operator()(std::string_view n, Tensor& v) override { Get(n, v); }
  void operator()(std::string_view n, std::vector<int64_t>& v) override { Get(n, v); }
  void operator()(std::string_view n, std::vector<float>& v) override { Get(n, v); }
  void operator()(std::string_view n, std::vector<std::string>& v) override { Get(n, v); }
  void operator()(std::string_view n, std::optional<int64_t>& v) override {
    if (v) Get(n, *v);
  }
  void operator()(std::string_view n, std::optional<float>& v) override {
    if (v) Get(n, *v);
  }
  void operator()(std::string_view n, DType& v) override { Get(n, int64_t(v)); }

 private:
  template <class U>
  void Get(std::string_view n, const U& v) {
    if constexpr (std::is_same_v<T, U>)
      if (n == name_) found = v;
  }
  std::string_view name_;
};

template <class T>
std::optional<T> Read(const Attrs& a, std::string_view name) {
  Getter<T> get(name);
  const_cast<Attrs&>(a).Visit(get);  // the getter does not write
  return get.found;
}

}  // namespace

std::optional<int64_t> IntAttr(const Attrs& a, std::string_view name) {
  return Read<int64_t>(a, name);
}
std::optional<float> FloatAttr(const Attrs& a, std::string_view name) {
  return Read<float>(a, name);
}
std::optional<std::string> StringAttr(const Attrs& a, std::string_view name) {
  return Read<std::string>(a, name);
}
std::optional<std::vector<int64_t>> IntsAttr(const Attrs& a, std::string_view name) {
  return Read<std::vector<int64_t>>(a, name);
}

std::shared_ptr<const Attrs> AttrsWith(const OpDef& op, const AttrSettings& settings) {
  auto a = DefaultAttrs(op);
  Setter set(settings);
  a->Visit(set);
  DUNLIN_CHECK(set.used == settings.size(), "a rule sets an attribute the operator does not have");
  return a;
}

Result<std::optional<ValueId>> Rewriter::NodeWith(std::string_view op, std::vector<ValueId> inputs,
                                                  std::shared_ptr<const Attrs> attrs) {
  const dunlin::Node& root = g.node(m.covered[0]);
  const double position = root.position;
  const std::string name = root.name;
  const std::string out[] = {g.value(root.outputs[0]).name};
  dunlin::Node& n = g.AddNode(OpNamed(op), std::move(attrs), std::move(inputs), out, name);
  n.position = position;
  TRY(InferNode(g, n));
  return std::optional<ValueId>(n.outputs[0]);
}

Result<std::optional<ValueId>> Rewriter::Node(std::string_view op, std::vector<ValueId> inputs,
                                              const AttrSettings& attrs) {
  return NodeWith(op, std::move(inputs), AttrsWith(OpNamed(op), attrs));
}

Status ApplyRules(Graph& g, std::span<const Rule> rules, RuleCounts& counts) {
  int fired = 0;
  // Each rule removes or merges nodes; twice their number is more firings than any graph has.
  const std::vector<NodeId> start = g.SoundOrder();
  const int bound = int(start.size()) * 4 + 64;
  bool again = true;
  while (again && fired < bound) {
    again = false;
    for (const NodeId id : g.SoundOrder()) {
      for (const Rule& rule : rules) {
        if (!g.alive(id)) break;
        const Node& n = g.node(id);
        if (n.outputs.empty() || n.outputs[0] == ValueId::kNone) break;
        Match m;
        if (!Matcher(g).Root(rule.pattern, n, m)) continue;
        Rewriter r(g, m);
        const auto to = TRY(rule.build(r, m));
        if (!to) continue;
        const ValueId from = g.node(id).outputs[0];
        g.ReplaceAllUses(from, *to);
        for (const NodeId c :
             m.covered)  // the root first, so that those behind it have lost their use
          if (g.alive(c)) {
            const Node& dead = g.node(c);
            if (std::all_of(dead.outputs.begin(), dead.outputs.end(),
                            [&](ValueId v) { return v == ValueId::kNone || g.UseCount(v) == 0; }))
              g.Erase(c);
          }
        counts.Add(rule.name);
        ++fired;
        again = true;
      }
    }
    g.RemoveDeadNodes();  // so that what only they used is used once
  }
  return {};
}

}  // namespace dunlin
