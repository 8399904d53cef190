#include <algorithm>

#include "dunlin/engine.h"
#include "ops/op.h"

namespace dunlin {

std::vector<std::string> OperatorNames() {
  std::vector<std::string> names;
  for (const OpDef* op : AllOps()) {
    // Fused and internal forms are ours; no file may name them.
    if (op->domain == "dunlin") continue;
    names.push_back(op->domain.empty() ? std::string(op->name)
                                       : fmt::format("{}.{}", op->domain, op->name));
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace dunlin
