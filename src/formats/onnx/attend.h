// Attention and rotary positions out of standard operators, for the many operators that are written
// as one node: passes/fuse_attention.cc finds the pattern again once the shapes are known.
#pragma once

#include "formats/onnx/rewrite.h"

namespace dunlin::onnx_import {

inline constexpr int64_t kAnyHeads = -1;

struct AttentionOperands {
  ValueId q, k, v;                            // [B, H, S, D], [B, Hk, T, D], [B, Hk, T, Dv]
  int64_t heads = 0, key_heads = 0;           // H and Hk; 0: not known, and equal
  std::optional<float> scale = std::nullopt;  // default: 1 / sqrt(D)
  float softcap = 0;  // the scores become softcap * tanh(scores / softcap); 0: not
  // What broadcasts to the scores [B, H, S, T]: numbers that are added, and a boolean that is false
  // where a score gives way to `hole`.
  ValueId bias = ValueId::kNone, keep = ValueId::kNone;
  double hole = 0;
  ValueId sink = ValueId::kNone;  // one more score for each row, [H] or a scalar, without a value
  DType softmax_type = DType::kUndefined;  // kUndefined: the operands'
};
struct AttentionResult {
  // The scaled products; those after the cap; those after bias and holes; the softmax; the result
  // [B, H, S, Dv].
  ValueId scores, capped, masked, weights, y;
};
AttentionResult Attend(Rewrite& r, const AttentionOperands& o);

// True for rows to which bias and holes of -Inf leave a key: extents that broadcast to [B, H, S,
// 1]. kNone: for all.
ValueId OpenRows(Rewrite& r, const AttentionOperands& o);

// The lowest finite number of the type of `like`.
double LowestOf(Rewrite& r, ValueId like);
// [B, S, H * D] as [B, H, S, D], and back.
ValueId SplitHeads(Rewrite& r, ValueId x, int64_t heads);
ValueId JoinHeads(Rewrite& r, ValueId x);
// 0 … n - 1 in i64, n a vector of one integer.
ValueId UpTo(Rewrite& r, ValueId n);
// True where column t is at most row s + offset: [.., S, T] for an offset that broadcasts to
// [.., 1, 1]; kNone: 0. `rows` and `columns` are vectors of one integer.
ValueId Causal(Rewrite& r, ValueId rows, ValueId columns, ValueId offset);
// Both conditions; either may be kNone.
ValueId Both(Rewrite& r, ValueId a, ValueId b);

struct RotaryOptions {
  bool interleaved = false;
  int64_t rotated = 0;  // so many of the last extent's elements; 0: all
};
// x [.., .., .., D] turned by angles whose cosines and sines broadcast to its first half or, if
// interleaved, its even elements.
ValueId Rotate(Rewrite& r, ValueId x, ValueId cosines, ValueId sines, const RotaryOptions& o);

}  // namespace dunlin::onnx_import
