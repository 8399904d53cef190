// Models that say quantisation by QuantizeLinear and DequantizeLinear around float operators become
// ones that compute on the codes. Without this pass they are computed in f32, whose codes can
// differ by one where a result lies halfway between two.
#include "passes/quantised.h"

#include <cmath>
#include <cstring>
#include <set>

#include "ops/elementwise/numeric.h"
#include "ops/evaluate.h"
#include "ops/pool/pool.h"
#include "ops/quant/code_resize.h"
#include "ops/quant/quant.h"

namespace dunlin {

std::optional<Coded> CodesOf(const Graph& g, ValueId v) {
  const Node* n = g.producer(v);
  if (n == nullptr || !n->is(&OpNamed("DequantizeLinear"))) return std::nullopt;
  const auto& attrs = As<LinearAttrs>(*n->attrs);
  const Type& scale = g.value(n->inputs[1]).type;
  const Coded c{n->inputs[0],   n->inputs[1],
                InputOf(*n, 2), g.value(n->inputs[0]).type.dtype,
                attrs.axis,     scale.ranked && ElementCount(scale.dims) == 1};
  if (attrs.block_size != 0 || scale.dtype != DType::kF32 || !scale.ranked ||
      scale.dims.rank() > 1 || g.value(v).type.dtype != DType::kF32)
    return std::nullopt;
  return c;
}
std::optional<Coded> BytesOf(const Graph& g, ValueId v) {
  const auto c = CodesOf(g, v);
  return c && IsByte(c->type) && c->single ? c : std::nullopt;
}
std::optional<Coded> TargetOf(const Graph& g, const Node& n) {
  const auto& attrs = As<LinearAttrs>(*n.attrs);
  const Coded c{n.outputs[0], n.inputs[1], InputOf(n, 2), g.value(n.outputs[0]).type.dtype};
  const Type& scale = g.value(c.scale).type;
  if (attrs.block_size != 0 || scale.dtype != DType::kF32 || !scale.ranked ||
      ElementCount(scale.dims) != 1 || !IsByte(c.type) ||
      g.value(n.inputs[0]).type.dtype != DType::kF32)
    return std::nullopt;
  return c;
}
std::optional<Linear8> ConstantsOf(const Graph& g, const Coded& c) {
  const Tensor* scale = ConstantOf(g, c.scale);
  if (!IsByte(c.type) || !c.single || scale == nullptr || scale->dtype() != DType::kF32 ||
      scale->count() != 1)
    return std::nullopt;
  Linear8 l{scale->as<float>()[0], 0, c.type};
  if (!(l.scale > 0) || std::isinf(l.scale)) return std::nullopt;
  if (c.zero == ValueId::kNone) return l;
  const auto zero =
      ConstantOf(g, c.zero) == nullptr ? std::nullopt : UniformConstant(g.value(c.zero));
  if (!zero) return std::nullopt;
  l.zero = int32_t(*zero);
  return l;
}
Result<ValueId> ZeroOf(Graph& g, const Coded& c) {
  if (c.zero != ValueId::kNone) return c.zero;
  return g.AddConstant(g.value(c.codes).name + "/zero",
                       TRY(Tensor::Zeros(c.type, g.value(c.scale).type.dims)));
}

bool SameExtents(const Type& a, const Type& b) {
  return a.ranked && b.ranked && a.dims == b.dims &&
         std::ranges::none_of(a.dims, [](int64_t d) { return d == kUnknownDim; });
}

namespace {

// ---- functions of one code
// -----------------------------------------------------------------------

// Operators that make each element of one element, whatever lies beside it.
bool IsElementwise(const Node& n) {
  static const std::vector<const OpDef*> ops = [] {
    std::vector<const OpDef*> v;
    for (const char* name : {"Abs",
                             "Acos",
                             "Acosh",
                             "Asin",
                             "Asinh",
                             "Atan",
                             "Atanh",
                             "Ceil",
                             "Celu",
                             "Clip",
                             "Cos",
                             "Cosh",
                             "Elu",
                             "Erf",
                             "Exp",
                             "Floor",
                             "Gelu",
                             "HardSigmoid",
                             "HardSwish",
                             "LeakyRelu",
                             "Log",
                             "Mish",
                             "Neg",
                             "Reciprocal",
                             "Relu",
                             "Round",
                             "Selu",
                             "Sigmoid",
                             "Sign",
                             "Sin",
                             "Sinh",
                             "Softplus",
                             "Softsign",
                             "Sqrt",
                             "Swish",
                             "Tan",
                             "Tanh",
                             "ThresholdedRelu",
                             "Identity",
                             "Add",
                             "Sub",
                             "Mul",
                             "Div",
                             "Pow",
                             "Min",
                             "Max",
                             "QuantizeLinear",
                             "DequantizeLinear",
                             "dunlin.CodeTable"})
      v.push_back(&OpNamed(name));
    return v;
  }();
  return std::ranges::find(ops, n.op) != ops.end();
}

// Finds the one value of 8-bit codes that `v` is a function of, element by element, and computes
// the function for every code.
class CodeFunction {
 public:
  explicit CodeFunction(const Graph& g) : g_(g) {}
  // The results for the codes with bits 0 to 255; nullopt: it is no such function.
  std::optional<Tensor> Of(ValueId v) {
    root_ = v;
    if (!Explore(v, kDeepest) || source_ == ValueId::kNone) return std::nullopt;
    auto all = AllCodes(g_.value(source_).type.dtype);
    if (!all) return std::nullopt;
    values_[source_] = *all;
    return Compute(v);
  }
  ValueId source() const { return source_; }
  // Whether the result has the source's extents, whatever they are: no constant adds axes.
  bool keeps_extents() const {
    const Type& t = g_.value(source_).type;
    return t.ranked && constant_rank_ <= t.dims.rank();
  }

 private:
  static constexpr int kDeepest = 24;  // nodes in a row: longer functions are somebody's network

  // Whether v is made of one source of codes and of single numbers.
  bool Explore(ValueId v, int depth) {
    if (seen_.contains(v)) return true;
    const GraphValue& x = g_.value(v);
    if (x.is_constant()) {
      constant_rank_ = std::max(constant_rank_, x.constant.dims().rank());
      return x.constant.count() == 1;
    }
    const Node* n = g_.producer(v);
    const bool inside = n != nullptr && depth > 0 && n->outputs.size() == 1 && IsElementwise(*n) &&
                        n->subgraphs.empty();
    if (inside && (v == root_ || !IsSource(*n, v))) {
      // Those change no extents: a table, scales, zero points.
      const bool one = n->op->name == "CodeTable" || n->op->name == "QuantizeLinear" ||
                       n->op->name == "DequantizeLinear";
      for (size_t i = 0; i < n->inputs.size(); ++i) {
        if (n->inputs[i] == ValueId::kNone) continue;
        if (one && i > 0 ? !IsOneNumber(n->inputs[i]) && n->op->name != "CodeTable"
                         : !Explore(n->inputs[i], depth - 1))
          return false;
      }
      seen_.insert(v);
      return true;
    }
    if (!IsByte(x.type.dtype) || (source_ != ValueId::kNone && source_ != v)) return false;
    source_ = v;
    return true;
  }
  bool IsOneNumber(ValueId v) const {
    const Tensor* t = ConstantOf(g_, v);
    return t != nullptr && t->count() == 1;
  }
  // Codes from a QuantizeLinear of what is no function of codes.
  bool IsSource(const Node& n, ValueId v) {
    if (!IsByte(g_.value(v).type.dtype) || n.op->name != "QuantizeLinear") return false;
    CodeFunction before(g_);
    return !before.Explore(n.inputs[0], kDeepest / 2) || before.source_ == ValueId::kNone;
  }
  std::optional<Tensor> Compute(ValueId v) {
    if (const auto it = values_.find(v); it != values_.end()) return it->second;
    const GraphValue& x = g_.value(v);
    if (x.is_constant()) {
      // As one of 256, of which scales and zero points have to be one for all.
      return x.constant.count() == 1 ? x.constant.Reshaped(Dims{}) : x.constant;
    }
    const Node& n = *g_.producer(v);
    std::vector<Tensor> inputs;
    for (const ValueId in : n.inputs) {
      if (in == ValueId::kNone) {
        inputs.emplace_back();
        continue;
      }
      const auto t = Compute(in);
      if (!t) return std::nullopt;
      inputs.push_back(*t);
    }
    auto results = Evaluate(*n.op, *n.attrs, inputs, 1);
    // One element where only constants are under it, a DequantizeLinear of a constant's codes.
    if (!results || ((*results)[0].count() != 256 && (*results)[0].count() != 1))
      return std::nullopt;
    values_[v] = (*results)[0];
    return (*results)[0];
  }

  const Graph& g_;
  ValueId root_ = ValueId::kNone, source_ = ValueId::kNone;
  int constant_rank_ = 0;
  std::set<ValueId> seen_;
  std::map<ValueId, Tensor> values_;
};

// Quantize(any function of one code) → a table
Built ToTable(Rewriter& r, const Match&) {
  if (!TargetOf(r.g, r.node(0))) return std::nullopt;
  CodeFunction f(r.g);
  const auto table = f.Of(r.node(0).outputs[0]);
  if (!table || !f.keeps_extents()) return std::nullopt;
  const ValueId t = r.g.AddConstant(r.node(0).name + "/table", *table);
  return r.Node("dunlin.CodeTable", {f.source(), t});
}

// A table that changes nothing.
Built DropTable(Rewriter& r, const Match& m) {
  const Tensor* table = ConstantOf(r.g, m.var(1));
  if (table == nullptr || r.type(m.var(0)).dtype != table->dtype()) return std::nullopt;
  for (int i = 0; i < 256; ++i)
    if (table->raw()[i] != std::byte(i)) return std::nullopt;
  return std::optional<ValueId>(m.var(0));
}

// ---- sums, pools and their like --------------------------------------------------------------

// Inputs x, its scale and zero point, y, …, of com.microsoft's operators over codes.
Result<std::vector<ValueId>> Factors(Graph& g, const Coded& x, const Coded& w) {
  return std::vector<ValueId>{x.codes, x.scale, TRY(ZeroOf(g, x)),
                              w.codes, w.scale, TRY(ZeroOf(g, w))};
}
Built FuseBinary(Rewriter& r, const Match&) {
  Graph& g = r.g;
  const Node& n = r.node(1);
  const auto y = TargetOf(r.g, r.node(0));
  const auto a = BytesOf(g, n.inputs[0]), b = BytesOf(g, n.inputs[1]);
  // A product may take the sum in once extents are known.
  const Type& sum = r.type(n.outputs[0]);
  if (!SameExtents(sum, sum) || !y || !a || !b || a->type != b->type || a->type != y->type)
    return std::nullopt;
  std::vector<ValueId> inputs = TRY(Factors(g, *a, *b));
  inputs.push_back(y->scale);
  inputs.push_back(TRY(ZeroOf(g, *y)));
  return r.Node(n.op->name == "Add" ? "com.microsoft.QLinearAdd" : "com.microsoft.QLinearMul",
                std::move(inputs));
}

// Of one operand: x, its scale and zero point, those of the result.
Built FuseUnary(Rewriter& r, std::string_view op, const AttrSettings& attrs) {
  Graph& g = r.g;
  const auto y = TargetOf(r.g, r.node(0));
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

// Interpolated images; of few channels floats are as fast.
Built FuseResize(Rewriter& r, const Match&) {
  constexpr int64_t kLeastChannels = 8;
  const Node& n = r.node(1);
  const auto y = TargetOf(r.g, r.node(0));
  const auto x = BytesOf(r.g, n.inputs[0]);
  const auto to = y ? ConstantsOf(r.g, *y) : std::nullopt;
  const auto from = x ? ConstantsOf(r.g, *x) : std::nullopt;
  if (!to || !from || to->type != from->type) return std::nullopt;
  CodeResizeAttrs a;
  static_cast<Resize::Attrs&>(a) = As<Resize::Attrs>(*n.attrs);
  const Type &in = r.type(x->codes), &out = r.type(n.outputs[0]);
  const ValueId scales = InputOf(n, 2);
  if (!IsCodeResize(a) || !in.IsStatic() || !out.IsStatic() || in.dims.rank() != 4 ||
      in.dims[1] < kLeastChannels || in.dims[0] != out.dims[0] || in.dims[1] != out.dims[1] ||
      (scales != ValueId::kNone && ConstantOf(r.g, scales) == nullptr))
    return std::nullopt;
  a.x_scale = from->scale, a.x_zero = from->zero;
  a.y_scale = to->scale, a.y_zero = to->zero;
  std::vector<ValueId> inputs = n.inputs;
  inputs[0] = x->codes;
  return r.NodeWith("dunlin.CodeResize", std::move(inputs), MakeAttrs(a));
}

// Everything below the zero point becomes the zero point's code, which is the lowest one.
Built DropRelu(Rewriter& r, const Match& m) {
  const auto y = TargetOf(r.g, r.node(0));
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
  const auto y = TargetOf(r.g, r.node(0));
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

// What makes each element one of the input's, and would of its codes: the larger of two numbers has
// the larger code.
const std::initializer_list<std::string_view> kMoves = {
    "Transpose", "Reshape",      "Flatten",      "Squeeze", "Unsqueeze", "MaxPool",
    "Slice",     "DepthToSpace", "SpaceToDepth", "Expand",  "Tile",      "Gather"};
bool MovesCodes(const Node& n) {
  return std::ranges::all_of(n.outputs.begin() + 1, n.outputs.end(),
                             [](ValueId v) { return v == ValueId::kNone; });
}

// Moving codes instead of the numbers they stand for: the same, of a quarter of the bytes. Others
// that read the numbers move them, too, so that nobody is left to read them.
Built MoveCodes(Rewriter& r, const Match&) {
  Graph& g = r.g;
  const Node& move = r.node(0);
  const ValueId numbers = move.inputs[0];
  const auto c = CodesOf(g, numbers);
  if (!c || !c->single || c->type == DType::kI32 || !MovesCodes(move) || g.IsOutput(numbers))
    return std::nullopt;
  for (const Use& use : g.value(numbers).uses) {
    const Node& reader = g.node(use.node);
    if (use.index != 0 || std::ranges::count(kMoves, reader.op->name) == 0 || !MovesCodes(reader))
      return std::nullopt;
  }
  std::vector<ValueId> inputs = move.inputs;
  inputs[0] = c->codes;
  const auto decode = g.producer(numbers)->attrs;
  const auto moved = TRY(r.NodeWith(move.op->name, std::move(inputs), move.attrs));
  return r.NodeWith("DequantizeLinear", {*moved, c->scale, c->zero}, decode);
}

// Quantize(move(product of codes)) → move(Quantize(product)), which the product takes in
Built QuantizeBeforeMove(Rewriter& r, const Match&) {
  const Node& move = r.node(1);
  const auto y = TargetOf(r.g, r.node(0));
  if (!y || !ConstantsOf(r.g, *y) || !MovesCodes(move)) return std::nullopt;
  std::vector<ValueId> quantize = r.node(0).inputs, inputs = move.inputs;
  const std::string op(move.op->name);
  const auto attrs = move.attrs;
  quantize[0] = inputs[0];
  inputs[0] = *TRY(r.NodeWith("QuantizeLinear", std::move(quantize), r.node(0).attrs));
  return r.NodeWith(op, std::move(inputs), attrs);
}
// The same of an activation. The largest of several need not come from the largest.
Built ActivateBeforeMove(Rewriter& r, const Match&) {
  const Node &act = r.node(0), &move = r.node(1);
  if (!EpilogueOf(r.g, act) || !MovesCodes(move) || move.op->name == "MaxPool") return std::nullopt;
  std::vector<ValueId> activate = act.inputs, inputs = move.inputs;
  const std::string op(move.op->name);
  const auto attrs = move.attrs;
  activate[0] = inputs[0];
  inputs[0] = *TRY(r.NodeWith(act.op->name, std::move(activate), act.attrs));
  return r.NodeWith(op, std::move(inputs), attrs);
}
// A product behind one move, or behind two.
Pat MovedProduct(int moves) {
  Pat p = OpMore({"dunlin.CodeConv", "dunlin.CodeMatMul"}, {Var(1)});
  for (; moves > 0; --moves) p = OpMore(kMoves, {p}, moves == 1 ? 1 : -1);
  return p;
}

// Quantize(limit(sum or pool of codes)) → the limit's table of Quantize(sum or pool). Rounding
// keeps order, so that limits may come after it.
Built LimitCodes(Rewriter& r, ValueId x) {
  const auto y = TargetOf(r.g, r.node(0));
  const auto linear = y ? ConstantsOf(r.g, *y) : std::nullopt;
  const auto limit = EpilogueOf(r.g, r.node(1));
  if (!linear || !limit || !BytesOf(r.g, r.node(2).inputs[0])) return std::nullopt;
  Tensor table = TRY(Tensor::Create(linear->type, {256}));
  const auto code = [&](float v) {
    return linear->type == DType::kU8 ? int32_t(CodeOf<uint8_t>(v / linear->scale, linear->zero))
                                      : int32_t(CodeOf<int8_t>(v / linear->scale, linear->zero));
  };
  const bool relu = limit->kind == Activation::kRelu;
  const int32_t low = code(relu ? 0 : limit->a), high = code(relu ? INFINITY : limit->b);
  for (int i = 0; i < 256; ++i) {
    const int32_t c = linear->type == DType::kU8 ? i : int32_t(int8_t(i));
    table.raw()[i] = std::byte(std::min(std::max(c, low), high));
  }
  std::vector<ValueId> quantize = r.node(0).inputs;
  quantize[0] = x;
  const ValueId t = r.g.AddConstant(r.node(1).name + "/table", table);
  const auto codes = TRY(r.NodeWith("QuantizeLinear", std::move(quantize), r.node(0).attrs));
  return r.Node("dunlin.CodeTable", {*codes, t});
}

// Codes of one linear map as those of another.
Result<ValueId> Recoded(Rewriter& r, ValueId codes, const Linear8& from, const Linear8& to) {
  if (from == to) return codes;
  Tensor table = TRY(Tensor::Create(to.type, {256}));
  for (int i = 0; i < 256; ++i) {
    const int32_t c = from.type == DType::kU8 ? i : int32_t(int8_t(i));
    const float v = float(c - from.zero) * from.scale / to.scale;
    table.raw()[i] = to.type == DType::kU8 ? std::byte(CodeOf<uint8_t>(v, to.zero))
                                           : std::byte(CodeOf<int8_t>(v, to.zero));
  }
  const ValueId t = r.g.AddConstant(r.value(codes).name + "/recoded", table);
  return *TRY(r.Node("dunlin.CodeTable", {codes, t}));
}

// The linear map of every input of a Concat; empty when one has none.
std::vector<Linear8> PartsOf(const Graph& g, const Node& concat) {
  std::vector<Linear8> parts;
  for (const ValueId v : concat.inputs) {
    const auto c = BytesOf(g, v);
    const auto linear = c ? ConstantsOf(g, *c) : std::nullopt;
    if (!linear) return {};
    parts.push_back(*linear);
  }
  return parts;
}
Built JoinCodes(Rewriter& r, const Node& concat, const std::vector<Linear8>& parts,
                const Linear8& to) {
  std::vector<ValueId> inputs;
  const auto attrs = concat.attrs;
  const std::vector<ValueId> from = concat.inputs;
  for (size_t i = 0; i < from.size(); ++i)
    inputs.push_back(TRY(Recoded(r, BytesOf(r.g, from[i])->codes, parts[i], to)));
  return r.NodeWith("Concat", std::move(inputs), attrs);
}
// Quantize(Concat(Dequantize(x), …)) → Concat of codes
Built QuantizedConcat(Rewriter& r, const Match&) {
  const auto y = TargetOf(r.g, r.node(0));
  const auto to = y ? ConstantsOf(r.g, *y) : std::nullopt;
  const auto parts = PartsOf(r.g, r.node(1));
  if (!to || parts.empty()) return std::nullopt;
  return JoinCodes(r, r.node(1), parts, *to);
}
// Concat(Dequantize(x), …) of one linear map → Dequantize(Concat of codes)
Built MoveConcat(Rewriter& r, const Match&) {
  const auto parts = PartsOf(r.g, r.node(0));
  if (parts.empty() ||
      std::ranges::any_of(parts, [&](const Linear8& l) { return !(l == parts[0]); }))
    return std::nullopt;
  const Node& dequantize = *r.g.producer(r.node(0).inputs[0]);
  const auto attrs = dequantize.attrs;
  const ValueId scale = dequantize.inputs[1], zero = InputOf(dequantize, 2);
  const auto joined = TRY(JoinCodes(r, r.node(0), parts, parts[0]));
  return r.NodeWith("DequantizeLinear", {*joined, scale, zero}, attrs);
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

}  // namespace

std::span<const Rule> CodeElementRules() {
  static const Rule rules[] = {
      // Quantize(Dequantize(x)) → x
      {"quantize-dequantize", OpMore({"QuantizeLinear"}, {Var(0)}, 0), DropPair},
      {"codes-function", OpMore({"QuantizeLinear"}, {Var(0)}, 0), ToTable},
      {"codes-same-table", Op("dunlin.CodeTable", {Var(0), Var(1)}, 0), DropTable},
      // Quantize(Relu(x)) → Quantize(x), the same of Clip
      Quantised("quantize-relu", {"Relu"}, {Var(0)}, DropRelu),
      Quantised("quantize-clip", {"Clip"}, {Var(0)}, DropClip),
      {"quantize-limit",
       OpMore(
           {"QuantizeLinear"},
           {OpMore({"Relu", "Clip"},
                   {OpMore({"Add", "Mul", "AveragePool", "GlobalAveragePool"}, {Var(1)}, 2)}, 1)},
           0),
       [](Rewriter& r, const Match&) { return LimitCodes(r, r.node(2).outputs[0]); }},
      // Transpose(Dequantize(x)) → Dequantize(Transpose(x))
      {"move-codes", OpMore(kMoves, {Var(0)}, 0), MoveCodes},
      // Quantize(move(product)) and activation(move(product)) → move(Quantize(product)), …
      {"quantize-move", OpMore({"QuantizeLinear"}, {MovedProduct(1)}, 0), QuantizeBeforeMove},
      {"quantize-moves", OpMore({"QuantizeLinear"}, {MovedProduct(2)}, 0), QuantizeBeforeMove},
      {"activation-move", OpMore(kActivations, {MovedProduct(1)}, 0), ActivateBeforeMove},
      {"activation-moves", OpMore(kActivations, {MovedProduct(2)}, 0), ActivateBeforeMove},
      Quantised("quantised-sum", {"Add"}, {Var(0), Var(1)}, FuseBinary),
      Quantised("quantised-product", {"Mul"}, {Var(0), Var(1)}, FuseBinary),
      Quantised("quantised-average-pool", {"AveragePool"}, {Var(0)}, FuseAveragePool),
      Quantised("quantised-global-average-pool", {"GlobalAveragePool"}, {Var(0)},
                FuseGlobalAveragePool),
      Quantised("quantised-softmax", {"Softmax"}, {Var(0)}, FuseSoftmax),
      Quantised("quantised-resize", {"Resize"}, {Var(0)}, FuseResize),
      Quantised("quantised-concat", {"Concat"}, {Var(0)}, QuantizedConcat),
      {"move-concat", OpMore({"Concat"}, {Var(0)}, 0), MoveConcat},
  };
  return rules;
}

Status FuseQuantised(Graph& g, RuleCounts& counts) {
  static const std::vector<Rule> rules = [] {
    std::vector<Rule> all;
    for (const auto set :
         {CodeOperatorRules(), CodeProductRules(), CodeTransposedRules(), CodeElementRules()})
      all.insert(all.end(), set.begin(), set.end());
    return all;
  }();
  TRY(ApplyRules(g, rules, counts));
  for (const NodeId id : g.SoundOrder())
    // A branch that is impossible for these shapes reports it when it is entered, if ever.
    for (const auto& s : g.node(id).subgraphs) (void)FuseQuantised(*s, counts);
  return {};
}

}  // namespace dunlin
