// The pipelines, in the order in which they run.
#include <fmt/format.h>

#include "passes/passes.h"

namespace dunlin {
namespace {

struct Pass {
  const char* stage;
  const char* name;
  Status (*run)(Graph&, RuleCounts&);
};

void AddSize(const Graph& g, GraphSize& size) {
  for (size_t v = 0; v < g.value_count(); ++v) {
    const GraphValue& x = g.value(ValueId(v));
    if (x.is_constant() && g.UseCount(ValueId(v)) > 0) size.constant_bytes += x.constant.bytes();
  }
  for (const NodeId id : g.SoundOrder()) {
    ++size.nodes;
    for (const auto& s : g.node(id).subgraphs) AddSize(*s, size);
  }
}
GraphSize SizeOf(const Graph& g) {
  GraphSize size;
  AddSize(g, size);
  return size;
}

// Constants that folding and fusing left without a reader need no memory.
void DropUnusedConstants(Graph& g) {
  for (size_t v = 0; v < g.value_count(); ++v) {
    GraphValue& x = g.value(ValueId(v));
    if (x.is_constant() && !x.is_input && g.UseCount(ValueId(v)) == 0) x.constant = Tensor();
  }
}

Result<OptimizationReport> RunPasses(Graph& g, std::span<const Pass> passes) {
  OptimizationReport report{SizeOf(g), {}};
  for (const Pass& p : passes) {
    RuleCounts counts;
    TRY(p.run(g, counts));
    report.passes.push_back({p.stage, p.name, counts.counts(), SizeOf(g)});
#ifdef DUNLIN_CHECKED
    if (auto s = g.Verify(); !s) return FailAt(fmt::format("after pass {}", p.name), s.error());
#endif
  }
  DropUnusedConstants(g);
  return report;
}

constexpr Pass kPasses[] = {
    {"pre", "quantised", FuseQuantised},     {"pre", "block weights", FuseBlockWeights},
    {"pre", "fold", FoldConstants},          {"pre", "widen", WidenHalves},
    {"pre", "simplify", Simplify},           {"optimise", "fuse", Fuse},
    {"optimise", "siblings", MergeSiblings}, {"optimise", "fold", FoldConstants},
    {"post", "simplify", Simplify}};

// Rules about codes want to know the extents that were open so far.
constexpr Pass kOpenExtents[] = {{"pre", "fold", FoldAroundCodes}};

constexpr Pass kFolding[] = {{"pre", "fold", FoldConstants}};

// Copies of constants go before folding makes constants of them.
constexpr Pass kExportPasses[] = {
    {"pre", "simplify", Simplify},       {"pre", "fold", FoldForExport},
    {"pre", "simplify", Simplify},       {"optimise", "convolutions", FoldIntoConvolutions},
    {"optimise", "fold", FoldForExport}, {"post", "simplify", Simplify}};

}  // namespace

Result<OptimizationReport> OptimizeModel(Graph& g) { return RunPasses(g, kPasses); }

Result<OptimizationReport> OptimizeForShapes(Graph& g) {
  OptimizationReport report = TRY(RunPasses(g, kOpenExtents));
  const OptimizationReport rest = TRY(RunPasses(g, kPasses));
  report.passes.insert(report.passes.end(), rest.passes.begin(), rest.passes.end());
  return report;
}

Result<OptimizationReport> OptimizeForExport(Graph& g) { return RunPasses(g, kExportPasses); }

Result<OptimizationReport> FoldOnly(Graph& g) { return RunPasses(g, kFolding); }

}  // namespace dunlin
