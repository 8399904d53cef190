// Attention on packed panels: the scores of a block of rows, their softmax and the product with the
// values stay in the cache; the matrix of all scores is never in memory.
#include <algorithm>

#include "kernels/attention.h"
#include "kernels/gemm.h"
#include "ops/attention/attention.h"
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

// Within the bounds of its parts: the two products, and the softmax's 2e-6 relative plus 1e-7. The
// softmax's division comes last, on the rows of the result, which are shorter than those of scores.
class AttentionKernel final : public Kernel {
 public:
  AttentionAttrs attrs;
  AttentionShape shape;
  GemmPanels key_panels, value_panels;
  bool pack_keys = true, pack_values = true;
  int64_t block = 1, blocks = 1;             // rows at a time, and how often per head
  int64_t parts = 1;                         // of all blocks, with memory for scores each
  std::vector<int64_t> mask_strides;         // along [B, H, S, T]
  int64_t key_floats = 0, value_floats = 0;  // packed, per head
  int64_t score_stride = 0;                  // between rows of scores
  int64_t part_floats = 0;  // scores of a block, then a factor for each of its rows
  int64_t scores_at = 0, scratch_floats = 0;

  std::string_view name() const override { return "attention.tiled"; }
  size_t scratch_bytes() const override { return size_t(scratch_floats) * sizeof(float); }

  Status Run(RunContext& ctx) const override {
    float* const scratch = static_cast<float*>(ctx.scratch());
    if (key_floats + value_floats > 0)
      ctx.ParallelFor(shape.batch * shape.key_heads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) Pack(ctx, i, scratch);
      });
    ctx.ParallelFor(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        float* const scores = scratch + scores_at + part * part_floats;
        const int64_t all = shape.batch * shape.heads * blocks;
        for (int64_t i = all * part / parts; i < all * (part + 1) / parts; ++i)
          RunBlock(ctx, i / blocks, i % blocks * block, scratch, scores);
      }
    });
    return {};
  }

 private:
  const float* Of(RunContext& ctx, int input, const AttentionShape::Strides& s, int64_t heads,
                  int64_t i) const {
    return ctx.in(input).as<float>() + i / heads * s.batch + i % heads * s.head;
  }
  const float* KeysOf(RunContext& ctx, int64_t i) const {
    return Of(ctx, 1, shape.k, shape.key_heads, i);
  }
  const float* ValuesOf(RunContext& ctx, int64_t i) const {
    return Of(ctx, 2, shape.v, shape.key_heads, i);
  }
  float* Keys(float* scratch, int64_t i) const { return scratch + i * (key_floats + value_floats); }
  float* Values(float* scratch, int64_t i) const { return Keys(scratch, i) + key_floats; }

  // Head i of keys and values.
  void Pack(RunContext& ctx, int64_t i, float* scratch) const {
    if (pack_keys)
      PackGemm(key_panels, {KeysOf(ctx, i), 1, shape.width, 0, shape.k.element, shape.k.row}, 0,
               key_panels.count, Keys(scratch, i));
    if (pack_values)
      PackGemm(value_panels, {ValuesOf(ctx, i), 1, shape.keys, 0, shape.v.row, 1}, 0,
               value_panels.count, Values(scratch, i));
  }

  // Rows [first, first + block) of head i.
  void RunBlock(RunContext& ctx, int64_t i, int64_t first, float* scratch, float* scores) const {
    const int64_t rows = std::min(block, shape.rows - first), key_head = shape.KeyHead(i);
    const float* const q = Of(ctx, 0, shape.q, shape.heads, i) + first * shape.q.row;
    GemmArgs a;
    a.m = rows;
    a.k = a.packed_rows = shape.width;
    a.c = scores;
    a.c_stride = score_stride;
    a.epilogue.alpha = attrs.scale;
    // An added mask whose keys lie side by side is the product's residual.
    const bool added = ctx.has(3) && ctx.in(3).dtype == DType::kF32 && mask_strides[3] == 1;
    if (added) {
      a.epilogue.residual = ctx.in(3).as<float>() + MaskAt(i, first);
      a.epilogue.residual_stride = mask_strides[2];
    }
    if (pack_keys) {
      a.packed = Keys(scratch, key_head);
      GemmStrided(key_panels, a, q, shape.q.row, 0, key_panels.count);
    } else {
      GemmDot(a, q, shape.q.row, KeysOf(ctx, key_head), shape.k.row, 0, shape.keys);
    }
    if (ctx.has(3) && !added)
      for (int64_t r = 0; r < rows; ++r)
        Mask(ctx.in(3), MaskAt(i, first + r), scores + r * score_stride);
    float* const factors = scores + block * score_stride;
    ExponentialRowsF32(scores, score_stride, rows, shape.keys, factors);
    GemmArgs b;
    b.m = rows;
    b.k = b.packed_rows = shape.keys;
    b.c = ctx.out(0).mut<float>() + i / shape.heads * shape.y.batch +
          i % shape.heads * shape.y.head + first * shape.y.row;
    b.c_stride = shape.y.row;
    if (pack_values) {
      b.packed = Values(scratch, key_head);
    } else {
      b.direct = ValuesOf(ctx, key_head);
      b.direct_stride = shape.v.row;
    }
    GemmStrided(value_panels, b, scores, score_stride, 0, value_panels.count);
    ScaleRowsF32(b.c, b.c_stride, rows, shape.values, factors);
  }

  int64_t MaskAt(int64_t i, int64_t row) const {
    return i / shape.heads * mask_strides[0] + i % shape.heads * mask_strides[1] +
           row * mask_strides[2];
  }
  void Mask(const TensorView& mask, int64_t at, float* scores) const {
    const int64_t step = mask_strides[3];
    if (mask.dtype == DType::kF32) {
      const float* const m = mask.as<float>() + at;
      for (int64_t t = 0; t < shape.keys; ++t) scores[t] += m[t * step];
    } else {
      const bool* const m = mask.as<bool>() + at;
      for (int64_t t = 0; t < shape.keys; ++t) scores[t] = m[t * step] ? attrs.fill : scores[t];
    }
  }
};

}  // namespace

Result<KernelPtr> LowerAttention(const AttentionAttrs& attrs, LowerContext& ctx) {
  auto k = std::make_unique<AttentionKernel>();
  k->attrs = attrs;
  k->shape = TRY(ResolveAttention(attrs, ctx.input(0).dims, ctx.input(1).dims, ctx.input(2).dims));
  const AttentionShape& s = k->shape;
  if (CountOf(ctx.output(0).dims) == 0 || s.keys == 0 || s.width == 0) return KernelPtr();
  k->key_panels = MakeGemmPanels(s.keys);
  k->value_panels = MakeGemmPanels(s.values);
  k->pack_keys = s.rows > kFewRows || s.k.element != 1;
  k->pack_values = s.rows > kFewRows || s.values % k->value_panels.lanes != 0;
  k->key_floats = k->pack_keys ? k->key_panels.packed_floats(s.width) : 0;
  k->value_floats = k->pack_values ? k->value_panels.packed_floats(s.keys) : 0;
  k->block = std::clamp<int64_t>(kBlockFloats / s.keys, 1, std::min(kBlockRows, s.rows));
  k->blocks = CeilDiv(s.rows, k->block);
  k->block = CeilDiv(s.rows, k->blocks);
  const int64_t heads = s.batch * s.heads, key_heads = s.batch * s.key_heads;
  k->parts = std::min<int64_t>(heads * k->blocks, ctx.threads() == 1 ? 1 : ctx.threads() * 4);
  k->score_stride = RoundUp(s.keys, ScoreLanes());
  k->part_floats = RoundUp(k->block * (k->score_stride + 1), kAlignFloats);
  k->scores_at = RoundUp(key_heads * (k->key_floats + k->value_floats), kAlignFloats);
  k->scratch_floats = k->scores_at + k->parts * k->part_floats;
  if (ctx.has(3))
    k->mask_strides = BroadcastStrides(ctx.input(3).dims, Dims{s.batch, s.heads, s.rows, s.keys});
  return KernelPtr(std::move(k));
}

}  // namespace dunlin
