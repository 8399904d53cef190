// Products of floats with constant weights that a DequantizeLinear makes become MatMulNBits, which
// reads the codes: with few rows a product takes as long as reading its weights does, and codes are
// a quarter to an eighth of the bytes. Folding would make floats of them.
#include <algorithm>

#include "ops/matmul/matmul.h"
#include "ops/quant/block_weights.h"
#include "ops/quant/linear.h"
#include "passes/fuse.h"
#include "passes/passes.h"
#include "tensor/narrow.h"

namespace dunlin {
namespace {

using Built = Result<std::optional<ValueId>>;

// A matrix [K, N], or its transpose [N, K], of codes with a scale for every block along K.
struct CodedMatrix {
  Tensor codes, scales, zeros;      // zeros may be undefined: all 0
  int bits = 0, lowest = 0;         // of the codes, so that code - lowest is not negative
  int64_t K = 0, N = 0, block = 0;  // NOLINT: as in the operator
  bool turned = false;
  bool one_scale = false, blocked = false;

  int64_t at(int64_t k, int64_t n) const { return turned ? n * K + k : k * N + n; }
  // Of scales and zero points.
  int64_t parameter(int64_t b, int64_t n) const {
    return one_scale ? 0 : !blocked ? n : turned ? n * ((K + block - 1) / block) + b : b * N + n;
  }
};

std::optional<int64_t> Extent(const Dims& d, int64_t axis) {
  if (axis < 0) axis += d.rank();
  return axis >= 0 && axis < d.rank() ? std::optional(axis) : std::nullopt;
}

int32_t SignedCode(const Tensor& t, int64_t i) {
  switch (t.dtype()) {
    case DType::kI8:
      return t.as<int8_t>()[i];
    case DType::kU8:
      return t.as<uint8_t>()[i];
    default:
      return int32_t(LoadNarrow(t.dtype(), t.raw(), i));
  }
}

// nullopt: not such a matrix. `turned` says whether the product takes its transpose.
std::optional<CodedMatrix> MatrixOf(const Rewriter& r, const Node& dequantise, bool turned) {
  const auto& attrs = As<LinearAttrs>(*dequantise.attrs);
  CodedMatrix m;
  const auto constant = [&](size_t i) {
    if (i >= dequantise.inputs.size() || dequantise.inputs[i] == ValueId::kNone) return Tensor();
    return r.value(dequantise.inputs[i]).constant;
  };
  m.codes = constant(0), m.scales = constant(1), m.zeros = constant(2);
  const bool has_zeros = dequantise.inputs.size() > 2 && dequantise.inputs[2] != ValueId::kNone;
  if (!m.codes.defined() || !m.scales.defined() || m.zeros.defined() != has_zeros ||
      m.codes.rank() != 2 || m.codes.count() == 0 ||
      (has_zeros && (m.zeros.dtype() != m.codes.dtype() || m.zeros.count() != m.scales.count())))
    return std::nullopt;
  const DType type = m.codes.dtype();
  if (type != DType::kI8 && type != DType::kU8 && !IsNarrowInt(type)) return std::nullopt;
  m.bits = DTypeBits(type);
  m.lowest =
      type == DType::kI8 || type == DType::kI4 || type == DType::kI2 ? -(1 << (m.bits - 1)) : 0;
  m.turned = turned;
  const Dims& d = m.codes.dims();
  m.K = d[turned ? 1 : 0], m.N = d[turned ? 0 : 1];
  const auto axis = Extent(d, attrs.axis);
  m.blocked = attrs.block_size > 0;
  m.one_scale = !m.blocked && m.scales.count() == 1;
  // Scales along K alone are not of blocks of columns.
  if (!m.one_scale && (!axis || (*axis == (turned ? 1 : 0)) != m.blocked)) return std::nullopt;
  m.block = m.blocked ? std::min(attrs.block_size, m.K) : m.K;
  return m;
}

// Codes as MatMulNBits has them.
Result<Tensor> PackedCodes(const CodedMatrix& m) {
  const int64_t blocks = (m.K + m.block - 1) / m.block, bytes = (m.block * m.bits + 7) / 8;
  Tensor to = TRY(Tensor::Zeros(DType::kU8, {m.N, blocks, bytes}));
  for (int64_t n = 0; n < m.N; ++n)
    for (int64_t k = 0; k < m.K; ++k) {
      const int64_t i = k % m.block * m.bits;
      to.mut<uint8_t>()[(n * blocks + k / m.block) * bytes + i / 8] |=
          uint8_t((SignedCode(m.codes, m.at(k, n)) - m.lowest) << (i % 8));
    }
  return to;
}
Result<Tensor> PackedZeros(const CodedMatrix& m) {
  const int64_t blocks = (m.K + m.block - 1) / m.block, bytes = (blocks * m.bits + 7) / 8;
  Tensor to = TRY(Tensor::Zeros(DType::kU8, {m.N, bytes}));
  for (int64_t n = 0; n < m.N; ++n)
    for (int64_t b = 0; b < blocks; ++b) {
      const int32_t zero = m.zeros.defined() ? SignedCode(m.zeros, m.parameter(b, n)) : 0;
      to.mut<uint8_t>()[n * bytes + b * m.bits / 8] |=
          uint8_t((zero - m.lowest) << (b * m.bits % 8));
    }
  return to;
}
Result<Tensor> PackedScales(const CodedMatrix& m) {
  const int64_t blocks = (m.K + m.block - 1) / m.block;
  const Tensor wide = TRY(Convert(m.scales, DType::kF32));
  Tensor to = TRY(Tensor::Create(DType::kF32, {m.N, blocks}));
  for (int64_t n = 0; n < m.N; ++n)
    for (int64_t b = 0; b < blocks; ++b)
      to.mut<float>()[n * blocks + b] = wide.as<float>()[m.parameter(b, n)];
  return Convert(to, m.scales.dtype());
}

// Where the weights of 8 bits do better as floats: with more rows than a product takes in one pass
// over its weights, it is bound by multiplication, and decoding is work that folding does once.
// With fewer bits the floats would take eight times the memory and more, and decoding costs some
// 5 operations for 8 weights, a few in a hundred of the multiplications with 128 rows.
constexpr int64_t kRowsOfBytes = 8;
bool WorthReading(const CodedMatrix& m, const Type& x) {
  if (m.bits < 8 || !x.ranked) return true;
  const auto count = ElementCount(x.dims);
  return !count || *count / m.K <= kRowsOfBytes;
}

Built FuseBlocks(Rewriter& r, const Match& match, bool turned, ValueId bias) {
  const Node& dequantise = r.node(1);
  const ValueId x = match.var(0);
  const Type &x_type = r.type(x), &w_type = r.type(dequantise.outputs[0]);
  const auto m = MatrixOf(r, dequantise, turned);
  if (!m || x_type.dtype != w_type.dtype || m->scales.dtype() != x_type.dtype || !x_type.ranked ||
      x_type.dims.empty() || !WorthReading(*m, x_type))
    return std::nullopt;
  Graph& g = r.g;
  const std::string name = g.value(dequantise.outputs[0]).name;
  std::vector<ValueId> inputs = {x, g.AddConstant(name + "/codes", TRY(PackedCodes(*m))),
                                 g.AddConstant(name + "/scales", TRY(PackedScales(*m)))};
  // Left out, it is the middle code: 0 of a signed type.
  const bool middle = !m->zeros.defined() && m->lowest != 0;
  if (!middle) inputs.push_back(g.AddConstant(name + "/zeros", TRY(PackedZeros(*m))));
  if (bias != ValueId::kNone) {
    inputs.resize(5, ValueId::kNone);
    inputs.push_back(bias);
  }
  return r.Node("com.microsoft.MatMulNBits", std::move(inputs),
                {{"K", m->K}, {"N", m->N}, {"bits", int64_t{m->bits}}, {"block_size", m->block}});
}

Built FuseMatMul(Rewriter& r, const Match& m) { return FuseBlocks(r, m, false, ValueId::kNone); }

bool SwapsAxes(const Node& transpose) {
  const auto perm = IntsAttr(*transpose.attrs, "perm");
  return !perm || perm->empty() || *perm == std::vector<int64_t>{1, 0};
}
Built FuseTransposed(Rewriter& r, const Match& m) {
  if (!SwapsAxes(r.node(2))) return std::nullopt;
  return FuseBlocks(r, m, true, ValueId::kNone);
}

Built FuseGemm(Rewriter& r, const Match& m) {
  const Node& gemm = r.node(0);
  const auto& attrs = As<GemmAttrs>(*gemm.attrs);
  const ValueId bias = gemm.inputs.size() > 2 ? gemm.inputs[2] : ValueId::kNone;
  if (attrs.trans_a || attrs.alpha != 1) return std::nullopt;
  if (bias != ValueId::kNone) {
    const Type& b = r.type(bias);
    const auto columns = r.type(gemm.outputs[0]).dims;
    if (attrs.beta != 1 || !b.ranked || b.dims.rank() != 1 || columns.rank() != 2 ||
        !IsKnown(columns[1]) || b.dims[0] != columns[1] || b.dtype != r.type(m.var(0)).dtype)
      return std::nullopt;
  }
  return FuseBlocks(r, m, attrs.trans_b, bias);
}

// A sum with a constant row becomes the bias.
Built FuseSum(Rewriter& r, const Match& m) {
  const Node& product = r.node(1);
  const GraphValue& row = r.value(m.var(0));
  const int64_t columns = As<MatMulNBitsAttrs>(*product.attrs).N;
  if (product.inputs.size() > 5 || !row.is_constant() || row.constant.rank() != 1 ||
      row.constant.count() != columns || row.type.dtype != r.type(product.outputs[0]).dtype)
    return std::nullopt;
  std::vector<ValueId> inputs = product.inputs;
  inputs.resize(5, ValueId::kNone);
  inputs.push_back(m.var(0));
  return r.NodeWith("com.microsoft.MatMulNBits", std::move(inputs), product.attrs);
}

std::span<const Rule> BlockWeightRules() {
  static const Pat weights = OpMore({"DequantizeLinear"}, {Var(1), Var(2)}, 1);
  static const Rule rules[] = {
      // MatMul(x, Dequantize(w)) → MatMulNBits(x, w)
      {"block-weights", Op("MatMul", {Var(0), weights}, 0), FuseMatMul},
      // MatMul(x, Transpose(Dequantize(w))) → MatMulNBits(x, w)
      {"block-weights-transposed", Op("MatMul", {Var(0), Op("Transpose", {weights}, 2)}, 0),
       FuseTransposed},
      // Gemm(x, Dequantize(w), bias) → MatMulNBits(x, w, bias)
      {"block-weights-gemm", OpMore({"Gemm"}, {Var(0), weights}, 0), FuseGemm},
      // MatMulNBits(x, w) + row → MatMulNBits(x, w, row)
      {"block-weights-bias",
       Op("Add", {OpMore({"com.microsoft.MatMulNBits"}, {Var(1)}, 1), Var(0)}, 0), FuseSum},
  };
  return rules;
}

}  // namespace

Status FuseBlockWeights(Graph& g, RuleCounts& counts) {
  TRY(ApplyRules(g, BlockWeightRules(), counts));
  for (const NodeId id : g.SoundOrder())
    // A branch that is impossible for these shapes reports it when it is entered, if ever.
    for (const auto& s : g.node(id).subgraphs) (void)FuseBlockWeights(*s, counts);
  return {};
}

}  // namespace dunlin
