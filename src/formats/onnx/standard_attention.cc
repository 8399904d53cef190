// Attention and RotaryEmbedding of ai.onnx (opset 23 and 24).
#include <cmath>

#include "formats/onnx/attend.h"

namespace dunlin::onnx_import {
namespace {

struct AttentionAttrs {
  bool is_causal = false;
  int64_t q_num_heads = 0, kv_num_heads = 0, qk_matmul_output_mode = 0;
  std::optional<float> scale;
  float softcap = 0;
  DType softmax_precision = DType::kUndefined;
  template <class V>
  void Visit(V& v) {
    v("is_causal", is_causal);
    v("q_num_heads", q_num_heads);
    v("kv_num_heads", kv_num_heads);
    v("qk_matmul_output_mode", qk_matmul_output_mode);
    v("scale", scale);
    v("softcap", softcap);
    v("softmax_precision", softmax_precision);
  }
};

constexpr double kNever = -HUGE_VAL;

// The mask with as many columns as there are keys: those it lacks take no part.
ValueId Widened(Rewrite& r, ValueId mask, ValueId keys, int64_t known_keys) {
  const int64_t own = r.extent(mask, -1);
  const int rank = r.rank(mask);
  // Until opset 24 one column is repeated as any other extent of one.
  if ((IsKnown(own) && own == known_keys) || (r.opset() < 24 && !(own > 1))) return mask;
  if (rank < 1) {
    r.Refuse(Code::kUnimplemented, "the rank of the mask must be known");
    return mask;
  }
  const ValueId zeros = r.Const(Tensor::Ints(std::vector<int64_t>(size_t(rank) * 2 - 1, 0)));
  const ValueId pads =
      r.Concat({zeros, r.Make("Max", {r.Sub(keys, r.Extent(mask, -1)), r.Ints({0})})}, 0);
  return r.Make("Pad", {mask, pads, r.Number(r.dtype(mask) == DType::kBool ? 0 : kNever, mask)});
}

// Inputs: 0 Q, 1 K, 2 V, 3 mask, 4 past keys, 5 past values, 6 how many keys are no padding [B].
// Outputs: the result, all keys, all values, the scores at the stage that qk_matmul_output_mode
// says.
void Attention(Rewrite& r) {
  const auto a = r.Attributes<AttentionAttrs>();
  const ValueId q = r.Need(0), past = r.in(4);
  const int rank = r.rank(q);
  if (rank != 3 && rank != 4)
    return r.Refuse(Code::kUnimplemented, "queries of rank {}: 3 or 4, known, is needed", rank);
  if (r.has(4) != r.has(5))
    return r.Refuse(Code::kInvalidArgument, "past keys and past values go together");
  AttentionOperands o{q, r.Need(1), r.Need(2)};
  if (rank == 3) {
    o.heads = a.q_num_heads;
    o.key_heads = a.kv_num_heads;
    o.q = SplitHeads(r, q, o.heads);
    o.k = SplitHeads(r, o.k, o.key_heads);
    o.v = SplitHeads(r, o.v, o.key_heads);
  } else {
    const auto heads = [&](ValueId x, int64_t said) {
      return IsKnown(r.extent(x, 1)) ? r.extent(x, 1) : said > 0 ? said : kAnyHeads;
    };
    o.heads = heads(q, a.q_num_heads);
    o.key_heads = heads(o.k, a.kv_num_heads);
  }
  if (r.has(4)) {
    o.k = r.Concat({past, o.k}, 2);
    o.v = r.Concat({r.in(5), o.v}, 2);
  }
  o.scale = a.scale;
  o.softcap = a.softcap;
  o.softmax_type = a.softmax_precision;
  o.hole = kNever;
  const ValueId rows = r.Extent(o.q, 2), keys = r.Extent(o.k, 2);
  if (r.has(3)) {
    const ValueId mask = Widened(r, r.in(3), keys, r.extent(o.k, 2));
    (r.dtype(mask) == DType::kBool ? o.keep : o.bias) = mask;
  }
  ValueId valid = ValueId::kNone;  // [B, 1, 1, 1]
  if (r.has(6)) {
    valid = r.Unsqueeze(r.Cast(r.in(6), DType::kI64), {1, 2, 3});
    o.keep = Both(r, o.keep, r.Make("Less", {UpTo(r, keys), valid}));
  }
  if (a.is_causal) {
    // Rows stand behind what has gone before them: the past, or the keys that fill a cache.
    const ValueId offset = r.has(4)   ? r.Extent(past, 2)
                           : r.has(6) ? r.Sub(valid, rows)
                                      : ValueId::kNone;
    o.keep = Both(r, o.keep, Causal(r, rows, keys, offset));
  }
  // Rows that see no key are zero. Causal rows see themselves.
  const ValueId open = r.has(3) || r.has(6) ? OpenRows(r, o) : ValueId::kNone;
  AttentionResult result = Attend(r, o);
  if (open != ValueId::kNone) {
    const auto zeroed = [&](ValueId x) { return r.Make("Where", {open, x, r.Number(0, x)}); };
    result.y = zeroed(result.y);
    if (a.qk_matmul_output_mode == 3 && r.wants(3)) result.weights = zeroed(result.weights);
  }
  r.Give(0, rank == 3 ? JoinHeads(r, result.y) : result.y);
  r.Give(1, o.k);
  r.Give(2, o.v);
  // Stages are numbered as they are computed: product, cap, mask, softmax. Both opsets were first
  // published with the mask before the cap, under which a mask of -inf became a finite score, and 1
  // meant "with the mask". The specification corrected order and numbers of both, and engines
  // followed; a model cannot say which text it was written to.
  switch (a.qk_matmul_output_mode) {
    case 0:
      return r.Give(3, result.scores);
    case 1:
      return r.Give(3, result.capped);
    case 2:
      return r.Give(3, result.masked);
    case 3:
      return r.Give(3, result.weights);
    default:
      return r.Refuse(Code::kInvalidArgument, "qk_matmul_output_mode {}", a.qk_matmul_output_mode);
  }
}

struct RotaryAttrs {
  bool interleaved = false;
  int64_t num_heads = 0, rotary_embedding_dim = 0;
  template <class V>
  void Visit(V& v) {
    v("interleaved", interleaved);
    v("num_heads", num_heads);
    v("rotary_embedding_dim", rotary_embedding_dim);
  }
};

// Inputs: 0 x [B, H, S, D] or [B, S, H * D], 1 cosines, 2 sines: [B, S, R / 2], or tables
// [positions, R / 2] from which 3, position ids [B, S], choose.
void RotaryEmbedding(Rewrite& r) {
  const auto a = r.Attributes<RotaryAttrs>();
  const ValueId x = r.Need(0);
  const int rank = r.rank(x);
  if (rank != 3 && rank != 4)
    return r.Refuse(Code::kUnimplemented, "an input of rank {}: 3 or 4, known, is needed", rank);
  if (rank == 3 && a.num_heads <= 0)
    return r.Refuse(Code::kInvalidArgument, "num_heads is needed for an input of rank 3");
  const auto angles = [&](size_t i) {
    const ValueId table = r.Need(i);
    return r.Unsqueeze(r.has(3) ? r.Make("Gather", {table, r.in(3)}) : table, {rank == 4 ? 1 : 2});
  };
  const ValueId heads = rank == 4 ? x : r.Reshape(x, {0, 0, a.num_heads, -1});
  const ValueId y = Rotate(r, heads, angles(1), angles(2), {a.interleaved, a.rotary_embedding_dim});
  r.Give(0, rank == 4 ? y : r.Make("Reshape", {y, r.Make("Shape", {x})}));
}

}  // namespace

std::span<const RewriteRule> StandardAttentionRewrites() {
  static constexpr RewriteRule rules[] = {
      {"", "Attention", Attention},
      {"", "RotaryEmbedding", RotaryEmbedding},
  };
  return rules;
}

}  // namespace dunlin::onnx_import
