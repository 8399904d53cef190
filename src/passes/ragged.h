// Packing: a graph over [batch, tokens] rewritten so that one run computes sequences of different
// lengths, laid one after the other along the token axis, without padding.
//
// Most of what a transformer computes it computes token by token, and packed sequences are one long
// one to it. The rewrite follows every axis from the inputs: which extents are the batch, which the
// tokens. Where positions of one sequence meet, it puts what keeps sequences apart: attention over
// segments, the position within a sequence in place of the place in the tensor, a gather or a
// reduction per segment for what a whole sequence has. A node of which it cannot prove that packed
// sequences stay apart ends it.
#pragma once

#include <memory>
#include <vector>

#include "ir/graph.h"

namespace dunlin {

struct RaggedPort {
  enum class Kind : uint8_t {
    kTokens,    // [1, …, T, …]: sequence i lies at its segment of `token_axis`
    kSegments,  // [n, …]: a row for each sequence
    kEmpty,   // an input with an open extent of its own, which is 0: there is no past to go on from
    kShared,  // an output that is the same whatever the inputs
  } kind = Kind::kTokens;
  int token_axis = 1;  // of inputs always 1
};

// T tokens of n sequences. The inputs are those of the original in their order, then offsets [n +
// 1] where the sequences begin and the last one ends, positions [T] of tokens in their sequence,
// firsts [n] and lasts [n], the places of each sequence's first and last token (of an empty one:
// any). All four are i64. T may be more than offsets.back(): those tokens belong to nobody.
struct RaggedGraph {
  std::unique_ptr<Graph> graph;
  std::vector<RaggedPort> inputs, outputs;  // of the original
  static constexpr int kOffsets = 0, kPositions = 1, kFirsts = 2, kLasts = 3, kIndices = 4;
};

// Of a graph as OptimizeModel leaves it, which stays as it is. kUnimplemented: "not raggable: node
// 'x' of type GRU mixes positions". A SegmentSoftmax that later fusing does not take up, with the
// products around it, computes every score of every pair of tokens.
Result<RaggedGraph> MakeRagged(const Graph& graph);

}  // namespace dunlin
