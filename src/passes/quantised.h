// What the rules about quantised values share; and the rule sets, one topic each.
#pragma once

#include "ops/quant/code_ops.h"
#include "ops/quant/linear.h"
#include "passes/fuse.h"
#include "passes/passes.h"

namespace dunlin {

using Built = Result<std::optional<ValueId>>;

inline bool IsByte(DType t) { return t == DType::kU8 || t == DType::kI8; }
inline ValueId InputOf(const Node& n, size_t i) {
  return i < n.inputs.size() ? n.inputs[i] : ValueId::kNone;
}
inline const Tensor* ConstantOf(const Graph& g, ValueId v) {
  return v != ValueId::kNone && g.value(v).is_constant() ? &g.value(v).constant : nullptr;
}

// What a DequantizeLinear reads or a QuantizeLinear writes.
struct Coded {
  ValueId codes = ValueId::kNone, scale = ValueId::kNone, zero = ValueId::kNone;
  DType type = DType::kUndefined;  // of the codes
  int64_t axis = 0;
  bool single = true;  // one scale for all
};
// The codes behind a value that comes out of a DequantizeLinear with f32 scales, not in blocks.
std::optional<Coded> CodesOf(const Graph& g, ValueId v);
// Of 8 bits, with one scale.
std::optional<Coded> BytesOf(const Graph& g, ValueId v);
// What a QuantizeLinear makes, if that is 8 bits with one scale, of f32.
std::optional<Coded> TargetOf(const Graph& g, const Node& quantize);

// Equal whatever the symbols in them stand for.
bool SameExtents(const Type& a, const Type& b);

// Scale and zero point of 8-bit codes that are constants.
struct Linear8 {
  float scale = 1;
  int32_t zero = 0;
  DType type = DType::kU8;
  bool operator==(const Linear8&) const = default;
};
std::optional<Linear8> ConstantsOf(const Graph& g, const Coded& c);
// The zero point, as a constant where it was left out.
Result<ValueId> ZeroOf(Graph& g, const Coded& c);

// Constant or not, of 8 bits, with one scale or one for every index of `axis`.
std::optional<Coded> WeightsOf(const Graph& g, ValueId v, int64_t axis);
// The bias of a product of x and w as the integer operators take it: kNone, codes in units of the
// sums, or an f32 row; nullopt: they do not.
std::optional<ValueId> BiasFor(const Graph& g, ValueId bias, const Coded& x, const Coded& w);
// Inputs of CodeConv and CodeMatMul.
std::vector<ValueId> Factors(const Coded& x, const Coded& w, ValueId bias);

// Activations that products of codes can take in.
inline const std::initializer_list<std::string_view> kActivations = {
    "Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Clip"};

// QOperator's operators into those of the other rules.
std::span<const Rule> CodeOperatorRules();
// Products of codes and all that can follow them, into CodeConv and CodeMatMul.
std::span<const Rule> CodeProductRules();
// Transposed convolutions of codes into products whose channels are moved to pixels.
std::span<const Rule> CodeTransposedRules();
// Functions of one code into tables, sums, pools and what moves codes about.
std::span<const Rule> CodeElementRules();

}  // namespace dunlin
