// Graph transformation: passes that keep a graph's meaning, and the pipelines made of them.
#pragma once

#include "ir/graph.h"
#include "passes/report.h"

namespace dunlin {

// Infers types, computes what depends on constants only, and inlines If branches that are decided.
// Sub-graphs included. Large results that would bloat the model (an Expand of a scalar) are left to
// run time.
Status FoldConstants(Graph& graph, RuleCounts& counts);
// The same, but what constant codes stand for is left to the rules about codes.
Status FoldAroundCodes(Graph& graph, RuleCounts& counts);

// The same, but no constant grows, and quantised ones stay quantised.
Status FoldForExport(Graph& graph, RuleCounts& counts);

// Lets everything between the inputs and outputs of a model in f16 or bf16 compute in f32, for
// which there are kernels: values on the way are not rounded. Constants stay what they are until
// they are packed (Widened). Control flow, sequences, and what is only moved about keep their
// types.
Status WidenHalves(Graph& graph, RuleCounts& counts);

// Matrix products with constant f32 weights compute on 8-bit codes: weights rounded with a scale a
// column, the other factor as it comes with a scale a row. Changes numbers: each factor by up to
// 1/254 of the largest of its row or column.
Status QuantiseProducts(Graph& graph, RuleCounts& counts);

// Rounds the weights of matrix products that may have few rows to bf16, in which they are then
// packed and read: half the bytes, and such a product takes as long as reading them does. Changes
// numbers: by up to 2^-9 of each weight. What has more rows is left to LowerContext::bf16_products.
Status RoundWeights(Graph& graph, RuleCounts& counts);

// Removes nodes that do nothing and merges equal ones.
Status Simplify(Graph& graph, RuleCounts& counts);

// Merges float operators between DequantizeLinear and QuantizeLinear into integer ones. Before
// folding, which would turn quantised weights into floats.
Status FuseQuantised(Graph& graph, RuleCounts& counts);

// Makes products with weights that are kept as codes, MatMulNBits, of what would multiply their
// floats. Before folding, after FuseQuantised, which takes those whose other operand is quantised.
Status FuseBlockWeights(Graph& graph, RuleCounts& counts);

// Merges nodes into ones that a fast kernel computes in one go.
Status Fuse(Graph& graph, RuleCounts& counts);

// Of that, what changes the weights of convolutions and leaves them convolutions.
Status FoldIntoConvolutions(Graph& graph, RuleCounts& counts);

// Merges narrow convolutions of one input, which would fill few lanes each, into one. Where shapes
// are known.
Status MergeSiblings(Graph& graph, RuleCounts& counts);

// What runs once per model: everything that needs no shapes, in three stages. Before ('pre'): what
// depends on constants only, what does nothing, what is computed twice. 'optimise': fusing. After
// ('post'): duplicates that fusing left; then the plan assigns layouts and memory (runtime/plan.h).
// Changes the graph; the report tells what fired.
Result<OptimizationReport> OptimizeModel(Graph& graph);
// What runs for each set of input shapes, on a clone whose inputs are static: the same passes
// again, which now see all shapes.
Result<OptimizationReport> OptimizeForShapes(Graph& graph);
// What may run before a graph is written as ONNX: what leaves standard operators and makes nothing
// larger. No fusing but of scales, shifts and pads into the weights of convolutions.
Result<OptimizationReport> OptimizeForExport(Graph& graph);
// Folding alone: what must happen even with every optimisation off, so that shapes are known.
Result<OptimizationReport> FoldOnly(Graph& graph);

}  // namespace dunlin
