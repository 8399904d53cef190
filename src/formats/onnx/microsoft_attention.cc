// Attention, MultiHeadAttention, GroupQueryAttention, RotaryEmbedding and their like of
// com.microsoft.
#include <cmath>

#include "formats/onnx/attend.h"

namespace dunlin::onnx_import {
namespace {

constexpr auto kNone = ValueId::kNone;

// More heads than any model has: products of such numbers do not overflow.
constexpr int64_t kMostHeads = int64_t{1} << 20;
bool AreHeads(Rewrite& r, int64_t heads) {
  if (heads < 1 || heads > kMostHeads) r.Refuse(Code::kInvalidArgument, "{} heads", heads);
  return r.ok();
}

// ---- masks of keys ----

// t < end of each row of the batch and, if there are starts, t >= start: [B, 1, 1, T].
ValueId Within(Rewrite& r, ValueId keys, ValueId starts, ValueId ends) {
  const ValueId t = UpTo(r, keys);
  const auto column = [&](ValueId v) { return r.Reshape(r.Cast(v, DType::kI64), {-1, 1, 1, 1}); };
  const ValueId keep = r.Make("Less", {t, column(ends)});
  return starts == kNone ? keep : Both(r, keep, r.Make("GreaterOrEqual", {t, column(starts)}));
}

// Where a key padding mask lets a score stand. Its forms: [B] lengths; [2 B] ends, then starts;
// [3 B + 2] lengths, then sums of them; [B, T], [B, S, T] and [B, 1, all rows, all keys] of numbers
// that are positive for keys that count.
ValueId KeyMask(Rewrite& r, ValueId mask, ValueId batch, int64_t known_batch, ValueId past,
                ValueId rows, ValueId keys) {
  const int rank = r.rank(mask);
  const auto positive = [&](ValueId m) {
    return r.dtype(m) == DType::kBool ? m : r.Make("Greater", {m, r.Number(0, m)});
  };
  switch (rank) {
    case 1: {
      const int64_t entries = r.extent(mask, 0);
      const bool known = IsKnown(entries) && IsKnown(known_batch) && known_batch < INT32_MAX;
      if (known && entries == known_batch) return Within(r, keys, kNone, mask);
      const ValueId ends = r.Slice(mask, r.Ints({0}), batch, 0);
      if (known && entries != 2 * known_batch) {
        if (entries != 3 * known_batch + 2)
          r.Refuse(Code::kInvalidArgument, "a mask of {} entries for a batch of {}", entries,
                   known_batch);
        return Within(r, keys, kNone, ends);
      }
      // Behind lengths alone stand zeros: the starts.
      const ValueId longer = r.Concat({mask, r.Sub(mask, mask)}, 0);
      return Within(r, keys, r.Slice(longer, batch, r.Mul(batch, r.Ints({2})), 0), ends);
    }
    case 2:
      return r.Unsqueeze(positive(mask), {1, 2});
    case 3:
      return r.Unsqueeze(positive(mask), {1});
    case 4: {
      const ValueId from = past == kNone ? r.Ints({0}) : past;
      const ValueId lines = r.Slice(mask, from, r.Add(from, rows), 2);
      return positive(r.Slice(lines, r.Ints({0}), keys, 3));
    }
    default:
      r.Refuse(Code::kUnimplemented, "a mask of rank {}: 1 to 4, known, is needed", rank);
      return mask;
  }
}

// What the operators below have in common once queries, keys and values stand heads first.
struct Masks {
  ValueId key_mask = kNone, bias = kNone;
  bool causal = false;
  float filter = -10000;  // is added where the key mask is zero
};
AttentionResult Masked(Rewrite& r, AttentionOperands o, const Masks& m, ValueId past) {
  const ValueId rows = r.Extent(o.q, 2), keys = r.Extent(o.k, 2);
  o.bias = m.bias;
  if (m.key_mask != kNone) {
    const ValueId keep =
        KeyMask(r, m.key_mask, r.Extent(o.q, 0), r.extent(o.q, 0), past, rows, keys);
    const ValueId added =
        r.Make("Where", {keep, r.Number(0, o.q), r.Number(double(m.filter), o.q)});
    o.bias = o.bias == kNone ? added : r.Add(o.bias, added);
  }
  if (m.causal) {
    o.keep = Causal(r, rows, keys, past);
    o.hole = LowestOf(r, o.q);
  }
  return Attend(r, o);
}

// past and fresh rows [B, H, P, D] and [B, H, L, D]. In a shared buffer, `past_length` of whose
// rows are used, the fresh ones take the place of what follows.
struct Cached {
  ValueId present, used;  // the whole cache; the rows of it that count
};
Cached Append(Rewrite& r, ValueId past, ValueId fresh, ValueId past_length) {
  if (past == kNone) return {fresh, fresh};
  if (past_length == kNone) {
    const ValueId all = r.Concat({past, fresh}, 2);
    return {all, all};
  }
  const ValueId end = r.Add(past_length, r.Extent(fresh, 2));
  const ValueId used = r.Concat({r.Slice(past, r.Ints({0}), past_length, 2), fresh}, 2);
  return {r.Concat({used, r.Slice(past, end, r.Ints({INT64_MAX}), 2)}, 2), used};
}
ValueId AsLength(Rewrite& r, ValueId scalar) { return r.Reshape(r.Cast(scalar, DType::kI64), {1}); }

void RefuseBeams(Rewrite& r) {
  r.Refuse(Code::kUnimplemented, "cache_indirection is not supported; export without beam search");
}

// ---- Attention: the projections are part of it ----

struct AttentionAttrs {
  int64_t num_heads = 0, do_rotary = 0, past_present_share_buffer = 0, rotary_embedding_dim = 0;
  bool unidirectional = false;
  std::vector<int64_t> qkv_hidden_sizes;
  std::optional<float> scale;
  float mask_filter_value = -10000;
  template <class V>
  void Visit(V& v) {
    v("num_heads", num_heads);
    v("do_rotary", do_rotary);
    v("past_present_share_buffer", past_present_share_buffer);
    v("rotary_embedding_dim", rotary_embedding_dim);
    v("unidirectional", unidirectional);
    v("qkv_hidden_sizes", qkv_hidden_sizes);
    v("scale", scale);
    v("mask_filter_value", mask_filter_value);
  }
};

// Inputs: 0 x [B, S, I], 1 weights [I, 3 hidden], 2 bias, 3 mask, 4 past [2, B, H, P, D], 5 added
// to the scores, 6 the past's length in a shared buffer. Outputs: 0 [B, S, hidden], 1 present.
void Attention(Rewrite& r) {
  const auto a = r.Attributes<AttentionAttrs>();
  if (a.do_rotary != 0)
    return r.Refuse(Code::kUnimplemented,
                    "do_rotary is not supported; export with separate rotary embeddings");
  if (r.has(8)) return RefuseBeams(r);
  if (!a.qkv_hidden_sizes.empty() && a.qkv_hidden_sizes.size() != 3)
    return r.Refuse(Code::kInvalidArgument, "qkv_hidden_sizes has {} entries, not 3",
                    a.qkv_hidden_sizes.size());
  ValueId all = r.MatMul(r.Need(0), r.Need(1));
  if (r.has(2)) all = r.Add(all, r.in(2));
  std::vector<ValueId> split_inputs = {all};
  AttrMap split = {{"axis", int64_t{-1}}};
  if (a.qkv_hidden_sizes.empty())
    split["num_outputs"] = int64_t{3};
  else
    split_inputs.push_back(r.Ints(a.qkv_hidden_sizes));
  const auto qkv = r.MakeMany("Split", split_inputs, 3, split);
  AttentionOperands o{};
  o.scale = a.scale;
  o.q = SplitHeads(r, qkv[0], a.num_heads);
  const ValueId k = SplitHeads(r, qkv[1], a.num_heads), v = SplitHeads(r, qkv[2], a.num_heads);
  ValueId past_keys = kNone, past_values = kNone, past_length = kNone, shared = kNone;
  if (r.has(4)) {
    past_keys = r.Make("Gather", {r.in(4), r.Int(0)});
    past_values = r.Make("Gather", {r.in(4), r.Int(1)});
    if (a.past_present_share_buffer != 0) shared = AsLength(r, r.Need(6));
    past_length = shared != kNone ? shared : r.Extent(past_keys, 2);
  }
  const Cached keys = Append(r, past_keys, k, shared), values = Append(r, past_values, v, shared);
  o.k = keys.used;
  o.v = values.used;
  const auto result =
      Masked(r, o, {r.in(3), r.in(5), a.unidirectional, a.mask_filter_value}, past_length);
  r.Give(0, JoinHeads(r, result.y));
  if (r.wants(1))
    r.Give(1, r.Concat({r.Unsqueeze(keys.present, {0}), r.Unsqueeze(values.present, {0})}, 0));
}

// ---- MultiHeadAttention and DecoderMaskedMultiHeadAttention ----

struct MultiHeadAttrs {
  int64_t num_heads = 0, output_qk = 0, past_present_share_buffer = 0;
  bool unidirectional = false;
  std::optional<float> scale;
  float mask_filter_value = -10000;
  template <class V>
  void Visit(V& v) {
    v("num_heads", num_heads);
    v("output_qk", output_qk);
    v("past_present_share_buffer", past_present_share_buffer);
    v("unidirectional", unidirectional);
    v("scale", scale);
    v("mask_filter_value", mask_filter_value);
  }
};

// Which input is what.
struct MultiHeadInputs {
  size_t bias, mask, added, past_keys, past_values, past_length, indirection;
};

// Part `index` of [B, S, H, parts, D], as [B, H, S, D].
ValueId PartOf(Rewrite& r, ValueId packed, int64_t index) {
  return r.Transpose(r.Make("Gather", {packed, r.Int(index)}, {{"axis", int64_t{3}}}),
                     {0, 2, 1, 3});
}

// Queries, keys and values heads first, with their parts of the bias [H D + H D + H Dv].
void Operands(Rewrite& r, const MultiHeadAttrs& a, size_t bias, AttentionOperands& o) {
  const ValueId q = r.Need(0), key = r.in(1), value = r.in(2);
  const ValueId shifts = r.in(bias);
  if (r.rank(q) == 5) {
    const ValueId packed =
        shifts == kNone ? q
                        : r.Add(q, r.Transpose(r.Reshape(shifts, {3, a.num_heads, -1}), {1, 0, 2}));
    o.q = PartOf(r, packed, 0);
    o.k = PartOf(r, packed, 1);
    o.v = PartOf(r, packed, 2);
    return;
  }
  const auto shifted = [&](ValueId x, ValueId from, ValueId to) {
    const ValueId sum = shifts == kNone ? x : r.Add(x, r.Slice(shifts, from, to, 0));
    return SplitHeads(r, sum, a.num_heads);
  };
  const ValueId hidden = r.Extent(q, -1), twice = r.Add(hidden, hidden);
  if (key == kNone) {
    // [B, S, 3 hidden] side by side.
    const auto parts = r.MakeMany("Split", {shifts == kNone ? q : r.Add(q, shifts)}, 3,
                                  {{"axis", int64_t{-1}}, {"num_outputs", int64_t{3}}});
    o.q = SplitHeads(r, parts[0], a.num_heads);
    o.k = SplitHeads(r, parts[1], a.num_heads);
    o.v = SplitHeads(r, parts[2], a.num_heads);
    return;
  }
  o.q = shifted(q, r.Ints({0}), hidden);
  if (r.rank(key) == 5) {
    o.k = PartOf(r, key, 0);
    o.v = PartOf(r, key, 1);
  } else if (r.rank(key) == 4) {
    o.k = key;
    o.v = r.Need(2);
  } else {
    if (value == kNone) r.Need(2);
    o.k = shifted(key, hidden, twice);
    o.v = shifted(value, twice, r.Ints({INT64_MAX}));
  }
}

void MultiHead(Rewrite& r, const MultiHeadInputs& in) {
  const auto a = r.Attributes<MultiHeadAttrs>();
  if (r.has(in.indirection)) return RefuseBeams(r);
  AttentionOperands o{};
  o.scale = a.scale;
  Operands(r, a, in.bias, o);
  const ValueId past = r.in(in.past_keys);
  const ValueId shared =
      past != kNone && r.has(in.past_length) ? AsLength(r, r.in(in.past_length)) : kNone;
  const Cached keys = Append(r, past, o.k, shared);
  const Cached values = Append(r, r.in(in.past_values), o.v, shared);
  o.k = keys.used;
  o.v = values.used;
  const ValueId past_length = past == kNone ? kNone : shared != kNone ? shared : r.Extent(past, 2);
  const auto result = Masked(
      r, o, {r.in(in.mask), r.in(in.added), a.unidirectional, a.mask_filter_value}, past_length);
  r.Give(0, JoinHeads(r, result.y));
  r.Give(1, keys.present);
  r.Give(2, values.present);
  r.Give(3, result.masked);
}
void MultiHeadAttention(Rewrite& r) { MultiHead(r, {3, 4, 5, 6, 7, 8, 9}); }
// Input 8 is the width of the beam, which only counts with an indirection.
void DecoderMaskedMultiHeadAttention(Rewrite& r) { MultiHead(r, {10, 3, 4, 5, 6, 7, 9}); }

// ---- GroupQueryAttention ----

struct GroupQueryAttrs {
  int64_t num_heads = 0, kv_num_heads = 0, local_window_size = -1, qk_output = 0;
  bool causal = true, do_rotary = false, rotary_interleaved = false, smooth_softmax = false;
  std::optional<float> scale;
  float softcap = 0, qk_norm_epsilon = 1e-6f;
  std::string k_quant_type = "NONE", v_quant_type = "NONE";
  int64_t kv_cache_bit_width = 0, sliding_window_cache = 0;
  template <class V>
  void Visit(V& v) {
    v("num_heads", num_heads);
    v("kv_num_heads", kv_num_heads);
    v("local_window_size", local_window_size);
    v("qk_output", qk_output);
    v("causal", causal);
    v("do_rotary", do_rotary);
    v("rotary_interleaved", rotary_interleaved);
    v("smooth_softmax", smooth_softmax);
    v("scale", scale);
    v("softcap", softcap);
    v("qk_norm_epsilon", qk_norm_epsilon);
    v("k_quant_type", k_quant_type);
    v("v_quant_type", v_quant_type);
    v("kv_cache_bit_width", kv_cache_bit_width);
    v("sliding_window_cache", sliding_window_cache);
  }
};

// The fresh rows in the cache, those of each row of the batch from its own past length on. The
// cache is as long as the past's buffer, or as all that there is when that is more.
ValueId Store(Rewrite& r, ValueId past, ValueId fresh, ValueId past_lengths, ValueId total) {
  if (past == kNone) return fresh;
  // No more than what both hold, whatever the input says.
  total = r.Make("Min", {total, r.Add(r.Extent(past, 2), r.Extent(fresh, 2))});
  const ValueId missing = r.Make("Max", {r.Sub(total, r.Extent(past, 2)), r.Ints({0})});
  const ValueId pads = r.Concat({r.Ints({0, 0, 0, 0, 0, 0}), missing, r.Ints({0})}, 0);
  return r.Make("TensorScatter", {r.Make("Pad", {past, pads}), fresh, past_lengths},
                {{"axis", int64_t{2}}});
}

void RefuseQuantisedCache(Rewrite& r, const GroupQueryAttrs& a) {
  if (a.k_quant_type != "NONE" || a.v_quant_type != "NONE" || r.has(12) || r.has(13))
    r.Refuse(Code::kUnimplemented,
             "quantised caches are not supported; export with a cache of floats");
  if (a.sliding_window_cache != 0)
    r.Refuse(Code::kUnimplemented,
             "sliding_window_cache is not supported; export with a cache of all positions");
  AreHeads(r, a.num_heads);
  AreHeads(r, a.kv_num_heads);
}

// Inputs: 0 queries or all three side by side, 1 keys, 2 values, 3 and 4 past, 5 how many keys each
// row of the batch has in all, less one, 6 the largest of those numbers, 7 cosines, 8 sines, 9
// positions, 10 added to the scores, 11 sinks [H], 14 and 15 scales of a normalisation of queries
// and keys. Outputs: the result, all keys, all values, the scores.
void GroupQueryAttention(Rewrite& r) {
  const auto a = r.Attributes<GroupQueryAttrs>();
  RefuseQuantisedCache(r, a);
  if (!r.ok()) return;
  ValueId q = r.Need(0), k = r.in(1), v = r.in(2);
  if (k == kNone) {
    // H + 2 Hk heads side by side.
    const ValueId heads = r.Reshape(q, {0, 0, a.num_heads + 2 * a.kv_num_heads, -1});
    const auto parts =
        r.MakeMany("Split", {heads, r.Ints({a.num_heads, a.kv_num_heads, a.kv_num_heads})}, 3,
                   {{"axis", int64_t{2}}});
    q = r.Transpose(parts[0], {0, 2, 1, 3});
    k = r.Transpose(parts[1], {0, 2, 1, 3});
    v = r.Transpose(parts[2], {0, 2, 1, 3});
  } else {
    q = SplitHeads(r, q, a.num_heads);
    k = SplitHeads(r, k, a.kv_num_heads);
    v = SplitHeads(r, r.Need(2), a.kv_num_heads);
  }
  if (r.has(14)) {
    const AttrMap epsilon = {{"epsilon", a.qk_norm_epsilon}};
    q = r.Make("RMSNormalization", {q, r.in(14)}, epsilon);
    k = r.Make("RMSNormalization", {k, r.Need(15)}, epsilon);
  }
  const ValueId rows = r.Extent(q, 2), total = AsLength(r, r.Need(6));
  const ValueId lengths = r.Add(r.Cast(r.Reshape(r.Need(5), {-1}), DType::kI64), r.Ints({1}));
  // What has been before; for a prompt that is padded on its right, nothing.
  const ValueId past_lengths = r.Make("Max", {r.Sub(lengths, rows), r.Ints({0})});
  if (a.do_rotary) {
    const ValueId fresh = UpTo(r, rows);
    ValueId positions = r.Add(r.Unsqueeze(past_lengths, {1}), fresh);
    if (r.has(9)) {
      // Of a prompt, only the first one counts.
      const ValueId first = r.Slice(r.Slice(r.in(9), 0, 1, 0), 0, 1, 1);
      positions = r.Make("Where", {r.Make("Equal", {total, rows}), r.Add(first, fresh), r.in(9)});
    }
    const auto angles = [&](size_t i) {
      return r.Unsqueeze(r.Make("Gather", {r.Need(i), positions}), {1});
    };
    const ValueId cosines = angles(7), sines = angles(8);
    const int64_t half = r.extent(r.in(7), 1);
    const bool known = IsKnown(half) && half < INT32_MAX;
    const RotaryOptions options = {a.rotary_interleaved, known ? half * 2 : 0};
    q = Rotate(r, q, cosines, sines, options);
    k = Rotate(r, k, cosines, sines, options);
  }
  const ValueId keys = Store(r, r.in(3), k, past_lengths, total);
  const ValueId values = Store(r, r.in(4), v, past_lengths, total);
  const auto used = [&](ValueId cache) {
    return r.has(3) ? r.Slice(cache, r.Ints({0}), total, 2) : cache;
  };
  AttentionOperands o{q, used(keys), used(values), a.num_heads, a.kv_num_heads, a.scale, a.softcap};
  o.bias = r.in(10);
  const ValueId columns = UpTo(r, r.Extent(o.k, 2));
  const auto per_batch = [&](ValueId x) { return r.Reshape(x, {-1, 1, 1, 1}); };
  // Rows of a prompt that only pad it see no more than the last one that does not.
  o.keep = r.Make("Less", {columns, per_batch(lengths)});
  if (a.causal) {
    const ValueId last = r.Add(per_batch(past_lengths), r.Unsqueeze(UpTo(r, rows), {1}));
    o.keep = Both(r, o.keep, r.Make("LessOrEqual", {columns, last}));
    if (a.local_window_size >= 0)
      o.keep =
          Both(r, o.keep, r.Make("Greater", {columns, r.Sub(last, r.Ints({a.local_window_size}))}));
  }
  o.hole = -HUGE_VAL;
  if (r.has(11))
    o.sink = r.in(11);
  else if (a.smooth_softmax)
    o.sink = r.Number(0, q);
  const AttentionResult result = Attend(r, o);
  r.Give(0, JoinHeads(r, result.y));
  r.Give(1, keys);
  r.Give(2, values);
  if (r.wants(3)) r.Give(3, a.qk_output == 2 ? result.weights : result.masked);
}

// ---- RotaryEmbedding ----

struct RotaryAttrs {
  bool interleaved = false;
  int64_t num_heads = 0, rotary_embedding_dim = 0, is_packed_batching = 0;
  float scale = 1;
  template <class V>
  void Visit(V& v) {
    v("interleaved", interleaved);
    v("num_heads", num_heads);
    v("rotary_embedding_dim", rotary_embedding_dim);
    v("is_packed_batching", is_packed_batching);  // only loosens a check of lengths
    v("scale", scale);
  }
};

// Inputs: 0 x [B, S, H * D] or [B, H, S, D], 1 positions [B, S] or the first one [1], 2 and 3
// tables of cosines and sines [positions, R / 2].
void RotaryEmbedding(Rewrite& r) {
  const auto a = r.Attributes<RotaryAttrs>();
  const ValueId x = r.Need(0), table = r.Need(2);
  const int rank = r.rank(x);
  if (rank != 3 && rank != 4)
    return r.Refuse(Code::kUnimplemented, "an input of rank {}: 3 or 4, known, is needed", rank);
  if (a.scale != 1) return r.Refuse(Code::kUnimplemented, "a scale of {}: only 1 is", a.scale);
  const int64_t half = r.extent(table, 1);
  if (half > INT32_MAX || (a.num_heads != 0 && !AreHeads(r, a.num_heads)))
    return r.Refuse(Code::kInvalidArgument, "cosines of {} columns", half);
  if (rank == 3 && a.rotary_embedding_dim > 0 && a.num_heads <= 0)
    return r.Refuse(Code::kInvalidArgument, "num_heads is needed with rotary_embedding_dim");
  if (rank == 3 && a.rotary_embedding_dim == 0 && !IsKnown(half))
    return r.Refuse(Code::kUnimplemented, "the extents of the cosines must be known");
  const ValueId heads = rank == 4                    ? x
                        : a.rotary_embedding_dim > 0 ? r.Reshape(x, {0, 0, a.num_heads, -1})
                                                     : r.Reshape(x, {0, 0, -1, half * 2});
  ValueId positions = r.Need(1);
  if (r.rank(positions) != 2)
    positions =
        r.Unsqueeze(r.Add(r.Reshape(positions, {1}), UpTo(r, r.Extent(x, rank == 4 ? 2 : 1))), {0});
  const auto angles = [&](size_t i) {
    return r.Unsqueeze(r.Make("Gather", {r.Need(i), positions}), {rank == 4 ? 1 : 2});
  };
  const ValueId y = Rotate(r, heads, angles(2), angles(3), {a.interleaved, a.rotary_embedding_dim});
  r.Give(0, rank == 4 ? y : r.Make("Reshape", {y, r.Make("Shape", {x})}));
}

}  // namespace

std::span<const RewriteRule> MicrosoftAttentionRewrites() {
  static constexpr RewriteRule rules[] = {
      {kMicrosoft, "Attention", Attention},
      {kMicrosoft, "DecoderMaskedSelfAttention", Attention},
      {kMicrosoft, "MultiHeadAttention", MultiHeadAttention},
      {kMicrosoft, "DecoderMaskedMultiHeadAttention", DecoderMaskedMultiHeadAttention},
      {kMicrosoft, "GroupQueryAttention", GroupQueryAttention},
      {kMicrosoft, "RotaryEmbedding", RotaryEmbedding},
  };
  return rules;
}

}  // namespace dunlin::onnx_import
