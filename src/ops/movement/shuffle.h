// dunlin.ChannelShuffle: channels (dimension 1) of the inputs, one behind the other, cut into
// `groups` of neighbours and dealt out in turn: channel j * groups + i of the output is channel j
// of group i. One input, or one of equal extents per group. Bit-exact.
#pragma once

#include "ops/movement/moves.h"

namespace dunlin {

struct ChannelShuffle {
  struct Attrs {
    int64_t groups = 0;
    template <class V>
    void Visit(V& v) {
      v("groups", groups);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  // The layout of most inputs.
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery&);
};

struct ChannelShuffleOp : Moving<ChannelShuffle> {
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&);
};

}  // namespace dunlin
