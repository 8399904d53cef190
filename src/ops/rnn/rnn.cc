#include "ops/rnn/rnn.h"

#include <algorithm>
#include <cctype>
#include <cmath>

namespace dunlin {
namespace rnn {
namespace {

// Alpha and beta of an activation when the model gives none (those of the ONNX operator of that
// name).
struct ActivationInfo {
  std::string_view name;
  ActivationKind kind;
  bool takes_alpha = false, takes_beta = false;
  float alpha = 0, beta = 0;
};
constexpr ActivationInfo kActivations[] = {
    {"relu", ActivationKind::kRelu},
    {"tanh", ActivationKind::kTanh},
    {"sigmoid", ActivationKind::kSigmoid},
    {"affine", ActivationKind::kAffine, true, true, 1, 0},
    {"leakyrelu", ActivationKind::kLeakyRelu, true, false, 0.01f, 0},
    {"thresholdedrelu", ActivationKind::kThresholdedRelu, true, false, 1, 0},
    {"scaledtanh", ActivationKind::kScaledTanh, true, true, 1, 1},
    {"hardsigmoid", ActivationKind::kHardSigmoid, true, true, 0.2f, 0.5f},
    {"elu", ActivationKind::kElu, true, false, 1, 0},
    {"softsign", ActivationKind::kSoftsign},
    {"softplus", ActivationKind::kSoftplus},
};

const ActivationInfo* FindActivation(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  for (const ActivationInfo& a : kActivations)
    if (a.name == name) return &a;
  return nullptr;
}

// Hands out alphas (or betas). A list as long as the activations goes by position; a shorter one
// has values only for the activations that take one.
class Parameters {
 public:
  Parameters(const std::vector<float>& values, size_t activations)
      : values_(values), by_position_(values.size() == activations) {}
  float For(size_t position, bool takes, float fallback) {
    if (!takes) return 0;
    const size_t at = by_position_ ? position : next_++;
    return at < values_.size() ? values_[at] : fallback;
  }

 private:
  const std::vector<float>& values_;
  bool by_position_;
  size_t next_ = 0;
};

// Two extents that must agree; `into` becomes the better known one.
Status Unify(int64_t& into, int64_t with, std::string_view what) {
  if (into == kUnknownDim || (!IsKnown(into) && IsKnown(with)))
    into = with;
  else if (IsKnown(into) && IsKnown(with) && into != with)
    return Fail(Code::kInvalidArgument, "{}: extents {} and {} must agree", what, into, with);
  return {};
}

// Checks input i against `expected`, whose entries it may sharpen.
Status Match(InferContext& ctx, int i, std::initializer_list<int64_t*> expected,
             std::string_view what) {
  if (!ctx.has(i) || !ctx.input(i).ranked) return {};
  const Dims& d = ctx.input(i).dims;
  if (d.size() != expected.size())
    return Fail(Code::kInvalidArgument, "{}: rank {} instead of {}", what, d.size(),
                expected.size());
  size_t at = 0;
  for (int64_t* e : expected) TRY(Unify(*e, d[at++], what));
  return {};
}

}  // namespace

double Activation::operator()(double x) const {
  switch (kind) {
    case ActivationKind::kRelu:
      return x < 0 ? 0 : x;
    case ActivationKind::kTanh:
      return std::tanh(x);
    case ActivationKind::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case ActivationKind::kAffine:
      return alpha * x + beta;
    case ActivationKind::kLeakyRelu:
      return x < 0 ? alpha * x : x;
    case ActivationKind::kThresholdedRelu:
      return x < alpha ? 0 : x;
    case ActivationKind::kScaledTanh:
      return alpha * std::tanh(beta * x);
    case ActivationKind::kHardSigmoid:
      return std::clamp(double(alpha) * x + beta, 0.0, 1.0);
    case ActivationKind::kElu:
      return x < 0 ? alpha * std::expm1(x) : x;
    case ActivationKind::kSoftsign:
      return x / (1 + std::abs(x));
    case ActivationKind::kSoftplus:
      return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
  }
  return x;
}

Activations DefaultActivations(Cell cell) {
  const Activation sigmoid{ActivationKind::kSigmoid}, tanh{ActivationKind::kTanh};
  if (cell == Cell::kRnn) return {tanh, tanh, tanh};
  return {sigmoid, tanh, tanh};
}

Result<int> Directions(const RnnAttrs& attrs) {
  if (attrs.direction == "forward" || attrs.direction == "reverse") return 1;
  if (attrs.direction == "bidirectional") return 2;
  return Fail(Code::kInvalidArgument, "direction '{}' is not forward, reverse or bidirectional",
              attrs.direction);
}

Result<std::vector<Activations>> ParseActivations(Cell cell, const RnnAttrs& attrs) {
  const auto directions = size_t(TRY(Directions(attrs)));
  const auto per_direction = size_t(ActivationCount(cell));
  std::vector<Activations> all(directions, DefaultActivations(cell));
  if (attrs.activations.empty()) return all;
  if (attrs.activations.size() != directions * per_direction)
    return Fail(Code::kInvalidArgument, "activations: {} names instead of {}",
                attrs.activations.size(), directions * per_direction);
  Parameters alphas(attrs.activation_alpha, attrs.activations.size());
  Parameters betas(attrs.activation_beta, attrs.activations.size());
  for (size_t i = 0; i < attrs.activations.size(); ++i) {
    const ActivationInfo* info = FindActivation(attrs.activations[i]);
    if (info == nullptr)
      return Fail(Code::kInvalidArgument, "activations: '{}' is not known", attrs.activations[i]);
    all[i / per_direction][i % per_direction] = {info->kind,
                                                 alphas.For(i, info->takes_alpha, info->alpha),
                                                 betas.For(i, info->takes_beta, info->beta)};
  }
  return all;
}

Geometry GeometryOf(const RnnAttrs& attrs, const Dims& x, const Dims& r) {
  const bool batch_first = attrs.layout == 1;
  return {x[batch_first ? 1 : 0], x[batch_first ? 0 : 1], x[2], r[2], int(r[0]), batch_first};
}

Result<int64_t> LengthOf(RunContext& ctx, const Geometry& g, int64_t b) {
  if (!ctx.has(kLens)) return g.S;
  const int64_t n = ctx.in(kLens).as<int32_t>()[b];
  if (n < 0 || n > g.S)
    return Fail(Code::kInvalidArgument, "sequence_lens[{}] is {}, outside [0, {}]", b, n, g.S);
  return n;
}

Status Infer(Cell cell, const RnnAttrs& attrs, InferContext& ctx) {
  TRY(ParseActivations(cell, attrs));
  if (attrs.layout != 0 && attrs.layout != 1)
    return Fail(Code::kInvalidArgument, "layout is {}, not 0 or 1", attrs.layout);
  const bool batch_first = attrs.layout == 1;
  const int64_t gates = Gates(cell);
  int64_t D = TRY(Directions(attrs)), S = kUnknownDim, B = kUnknownDim, I = kUnknownDim,
          H = kUnknownDim;
  if (attrs.hidden_size) {
    if (*attrs.hidden_size <= 0)
      return Fail(Code::kInvalidArgument, "hidden_size is {}", *attrs.hidden_size);
    H = *attrs.hidden_size;
  }
  TRY(batch_first ? Match(ctx, kX, {&B, &S, &I}, "X") : Match(ctx, kX, {&S, &B, &I}, "X"));
  int64_t GH = kUnknownDim;
  TRY(Match(ctx, kR, {&D, &GH, &H}, "R"));
  TRY(Match(ctx, kW, {&D, &GH, &I}, "W"));
  // Empty tensors can have extents beyond all memory, and sizes of zero would make them fit.
  constexpr int64_t kMaxExtent = int64_t{1} << 31;
  for (const int64_t extent : {S, B, I, H})
    if (extent > kMaxExtent)
      return Fail(Code::kInvalidArgument, "an extent of {} is too large", extent);
  if (I == 0 || H == 0) return Fail(Code::kInvalidArgument, "input size {}, hidden size {}", I, H);
  if (IsKnown(H)) TRY(Unify(GH, gates * H, "W and R: gates times hidden size"));
  int64_t biases = IsKnown(H) ? 2 * gates * H : kUnknownDim,
          peepholes = IsKnown(H) ? 3 * H : kUnknownDim;
  TRY(Match(ctx, kB, {&D, &biases}, "B"));
  TRY(Match(ctx, kLens, {&B}, "sequence_lens"));
  for (const int state : {int(kInitialH), int(kInitialC)}) {
    if (state == kInitialC && cell != Cell::kLstm) continue;
    TRY(batch_first ? Match(ctx, state, {&B, &D, &H}, "initial state")
                    : Match(ctx, state, {&D, &B, &H}, "initial state"));
  }
  if (cell == Cell::kLstm) TRY(Match(ctx, kP, {&D, &peepholes}, "P"));

  DType dtype = ctx.dtype(kX);
  for (const int i : {int(kW), int(kR), int(kB), int(kInitialH), int(kInitialC), int(kP)}) {
    if (!ctx.has(i) || ctx.dtype(i) == DType::kUndefined) continue;
    if (dtype == DType::kUndefined) dtype = ctx.dtype(i);
    if (ctx.dtype(i) != dtype)
      return Fail(Code::kInvalidArgument, "input {} is {} where X is {}", i,
                  DTypeName(ctx.dtype(i)), DTypeName(dtype));
  }
  if (dtype != DType::kUndefined && !IsFloat(dtype))
    return Fail(Code::kInvalidArgument, "X is {}, not a float type", DTypeName(dtype));
  if (ctx.has(kLens) && ctx.dtype(kLens) != DType::kUndefined && ctx.dtype(kLens) != DType::kI32)
    return Fail(Code::kInvalidArgument, "sequence_lens is {}, not i32",
                DTypeName(ctx.dtype(kLens)));
  ctx.Set(kY, Type::Of(dtype, batch_first ? Dims{B, S, D, H} : Dims{S, D, B, H}));
  for (int o = kYh; o < ctx.output_count(); ++o)
    ctx.Set(o, Type::Of(dtype, batch_first ? Dims{B, D, H} : Dims{D, B, H}));
  return {};
}

namespace {

template <Cell kCell>
struct Operator {
  struct Attrs : RnnAttrs {
    template <class V>
    void Visit(V& v) {
      VisitCommon(v);
      if (kCell == Cell::kLstm) v("input_forget", input_forget);
      if (kCell == Cell::kGru) v("linear_before_reset", linear_before_reset);
    }
  };
  static Status Infer(const Attrs& a, InferContext& c) { return rnn::Infer(kCell, a, c); }
  static Status Reference(const Attrs& a, RunContext& c) { return rnn::Reference(kCell, a, c); }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& c) {
    return rnn::Lower(kCell, a, c);
  }
  static int64_t Macs(const Attrs& a, std::span<const Type> in, std::span<const Type>) {
    const Geometry g = GeometryOf(a, in[kX].dims, in[kR].dims);
    return g.S * g.B * g.D * Gates(kCell) * g.H * (g.I + g.H);
  }
};

}  // namespace
}  // namespace rnn

std::span<const OpDef> RnnOps() {
  using rnn::Cell;
  static const OpDef ops[] = {
      Declare<rnn::Operator<Cell::kLstm>>(
          "LSTM", {.min_inputs = 3, .max_inputs = 8, .min_outputs = 0, .max_outputs = 3}),
      Declare<rnn::Operator<Cell::kGru>>(
          "GRU", {.min_inputs = 3, .max_inputs = 6, .min_outputs = 0, .max_outputs = 2}),
      Declare<rnn::Operator<Cell::kRnn>>(
          "RNN", {.min_inputs = 3, .max_inputs = 6, .min_outputs = 0, .max_outputs = 2}),
  };
  return ops;
}

}  // namespace dunlin
