// The pipelines, in the order in which they run.
#include <fmt/format.h>

#include "passes/passes.h"

namespace dunlin {
namespace {

struct Pass {
  const char* name;
  Result<int> (*run)(Graph&);
};

Result<std::vector<PassReport>> RunPasses(Graph& g, std::span<const Pass> passes) {
  std::vector<PassReport> reports;
  for (const Pass& p : passes) {
    const int changes = TRY(p.run(g));
    reports.push_back({p.name, changes});
#ifdef DUNLIN_CHECKED
    if (auto s = g.Verify(); !s) return FailAt(fmt::format("after pass {}", p.name), s.error());
#endif
  }
  return reports;
}

}  // namespace

Result<std::vector<PassReport>> OptimizeModel(Graph& g) {
  static constexpr Pass kPasses[] = {
      {"fold", FoldConstants}, {"simplify", Simplify}, {"fuse", Fuse}, {"fold", FoldConstants}};
  return RunPasses(g, kPasses);
}

Result<std::vector<PassReport>> OptimizeForShapes(Graph& g) {
  static constexpr Pass kPasses[] = {
      {"fold", FoldConstants}, {"simplify", Simplify}, {"fuse", Fuse}, {"fold", FoldConstants}};
  return RunPasses(g, kPasses);
}

Result<std::vector<PassReport>> FoldOnly(Graph& g) {
  static constexpr Pass kPasses[] = {{"fold", FoldConstants}};
  return RunPasses(g, kPasses);
}

}  // namespace dunlin
