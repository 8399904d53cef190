// Graph transformation: passes that keep a graph's meaning, and the pipelines made of them.
#pragma once

#include <string>
#include <vector>

#include "ir/graph.h"

namespace dunlin {

struct PassReport {
  std::string pass;
  int changes = 0;
};

// Infers types, computes what depends on constants only, and inlines If branches that are decided.
// Sub-graphs included. Large results that would bloat the model (an Expand of a scalar) are left to
// run time.
Result<int> FoldConstants(Graph& graph);

// Removes nodes that do nothing and merges equal ones.
Result<int> Simplify(Graph& graph);

// Merges nodes into ones that a fast kernel computes in one go.
Result<int> Fuse(Graph& graph);

// What runs once per model: everything that needs no shapes. Changes the graph; the report tells
// what fired.
Result<std::vector<PassReport>> OptimizeModel(Graph& graph);
// What runs for each set of input shapes, on a clone whose inputs are static: the same passes
// again, which now see all shapes.
Result<std::vector<PassReport>> OptimizeForShapes(Graph& graph);
// Folding alone: what must happen even with every optimisation off, so that shapes are known.
Result<std::vector<PassReport>> FoldOnly(Graph& graph);

}  // namespace dunlin
