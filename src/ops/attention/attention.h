// Attention of the domain "dunlin": softmax(scale Q K^T + mask) V in one step, made by the rules of
// passes/fuse_attention.cc from what exporters write.
#pragma once

#include <array>

#include "ops/op.h"

namespace dunlin {

// Order of the extents of an operand: batch B, heads H, rows S, width D.
enum class HeadOrder : int64_t {
  kHeadsFirst = 0,  // [B, H, S, D]
  kRowsFirst = 1,   // [B, S, H, D], as a projection makes it
  kWidthFirst = 2,  // [B, H, D, S], keys only
};

struct AttentionAttrs {
  float scale = 1;
  // HeadOrder of Q, K, V and the result.
  int64_t q_order = 0, k_order = 0, v_order = 0, y_order = 0;
  // What a boolean mask puts in the place of scores where it is true.
  float fill = 0;
  template <class V>
  void Visit(V& v) {
    v("scale", scale);
    v("q_order", q_order);
    v("k_order", k_order);
    v("v_order", v_order);
    v("y_order", y_order);
    v("fill", fill);
  }
};
inline constexpr std::string_view kAttentionName = "Attention";

// Inputs: Q, K, V and perhaps a mask that broadcasts to [B, H, S, T]: floats are added to the
// scores, booleans replace them by `fill`. K and V may have fewer heads, a divisor of Q's (grouped
// queries). A fifth input cuts the rows of a batch of one into segments (segments.h): each row
// attends to the keys of its own segment alone, and rows of no segment give 0.
struct AttentionShape {
  int64_t batch = 1, heads = 1, rows = 0, keys = 0, width = 0, values = 0;  // B, H, S, T, D, Dv
  int64_t key_heads = 1;  // of K and V; each serves heads / key_heads neighbouring heads of Q
  // Strides in elements.
  struct Strides {
    int64_t batch = 0, head = 0, row = 0, element = 1;
  };
  Strides q, k, v, y;
  // Which of the batch * key_heads heads of keys and values belongs to head i of batch * heads.
  int64_t KeyHead(int64_t i) const {
    return i / heads * key_heads + i % heads / (heads / key_heads);
  }
};
Result<AttentionShape> ResolveAttention(const AttentionAttrs& attrs, std::span<const int64_t> q,
                                        std::span<const int64_t> k, std::span<const int64_t> v);

Result<KernelPtr> LowerAttention(const AttentionAttrs& attrs, LowerContext& ctx);

}  // namespace dunlin
