// Operators that move elements: Concat, Split, Slice, Transpose, Pad, Tile, Expand, DepthToSpace,
// SpaceToDepth, CenterCropPad, ReverseSequence, Trilu, Col2Im. Semantics: ONNX opset 21.
// All but Col2Im are bit-exact copies; kernels agree with their reference exactly.
#pragma once

#include <span>

#include "ops/movement/moves.h"

namespace dunlin {

std::span<const OpDef> MovementOps();

// Inputs of equal extents but along `axis`, one behind the other. A rank-1 integer result carries a
// shape.
struct Concat {
  struct Attrs {
    std::optional<int64_t> axis;
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery&);
};

// Pieces of the extents input 1 says, or of equal extents of which the last may be smaller.
struct Split {
  struct Attrs {
    int64_t axis = 0;
    std::optional<int64_t> num_outputs;
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("num_outputs", num_outputs);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return LikeFirstInput(q); }
};

// data, starts, ends, axes?, steps?. Bounds are clamped to the extents as Python does.
struct Slice {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return LikeFirstInput(q); }
};

struct Transpose {
  struct Attrs {
    std::vector<int64_t> perm;  // empty: reversed
    template <class V>
    void Visit(V& v) {
      v("perm", perm);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  // Stores the output so that the copy is one block where one of the two layouts allows it.
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery&);
};

// data, pads [begin…, end…], constant_value?, axes?. Negative pads crop.
struct Pad {
  struct Attrs {
    std::string mode = "constant";
    template <class V>
    void Visit(V& v) {
      v("mode", mode);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery&);
};

// data, repeats.
struct Tile {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return LikeFirstInput(q); }
};

// data broadcast with the extents of input 1.
struct Expand {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return LikeFirstInput(q); }
};

struct DepthToSpace {
  struct Attrs {
    int64_t blocksize = 0;
    std::string mode = "DCR";
    template <class V>
    void Visit(V& v) {
      v("blocksize", blocksize);
      v("mode", mode);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return LikeFirstInput(q); }
};

struct SpaceToDepth {
  struct Attrs {
    int64_t blocksize = 0;
    template <class V>
    void Visit(V& v) {
      v("blocksize", blocksize);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return LikeFirstInput(q); }
};

// data, shape: each axis cropped or padded with zeros around its centre.
struct CenterCropPad {
  struct Attrs {
    std::vector<int64_t> axes;  // empty: all
    template <class V>
    void Visit(V& v) {
      v("axes", axes);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Result<std::vector<BoxCopy>> Moves(const Attrs&, MoveQuery&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return LikeFirstInput(q); }
};

// The first lengths[b] steps of time in reverse order.
struct ReverseSequence {
  struct Attrs {
    int64_t batch_axis = 1, time_axis = 0;
    template <class V>
    void Visit(V& v) {
      v("batch_axis", batch_axis);
      v("time_axis", time_axis);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// The upper or lower triangle of matrices, zero elsewhere.
struct Trilu {
  struct Attrs {
    int64_t upper = 1;
    template <class V>
    void Visit(V& v) {
      v("upper", upper);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// Columns [N, C * prod(block), L] summed back into images [N, C, image…].
struct Col2Im {
  struct Attrs {
    std::vector<int64_t> dilations, pads, strides;
    template <class V>
    void Visit(V& v) {
      v("dilations", dilations);
      v("pads", pads);
      v("strides", strides);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

}  // namespace dunlin
