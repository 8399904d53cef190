#include <algorithm>

#include "passes/passes.h"
#include "passes/pattern.h"

namespace dunlin {
namespace {

// A weight that is read in less time than a step takes to begin gains nothing.
constexpr int64_t kLeastBytes = int64_t{1} << 16;
// With so many rows a product takes as long as its multiplications do, and no longer as reading its
// weights.
constexpr int64_t kFewRows = 8;

bool MayHaveFewRows(const Type& x) {
  if (!x.ranked || x.dims.empty()) return true;
  int64_t rows = 1;
  for (int i = 0; i + 1 < x.dims.rank(); ++i) {
    if (!IsKnown(x.dims[size_t(i)])) return true;
    rows *= std::min(x.dims[size_t(i)], kFewRows + 1);
  }
  return rows <= kFewRows;
}

}  // namespace

Status RoundWeights(Graph& g, RuleCounts& counts) {
  static const OpDef* const kProducts[] = {&OpNamed("MatMul"), &OpNamed("Gemm"),
                                           &OpNamed("dunlin.FusedMatMul")};
  for (const NodeId id : g.SoundOrder()) {
    Node& n = g.node(id);
    for (const auto& s : n.subgraphs) TRY(RoundWeights(*s, counts));
    if (std::find(std::begin(kProducts), std::end(kProducts), n.op) == std::end(kProducts))
      continue;
    const GraphValue& w = g.value(n.inputs[1]);
    if (!w.is_constant() || w.type.dtype != DType::kF32 || w.constant.bytes() < kLeastBytes ||
        NarrowOf(w.constant) || !MayHaveFewRows(g.value(n.inputs[0]).type))
      continue;
    const std::string name = w.name + ".bf16";
    Tensor rounded = Widened(TRY(Convert(w.constant, DType::kBF16)));
    const ValueId exact = n.inputs[1];
    g.SetInput(n, 1, g.AddConstant(name, std::move(rounded)));
    // Floats that nobody reads need not stay beside what was made of them.
    if (GraphValue& old = g.value(exact); !old.is_input && g.UseCount(exact) == 0) {
      old.constant.buffer()->ReleasePages(old.constant.offset(), size_t(old.constant.bytes()));
      old.constant = Tensor();
    }
    counts.Add("weights-to-bf16");
  }
  return {};
}

}  // namespace dunlin
