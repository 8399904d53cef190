// Attention on packed panels: the scores of a block of rows, their softmax and the product with the
// values stay in the cache; the matrix of all scores is never in memory.
#include <algorithm>

#include "kernels/attention.h"
#include "kernels/gemm.h"
#include "ops/attention/attention.h"
#include "ops/attention/segments.h"
#include "ops/matmul/product.h"

namespace dunlin {
namespace {

// Scores of a block, in floats: a quarter of a second-level cache of 1 MiB.
constexpr int64_t kBlockFloats = int64_t{1} << 16;
// Whole register tiles of every width, and few enough to split short sequences over threads.
constexpr int64_t kBlockRows = 48;
constexpr int64_t kAlignFloats = 16;  // parts of the scratch begin on cache lines
// Up to so many rows packing K and V would cost more than the products gain.
constexpr int64_t kFewRows = 4;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t RoundUp(int64_t a, int64_t unit) { return CeilDiv(a, unit) * unit; }

// Rows [first, first + rows) of queries that attend to keys [first_key, first_key + keys), and how
// they are computed.
struct Sequence {
  int64_t first = 0, rows = 0, first_key = 0, keys = 0;
  GemmPanels key_panels;
  bool pack_keys = true, pack_values = true;
  int64_t block = 1, blocks = 1;             // rows at a time, and how often per head
  int64_t key_floats = 0, value_floats = 0;  // packed, per head
  int64_t score_stride = 0;                  // between rows of scores
  // Scores of a block, then a factor for each of its rows.
  int64_t score_floats() const { return RoundUp(block * (score_stride + 1), kAlignFloats); }
};

// What is the same for all sequences. Within the bounds of its parts: the two products, and the
// softmax's 2e-6 relative plus 1e-7. The softmax's division comes last, on the rows of the result,
// which are shorter than those of scores.
class AttentionKernel : public Kernel {
 public:
  AttentionAttrs attrs;
  AttentionShape shape;
  GemmPanels value_panels;
  std::vector<int64_t> mask_strides;  // along [B, H, S, T]
  int64_t parts = 1;                  // of all blocks, with memory for scores each
  int64_t scratch_floats = 0;

  size_t scratch_bytes() const override { return size_t(scratch_floats) * sizeof(float); }

 protected:
  Sequence Arrange(int64_t first, int64_t rows, int64_t first_key, int64_t keys) const {
    Sequence s{first, rows, first_key, keys, MakeGemmPanels(keys)};
    s.pack_keys = rows > kFewRows || shape.k.element != 1;
    s.pack_values = rows > kFewRows || shape.values % value_panels.lanes != 0;
    s.key_floats = s.pack_keys ? s.key_panels.packed_floats(shape.width) : 0;
    s.value_floats = s.pack_values ? value_panels.packed_floats(keys) : 0;
    s.block = std::clamp<int64_t>(kBlockFloats / keys, 1, std::min(kBlockRows, rows));
    s.blocks = CeilDiv(rows, s.block);
    s.block = CeilDiv(rows, s.blocks);
    s.score_stride = RoundUp(keys, ScoreLanes());
    return s;
  }

  // Head i of keys and values: the keys at `to`, the values behind them.
  void Pack(RunContext& ctx, const Sequence& s, int64_t i, float* to) const {
    if (s.pack_keys)
      PackGemm(s.key_panels, {KeysOf(ctx, s, i), 1, shape.width, 0, shape.k.element, shape.k.row},
               0, s.key_panels.count, to);
    if (s.pack_values)
      PackGemm(value_panels, {ValuesOf(ctx, s, i), 1, s.keys, 0, shape.v.row, 1}, 0,
               value_panels.count, to + s.key_floats);
  }

  // Block `at` of the sequence's rows in head i, whose keys and values are at `packed`.
  void RunBlock(RunContext& ctx, const Sequence& s, int64_t i, int64_t at, const float* packed,
                float* scores) const {
    const int64_t rows = std::min(s.block, s.rows - at * s.block), key_head = shape.KeyHead(i);
    const int64_t first = s.first + at * s.block;
    const float* const q = Of(ctx, 0, shape.q, shape.heads, i) + first * shape.q.row;
    GemmArgs a;
    a.m = rows;
    a.k = a.packed_rows = shape.width;
    a.c = scores;
    a.c_stride = s.score_stride;
    a.epilogue.alpha = attrs.scale;
    // An added mask whose keys lie side by side is the product's residual.
    const bool added = ctx.has(3) && ctx.in(3).dtype == DType::kF32 && mask_strides[3] == 1;
    if (added) {
      a.epilogue.residual = ctx.in(3).as<float>() + MaskAt(s, i, first);
      a.epilogue.residual_stride = mask_strides[2];
    }
    if (s.pack_keys) {
      a.packed = packed;
      GemmStrided(s.key_panels, a, q, shape.q.row, 0, s.key_panels.count);
    } else {
      GemmDot(a, q, shape.q.row, KeysOf(ctx, s, key_head), shape.k.row, 0, s.keys);
    }
    if (ctx.has(3) && !added)
      for (int64_t r = 0; r < rows; ++r)
        Mask(ctx.in(3), MaskAt(s, i, first + r), s.keys, scores + r * s.score_stride);
    float* const factors = scores + s.block * s.score_stride;
    ExponentialRowsF32(scores, s.score_stride, rows, s.keys, factors);
    GemmArgs b;
    b.m = rows;
    b.k = b.packed_rows = s.keys;
    b.c = ctx.out(0).mut<float>() + i / shape.heads * shape.y.batch +
          i % shape.heads * shape.y.head + first * shape.y.row;
    b.c_stride = shape.y.row;
    if (s.pack_values) {
      b.packed = packed + s.key_floats;
    } else {
      b.direct = ValuesOf(ctx, s, key_head);
      b.direct_stride = shape.v.row;
    }
    GemmStrided(value_panels, b, scores, s.score_stride, 0, value_panels.count);
    ScaleRowsF32(b.c, b.c_stride, rows, shape.values, factors);
  }

 private:
  const float* Of(RunContext& ctx, int input, const AttentionShape::Strides& s, int64_t heads,
                  int64_t i) const {
    return ctx.in(input).as<float>() + i / heads * s.batch + i % heads * s.head;
  }
  const float* KeysOf(RunContext& ctx, const Sequence& s, int64_t i) const {
    return Of(ctx, 1, shape.k, shape.key_heads, i) + s.first_key * shape.k.row;
  }
  const float* ValuesOf(RunContext& ctx, const Sequence& s, int64_t i) const {
    return Of(ctx, 2, shape.v, shape.key_heads, i) + s.first_key * shape.v.row;
  }
  int64_t MaskAt(const Sequence& s, int64_t i, int64_t row) const {
    return i / shape.heads * mask_strides[0] + i % shape.heads * mask_strides[1] +
           row * mask_strides[2] + s.first_key * mask_strides[3];
  }
  void Mask(const TensorView& mask, int64_t at, int64_t keys, float* scores) const {
    const int64_t step = mask_strides[3];
    if (mask.dtype == DType::kF32) {
      const float* const m = mask.as<float>() + at;
      for (int64_t t = 0; t < keys; ++t) scores[t] += m[t * step];
    } else {
      const bool* const m = mask.as<bool>() + at;
      for (int64_t t = 0; t < keys; ++t) scores[t] = m[t * step] ? attrs.fill : scores[t];
    }
  }
};

// Every row attends to every key of its batch and head.
class DenseAttention final : public AttentionKernel {
 public:
  Sequence all;
  int64_t scores_at = 0;

  std::string_view name() const override { return "attention.tiled"; }

  void Plan(int threads) {
    all = Arrange(0, shape.rows, 0, shape.keys);
    parts = std::min<int64_t>(shape.batch * shape.heads * all.blocks,
                              threads == 1 ? 1 : int64_t{threads} * 4);
    scores_at = RoundUp(shape.batch * shape.key_heads * HeadFloats(), kAlignFloats);
    scratch_floats = scores_at + parts * all.score_floats();
  }

  Status Run(RunContext& ctx) const override {
    float* const scratch = static_cast<float*>(ctx.scratch());
    if (HeadFloats() > 0)
      ctx.ParallelFor(shape.batch * shape.key_heads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) Pack(ctx, all, i, scratch + i * HeadFloats());
      });
    ctx.ParallelFor(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        float* const scores = scratch + scores_at + part * all.score_floats();
        const int64_t count = shape.batch * shape.heads * all.blocks;
        for (int64_t i = count * part / parts; i < count * (part + 1) / parts; ++i) {
          const int64_t head = i / all.blocks;
          RunBlock(ctx, all, head, i % all.blocks, scratch + shape.KeyHead(head) * HeadFloats(),
                   scores);
        }
      }
    });
    return {};
  }

 private:
  int64_t HeadFloats() const { return all.key_floats + all.value_floats; }
};

// Rows attend to the keys of their own segment, and the others are 0. A head of keys and values is
// packed by whoever uses it: there are many, and short ones.
class SegmentedAttention final : public AttentionKernel {
 public:
  int64_t scores_at = 0, part_floats = 0;

  std::string_view name() const override { return "attention.segments"; }

  void Plan(int threads) {
    parts = threads == 1 ? 1 : int64_t{threads} * 4;
    // No segment is longer than all of them; a block of the longest has the most scores, or as many
    // as a block may have.
    const Sequence longest = Arrange(0, shape.rows, 0, shape.rows);
    const int64_t lanes = ScoreLanes();
    scores_at = RoundUp(
        longest.key_panels.packed_floats(shape.width) + value_panels.packed_floats(shape.rows),
        kAlignFloats);
    const int64_t scores = std::min(std::min(kBlockRows, shape.rows) * (longest.score_stride + 1),
                                    std::max(kBlockFloats, shape.rows) + kBlockRows * (lanes + 1));
    part_floats = scores_at + RoundUp(scores, kAlignFloats);
    scratch_floats = parts * part_floats;
  }

  Status Run(RunContext& ctx) const override {
    const auto offsets = OffsetsOf(ctx.in(4));
    TRY(CheckSegments(offsets, shape.rows));
    ClearRest(ctx, offsets.back());
    // Every part has an equal share of the scores, to within one head of one segment.
    int64_t all = 0;
    for (size_t s = 0; s + 1 < offsets.size(); ++s) all += Cost(offsets, s) * shape.key_heads;
    ctx.ParallelFor(parts, 1, [&](int64_t begin, int64_t end) {
      float* const scratch = static_cast<float*>(ctx.scratch()) + begin * part_floats;
      const int64_t from = all * begin / parts, to = all * end / parts;
      int64_t done = 0;
      for (size_t s = 0; s + 1 < offsets.size() && done < to; ++s) {
        const int64_t cost = Cost(offsets, s);
        if (cost == 0) continue;
        if (done + cost * shape.key_heads > from) {
          const Sequence sequence = Arrange(offsets[s], offsets[s + 1] - offsets[s], offsets[s],
                                            offsets[s + 1] - offsets[s]);
          for (int64_t head = 0; head < shape.key_heads; ++head)
            if (const int64_t at = done + head * cost; at >= from && at < to)
              RunHead(ctx, sequence, head, scratch);
        }
        done += cost * shape.key_heads;
      }
    });
    return {};
  }

 private:
  static int64_t Cost(std::span<const int64_t> offsets, size_t s) {
    const int64_t rows = offsets[s + 1] - offsets[s];
    return rows * (rows + 16);  // packing and the softmax's fixed part weigh as a few more keys
  }
  void RunHead(RunContext& ctx, const Sequence& s, int64_t key_head, float* scratch) const {
    Pack(ctx, s, key_head, scratch);
    const int64_t group = shape.heads / shape.key_heads;
    for (int64_t i = key_head * group; i < (key_head + 1) * group; ++i)
      for (int64_t at = 0; at < s.blocks; ++at)
        RunBlock(ctx, s, i, at, scratch, scratch + scores_at);
  }
  void ClearRest(RunContext& ctx, int64_t first) const {
    float* const y = ctx.out(0).mut<float>();
    for (int64_t h = 0; h < shape.heads; ++h)
      for (int64_t r = first; r < shape.rows; ++r)
        std::fill_n(y + h * shape.y.head + r * shape.y.row, shape.values, 0.0f);
  }
};

template <class K>
KernelPtr Planned(const AttentionAttrs& attrs, const AttentionShape& shape, LowerContext& ctx) {
  auto k = std::make_unique<K>();
  k->attrs = attrs;
  k->shape = shape;
  k->value_panels = MakeGemmPanels(shape.values);
  if (ctx.has(3))
    k->mask_strides =
        BroadcastStrides(ctx.input(3).dims, Dims{shape.batch, shape.heads, shape.rows, shape.keys});
  k->Plan(ctx.threads());
  return k;
}

}  // namespace

Result<KernelPtr> LowerAttention(const AttentionAttrs& attrs, LowerContext& ctx) {
  const AttentionShape s =
      TRY(ResolveAttention(attrs, ctx.input(0).dims, ctx.input(1).dims, ctx.input(2).dims));
  if (CountOf(ctx.output(0).dims) == 0 || s.keys == 0 || s.width == 0) return KernelPtr();
  return ctx.has(4) ? Planned<SegmentedAttention>(attrs, s, ctx)
                    : Planned<DenseAttention>(attrs, s, ctx);
}

}  // namespace dunlin
