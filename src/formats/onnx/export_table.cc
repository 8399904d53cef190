// The expansions: each operator by older ones, as the specification defines it.
#include <cmath>

#include "formats/onnx/export_expand.h"

namespace dunlin::onnx_export {
namespace {

// ---- activations ----

// x * hardsigmoid(x) with slope 1/6
bool HardSwish(ExpandContext& c) {
  const ValueId x = c.In(0);
  const ValueId gate = c.Op("HardSigmoid", {x}, {{"alpha", float(1.0 / 6)}, {"beta", 0.5f}});
  return c.Become(c.Op("Mul", {x, gate}));
}

// x tanh(softplus(x))
bool Mish(ExpandContext& c) {
  const ValueId x = c.In(0);
  const ValueId t = c.Op("Tanh", {c.Op("Softplus", {x})});
  return c.Become(c.Op("Mul", {x, t}));
}

AttrMap AttrsOf(const ExpandContext& c) { return WrittenAttrs(c.node()); }
template <class T>
T Get(const AttrMap& attrs, std::string_view name, T otherwise) {
  const auto it = attrs.find(name);
  const T* v = it == attrs.end() ? nullptr : std::get_if<T>(&it->second);
  return v != nullptr ? *v : otherwise;
}
bool IsFloating(const Type& t) { return IsFloat(t.dtype); }

// x sigmoid(alpha x)
bool Swish(ExpandContext& c) {
  const ValueId x = c.In(0);
  const auto alpha = Get<float>(AttrsOf(c), "alpha", 1.0f);
  if (!IsFloating(c.type(x))) return c.No("an element type that is not known");
  ValueId scaled = x;
  if (alpha != 1.0f) scaled = c.Op("Mul", {x, c.Number(double(alpha), c.type(x).dtype)});
  return c.Become(c.Op("Mul", {x, c.Op("Sigmoid", {scaled})}));
}

// x/2 (1 + erf(x / sqrt 2)), or its approximation by tanh
bool Gelu(ExpandContext& c) {
  const ValueId x = c.In(0);
  const DType t = c.type(x).dtype;
  if (!IsFloat(t)) return c.No("an element type that is not known");
  const auto number = [&](double v) { return c.Number(v, t); };
  ValueId inner;
  if (Get<std::string>(AttrsOf(c), "approximate", "none") == "tanh") {
    const ValueId cube = c.Op("Mul", {c.Op("Mul", {x, x}), x});
    const ValueId bent = c.Op("Mul", {cube, number(0.044715)});
    const ValueId sum = c.Op("Add", {x, bent});
    inner = c.Op("Tanh", {c.Op("Mul", {sum, number(std::sqrt(2 / M_PI))})});
  } else {
    inner = c.Op("Erf", {c.Op("Div", {x, number(std::sqrt(2.0))})});
  }
  const ValueId gate = c.Op("Add", {inner, number(1)});
  const ValueId product = c.Op("Mul", {x, gate});
  return c.Become(c.Op("Mul", {product, number(0.5)}));
}

// max(0, x) + min(0, alpha (exp(x / alpha) - 1)) is Elu of slope 1 of x / alpha, times alpha, where
// x < 0
bool Celu(ExpandContext& c) {
  const ValueId x = c.In(0);
  const auto alpha = double(Get<float>(AttrsOf(c), "alpha", 1.0f));
  const DType t = c.type(x).dtype;
  if (!IsFloat(t)) return c.No("an element type that is not known");
  const ValueId a = c.Number(alpha, t);
  const ValueId bent = c.Op("Elu", {c.Op("Div", {x, a})});
  return c.Become(c.Op("Mul", {bent, a}));
}

// ---- comparisons ----

template <bool kGreater>
bool OrEqual(ExpandContext& c) {
  const std::vector<ValueId> in = {c.In(0), c.In(1)};
  const Type& t = c.type(in[0]);
  if (c.opset < 11 && t.dtype != DType::kI32 && t.dtype != DType::kI64)
    return c.No("the operator with floats");
  const ValueId differs = c.Op(kGreater ? "Greater" : "Less", in);
  return c.Become(c.Op("Or", {differs, c.Op("Equal", in)}));
}

bool CastLike(ExpandContext& c) {
  const DType to = c.type(c.node().outputs[0]).dtype;
  if (to == DType::kUndefined) return c.No("a type that is not known");
  AttrMap attrs = AttrsOf(c);
  attrs["to"] = int64_t{OnnxDType(to)};
  return c.Become(c.Op("Cast", {c.In(0)}, attrs));
}

// ---- shapes ----

bool HasRange(const Graph&, const Node& n, int opset) {
  return opset < 15 && !WrittenAttrs(n).empty();
}
bool ShapeRange(ExpandContext& c) {
  const AttrMap attrs = AttrsOf(c);
  const ValueId all = c.Op("Shape", {c.In(0)});
  const auto one = [&](int64_t v) { return c.Ints({v}); };
  const ValueId start = one(Get<int64_t>(attrs, "start", 0));
  const ValueId end = one(Get<int64_t>(attrs, "end", INT64_MAX));
  return c.Become(c.Op("Slice", {all, start, end, one(0)}));
}

// ---- normalisation ----

// The axes from `axis` on as a reduction wants them; empty: the rank is not known.
std::vector<int64_t> AxesFrom(const Type& t, int64_t axis) {
  std::vector<int64_t> axes;
  if (!t.ranked) {
    for (int64_t a = axis; axis < 0 && a < 0; ++a) axes.push_back(a);
    return axes;
  }
  const int64_t rank = t.dims.rank();
  for (int64_t a = axis < 0 ? axis + rank : axis; a >= 0 && a < rank; ++a) axes.push_back(a);
  return axes;
}

// In f32 as attribute stash_type asks, unless x is f64 already.
struct Stash {
  ValueId x;
  DType type;   // of x
  DType inner;  // that is computed in
};
Stash Widen(ExpandContext& c) {
  Stash s{c.In(0), c.type(c.In(0)).dtype, DType::kF32};
  const DType wanted = Get<int64_t>(AttrsOf(c), "stash_type", 1) == 1 ? DType::kF32 : s.type;
  s.inner = s.type == DType::kF64 ? DType::kF64 : wanted;
  if (s.inner != s.type) s.x = c.Op("Cast", {s.x}, {{"to", int64_t{OnnxDType(s.inner)}}});
  return s;
}
ValueId Narrow(ExpandContext& c, const Stash& s, ValueId v) {
  if (s.inner == s.type) return v;
  return c.Op("Cast", {v}, {{"to", int64_t{OnnxDType(s.type)}}});
}

// sqrt(mean(x²) + epsilon) over axes
ValueId Root(ExpandContext& c, ValueId x, ValueId axes, DType t) {
  const auto epsilon = double(Get<float>(AttrsOf(c), "epsilon", 1e-5f));
  const ValueId mean = c.Op("ReduceMean", {c.Op("Mul", {x, x}), axes});
  return c.Op("Sqrt", {c.Op("Add", {mean, c.Number(epsilon, t)})});
}

template <bool kCentred>
bool VectorNorm(ExpandContext& c) {
  const std::vector<int64_t> list = AxesFrom(c.type(c.In(0)), Get<int64_t>(AttrsOf(c), "axis", -1));
  if (list.empty() || !IsFloating(c.type(c.In(0)))) return c.No("a tensor of unknown rank or type");
  const std::vector<ValueId> in = {c.In(0), c.In(1), c.In(2)};
  const std::vector<ValueId> outputs = c.node().outputs;
  const Stash s = Widen(c);
  const ValueId axes = c.Ints(list);
  ValueId x = s.x, mean = ValueId::kNone;
  if (kCentred) {
    mean = c.Op("ReduceMean", {x, axes});
    x = c.Op("Sub", {x, mean});
  }
  const ValueId root = Root(c, x, axes, s.inner);
  ValueId y = Narrow(c, s, c.Op("Div", {x, root}));
  y = c.Op("Mul", {y, in[1]});
  if (in[2] != ValueId::kNone) y = c.Op("Add", {y, in[2]});
  if (outputs.size() > 1) c.BecomesToo(1, mean);
  if (outputs.size() > 2) c.BecomesToo(2, c.Op("Reciprocal", {root}));
  return c.Become(y);
}

// [N, C, …] as [N, groups, C/groups * …], normalised, and back.
bool GroupNorm(ExpandContext& c) {
  const Type x = c.type(c.In(0));
  const auto groups = Get<int64_t>(AttrsOf(c), "num_groups", 0);
  if (!x.ranked || x.dims.rank() < 2 || !IsFloating(x) || groups < 1)
    return c.No("a tensor of unknown rank or type");
  const Stash s = Widen(c);
  const ValueId shape = c.Op("Shape", {c.In(0)});
  const ValueId flat = c.Op("Reshape", {s.x, c.Ints({0, groups, -1})});
  const ValueId axes = c.Ints({2});
  const ValueId centred = c.Op("Sub", {flat, c.Op("ReduceMean", {flat, axes})});
  const ValueId unit = Narrow(c, s, c.Op("Div", {centred, Root(c, centred, axes, s.inner)}));
  ValueId y = c.Op("Reshape", {unit, shape});
  std::vector<int64_t> column(size_t(x.dims.rank()) - 1, 1);
  column[0] = -1;
  const ValueId as_column = c.Ints(column);
  y = c.Op("Mul", {y, c.Op("Reshape", {c.In(1), as_column})});
  y = c.Op("Add", {y, c.Op("Reshape", {c.In(2), as_column})});
  return c.Become(y);
}

constexpr Expansion kExpansions[] = {
    {"HardSwish", "", HardSwish},
    {"Mish", "", Mish},
    {"Swish", "", Swish},
    {"Gelu", "", Gelu},
    {"Celu", "", Celu},
    {"GreaterOrEqual", "", OrEqual<true>},
    {"LessOrEqual", "", OrEqual<false>},
    {"CastLike", "", CastLike},
    {"Shape", "", ShapeRange, HasRange},
    {"LayerNormalization", "", VectorNorm<true>},
    {"RMSNormalization", "", VectorNorm<false>},
    {"GroupNormalization", "", GroupNorm},
};

}  // namespace

std::span<const Expansion> Expansions() { return kExpansions; }

}  // namespace dunlin::onnx_export
