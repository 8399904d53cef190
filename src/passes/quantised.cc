// Models that say quantisation by QuantizeLinear and DequantizeLinear around float operators become
// ones that compute on the codes: dequantise → operator → quantise is the integer operator, with
// the arithmetic of the runtimes such models are made for. Without this pass they are computed in
// f32, whose codes can differ by one where a result lies halfway between two.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/conv/conv.h"
#include "ops/elementwise/numeric.h"
#include "ops/matmul/matmul.h"
#include "ops/pool/pool.h"
#include "ops/quant/linear.h"
#include "passes/fuse.h"
#include "passes/passes.h"

namespace dunlin {
namespace {

using Built = Result<std::optional<ValueId>>;

bool IsByte(DType t) { return t == DType::kU8 || t == DType::kI8; }
bool IsSingle(const Type& t) { return t.ranked && ElementCount(t.dims) == 1; }
ValueId InputOf(const Node& n, size_t i) {
  return i < n.inputs.size() ? n.inputs[i] : ValueId::kNone;
}

// What a DequantizeLinear reads or a QuantizeLinear writes.
struct Coded {
  ValueId codes = ValueId::kNone, scale = ValueId::kNone, zero = ValueId::kNone;
  DType type = DType::kUndefined;  // of the codes
  int64_t axis = 0;
  bool single = true;  // one scale for all
};

// The codes behind a value that comes out of a DequantizeLinear with f32 scales, not in blocks.
std::optional<Coded> CodesOf(const Graph& g, ValueId v) {
  const Node* n = g.producer(v);
  if (n == nullptr || !n->is(&OpNamed("DequantizeLinear"))) return std::nullopt;
  const auto& attrs = As<LinearAttrs>(*n->attrs);
  Coded c{n->inputs[0],   n->inputs[1],
          InputOf(*n, 2), g.value(n->inputs[0]).type.dtype,
          attrs.axis,     IsSingle(g.value(n->inputs[1]).type)};
  const Type& scale = g.value(c.scale).type;
  if (attrs.block_size != 0 || scale.dtype != DType::kF32 || !scale.ranked ||
      scale.dims.rank() > 1 || g.value(v).type.dtype != DType::kF32)
    return std::nullopt;
  return c;
}
// Of 8 bits, with one scale.
std::optional<Coded> BytesOf(const Graph& g, ValueId v) {
  const auto c = CodesOf(g, v);
  return c && IsByte(c->type) && c->single ? c : std::nullopt;
}
// Of 8 bits, with one scale or one for every index of `axis` of `rank`.
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
// What the root of a match, a QuantizeLinear, makes: 8 bits, one scale.
std::optional<Coded> TargetOf(const Rewriter& r) {
  const Node& n = r.node(0);
  const auto& attrs = As<LinearAttrs>(*n.attrs);
  const Coded c{n.outputs[0], n.inputs[1], InputOf(n, 2), r.type(n.outputs[0]).dtype};
  const Type& scale = r.type(c.scale);
  if (attrs.block_size != 0 || scale.dtype != DType::kF32 || !IsSingle(scale) || !IsByte(c.type) ||
      r.type(n.inputs[0]).dtype != DType::kF32)
    return std::nullopt;
  return c;
}

// The zero point, as a constant where it was left out.
Result<ValueId> ZeroOf(Graph& g, const Coded& c) {
  if (c.zero != ValueId::kNone) return c.zero;
  return g.AddConstant(g.value(c.codes).name + "/zero",
                       TRY(Tensor::Zeros(c.type, g.value(c.scale).type.dims)));
}

const Tensor* ConstantOf(const Graph& g, ValueId v) {
  return v != ValueId::kNone && g.value(v).is_constant() ? &g.value(v).constant : nullptr;
}

// A bias in units of the sums of products: what a DequantizeLinear reads when its scale is theirs,
// or a constant, rounded. nullopt: neither.
std::optional<Tensor> QuantisedBias(const Graph& g, ValueId bias, const Coded& x, const Coded& w,
                                    ValueId& codes) {
  const Tensor *xs = ConstantOf(g, x.scale), *ws = ConstantOf(g, w.scale);
  if (xs == nullptr || ws == nullptr) return std::nullopt;
  const float* scales = ws->as<float>();
  const auto unit = [&](int64_t i) {
    return double(xs->as<float>()[0]) * double(scales[ws->count() == 1 ? 0 : i]);
  };
  if (const auto c = CodesOf(g, bias)) {
    const Tensor *bs = ConstantOf(g, c->scale), *zero = ConstantOf(g, c->zero);
    if (c->type != DType::kI32 || bs == nullptr || (bs->count() != 1 && ws->count() > bs->count()))
      return std::nullopt;
    if (c->zero != ValueId::kNone && (zero == nullptr || UniformConstant(g.value(c->zero)) != 0))
      return std::nullopt;
    constexpr double kNoise = 1e-3;  // of scales that were rounded to f32 on the way
    for (int64_t i = 0; i < std::max(bs->count(), ws->count()); ++i) {
      const double scale = double(bs->as<float>()[bs->count() == 1 ? 0 : i]);
      if (!(std::fabs(scale - unit(i)) <= kNoise * unit(i))) return std::nullopt;
    }
    codes = c->codes;
    return Tensor();
  }
  const Tensor* b = ConstantOf(g, bias);
  if (b == nullptr || b->dtype() != DType::kF32 || b->rank() != 1 ||
      (ws->count() != 1 && ws->count() != b->count()))
    return std::nullopt;
  auto rounded = Tensor::Create(DType::kI32, b->dims());
  if (!rounded) return std::nullopt;
  for (int64_t i = 0; i < b->count(); ++i)
    rounded->mut<int32_t>()[i] = CodeOf<int32_t>(double(b->as<float>()[i]) / unit(i), 0);
  return *rounded;
}

// Inputs x, its scale and zero point, w, …, of the operators that multiply codes.
Result<std::vector<ValueId>> Factors(Graph& g, const Coded& x, const Coded& w) {
  return std::vector<ValueId>{x.codes, x.scale, TRY(ZeroOf(g, x)),
                              w.codes, w.scale, TRY(ZeroOf(g, w))};
}

// Adds the bias to `inputs`; false: the rule does not apply.
bool AddBias(Graph& g, ValueId bias, const Coded& x, const Coded& w, ValueId& out) {
  if (bias == ValueId::kNone) return true;
  ValueId codes = ValueId::kNone;
  auto constant = QuantisedBias(g, bias, x, w, codes);
  if (!constant) return false;
  out = codes != ValueId::kNone ? codes : g.AddConstant(g.value(bias).name + "/codes", *constant);
  return true;
}

Built FuseConv(Rewriter& r, const Match&) {
  Graph& g = r.g;
  const Node& conv = r.node(1);
  const auto y = TargetOf(r);
  const auto x = BytesOf(g, conv.inputs[0]), w = WeightsOf(g, conv.inputs[1], 0);
  ValueId bias = ValueId::kNone;
  if (!y || !x || !w || !AddBias(g, InputOf(conv, 2), *x, *w, bias)) return std::nullopt;
  std::vector<ValueId> inputs = TRY(Factors(g, *x, *w));
  inputs.push_back(y->scale);
  inputs.push_back(TRY(ZeroOf(g, *y)));
  if (bias != ValueId::kNone) inputs.push_back(bias);
  return r.NodeWith("QLinearConv", std::move(inputs), conv.attrs);
}

Built FuseMatMul(Rewriter& r, const Match&) {
  Graph& g = r.g;
  const Node& product = r.node(1);
  const auto y = TargetOf(r);
  const auto a = BytesOf(g, product.inputs[0]), b = WeightsOf(g, product.inputs[1], -1);
  // A row of scales is of b's columns; of a vector they would be of its rows.
  if (!y || !a || !b || (!b->single && g.value(b->codes).type.dims.rank() != 2))
    return std::nullopt;
  std::vector<ValueId> inputs = TRY(Factors(g, *a, *b));
  inputs.push_back(y->scale);
  inputs.push_back(TRY(ZeroOf(g, *y)));
  return r.Node("QLinearMatMul", std::move(inputs));
}

Built FuseGemm(Rewriter& r, const Match&) {
  Graph& g = r.g;
  const Node& gemm = r.node(1);
  const auto& attrs = As<GemmAttrs>(*gemm.attrs);
  const auto y = TargetOf(r);
  const auto a = BytesOf(g, gemm.inputs[0]),
             b = WeightsOf(g, gemm.inputs[1], attrs.trans_b ? 0 : 1);
  ValueId bias = ValueId::kNone;
  if (!y || !a || !b || attrs.alpha != 1 ||
      (InputOf(gemm, 2) != ValueId::kNone && attrs.beta != 1) ||
      !AddBias(g, InputOf(gemm, 2), *a, *b, bias))
    return std::nullopt;
  std::vector<ValueId> inputs = TRY(Factors(g, *a, *b));
  for (const ValueId v : {bias, y->scale, TRY(ZeroOf(g, *y))}) inputs.push_back(v);
  return r.Node("com.microsoft.QGemm", std::move(inputs),
                {{"transA", int64_t{attrs.trans_a}}, {"transB", int64_t{attrs.trans_b}}});
}

Built FuseBinary(Rewriter& r, const Match&) {
  Graph& g = r.g;
  const Node& n = r.node(1);
  const auto y = TargetOf(r);
  const auto a = BytesOf(g, n.inputs[0]), b = BytesOf(g, n.inputs[1]);
  if (!y || !a || !b || a->type != b->type || a->type != y->type) return std::nullopt;
  std::vector<ValueId> inputs = TRY(Factors(g, *a, *b));
  inputs.push_back(y->scale);
  inputs.push_back(TRY(ZeroOf(g, *y)));
  return r.Node(n.op->name == "Add" ? "com.microsoft.QLinearAdd" : "com.microsoft.QLinearMul",
                std::move(inputs));
}

// Of one operand: x, its scale and zero point, those of the result.
Built FuseUnary(Rewriter& r, std::string_view op, const AttrSettings& attrs) {
  Graph& g = r.g;
  const auto y = TargetOf(r);
  const auto x = BytesOf(g, r.node(1).inputs[0]);
  if (!y || !x || x->type != y->type) return std::nullopt;
  return r.Node(op, {x->codes, x->scale, TRY(ZeroOf(g, *x)), y->scale, TRY(ZeroOf(g, *y))}, attrs);
}
Built FuseAveragePool(Rewriter& r, const Match&) {
  const auto& a = As<AveragePoolAttrs>(*r.node(1).attrs);
  return FuseUnary(r, "com.microsoft.QLinearAveragePool",
                   {{"auto_pad", a.auto_pad},
                    {"kernel_shape", a.kernel_shape},
                    {"strides", a.strides},
                    {"dilations", a.dilations},
                    {"pads", a.pads},
                    {"ceil_mode", a.ceil_mode},
                    {"count_include_pad", a.count_include_pad}});
}
Built FuseGlobalAveragePool(Rewriter& r, const Match&) {
  return FuseUnary(r, "com.microsoft.QLinearGlobalAveragePool", {});
}

Built FuseSoftmax(Rewriter& r, const Match&) {
  const auto axis = IntAttr(*r.node(1).attrs, "axis");
  if (!axis) return std::nullopt;
  return FuseUnary(r, "com.microsoft.QLinearSoftmax", {{"axis", *axis}});
}

// Everything below the zero point becomes the zero point's code, which is the lowest one.
Built DropRelu(Rewriter& r, const Match& m) {
  const auto y = TargetOf(r);
  if (!y) return std::nullopt;
  int64_t zero = 0;
  if (y->zero != ValueId::kNone) {
    const auto v = UniformConstant(r.value(y->zero));
    if (!v) return std::nullopt;
    zero = int64_t(*v);
  }
  if (zero != (y->type == DType::kU8 ? 0 : -128)) return std::nullopt;
  std::vector<ValueId> inputs = r.node(0).inputs;
  inputs[0] = m.var(0);
  return r.NodeWith("QuantizeLinear", std::move(inputs), r.node(0).attrs);
}
// Limits whose codes are the lowest and the highest there are.
template <class Q>
bool IsNoLimit(double limit, double scale, double zero, bool low) {
  const Q code = CodeOf<Q>(float(limit) / float(scale), int32_t(zero));
  return code == (low ? std::numeric_limits<Q>::lowest() : std::numeric_limits<Q>::max());
}
Built DropClip(Rewriter& r, const Match& m) {
  const auto y = TargetOf(r);
  const auto scale = y ? UniformConstant(r.value(y->scale)) : std::nullopt;
  const auto zero = !y                          ? std::nullopt
                    : y->zero == ValueId::kNone ? std::optional(0.0)
                                                : UniformConstant(r.value(y->zero));
  if (!scale || !zero) return std::nullopt;
  for (const size_t i : {size_t(1), size_t(2)}) {
    const ValueId limit = InputOf(r.node(1), i);
    if (limit == ValueId::kNone) continue;
    const auto v = UniformConstant(r.value(limit));
    if (!v || !(y->type == DType::kU8 ? IsNoLimit<uint8_t>(*v, *scale, *zero, i == 1)
                                      : IsNoLimit<int8_t>(*v, *scale, *zero, i == 1)))
      return std::nullopt;
  }
  std::vector<ValueId> inputs = r.node(0).inputs;
  inputs[0] = m.var(0);
  return r.NodeWith("QuantizeLinear", std::move(inputs), r.node(0).attrs);
}

// Moving codes instead of the numbers they stand for: the same, of a quarter of the bytes.
Built MoveCodes(Rewriter& r, const Match&) {
  Graph& g = r.g;
  const Node& move = r.node(0);
  const auto c = CodesOf(g, move.inputs[0]);
  if (!c || !c->single || c->type == DType::kI32) return std::nullopt;
  std::vector<ValueId> inputs = move.inputs;
  inputs[0] = c->codes;
  const auto moved = TRY(r.NodeWith(move.op->name, std::move(inputs), move.attrs));
  return r.NodeWith("DequantizeLinear", {*moved, c->scale, c->zero}, r.node(1).attrs);
}

bool SameConstant(const Graph& g, ValueId a, ValueId b) {
  if (a == b) return true;
  const Tensor *x = ConstantOf(g, a), *y = ConstantOf(g, b);
  return x != nullptr && y != nullptr && x->dtype() == y->dtype() && x->count() == y->count() &&
         x->count() == 1 && std::memcmp(x->raw(), y->raw(), size_t(x->bytes())) == 0;
}
// Codes of up to 16 bits come back as they were when neither scale nor zero point changes.
Built DropPair(Rewriter& r, const Match&) {
  const Coded to = {ValueId::kNone, r.node(0).inputs[1], InputOf(r.node(0), 2),
                    r.type(r.node(0).outputs[0]).dtype};
  const auto from = CodesOf(r.g, r.node(0).inputs[0]);
  if (!from || !from->single || from->type != to.type || DTypeBits(to.type) > 16 ||
      As<LinearAttrs>(*r.node(0).attrs).block_size != 0 ||
      !SameConstant(r.g, from->scale, to.scale) ||
      (from->zero == ValueId::kNone) != (to.zero == ValueId::kNone) ||
      (to.zero != ValueId::kNone && !SameConstant(r.g, from->zero, to.zero)))
    return std::nullopt;
  return std::optional<ValueId>(from->codes);
}

Rule Quantised(std::string_view name, std::initializer_list<std::string_view> ops,
               std::vector<Pat> inputs, Build build) {
  return {name, OpMore({"QuantizeLinear"}, {OpMore(ops, std::move(inputs), 1)}, 0),
          std::move(build)};
}

std::span<const Rule> QuantisedRules() {
  static const Rule rules[] = {
      // Quantize(Dequantize(x)) → x
      {"quantize-dequantize", OpMore({"QuantizeLinear"}, {Var(0)}, 0), DropPair},
      // Quantize(Relu(x)) → Quantize(x), the same of Clip
      Quantised("quantize-relu", {"Relu"}, {Var(0)}, DropRelu),
      Quantised("quantize-clip", {"Clip"}, {Var(0)}, DropClip),
      // Transpose(Dequantize(x)) → Dequantize(Transpose(x))
      {"move-codes",
       OpMore({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"},
              {OpMore({"DequantizeLinear"}, {Var(0), Var(1)}, 1)}, 0),
       MoveCodes},
      // Quantize(Conv(Dequantize(x), Dequantize(w), bias)) → QLinearConv(x, w, bias), and so on
      Quantised("quantised-conv", {"Conv"}, {Var(0), Var(1)}, FuseConv),
      Quantised("quantised-matmul", {"MatMul"}, {Var(0), Var(1)}, FuseMatMul),
      Quantised("quantised-gemm", {"Gemm"}, {Var(0), Var(1)}, FuseGemm),
      Quantised("quantised-sum", {"Add"}, {Var(0), Var(1)}, FuseBinary),
      Quantised("quantised-product", {"Mul"}, {Var(0), Var(1)}, FuseBinary),
      Quantised("quantised-average-pool", {"AveragePool"}, {Var(0)}, FuseAveragePool),
      Quantised("quantised-global-average-pool", {"GlobalAveragePool"}, {Var(0)},
                FuseGlobalAveragePool),
      Quantised("quantised-softmax", {"Softmax"}, {Var(0)}, FuseSoftmax),
  };
  return rules;
}

}  // namespace

Status FuseQuantised(Graph& g, RuleCounts& counts) {
  TRY(ApplyRules(g, QuantisedRules(), counts));
  for (const NodeId id : g.SoundOrder())
    // A branch that is impossible for these shapes reports it when it is entered, if ever.
    for (const auto& s : g.node(id).subgraphs) (void)FuseQuantised(*s, counts);
  return {};
}

}  // namespace dunlin
