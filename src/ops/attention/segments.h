// Sequences of different lengths packed one after the other along one axis, without padding: where
// they begin and end, and the operators that keep them apart. Made by passes/ragged.cc.
#pragma once

#include <span>
#include <vector>

#include "ops/op.h"

namespace dunlin {

// Segment i is [offsets[i], offsets[i + 1]), and may be empty. What lies behind the last one is in
// no segment.
struct Segment {
  int64_t begin = 0, end = 0;
};

// Inference: input i is a vector of i64.
Status CheckOffsets(InferContext& ctx, int i);
// kInvalidArgument unless offsets begin at 0, do not fall, and end within `count`.
Status CheckSegments(std::span<const int64_t> offsets, int64_t count);
inline std::span<const int64_t> OffsetsOf(const TensorView& v) {
  return {v.as<int64_t>(), size_t(v.count())};
}
// That holds place `at`; empty when none does.
Segment SegmentOf(std::span<const int64_t> offsets, int64_t at);

// dunlin.SegmentSoftmax: scores [..., T, T], offsets. Softmax of each row over the places of its
// own segment; all others, and rows of no segment, are 0. It stands for attention until that is one
// step, and has no kernel.
//
// dunlin.SegmentReduce: x [1, T, ...], offsets [n + 1] → [n, ...], the sum, mean or maximum over
// the places of each segment. Of an empty one: 0.
//
// dunlin.SegmentCumSum: x [1, T, ...], offsets → the sum of each place and those before it in its
// segment; in no segment: 0.
enum class SegmentReduction : int64_t { kSum, kMean, kMax };
struct SegmentReduceAttrs {
  int64_t reduction = 0;
  template <class V>
  void Visit(V& v) {
    v("reduction", reduction);
  }
};

std::vector<OpDef> SegmentOps();

}  // namespace dunlin
