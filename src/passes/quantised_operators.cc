// Operators over codes as QOperator models hold them, into the ones the other rules know: so that
// tables, residuals and transposes are taken in whichever way a model says quantisation. Only where
// both give the same bits.
#include "passes/quantised.h"

namespace dunlin {
namespace {

// The places of an operator's inputs. Scale and zero point follow x and w, the zero point y's
// scale.
struct Places {
  size_t x, w, y_scale;
};

// One scale of f32 for all.
bool IsSingle(const Type& scale) {
  return scale.dtype == DType::kF32 && scale.ranked && ElementCount(scale.dims) == 1;
}

// One element for all, or a row with one a column of the result, `columns` of them.
bool FitsColumns(const Graph& g, ValueId v, int64_t columns) {
  if (v == ValueId::kNone) return true;
  const Type& t = g.value(v).type;
  const auto count = t.ranked ? ElementCount(t.dims) : std::nullopt;
  return count == 1 || (count && count == columns && t.dims.back() == columns);
}

// Inputs of CodeConv or CodeMatMul, and what they store; nullopt: the meaning is another.
struct Product {
  std::vector<ValueId> inputs;
  CodeStoreAttrs store;
};
std::optional<Product> ProductOf(const Graph& g, const Node& n, const Places& at, int64_t columns) {
  Product p;
  p.inputs.assign(kCodeOpInputs, ValueId::kNone);
  for (size_t i = 0; i < 3; ++i) {
    p.inputs[kX + i] = InputOf(n, at.x + i);
    p.inputs[kW + i] = InputOf(n, at.w + i);
  }
  const auto type = [&](ValueId v) -> const Type& { return g.value(v).type; };
  const ValueId x_zero = p.inputs[kXZero], w_scale = p.inputs[kWScale];
  if (!IsByte(type(p.inputs[kX]).dtype) || !IsByte(type(p.inputs[kW]).dtype) ||
      !IsSingle(type(p.inputs[kXScale])) || type(w_scale).dtype != DType::kF32 ||
      (x_zero != ValueId::kNone && !FitsColumns(g, x_zero, 1)) ||
      !FitsColumns(g, w_scale, columns) || !FitsColumns(g, p.inputs[kWZero], columns))
    return std::nullopt;
  const Coded y{n.outputs[0], InputOf(n, at.y_scale), InputOf(n, at.y_scale + 1),
                type(n.outputs[0]).dtype};
  if (y.scale == ValueId::kNone) return p;  // f32
  const auto linear = IsSingle(type(y.scale)) ? ConstantsOf(g, y) : std::nullopt;
  if (!linear) return std::nullopt;
  p.store.y_scale = linear->scale;
  p.store.y_zero = linear->zero;
  p.store.y_type = linear->type;
  return p;
}

Built FromQLinearConv(Rewriter& r, const Match&) {
  const Node& n = r.node(0);
  const Tensor* w = ConstantOf(r.g, n.inputs[3]);
  if (w == nullptr || w->rank() < 3) return std::nullopt;
  auto p = ProductOf(r.g, n, {.x = 0, .w = 3, .y_scale = 6}, w->dims()[0]);
  if (!p || !FitsColumns(r.g, InputOf(n, 8), w->dims()[0])) return std::nullopt;
  p->inputs[kBias] = InputOf(n, 8);
  CodeConvAttrs a;
  static_cast<ConvAttrs&>(a) = As<ConvAttrs>(*n.attrs);
  a.store = p->store;
  return r.NodeWith("dunlin.CodeConv", std::move(p->inputs), MakeAttrs(a));
}

Built FromQLinearMatMul(Rewriter& r, const Match&) {
  const Node& n = r.node(0);
  const Type& w = r.type(n.inputs[3]);
  // A row of scales is of a matrix' columns; of a vector it would be of its rows.
  const int64_t columns = w.ranked && w.dims.rank() == 2 ? w.dims.back() : 1;
  const auto p = ProductOf(r.g, n, {.x = 0, .w = 3, .y_scale = 6}, columns);
  if (!p) return std::nullopt;
  CodeMatMulAttrs a;
  a.store = p->store;
  return r.NodeWith("dunlin.CodeMatMul", p->inputs, MakeAttrs(a));
}

Built FromQGemm(Rewriter& r, const Match&) {
  const Node& n = r.node(0);
  const Type& w = r.type(n.inputs[3]);
  const auto alpha = FloatAttr(*n.attrs, "alpha");
  const auto trans_a = IntAttr(*n.attrs, "transA"), trans_b = IntAttr(*n.attrs, "transB");
  if (!alpha || !trans_a || !trans_b || !w.ranked || w.dims.rank() != 2) return std::nullopt;
  const int64_t columns = w.dims[*trans_b != 0 ? 0 : 1];
  auto p = ProductOf(r.g, n, {.x = 0, .w = 3, .y_scale = 7}, columns);
  if (!p || !FitsColumns(r.g, InputOf(n, 6), columns)) return std::nullopt;
  p->inputs[kBias] = InputOf(n, 6);
  CodeMatMulAttrs a;
  a.trans_a = *trans_a != 0, a.trans_b = *trans_b != 0, a.alpha = *alpha;
  a.store = p->store;
  return r.NodeWith("dunlin.CodeMatMul", std::move(p->inputs), MakeAttrs(a));
}

}  // namespace

std::span<const Rule> CodeOperatorRules() {
  static const Rule rules[] = {
      {"codes-qlinear-conv", OpMore({"QLinearConv"}, {Var(0)}, 0), FromQLinearConv},
      {"codes-qlinear-matmul", OpMore({"QLinearMatMul"}, {Var(0)}, 0), FromQLinearMatMul},
      {"codes-qgemm", OpMore({"com.microsoft.QGemm"}, {Var(0)}, 0), FromQGemm},
  };
  return rules;
}

}  // namespace dunlin
