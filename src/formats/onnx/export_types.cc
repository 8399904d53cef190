// Element types that operators took later than they came.
// Source: the type constraints of each version in ONNX's change log, opsets 7 to 24.
#include "formats/onnx/export_graph.h"

namespace dunlin::onnx_export {
namespace {

using Mask = uint64_t;
constexpr Mask Of(DType t) { return Mask{1} << unsigned(t); }
template <class... T>
constexpr Mask Of(DType t, T... more) {
  return Of(t) | Of(more...);
}

constexpr Mask kBF16 = Of(DType::kBF16), kBytes = Of(DType::kI8, DType::kU8),
               kShort = kBytes | Of(DType::kI16, DType::kU16),
               kLong = Of(DType::kI32, DType::kI64, DType::kU32, DType::kU64),
               kInts = kShort | kLong,
               kSigned = Of(DType::kI8, DType::kI16, DType::kI32, DType::kI64),
               kFloats = Of(DType::kF16, DType::kF32, DType::kF64), kBool = Of(DType::kBool),
               kText = Of(DType::kString),
               kF8 = Of(DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ),
               kI4 = Of(DType::kI4, DType::kU4);

struct LaterTypes {
  std::string_view op;
  int least;
  Mask types;
};
constexpr LaterTypes kLater[] = {
    {"Add", 14, kShort},
    {"BatchNormalization", 14, kBF16},
    {"Cast", 9, kText},
    {"Clip", 12, kInts},
    {"CumSum", 14, kBF16 | Of(DType::kF16)},
    {"Div", 14, kShort},
    {"Equal", 11, kFloats | kShort | Of(DType::kU32, DType::kU64)},
    {"Equal", 19, kText},
    {"Flatten", 9, kBool | kInts | kText},
    {"Gemm", 9, kLong},
    {"Greater", 9, kInts},
    {"GreaterOrEqual", 16, kBF16},
    {"IsInf", 20, Of(DType::kF16) | kBF16 | kF8},
    {"IsNaN", 20, kF8},
    {"LeakyRelu", 16, kBF16},
    {"Less", 9, kInts},
    {"LessOrEqual", 16, kBF16},
    {"MatMul", 9, kLong},
    {"Max", 12, kInts},
    {"MaxPool", 12, kBytes},
    {"Min", 12, kInts},
    {"Mul", 14, kShort},
    {"PRelu", 9, kLong},
    {"PRelu", 16, kBF16},
    {"Pad", 11, kInts},
    {"Pad", 13, kBool | kText},
    {"Pow", 12, kLong},
    {"QuantizeLinear", 19, Of(DType::kF16) | kBF16},
    {"ReduceMax", 12, kBytes},
    {"ReduceMax", 20, kBool},
    {"ReduceMin", 12, kBytes},
    {"ReduceMin", 20, kBool},
    {"Relu", 14, kSigned},
    {"Sub", 14, kShort},
    {"TopK", 11, kInts},
    {"TopK", 24, kBF16},
    {"Where", 16, kBF16},
};
// These took bf16 with opset 22, the others with 13.
constexpr std::string_view kLateBF16[] = {"Acos",
                                          "Acosh",
                                          "Asin",
                                          "Asinh",
                                          "Atan",
                                          "Atanh",
                                          "AveragePool",
                                          "Conv",
                                          "ConvTranspose",
                                          "Cos",
                                          "Cosh",
                                          "DeformConv",
                                          "Det",
                                          "Elu",
                                          "GRU",
                                          "GridSample",
                                          "GlobalLpPool",
                                          "GlobalAveragePool",
                                          "GlobalMaxPool",
                                          "HardSigmoid",
                                          "HardSwish",
                                          "InstanceNormalization",
                                          "LSTM",
                                          "LpNormalization",
                                          "LpPool",
                                          "MaxPool",
                                          "MaxRoiPool",
                                          "MaxUnpool",
                                          "Mish",
                                          "RNN",
                                          "RoiAlign",
                                          "Round",
                                          "Selu",
                                          "Sin",
                                          "Sinh",
                                          "Softplus",
                                          "Softsign",
                                          "Tan",
                                          "ThresholdedRelu"};

int LeastFor(std::string_view op, DType t) {
  int least = 1;
  for (const LaterTypes& l : kLater)
    if (l.op == op && (l.types & Of(t))) least = std::max(least, l.least);
  if (Of(t) & kBF16) {
    least = std::max(least, 13);
    for (const std::string_view late : kLateBF16)
      if (late == op) least = std::max(least, 22);
  }
  if (Of(t) & kF8) least = std::max(least, 19);
  if (Of(t) & kI4) least = std::max(least, 21);
  if (t == DType::kF4E2M1) least = std::max(least, 23);
  if (t == DType::kF8E8M0) least = std::max(least, 24);
  if (t == DType::kI2 || t == DType::kU2) least = std::max(least, 25);
  return least;
}

}  // namespace

void CheckTypes(NodeForm& f) {
  const std::string_view op = f.node.op->name;
  const auto check = [&](const Type* t, std::string_view rule) {
    if (t == nullptr || t->dtype == DType::kUndefined) return;
    if (const int least = LeastFor(rule, t->dtype); least > f.opset)
      f.Need(least, fmt::format("elements of {}", DTypeName(t->dtype)));
  };
  check(f.InputType(op == "Where" ? 1 : 0), op);
  if (op == "Cast") check(&f.g.value(f.node.outputs[0]).type, op);
  // Codes of 16 bits came with those of 4; scales that are not f32 before that.
  if (op == "QuantizeLinear" || op == "DequantizeLinear") {
    const ValueId made = f.node.outputs[0];
    const Type* codes =
        op == "QuantizeLinear" && made != ValueId::kNone ? &f.g.value(made).type : f.InputType(0);
    const bool wide =
        codes != nullptr && (codes->dtype == DType::kI16 || codes->dtype == DType::kU16);
    if (wide && f.opset < 21) f.Need(21, "codes of 16 bits");
    check(codes, "");
    const Type* scale = f.InputType(1);
    if (scale != nullptr && scale->dtype != DType::kF32 && scale->dtype != DType::kUndefined &&
        f.opset < 19)
      f.Need(19, fmt::format("a scale of {}", DTypeName(scale->dtype)));
  }
  for (const ValueId v : f.node.outputs)
    if (v != ValueId::kNone) check(&f.g.value(v).type, "");
  // Sequences and optionals as results of branches and iterations.
  if (op != "If" && op != "Loop") return;
  for (const ValueId v : f.node.outputs) {
    if (v == ValueId::kNone) continue;
    const Type::Kind kind = f.g.value(v).type.kind;
    if (kind == Type::Kind::kSequence && f.opset < 13) f.Need(13, "a sequence as result");
    if (kind == Type::Kind::kOptional && f.opset < 16) f.Need(16, "an optional as result");
  }
}

}  // namespace dunlin::onnx_export
