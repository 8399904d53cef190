// Rewrite rules as data: a pattern over operators, and what takes its place.
//
//   {"silu", Op("Mul", {Var(0), Op("Sigmoid", {Var(0)})}), [](Rewriter& r, const Match& m) { return
//   r.Node("Swish", {m.var(0)}); }}
//
// A pattern matches from the root down. Every matched node but the root must be used inside the
// match only, so that nothing is computed twice. Nothing changes until a pattern has matched and
// the rule has said yes.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ir/graph.h"
#include "ops/op.h"
#include "passes/report.h"

namespace dunlin {

struct Pat {
  enum class Kind : uint8_t { kVar, kLit, kOp } kind = Kind::kVar;
  int index = -1;  // Var: which; Op: bound under this number, or -1
  double literal = 0;
  std::vector<const OpDef*> ops;
  std::vector<Pat> inputs;
};
// Any value; the same number must match the same value.
Pat Var(int index);
// A constant with one element (or all elements equal) of this value, to a part in a hundred
// thousand.
Pat Lit(double value);
// Output 0 of one of these operators ("Add", "dunlin.FusedConv"); inputs beyond those listed must
// be absent unless `more` is given. Add, Mul and their like match either order. `bind` makes the
// node available to the rule.
Pat Op(std::initializer_list<std::string_view> names, std::vector<Pat> inputs, int bind = -1);
Pat Op(std::string_view name, std::vector<Pat> inputs, int bind = -1);
// The same with any further inputs.
Pat OpMore(std::initializer_list<std::string_view> names, std::vector<Pat> inputs, int bind = -1);

inline constexpr int kMaxBindings = 12;

struct Match {
  ValueId vars[kMaxBindings];
  NodeId nodes[kMaxBindings];
  std::vector<NodeId> covered;  // every matched node, the root first
  Match() {
    std::fill(std::begin(vars), std::end(vars), ValueId::kNone);
    std::fill(std::begin(nodes), std::end(nodes), NodeId::kNone);
  }
  ValueId var(int i) const { return vars[i]; }
};

using AttrSetting = std::variant<int64_t, float, bool, DType, std::string, std::vector<int64_t>>;
using AttrSettings = std::vector<std::pair<std::string_view, AttrSetting>>;
// The operator's defaults with these attributes set; a name it has not is a bug.
std::shared_ptr<const Attrs> AttrsWith(const OpDef& op, const AttrSettings& settings);
// Reads one attribute; nullopt when there is none of that name and type.
std::optional<int64_t> IntAttr(const Attrs& a, std::string_view name);
std::optional<float> FloatAttr(const Attrs& a, std::string_view name);
std::optional<std::string> StringAttr(const Attrs& a, std::string_view name);
std::optional<std::vector<int64_t>> IntsAttr(const Attrs& a, std::string_view name);

class Rewriter {
 public:
  Rewriter(Graph& graph, const Match& match) : g(graph), m(match) {}
  Graph& g;
  const Match& m;
  // New nodes stand where the root stood and take its name; their types are inferred.
  Result<std::optional<ValueId>> Node(std::string_view op, std::vector<ValueId> inputs,
                                      const AttrSettings& attrs = {});
  Result<std::optional<ValueId>> NodeWith(std::string_view op, std::vector<ValueId> inputs,
                                          std::shared_ptr<const Attrs> attrs);
  const dunlin::Node& node(int bind) const { return g.node(m.nodes[bind]); }
  const GraphValue& value(ValueId v) const { return g.value(v); }
  const Type& type(ValueId v) const { return g.value(v).type; }
};

// The value that replaces the root's output 0; nullopt: the rule does not apply after all, nothing
// was changed.
using Build = std::function<Result<std::optional<ValueId>>(Rewriter&, const Match&)>;
struct Rule {
  std::string_view name;
  Pat pattern;
  Build build;
};

// Applies rules until none fires. Each firing must leave fewer nodes or cover what it replaced, so
// that this ends; a bound on the number of firings guards against a rule that does not. Each firing
// is counted under its rule's name.
Status ApplyRules(Graph& g, std::span<const Rule> rules, RuleCounts& counts);

// "Conv" or "dunlin.FusedConv"; a name nobody declared is a bug.
const OpDef& OpNamed(std::string_view qualified);
// A constant whose elements are all the same number.
std::optional<double> UniformConstant(const GraphValue& v);

}  // namespace dunlin
