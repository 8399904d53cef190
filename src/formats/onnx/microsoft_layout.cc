// Convolutions and pools of pictures whose channels come last: com.microsoft's Nhwc operators and
// the domain com.ms.internal.nhwc, which ONNX Runtime writes into models that it saves.
#include "formats/onnx/rewrite.h"

namespace dunlin::onnx_import {
namespace {

constexpr std::string_view kInternalNhwc = "com.ms.internal.nhwc";

// [N, spatial…, C] as [N, C, spatial…], and back.
ValueId ChannelsFirst(Rewrite& r, ValueId x, int rank) {
  std::vector<int64_t> perm = {0, rank - 1};
  for (int64_t i = 1; i < rank - 1; ++i) perm.push_back(i);
  return r.Transpose(x, perm);
}
ValueId ChannelsLast(Rewrite& r, ValueId x, int rank) {
  std::vector<int64_t> perm = {0};
  for (int64_t i = 2; i < rank; ++i) perm.push_back(i);
  perm.push_back(1);
  return r.Transpose(x, perm);
}

// The standard operator around whose picture, input 0, the channels are moved.
void Around(Rewrite& r) {
  constexpr std::string_view kPrefix = "Nhwc";
  std::string_view op = r.node().op;
  if (op.starts_with(kPrefix)) op.remove_prefix(kPrefix.size());
  const ValueId x = r.Need(0);
  const int rank = r.rank(x);
  if (rank < 3) return r.Refuse(Code::kUnimplemented, "the rank of the input must be known");
  std::vector<ValueId> inputs = r.node().inputs;
  inputs[0] = ChannelsFirst(r, x, rank);
  r.Give(0, ChannelsLast(r, r.Make(op, std::move(inputs), r.Rest()), rank));
}

// activation(Conv(x, w, b) + z).
void FusedConv(Rewrite& r) {
  const auto a = TakeConvActivation(r);
  const ValueId x = r.Need(0);
  const int rank = r.rank(x);
  if (rank < 3) return r.Refuse(Code::kUnimplemented, "the rank of the input must be known");
  ValueId y = r.Make("Conv", {ChannelsFirst(r, x, rank), r.Need(1), r.in(2)}, r.Rest());
  y = ChannelsLast(r, y, rank);
  if (r.has(3)) y = r.Add(y, r.in(3));
  r.Give(0, Activate(r, y, a));
}

}  // namespace

std::span<const RewriteRule> MicrosoftLayoutRewrites() {
  static constexpr RewriteRule rules[] = {
      {kMicrosoft, "NhwcConv", Around},
      {kMicrosoft, "NhwcMaxPool", Around},
      {kMicrosoft, "NhwcFusedConv", FusedConv},
      {kInternalNhwc, "FusedConv", FusedConv},
      {kInternalNhwc, "Conv", Around},
      {kInternalNhwc, "ConvTranspose", Around},
      {kInternalNhwc, "MaxPool", Around},
      {kInternalNhwc, "AveragePool", Around},
      {kInternalNhwc, "LpPool", Around},
      {kInternalNhwc, "GlobalAveragePool", Around},
      {kInternalNhwc, "GlobalMaxPool", Around},
      {kInternalNhwc, "GlobalLpPool", Around},
      {kInternalNhwc, "BatchNormalization", Around},
      {kInternalNhwc, "InstanceNormalization", Around},
      {kInternalNhwc, "LRN", Around},
      {kInternalNhwc, "DepthToSpace", Around},
      {kInternalNhwc, "SpaceToDepth", Around},
      {kInternalNhwc, "GridSample", Around},
  };
  return rules;
}

}  // namespace dunlin::onnx_import
