// Normalisations of com.microsoft, with the sums that ONNX Runtime's optimiser fuses into them.
#include <algorithm>

#include "formats/onnx/rewrite.h"

namespace dunlin::onnx_import {
namespace {

// Outputs of a normalisation of rows: the result, and per row the mean and 1 / deviation.
struct Normalized {
  ValueId y, mean = ValueId::kNone, inverse = ValueId::kNone;
};

Normalized LayerNorm(Rewrite& r, ValueId x, ValueId scale, ValueId bias, const AttrMap& attrs,
                     bool statistics) {
  const auto y = r.MakeMany("LayerNormalization", {x, scale, bias}, statistics ? 3 : 1, attrs);
  return statistics ? Normalized{y[0], y[1], y[2]} : Normalized{y[0]};
}

// 1 / sqrt(mean of squares + epsilon) of the rows from `axis` on, in f32.
ValueId InverseRootMeanSquare(Rewrite& r, ValueId x, int64_t axis, float epsilon) {
  constexpr int64_t kLowestAxis = -8;  // where the rank is not known
  const int rank = r.rank(x);
  if (axis < (rank < 0 ? kLowestAxis : -rank) || axis >= std::max(rank, 0))
    r.Refuse(Code::kInvalidArgument, "axis {} of an input of rank {}", axis, rank);
  if (!r.ok()) return x;
  std::vector<int64_t> axes;
  for (int64_t i = axis < 0 ? axis : axis - rank; i < 0; ++i) axes.push_back(i);
  const ValueId wide = r.Cast(x, DType::kF32);
  const ValueId square = r.Make("ReduceMean", {r.Mul(wide, wide), r.Ints(axes)});
  return r.Make("Reciprocal", {r.Make("Sqrt", {r.Add(square, r.Number(double(epsilon), wide))})});
}

struct EpsilonAttr {
  float epsilon = 1e-12f;
  template <class V>
  void Visit(V& v) {
    v("epsilon", epsilon);
  }
};

// input + skip + bias is normalised. Outputs: the result, mean, 1 / deviation, the sum.
void SkipLayerNormalization(Rewrite& r) {
  const auto a = r.Attributes<EpsilonAttr>();
  ValueId sum = r.Add(r.Need(0), r.Need(1));
  if (r.has(4)) sum = r.Add(sum, r.in(4));
  const auto n =
      LayerNorm(r, sum, r.Need(2), r.in(3), {{"epsilon", a.epsilon}}, r.wants(1) || r.wants(2));
  r.Give(0, n.y);
  r.Give(1, n.mean);
  r.Give(2, n.inverse);
  r.Give(3, sum);
}

void SkipSimplifiedLayerNormalization(Rewrite& r) {
  const auto a = r.Attributes<EpsilonAttr>();
  ValueId sum = r.Add(r.Need(0), r.Need(1));
  if (r.has(3)) sum = r.Add(sum, r.in(3));
  r.Give(0, r.Make("RMSNormalization", {sum, r.Need(2)}, {{"epsilon", a.epsilon}}));
  if (r.wants(2)) r.Give(2, InverseRootMeanSquare(r, sum, -1, a.epsilon));
  r.Give(3, sum);
}

struct RowNormAttrs {
  int64_t axis = -1;
  float epsilon = 1e-5f;
  std::optional<int64_t> stash_type;
  template <class V>
  void Visit(V& v) {
    v("axis", axis);
    v("epsilon", epsilon);
    v("stash_type", stash_type);
  }
};
// The result has the type of the scale.
void SimplifiedLayerNormalization(Rewrite& r) {
  const auto a = r.Attributes<RowNormAttrs>();
  const ValueId x = r.Need(0), scale = r.Need(1);
  ValueId y = r.Make("RMSNormalization", {x, scale}, {{"axis", a.axis}, {"epsilon", a.epsilon}});
  if (r.dtype(scale) != DType::kUndefined) y = r.Cast(y, r.dtype(scale));
  r.Give(0, y);
  if (r.wants(1)) r.Give(1, InverseRootMeanSquare(r, x, a.axis, a.epsilon));
}

struct EmbedAttrs {
  float epsilon = 1e-12f;
  int64_t mask_index_type = 0;  // only says whether output 1 is there
  template <class V>
  void Visit(V& v) {
    v("epsilon", epsilon);
    v("mask_index_type", mask_index_type);
  }
};
// Inputs: 0 token ids [B, S], 1 segment ids, 2 3 4 the tables of tokens, positions, segments,
// 5 scale, 6 shift, 7 mask [B, S], 8 position ids. Output 1 is how many entries of each row of the
// mask are 1, output 2 the sum before it is normalised.
void EmbedLayerNormalization(Rewrite& r) {
  const auto a = r.Attributes<EmbedAttrs>();
  const ValueId ids = r.Need(0), positions = r.Need(3);
  ValueId sum = r.Make("Gather", {r.Need(2), ids});
  const ValueId at = r.has(8) ? r.Make("Gather", {positions, r.in(8)})
                              : r.Slice(positions, r.Ints({0}), r.Extent(ids, 1), 0);
  sum = r.Add(sum, at);
  if (r.has(1) && r.has(4)) sum = r.Add(sum, r.Make("Gather", {r.in(4), r.in(1)}));
  r.Give(0, LayerNorm(r, sum, r.Need(5), r.Need(6), {{"epsilon", a.epsilon}}, false).y);
  if (r.wants(1)) {
    const ValueId counted =
        r.has(7) ? r.Cast(r.Make("Equal", {r.in(7), r.Number(1, r.in(7))}), DType::kI32)
                 : r.Mul(r.Cast(ids, DType::kI32), r.Const(Tensor::Scalar<int32_t>(0)));
    r.Give(1, r.Make("ReduceSum", {counted, r.Ints({1})}, {{"keepdims", int64_t{0}}}));
  }
  r.Give(2, sum);
}

struct GroupNormAttrs {
  int64_t activation = 0, groups = 0;
  bool channels_last = true;
  float epsilon = 1e-5f;
  template <class V>
  void Visit(V& v) {
    v("activation", activation);
    v("groups", groups);
    v("channels_last", channels_last);
    v("epsilon", epsilon);
  }
};

// Scale and shift are f32 whatever x is; then so is the computation.
ValueId GroupNormOf(Rewrite& r, const GroupNormAttrs& a, ValueId x) {
  const DType dtype = r.dtype(x);
  const ValueId scale = r.Need(1), shift = r.Need(2);
  ValueId y = x;
  if (dtype != r.dtype(scale)) y = r.Cast(y, r.dtype(scale));
  if (a.channels_last) y = r.Transpose(y, {0, 3, 1, 2});
  y = r.Make("GroupNormalization", {y, scale, shift},
             {{"num_groups", a.groups}, {"epsilon", a.epsilon}});
  if (a.activation == 1) y = r.Mul(y, r.Make("Sigmoid", {y}));
  if (a.activation != 0 && a.activation != 1)
    r.Refuse(Code::kInvalidArgument, "activation {}: 0 (none) and 1 (SiLU) are known",
             a.activation);
  if (a.channels_last) y = r.Transpose(y, {0, 2, 3, 1});
  return dtype == DType::kUndefined ? y : r.Cast(y, dtype);
}

void GroupNorm(Rewrite& r) {
  const auto a = r.Attributes<GroupNormAttrs>();
  r.Give(0, GroupNormOf(r, a, r.Need(0)));
}
// Inputs: x, scale, shift, skip (x's extents, [N, 1, 1, C] or [N, C]), bias [C]. Output 1: the sum.
void SkipGroupNorm(Rewrite& r) {
  const auto a = r.Attributes<GroupNormAttrs>();
  ValueId skip = r.Need(3), bias = r.in(4);
  if (r.rank(skip) == 2)
    skip = r.Unsqueeze(skip,
                       a.channels_last ? std::vector<int64_t>{1, 2} : std::vector<int64_t>{2, 3});
  if (bias != ValueId::kNone && !a.channels_last) bias = r.Unsqueeze(bias, {1, 2});
  ValueId sum = r.Add(r.Need(0), skip);
  if (bias != ValueId::kNone) sum = r.Add(sum, bias);
  r.Give(0, GroupNormOf(r, a, sum));
  r.Give(1, sum);
}

}  // namespace

std::span<const RewriteRule> MicrosoftNormRewrites() {
  static constexpr RewriteRule rules[] = {
      {kMicrosoft, "SkipLayerNormalization", SkipLayerNormalization},
      {kMicrosoft, "SkipSimplifiedLayerNormalization", SkipSimplifiedLayerNormalization},
      {kMicrosoft, "SimplifiedLayerNormalization", SimplifiedLayerNormalization},
      {"", "SimplifiedLayerNormalization", SimplifiedLayerNormalization},
      {kMicrosoft, "EmbedLayerNormalization", EmbedLayerNormalization},
      {kMicrosoft, "GroupNorm", GroupNorm},
      {kMicrosoft, "SkipGroupNorm", SkipGroupNorm},
  };
  return rules;
}

}  // namespace dunlin::onnx_import
