// Attention: inference, reference and the family's table.
#include <cmath>

#include "ops/attention/attention.h"
#include "ops/attention/segments.h"
#include "ops/elementwise/numeric.h"
#include "ops/matmul/product.h"

namespace dunlin {
namespace {

// Extents [B, H, S, D] and strides of an operand in memory.
struct Operand {
  int64_t batch, heads, rows, width;
  AttentionShape::Strides strides;
};
Operand Read(std::span<const int64_t> d, int64_t order) {
  const int64_t b = d[0];
  switch (HeadOrder(order)) {
    case HeadOrder::kRowsFirst:
      return {b, d[2], d[1], d[3], {d[1] * d[2] * d[3], d[3], d[2] * d[3], 1}};
    case HeadOrder::kWidthFirst:
      return {b, d[1], d[3], d[2], {d[1] * d[2] * d[3], d[2] * d[3], 1, d[3]}};
    case HeadOrder::kHeadsFirst:
      break;
  }
  return {b, d[1], d[2], d[3], {d[1] * d[2] * d[3], d[2] * d[3], d[3], 1}};
}

Dims ResultDims(const AttentionShape& s, int64_t order) {
  return order == int64_t(HeadOrder::kRowsFirst) ? Dims{s.batch, s.rows, s.heads, s.values}
                                                 : Dims{s.batch, s.heads, s.rows, s.values};
}

struct AttentionOp {
  using Attrs = AttentionAttrs;

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    for (int i = 0; i < 3; ++i)
      if (!ctx.input(i).IsStatic() || ctx.input(i).dtype != DType::kF32 ||
          ctx.input(i).dims.rank() != 4)
        return Fail(Code::kInvalidArgument, "input {} is {}: f32 of four known extents is needed",
                    i, ToString(ctx.input(i)));
    const AttentionShape s =
        TRY(ResolveAttention(attrs, ctx.input(0).dims, ctx.input(1).dims, ctx.input(2).dims));
    if (ctx.has(3)) {
      const Type& mask = ctx.input(3);
      const Dims scores{s.batch, s.heads, s.rows, s.keys};
      const auto both = mask.IsStatic() ? Broadcast(scores, mask.dims) : std::nullopt;
      if (!both || !(*both == scores))
        return Fail(Code::kInvalidArgument, "the mask {} does not broadcast to {}", ToString(mask),
                    ToString(scores));
      if (mask.dtype != DType::kF32 && mask.dtype != DType::kBool)
        return Fail(Code::kInvalidArgument, "a mask of {}: f32 or bool is needed",
                    DTypeName(mask.dtype));
    }
    if (ctx.has(4)) {
      TRY(CheckOffsets(ctx, 4));
      if (s.batch != 1 || s.rows != s.keys)
        return Fail(Code::kInvalidArgument, "segments of {} rows and {} keys in a batch of {}",
                    s.rows, s.keys, s.batch);
    }
    ctx.Set(0, Type::Of(DType::kF32, ResultDims(s, attrs.y_order)));
    return {};
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    const AttentionShape s =
        TRY(ResolveAttention(attrs, ctx.in(0).dims, ctx.in(1).dims, ctx.in(2).dims));
    const float* const q = ctx.in(0).as<float>();
    const float* const k = ctx.in(1).as<float>();
    const float* const v = ctx.in(2).as<float>();
    float* const y = ctx.out(0).mut<float>();
    const std::vector<int64_t> mask =
        ctx.has(3) ? BroadcastStrides(ctx.in(3).dims, Dims{s.batch, s.heads, s.rows, s.keys})
                   : std::vector<int64_t>();
    if (ctx.has(4)) TRY(CheckSegments(OffsetsOf(ctx.in(4)), s.rows));
    std::vector<double> weight(static_cast<size_t>(s.keys));
    for (int64_t b = 0; b < s.batch; ++b)
      for (int64_t h = 0; h < s.heads; ++h)
        for (int64_t r = 0; r < s.rows; ++r) {
          const int64_t kh = s.KeyHead(h);
          const Segment keys = ctx.has(4) ? SegmentOf(OffsetsOf(ctx.in(4)), r) : Segment{0, s.keys};
          double largest = -HUGE_VAL, sum = 0;
          for (int64_t t = keys.begin; t < keys.end; ++t) {
            double dot = 0;
            for (int64_t i = 0; i < s.width; ++i)
              dot += double(q[b * s.q.batch + h * s.q.head + r * s.q.row + i * s.q.element]) *
                     double(k[b * s.k.batch + kh * s.k.head + t * s.k.row + i * s.k.element]);
            double& w = weight[size_t(t)];
            w = dot * double(attrs.scale);
            if (!mask.empty()) {
              const int64_t at = b * mask[0] + h * mask[1] + r * mask[2] + t * mask[3];
              if (ctx.in(3).dtype == DType::kF32)
                w += double(ctx.in(3).as<float>()[at]);
              else if (ctx.in(3).as<bool>()[at])
                w = double(attrs.fill);
            }
            largest = std::fmax(largest, w);
          }
          for (int64_t t = keys.begin; t < keys.end; ++t)
            sum += (weight[size_t(t)] = std::exp(weight[size_t(t)] - largest));
          for (int64_t i = 0; i < s.values; ++i) {
            double out = 0;
            for (int64_t t = keys.begin; t < keys.end; ++t)
              out += weight[size_t(t)] *
                     double(v[b * s.v.batch + kh * s.v.head + t * s.v.row + i * s.v.element]);
            y[b * s.y.batch + h * s.y.head + r * s.y.row + i * s.y.element] =
                keys.begin == keys.end ? 0 : float(out / sum);
          }
        }
    return {};
  }

  static Result<KernelPtr> Lower(const Attrs& attrs, LowerContext& ctx) {
    return LowerAttention(attrs, ctx);
  }

  static int64_t Macs(const Attrs& attrs, std::span<const Type> in, std::span<const Type>) {
    const auto s = ResolveAttention(attrs, in[0].dims, in[1].dims, in[2].dims);
    if (!s || in.size() > 4) return 0;  // of segments: their lengths are data
    return s->batch * s->heads * s->rows * s->keys * (s->width + s->values);
  }
};

}  // namespace

Result<AttentionShape> ResolveAttention(const AttentionAttrs& attrs, std::span<const int64_t> q,
                                        std::span<const int64_t> k, std::span<const int64_t> v) {
  for (const int64_t order : {attrs.q_order, attrs.k_order, attrs.v_order, attrs.y_order})
    if (order < 0 || order > 2 || (order == 2 && order != attrs.k_order))
      return Fail(Code::kInvalidArgument, "an order of extents of {}", order);
  if (q.size() != 4 || k.size() != 4 || v.size() != 4)
    return Fail(Code::kInvalidArgument, "operands of four extents are needed");
  const Operand a = Read(q, attrs.q_order), b = Read(k, attrs.k_order), c = Read(v, attrs.v_order);
  if (a.batch != b.batch || a.batch != c.batch || b.heads != c.heads || a.width != b.width ||
      b.rows != c.rows || (b.heads == 0 ? a.heads != 0 : a.heads % b.heads != 0))
    return Fail(Code::kInvalidArgument, "queries {}, keys {} and values {} do not fit together",
                ToString(q), ToString(k), ToString(v));
  AttentionShape s{a.batch, a.heads,   a.rows,    b.rows,    a.width, c.width,
                   b.heads, a.strides, b.strides, c.strides, {}};
  s.y = Read(ResultDims(s, attrs.y_order), attrs.y_order).strides;
  return s;
}

std::span<const OpDef> AttentionOps() {
  static const std::vector<OpDef> ops = [] {
    std::vector<OpDef> all = SegmentOps();
    all.push_back(Declare<AttentionOp>(kAttentionName,
                                       {.domain = "dunlin", .min_inputs = 3, .max_inputs = 5}));
    return all;
  }();
  return ops;
}

}  // namespace dunlin
