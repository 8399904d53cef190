#include "ops/movement/movement.h"

#include "kernels/interleave.h"
#include "ops/movement/shuffle.h"

namespace dunlin {

std::span<const OpDef> MovementOps() {
  static const OpDef ops[] = {
      Declare<Moving<Concat>>("Concat", {.max_inputs = -1}),
      Declare<Moving<Split>>("Split", {.max_inputs = 2, .max_outputs = -1}),
      Declare<Moving<Slice>>("Slice", {.min_inputs = 3, .max_inputs = 5}),
      Declare<Moving<Transpose>>("Transpose", {}),
      Declare<Pad>("Pad", {.min_inputs = 2, .max_inputs = 4}),
      Declare<Moving<Tile>>("Tile", {.min_inputs = 2, .max_inputs = 2}),
      Declare<ChannelShuffleOp>("ChannelShuffle",
                                {.domain = "dunlin", .max_inputs = InterleaveArgs::kMaxImages}),
      Declare<Moving<Expand>>("Expand", {.min_inputs = 2, .max_inputs = 2}),
      Declare<Moving<DepthToSpace>>("DepthToSpace", {}),
      Declare<Moving<SpaceToDepth>>("SpaceToDepth", {}),
      Declare<Moving<CenterCropPad>>("CenterCropPad", {.min_inputs = 2, .max_inputs = 2}),
      Declare<ReverseSequence>("ReverseSequence", {.min_inputs = 2, .max_inputs = 2}),
      Declare<Trilu>("Trilu", {.min_inputs = 1, .max_inputs = 2}),
      Declare<Col2Im>("Col2Im", {.min_inputs = 3, .max_inputs = 3}),
  };
  return ops;
}

}  // namespace dunlin
