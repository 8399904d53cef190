// Chains of primitives that stand for one function, as exporters really write them.
#include <cmath>

#include "passes/fuse.h"
#include "passes/passes.h"

namespace dunlin {
namespace {

using Made = Result<std::optional<ValueId>>;

Build Unary(std::string_view op, AttrSettings attrs = {}) {
  return [op, attrs](Rewriter& r, const Match& m) -> Made { return r.Node(op, {m.var(0)}, attrs); };
}

bool IsFloatValue(const Type& t) {
  return t.dtype == DType::kF32 || t.dtype == DType::kF64 || t.dtype == DType::kF16;
}

// The reduced axes of a node are the last one alone, kept as an extent of 1.
bool ReducesLastAxis(const Rewriter& r, const dunlin::Node& n) {
  const Type& x = r.type(n.inputs[0]);
  if (!x.ranked || IntAttr(*n.attrs, "keepdims").value_or(1) == 0) return false;
  if (n.inputs.size() < 2 || n.inputs[1] == ValueId::kNone || !r.value(n.inputs[1]).is_constant())
    return false;
  const auto axes = ToInts(r.value(n.inputs[1]).constant);
  return axes && axes->size() == 1 && ((*axes)[0] == -1 || (*axes)[0] == x.dims.rank() - 1);
}

// A constant vector as long as the last axis of x.
bool IsLastAxisVector(const Rewriter& r, ValueId v, ValueId x) {
  const GraphValue& c = r.value(v);
  const Type& t = r.type(x);
  return c.is_constant() && t.ranked && c.type.dtype == t.dtype && !t.dims.empty() &&
         IsKnown(t.dims.back()) && c.constant.rank() == 1 && c.constant.count() == t.dims.back();
}

std::optional<float> Epsilon(const Rewriter& r, ValueId v) {
  const auto e = UniformConstant(r.value(v));
  if (!e || *e < 0 || *e > 0.1 || r.value(v).constant.count() != 1) return std::nullopt;
  return float(*e);
}

// nodes: 1 mean of x, 2 mean of squares; vars: 0 x, 1 epsilon, 2 scale, 3 shift (or none)
Made MakeLayerNorm(Rewriter& r, const Match& m) {
  const auto epsilon = Epsilon(r, m.var(1));
  if (!epsilon || !IsFloatValue(r.type(m.var(0))) || !ReducesLastAxis(r, r.node(1)) ||
      !ReducesLastAxis(r, r.node(2)) || !IsLastAxisVector(r, m.var(2), m.var(0)))
    return std::nullopt;
  std::vector<ValueId> inputs = {m.var(0), m.var(2)};
  if (m.var(3) != ValueId::kNone) {
    if (!IsLastAxisVector(r, m.var(3), m.var(0))) return std::nullopt;
    inputs.push_back(m.var(3));
  }
  return r.Node("LayerNormalization", std::move(inputs),
                {{"axis", int64_t{-1}}, {"epsilon", *epsilon}});
}

// node 2: mean of squares; vars: 0 x, 1 epsilon, 2 scale
Made MakeRmsNorm(Rewriter& r, const Match& m) {
  const auto epsilon = Epsilon(r, m.var(1));
  if (!epsilon || !IsFloatValue(r.type(m.var(0))) || !ReducesLastAxis(r, r.node(2)) ||
      !IsLastAxisVector(r, m.var(2), m.var(0)))
    return std::nullopt;
  return r.Node("RMSNormalization", {m.var(0), m.var(2)},
                {{"axis", int64_t{-1}}, {"epsilon", *epsilon}});
}

// The same without scale and shift: those of an untrained model are ones and zeros, which have
// gone. nodes: 1 mean of x (LayerNorm), 2 mean of squares; vars: 0 x, 1 epsilon
template <bool kCentred>
Made MakePlainNorm(Rewriter& r, const Match& m) {
  const auto epsilon = Epsilon(r, m.var(1));
  const Type x = r.type(m.var(0));  // a copy: values may move when one is added
  if (!epsilon || x.dtype != DType::kF32 || !ReducesLastAxis(r, r.node(2)) ||
      (kCentred && !ReducesLastAxis(r, r.node(1))))
    return std::nullopt;
  constexpr int64_t kLongestRow = 1 << 16;  // the ones take memory
  if (!IsKnown(x.dims.back()) || x.dims.back() > kLongestRow) return std::nullopt;
  const std::vector<float> ones(size_t(x.dims.back()), 1.0f);
  const ValueId scale =
      r.g.AddConstant(r.value(m.var(0)).name + "/ones",
                      Tensor::Of<float>({x.dims.back()}, std::span<const float>(ones)));
  return r.Node(kCentred ? "LayerNormalization" : "RMSNormalization", {m.var(0), scale},
                {{"axis", int64_t{-1}}, {"epsilon", *epsilon}});
}

// The spellings of (x - mean) / sqrt(var + eps).
Pat Centred() { return Op("Sub", {Var(0), OpMore({"ReduceMean"}, {Var(0)}, 1)}); }
Pat SquareOf(const Pat& p, bool by_pow) {
  return by_pow ? Op("Pow", {p, Lit(2)}) : Op("Mul", {p, p});
}
Pat Normalised(bool by_pow) {
  return Op("Div",
            {Centred(),
             Op("Sqrt",
                {Op("Add", {OpMore({"ReduceMean"}, {SquareOf(Centred(), by_pow)}, 2), Var(1)})})});
}
// x * (1 / sqrt(mean(x²) + eps)) and x / sqrt(…).
Pat RootMeanSquare(bool by_pow) {
  return Op("Sqrt", {Op("Add", {OpMore({"ReduceMean"}, {SquareOf(Var(0), by_pow)}, 2), Var(1)})});
}
Pat RmsNormalised(bool by_pow, bool by_div) {
  if (by_div) return Op("Div", {Var(0), RootMeanSquare(by_pow)});
  return Op("Mul", {Var(0), Op({"Reciprocal"}, {RootMeanSquare(by_pow)})});
}
// As torch writes rsqrt: 1 / sqrt.
Pat RmsNormalisedRsqrt(bool by_pow) {
  return Op("Mul", {Var(0), Op("Div", {Lit(1), RootMeanSquare(by_pow)})});
}

// 1 + erf(x / sqrt 2)
Pat ErfPart(bool by_div) {
  const Pat scaled =
      by_div ? Op("Div", {Var(0), Lit(std::sqrt(2.0))}) : Op("Mul", {Var(0), Lit(std::sqrt(0.5))});
  return Op("Add", {Op("Erf", {scaled}), Lit(1)});
}
// 1 + tanh(sqrt(2/pi) (x + 0.044715 x³))
Pat TanhPart(const Pat& cube) {
  return Op("Add", {Op("Tanh", {Op("Mul", {Op("Add", {Var(0), Op("Mul", {cube, Lit(0.044715)})}),
                                           Lit(std::sqrt(2.0 / M_PI))})}),
                    Lit(1)});
}

std::vector<Rule> MakeRules() {
  std::vector<Rule> rules;
  rules.push_back({"silu", Op("Mul", {Var(0), Op("Sigmoid", {Var(0)})}), Unary("Swish")});

  const Pat clip6 = Op("Clip", {Op("Add", {Var(0), Lit(3)}), Lit(0), Lit(6)});
  // HardSwish: the factor of 1/6 may stand at any of three places.
  rules.push_back(
      {"hardswish-div", Op("Div", {Op("Mul", {Var(0), clip6}), Lit(6)}), Unary("HardSwish")});
  rules.push_back(
      {"hardswish-mul", Op("Mul", {Op("Mul", {Var(0), clip6}), Lit(1.0 / 6)}), Unary("HardSwish")});
  rules.push_back({"hardsigmoid-div", Op("Div", {clip6, Lit(6)}),
                   Unary("HardSigmoid", {{"alpha", float(1.0 / 6)}, {"beta", 0.5f}})});
  rules.push_back({"hardsigmoid-mul", Op("Mul", {clip6, Lit(1.0 / 6)}),
                   Unary("HardSigmoid", {{"alpha", float(1.0 / 6)}, {"beta", 0.5f}})});
  rules.push_back({"hardswish-hardsigmoid", Op("Mul", {Var(0), Op("HardSigmoid", {Var(0)}, 1)}),
                   [](Rewriter& r, const Match& m) -> Made {
                     const float a = FloatAttr(*r.node(1).attrs, "alpha").value_or(0.2f),
                                 b = FloatAttr(*r.node(1).attrs, "beta").value_or(0.5f);
                     if (std::abs(a - 1.0f / 6) > 1e-6f || b != 0.5f) return std::nullopt;
                     return r.Node("HardSwish", {m.var(0)});
                   }});

  for (const bool by_div : {true, false}) {
    const Pat erf = ErfPart(by_div);
    rules.push_back({"gelu-erf", Op("Mul", {Op("Mul", {Var(0), erf}), Lit(0.5)}), Unary("Gelu")});
    rules.push_back(
        {"gelu-erf-half-first", Op("Mul", {Op("Mul", {Var(0), Lit(0.5)}), erf}), Unary("Gelu")});
    rules.push_back(
        {"gelu-erf-half-inside", Op("Mul", {Var(0), Op("Mul", {erf, Lit(0.5)})}), Unary("Gelu")});
  }
  for (const Pat& cube :
       {Op("Pow", {Var(0), Lit(3)}), Op("Mul", {Op("Mul", {Var(0), Var(0)}), Var(0)})}) {
    const Pat tanh = TanhPart(cube);
    const AttrSettings approx = {{"approximate", std::string("tanh")}};
    rules.push_back(
        {"gelu-tanh", Op("Mul", {Op("Mul", {Var(0), tanh}), Lit(0.5)}), Unary("Gelu", approx)});
    rules.push_back({"gelu-tanh-half-first", Op("Mul", {Op("Mul", {Var(0), Lit(0.5)}), tanh}),
                     Unary("Gelu", approx)});
    rules.push_back({"gelu-tanh-half-inside", Op("Mul", {Var(0), Op("Mul", {tanh, Lit(0.5)})}),
                     Unary("Gelu", approx)});
  }

  for (const bool by_pow : {true, false}) {
    rules.push_back(
        {"layernorm", Op("Add", {Op("Mul", {Normalised(by_pow), Var(2)}), Var(3)}), MakeLayerNorm});
  }
  return rules;
}

// After the longer forms that contain these have had their chance: a LayerNorm without its shift,
// and RMSNorm, which is also what a LayerNorm does after centring.
std::vector<Rule> MakeLateRules() {
  std::vector<Rule> rules;
  for (const bool by_pow : {true, false})
    rules.push_back({"layernorm-no-shift", Op("Mul", {Normalised(by_pow), Var(2)}), MakeLayerNorm});
  for (const bool by_pow : {true, false}) {
    for (const bool by_div : {true, false})
      rules.push_back({"rmsnorm", Op("Mul", {RmsNormalised(by_pow, by_div), Var(2)}), MakeRmsNorm});
    rules.push_back(
        {"rmsnorm-rsqrt", Op("Mul", {RmsNormalisedRsqrt(by_pow), Var(2)}), MakeRmsNorm});
  }
  return rules;
}

// After both: what is left has neither scale nor shift.
std::vector<Rule> MakePlainRules() {
  std::vector<Rule> rules;
  for (const bool by_pow : {true, false})
    rules.push_back({"layernorm-plain", Normalised(by_pow), MakePlainNorm<true>});
  for (const bool by_pow : {true, false}) {
    for (const bool by_div : {true, false})
      rules.push_back({"rmsnorm-plain", RmsNormalised(by_pow, by_div), MakePlainNorm<false>});
    rules.push_back({"rmsnorm-plain", RmsNormalisedRsqrt(by_pow), MakePlainNorm<false>});
  }
  return rules;
}

}  // namespace

std::span<const Rule> ChainRules() {
  static const std::vector<Rule> rules = MakeRules();
  return rules;
}
std::span<const Rule> LateChainRules() {
  static const std::vector<Rule> rules = MakeLateRules();
  return rules;
}

std::span<const Rule> PlainChainRules() {
  static const std::vector<Rule> rules = MakePlainRules();
  return rules;
}

Status Fuse(Graph& g, RuleCounts& counts) {
  TRY(ApplyRules(g, ChainRules(), counts));
  TRY(ApplyRules(g, LateChainRules(), counts));
  TRY(ApplyRules(g, PlainChainRules(), counts));
  TRY(ApplyRules(g, ConvolutionRules(), counts));
  TRY(ApplyRules(g, ProductRules(), counts));
  TRY(ApplyRules(g, AttentionRules(), counts));
  TRY(ApplyRules(g, ShuffleRules(), counts));
  TRY(ApplyRules(g, EpilogueRules(), counts));
  for (const NodeId id : g.SoundOrder())
    // A branch that is impossible for these shapes reports it when it is entered, if ever.
    for (const auto& s : g.node(id).subgraphs) (void)Fuse(*s, counts);
  return {};
}

Status FoldIntoConvolutions(Graph& g, RuleCounts& counts) {
  TRY(ApplyRules(g, ConvolutionRules(), counts));
  for (const NodeId id : g.SoundOrder())
    for (const auto& s : g.node(id).subgraphs) (void)FoldIntoConvolutions(*s, counts);
  return {};
}

}  // namespace dunlin
