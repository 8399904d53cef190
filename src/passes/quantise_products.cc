// Matrix products with constant f32 weights into products of 8-bit codes, for those who ask for it:
// weights are rounded once, with a scale for every column, and the other factor as it comes, with a
// scale for every row. Everything between the products stays f32.
#include <algorithm>
#include <cmath>

#include "ops/matmul/matmul.h"
#include "ops/quant/code_ops.h"
#include "ops/quant/quant.h"
#include "passes/passes.h"
#include "passes/pattern.h"

namespace dunlin {
namespace {

// Shorter sums gain little from fewer bits, and lose more by them.
constexpr int64_t kLeastTerms = 64, kLeastColumns = 16;

struct QuantisedWeights {
  Tensor codes, scales;  // i8 [K, N], f32 [N]
};
Result<QuantisedWeights> Quantised(const Tensor& w, bool transposed) {
  const int64_t k = w.dims()[transposed ? 1 : 0], n = w.dims()[transposed ? 0 : 1];
  QuantisedWeights q{TRY(Tensor::Create(DType::kI8, {k, n})),
                     TRY(Tensor::Create(DType::kF32, {n}))};
  const float* from = w.as<float>();
  float* const scales = q.scales.mut<float>();
  const auto at = [&](int64_t i, int64_t c) { return from[transposed ? c * k + i : i * n + c]; };
  std::fill_n(scales, n, 0.0f);
  for (int64_t i = 0; i < k; ++i)
    for (int64_t c = 0; c < n; ++c) scales[c] = std::max(scales[c], std::fabs(at(i, c)));
  for (int64_t c = 0; c < n; ++c) scales[c] = scales[c] > 0 ? scales[c] / 127 : 1;
  for (int64_t i = 0; i < k; ++i)
    for (int64_t c = 0; c < n; ++c)
      q.codes.mut<int8_t>()[i * n + c] = CodeOf<int8_t>(at(i, c) / scales[c], 0);
  return q;
}

// The parts of a product of x with a constant matrix; nullopt: it is none, or one that stays f32.
struct Product {
  CodeMatMulAttrs attrs;
  bool transposed = false;
  ValueId bias = ValueId::kNone, residual = ValueId::kNone;
};
std::optional<Product> ProductOf(const Graph& g, const Node& n) {
  const auto input = [&](size_t i) { return i < n.inputs.size() ? n.inputs[i] : ValueId::kNone; };
  Product p;
  if (n.op->name == kFusedMatMulName && n.op->domain == "dunlin") {
    const auto& a = As<FusedMatMulAttrs>(*n.attrs);
    if (a.trans_a) return std::nullopt;
    p.transposed = a.trans_b;
    p.attrs.alpha = a.alpha;
    p.attrs.store.activation = a.activation;
    p.attrs.store.act_a = a.act_a;
    p.attrs.store.act_b = a.act_b;
    p.bias = input(2);
    p.residual = input(3);
  } else if (n.op->name != "MatMul" || !n.op->domain.empty()) {
    return std::nullopt;
  }
  const Type &x = g.value(n.inputs[0]).type, &y = g.value(n.outputs[0]).type;
  const GraphValue& w = g.value(n.inputs[1]);
  if (x.dtype != DType::kF32 || !x.ranked || x.dims.rank() < 2 || !w.is_constant() ||
      w.type.dtype != DType::kF32 || w.constant.rank() != 2 || !y.ranked)
    return std::nullopt;
  const int64_t k = w.constant.dims()[p.transposed ? 1 : 0],
                columns = w.constant.dims()[p.transposed ? 0 : 1];
  if (k < kLeastTerms || columns < kLeastColumns) return std::nullopt;
  for (const float v : w.constant.values<float>())
    if (!std::isfinite(v)) return std::nullopt;
  if (p.bias != ValueId::kNone &&
      (g.value(p.bias).type.dtype != DType::kF32 || !g.value(p.bias).type.ranked ||
       g.value(p.bias).type.dims != Dims{columns}))
    return std::nullopt;
  return p;
}

}  // namespace

Status QuantiseProducts(Graph& g, RuleCounts& counts) {
  for (const NodeId id : g.SoundOrder()) {
    for (const auto& s : g.node(id).subgraphs) TRY(QuantiseProducts(*s, counts));
    const auto p = ProductOf(g, g.node(id));
    if (!p) continue;
    const double position = g.node(id).position;
    const std::string name = g.node(id).name;
    const ValueId x = g.node(id).inputs[0];
    const GraphValue& w = g.value(g.node(id).inputs[1]);
    const auto q = TRY(Quantised(w.constant, p->transposed));
    const std::string weights = w.name;
    Node& rows =
        g.AddNode(OpNamed("dunlin.QuantizeRows"), DefaultAttrs(OpNamed("dunlin.QuantizeRows")), {x},
                  std::vector<std::string>{name + "/codes", name + "/scales"}, name + "/rows");
    rows.position = position;
    TRY(InferNode(g, rows));
    std::vector<ValueId> inputs(kCodeOpInputs, ValueId::kNone);
    inputs[kX] = rows.outputs[0];
    inputs[kXScale] = rows.outputs[1];
    inputs[kW] = g.AddConstant(weights + "/codes", q.codes);
    inputs[kWScale] = g.AddConstant(weights + "/scales", q.scales);
    inputs[kBias] = p->bias;
    inputs[kResidual] = p->residual;
    Node& product = g.AddNode(OpNamed("dunlin.CodeMatMul"), MakeAttrs(p->attrs), std::move(inputs),
                              name + "/product");
    product.position = position;
    TRY(InferNode(g, product));
    g.ReplaceAllUses(g.node(id).outputs[0], product.outputs[0]);
    g.Erase(id);
    counts.Add("int8-product");
  }
  return Simplify(g, counts);  // products of one factor quantise it once
}

}  // namespace dunlin
