// Convolutions and matrix products between DequantizeLinear and QuantizeLinear, or of integers,
// into CodeConv and CodeMatMul. First the product alone, whose result is f32; then what follows it
// is taken in step by step: bias, residual, activation, rounding to codes. So any order and any
// selection of these that a tool writes ends as one integer operator.
#include <algorithm>
#include <cmath>

#include "ops/elementwise/numeric.h"
#include "ops/matmul/matmul.h"
#include "ops/quant/quant.h"
#include "passes/quantised.h"

namespace dunlin {
std::optional<Coded> WeightsOf(const Graph& g, ValueId v, int64_t axis) {
  const auto c = CodesOf(g, v);
  if (!c || !IsByte(c->type)) return std::nullopt;
  if (c->single) return c;
  const Type& t = g.value(c->codes).type;
  if (!t.ranked) return std::nullopt;
  const int64_t rank = t.dims.rank();
  const auto at = [&](int64_t a) { return a < 0 ? a + rank : a; };
  return at(c->axis) == at(axis) ? c : std::nullopt;
}

namespace {

// A bias that a DequantizeLinear reads in units of the sums of products: the integers, which are
// exact.
std::optional<ValueId> IntegerBias(const Graph& g, ValueId bias, const Coded& x, const Coded& w) {
  const Tensor *xs = ConstantOf(g, x.scale), *ws = ConstantOf(g, w.scale);
  const auto c = CodesOf(g, bias);
  if (xs == nullptr || ws == nullptr || !c || c->type != DType::kI32) return std::nullopt;
  const Tensor* bs = ConstantOf(g, c->scale);
  if (bs == nullptr || (bs->count() != 1 && ws->count() > bs->count())) return std::nullopt;
  if (c->zero != ValueId::kNone && UniformConstant(g.value(c->zero)) != 0) return std::nullopt;
  constexpr double kNoise = 1e-6;  // of scales that were rounded to f32 on the way
  for (int64_t i = 0; i < std::max(bs->count(), ws->count()); ++i) {
    const double unit =
        double(xs->as<float>()[0]) * double(ws->as<float>()[ws->count() == 1 ? 0 : i]);
    const double scale = double(bs->as<float>()[bs->count() == 1 ? 0 : i]);
    if (!(std::fabs(scale - unit) <= kNoise * unit)) return std::nullopt;
  }
  return c->codes;
}
}  // namespace

std::optional<ValueId> BiasFor(const Graph& g, ValueId bias, const Coded& x, const Coded& w) {
  if (bias == ValueId::kNone) return bias;
  if (const auto integers = IntegerBias(g, bias, x, w)) return *integers;
  const Type& t = g.value(bias).type;
  if (t.dtype != DType::kF32 || !t.ranked || t.dims.rank() != 1) return std::nullopt;
  return bias;
}

std::vector<ValueId> Factors(const Coded& x, const Coded& w, ValueId bias) {
  std::vector<ValueId> inputs(kCodeOpInputs, ValueId::kNone);
  inputs[kX] = x.codes, inputs[kXScale] = x.scale, inputs[kXZero] = x.zero;
  inputs[kW] = w.codes, inputs[kWScale] = w.scale, inputs[kWZero] = w.zero;
  inputs[kBias] = bias;
  return inputs;
}

namespace {

constexpr std::string_view kConv = "dunlin.CodeConv", kMatMul = "dunlin.CodeMatMul";

// Conv(Dequantize(x), Dequantize(w), bias)
Built CodesConv(Rewriter& r, const Match&) {
  const Node& conv = r.node(0);
  const auto x = BytesOf(r.g, conv.inputs[0]), w = WeightsOf(r.g, conv.inputs[1], 0);
  if (!x || !w || ConstantOf(r.g, w->codes) == nullptr ||
      r.type(conv.outputs[0]).dtype != DType::kF32)
    return std::nullopt;
  const auto bias = BiasFor(r.g, InputOf(conv, 2), *x, *w);
  if (!bias) return std::nullopt;
  CodeConvAttrs a;
  static_cast<ConvAttrs&>(a) = As<ConvAttrs>(*conv.attrs);
  return r.NodeWith(kConv, Factors(*x, *w, *bias), MakeAttrs(a));
}

// MatMul(Dequantize(a), Dequantize(b)); b need not be constant.
Built CodesMatMul(Rewriter& r, const Match&) {
  const Node& product = r.node(0);
  const auto x = BytesOf(r.g, product.inputs[0]), w = WeightsOf(r.g, product.inputs[1], -1);
  // A row of scales is of b's columns; of a vector they would be of its rows.
  if (!x || !w || (!w->single && r.type(w->codes).dims.rank() != 2)) return std::nullopt;
  return r.NodeWith(kMatMul, Factors(*x, *w, ValueId::kNone), MakeAttrs(CodeMatMulAttrs()));
}

Built CodesGemm(Rewriter& r, const Match&) {
  const Node& gemm = r.node(0);
  const auto& attrs = As<GemmAttrs>(*gemm.attrs);
  const auto x = BytesOf(r.g, gemm.inputs[0]),
             w = WeightsOf(r.g, gemm.inputs[1], attrs.trans_b ? 0 : 1);
  const ValueId c = InputOf(gemm, 2);
  if (!x || !w || (c != ValueId::kNone && (attrs.beta != 1 || attrs.alpha != 1)))
    return std::nullopt;
  const auto bias = BiasFor(r.g, c, *x, *w);
  if (!bias) return std::nullopt;
  CodeMatMulAttrs a;
  a.trans_a = attrs.trans_a, a.trans_b = attrs.trans_b, a.alpha = attrs.alpha;
  return r.NodeWith(kMatMul, Factors(*x, *w, *bias), MakeAttrs(a));
}

// ---- integer products without scales: Cast(ConvInteger(x, w, x_zero, w_zero)) ----

Built FromIntegers(Rewriter& r, const Match&) {
  const Node& cast = r.node(0);
  const Node& product = r.node(1);
  const bool conv = product.op->name == "ConvInteger";
  if (r.type(cast.outputs[0]).dtype != DType::kF32 ||
      (conv && ConstantOf(r.g, product.inputs[1]) == nullptr))
    return std::nullopt;
  for (const size_t i : {size_t(2), size_t(3)}) {  // one zero point, or one a column of w
    const ValueId zero = InputOf(product, i);
    if (zero == ValueId::kNone) continue;
    const auto count = ElementCount(r.type(zero).dims);
    if (!r.type(zero).ranked || !count || (i == 2 && *count != 1) || r.type(zero).dims.rank() > 1)
      return std::nullopt;
  }
  const ValueId one = r.g.AddConstant(product.name + "/one", Tensor::Scalar(1.0f));
  const Coded x{product.inputs[0], one, InputOf(product, 2)},
      w{product.inputs[1], one, InputOf(product, 3)};
  if (!conv)
    return r.NodeWith(kMatMul, Factors(x, w, ValueId::kNone), MakeAttrs(CodeMatMulAttrs()));
  CodeConvAttrs a;
  static_cast<ConvAttrs&>(a) = As<ConvAttrs>(*product.attrs);
  return r.NodeWith(kConv, Factors(x, w, ValueId::kNone), MakeAttrs(a));
}

// ---- what follows a product that is f32 so far ----

struct CodeNode {
  bool conv = true;
  CodeConvAttrs c;
  CodeMatMulAttrs m;
  std::vector<ValueId> inputs;
  explicit CodeNode(const Node& n) : conv(n.op->name == kCodeConvName), inputs(n.inputs) {
    if (conv)
      c = As<CodeConvAttrs>(*n.attrs);
    else
      m = As<CodeMatMulAttrs>(*n.attrs);
    inputs.resize(kCodeOpInputs, ValueId::kNone);
  }
  CodeStoreAttrs& store() { return conv ? c.store : m.store; }
  bool has(CodeOpInput i) const { return inputs[i] != ValueId::kNone; }
  // Nothing but the scaled sums and, where allowed, a bias.
  bool plain() {
    return store().y_scale == 0 && store().activation == 0 && store().mid_scale == 0 &&
           !has(kResidual);
  }
  Built Build(Rewriter& r) {
    return conv ? r.NodeWith(kConv, inputs, MakeAttrs(c))
                : r.NodeWith(kMatMul, inputs, MakeAttrs(m));
  }
};

int64_t ChannelsOf(const Graph& g, const CodeNode& n, const Type& y) {
  if (n.conv) return g.value(n.inputs[kW]).type.dims[0];
  return y.ranked && y.dims.rank() >= 2 ? y.dims.back() : kUnknownDim;
}
// Whether a value of these extents has one element a column of y, and no more axes than y.
bool IsPerColumn(const Type& t, const CodeNode& n, const Type& y, int64_t columns) {
  if (!t.ranked || !y.ranked || !IsKnown(columns) || !AllKnown(t.dims) ||
      CountOf(t.dims) != columns || t.dims.rank() > y.dims.rank())
    return false;
  const int axis = n.conv ? 1 - (y.dims.rank() - t.dims.rank()) : t.dims.rank() - 1;
  return axis >= 0 && t.dims[size_t(axis)] == columns;
}
// The same value with one axis.
Result<ValueId> Flat(Rewriter& r, ValueId v, int64_t count) {
  const GraphValue& x = r.value(v);
  if (x.type.dims.rank() == 1) return v;
  if (x.is_constant()) return r.g.AddConstant(x.name + "/flat", x.constant.Reshaped(Dims{count}));
  const ValueId shape = r.g.AddConstant(x.name + "/shape", Tensor::Of<int64_t>({1}, {count}));
  return *TRY(r.Node("Reshape", {v, shape}));
}

// product * scale: of the whole, or of the columns
Built ScaleCodes(Rewriter& r, const Match& m) {
  CodeNode n(r.node(1));
  const Type& y = r.type(r.node(1).outputs[0]);
  const ValueId s = m.var(0);
  const Type& t = r.type(s);
  if (!n.plain() || n.has(kBias) || t.dtype != DType::kF32 || !t.ranked || !y.ranked ||
      t.dims.rank() > y.dims.rank())
    return std::nullopt;
  const auto is_one = [&](CodeOpInput i) {
    return UniformConstant(r.value(n.inputs[i])) == 1.0 &&
           r.value(n.inputs[i]).constant.count() == 1;
  };
  const int64_t columns = ChannelsOf(r.g, n, y);
  if (ElementCount(t.dims) == 1 && is_one(kXScale)) {
    n.inputs[kXScale] = s;
    return n.Build(r);
  }
  if (ElementCount(t.dims) == 1 && is_one(kWScale)) {
    n.inputs[kWScale] = s;
    return n.Build(r);
  }
  if (IsPerColumn(t, n, y, columns) && is_one(kWScale)) {
    n.inputs[kWScale] = TRY(Flat(r, s, columns));
    return n.Build(r);
  }
  return std::nullopt;
}

// product + constant of every column → product with bias
Built AddBias(Rewriter& r, const Match& m) {
  CodeNode n(r.node(1));
  const Type& y = r.type(r.node(1).outputs[0]);
  const GraphValue& b = r.value(m.var(0));
  const int64_t columns = ChannelsOf(r.g, n, y);
  if (!n.plain() || n.has(kBias) || !b.is_constant() || b.type.dtype != DType::kF32 ||
      !IsPerColumn(b.type, n, y, columns))
    return std::nullopt;
  n.inputs[kBias] = TRY(Flat(r, m.var(0), columns));
  return n.Build(r);
}

// The other operand of a sum: codes where it is dequantised, otherwise f32.
std::optional<CodeNode> WithResidual(Rewriter& r, CodeNode n, const Node& product, ValueId other) {
  const Type& y = r.type(product.outputs[0]);
  if (r.type(other).dtype != DType::kF32 || !SameExtents(r.type(other), y) ||
      r.value(other).is_constant() || n.has(kResidual) || n.store().activation != 0)
    return std::nullopt;
  // Of two products added together the one made later takes the other.
  const auto late = [&](ValueId v) {
    const Node* from = r.g.producer(v);
    return from != nullptr && from->position > product.position;
  };
  const auto codes = BytesOf(r.g, other);
  const auto linear = codes ? ConstantsOf(r.g, *codes) : std::nullopt;
  if (late(linear ? codes->codes : other)) return std::nullopt;
  n.inputs[kResidual] = linear ? codes->codes : other;
  if (linear) {
    n.store().residual_scale = linear->scale;
    n.store().residual_zero = linear->zero;
  }
  return n;
}

// product + y of the same shape → product with residual y
Built AddResidual(Rewriter& r, const Match& m) {
  CodeNode n(r.node(1));
  if (n.store().y_scale != 0) return std::nullopt;
  auto with = WithResidual(r, std::move(n), r.node(1), m.var(0));
  if (!with) return std::nullopt;
  return with->Build(r);
}

// Dequantize(product's codes) + y → the product, rounded in the middle, with residual y
Built AddResidualToCodes(Rewriter& r, const Match& m) {
  CodeNode n(r.node(2));
  const auto codes = BytesOf(r.g, r.node(1).outputs[0]);
  const auto linear = codes ? ConstantsOf(r.g, *codes) : std::nullopt;
  CodeStoreAttrs& s = n.store();
  if (!linear || s.y_scale != linear->scale || s.y_zero != linear->zero || s.mid_scale != 0 ||
      n.has(kResidual) || n.has(kTable))
    return std::nullopt;
  // A comparison before the rounding in the middle limits its codes; there is no place for others.
  if (s.activation != 0) return std::nullopt;
  s.mid_scale = s.y_scale, s.mid_zero = s.y_zero, s.mid_type = s.y_type;
  s.y_scale = 0, s.y_zero = 0;
  auto with = WithResidual(r, std::move(n), r.node(2), m.var(0));
  if (!with) return std::nullopt;
  return with->Build(r);
}

Built AddActivation(Rewriter& r, const Match&) {
  CodeNode n(r.node(1));
  const auto e = EpilogueOf(r.g, r.node(0));
  if (!e || n.store().y_scale != 0 || n.store().activation != 0) return std::nullopt;
  n.store().activation = int64_t(e->kind);
  n.store().act_a = e->a;
  n.store().act_b = e->b;
  return n.Build(r);
}

// Quantize(product) → product that gives codes
Built ToCodes(Rewriter& r, const Match&) {
  CodeNode n(r.node(1));
  const auto y = TargetOf(r.g, r.node(0));
  const auto linear = y ? ConstantsOf(r.g, *y) : std::nullopt;
  if (!linear || n.store().y_scale != 0) return std::nullopt;
  n.store().y_scale = linear->scale;
  n.store().y_zero = linear->zero;
  n.store().y_type = linear->type;
  return n.Build(r);
}

// A table of the codes → the product with it
Built AddTable(Rewriter& r, const Match& m) {
  CodeNode n(r.node(1));
  if (n.store().y_scale == 0 || n.has(kTable)) return std::nullopt;
  n.inputs[kTable] = m.var(0);
  return n.Build(r);
}

// product(x, Transpose(w)) where the last two axes change places
Built TurnFactor(Rewriter& r, const Match&) {
  CodeNode n(r.node(0));
  const Node* t = r.g.producer(n.inputs[kW]);
  if (t == nullptr || t->op->name != "Transpose" || !r.type(t->inputs[0]).ranked)
    return std::nullopt;
  const auto perm = IntsAttr(*t->attrs, "perm");
  const size_t rank = r.type(t->inputs[0]).dims.size();
  if (rank < 2 || !perm || perm->size() != rank) return std::nullopt;
  for (size_t i = 0; i < rank; ++i) {
    const size_t from = i + 2 < rank ? i : i + 2 == rank ? rank - 1 : rank - 2;
    if ((*perm)[i] != int64_t(from)) return std::nullopt;
  }
  n.m.trans_b = !n.m.trans_b;
  n.inputs[kW] = t->inputs[0];
  return n.Build(r);
}

}  // namespace

std::span<const Rule> CodeProductRules() {
  const auto product = [](int bind) { return OpMore({kConv, kMatMul}, {Var(11)}, bind); };
  static const Rule rules[] = {
      {"codes-conv", OpMore({"Conv"}, {Var(0)}, 0), CodesConv},
      {"codes-matmul", OpMore({"MatMul"}, {Var(0)}, 0), CodesMatMul},
      {"codes-gemm", OpMore({"Gemm"}, {Var(0)}, 0), CodesGemm},
      {"codes-integers",
       OpMore({"Cast"}, {OpMore({"ConvInteger", "MatMulInteger"}, {Var(0)}, 1)}, 0), FromIntegers},
      {"codes-scale", Op("Mul", {product(1), Var(0)}, 0), ScaleCodes},
      {"codes-bias", Op("Add", {product(1), Var(0)}, 0), AddBias},
      {"codes-residual", Op("Add", {product(1), Var(0)}, 0), AddResidual},
      {"codes-residual-2", Op("Add", {Var(0), product(1)}, 0), AddResidual},
      {"codes-rounded-residual",
       Op("Add", {OpMore({"DequantizeLinear"}, {product(2)}, 1), Var(0)}, 0), AddResidualToCodes},
      {"codes-rounded-residual-2",
       Op("Add", {Var(0), OpMore({"DequantizeLinear"}, {product(2)}, 1)}, 0), AddResidualToCodes},
      {"codes-activation", OpMore(kActivations, {product(1)}, 0), AddActivation},
      {"codes-quantize", OpMore({"QuantizeLinear"}, {product(1)}, 0), ToCodes},
      {"codes-table", Op("dunlin.CodeTable", {product(1), Var(0)}, 0), AddTable},
      {"codes-transpose", OpMore({kMatMul}, {Var(0)}, 0), TurnFactor},
  };
  return rules;
}

}  // namespace dunlin
