// Operators that address elements by computed indices: Gather, GatherElements, GatherND,
// ScatterElements, ScatterND, Scatter, TensorScatter, Compress, Unique, NonMaxSuppression.
// Semantics: ONNX opset 21. An index outside its extent is kInvalidArgument, wherever it comes
// from; kernels agree exactly.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "ops/op.h"

namespace dunlin {

std::span<const OpDef> IndexOps();

struct AxisAttr {
  int64_t axis = 0;
  template <class V>
  void Visit(V& v) {
    v("axis", axis);
  }
};

struct Gather {
  using Attrs = AxisAttr;
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
  // Rows of memory, copied; constant indices are checked here, others at each run.
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&);
};

struct GatherElements {
  using Attrs = AxisAttr;
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

struct GatherND {
  struct Attrs {
    int64_t batch_dims = 0;
    template <class V>
    void Visit(V& v) {
      v("batch_dims", batch_dims);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// Also the old name Scatter, which knows no reduction.
struct ScatterElements {
  struct Attrs {
    int64_t axis = 0;
    std::string reduction = "none";
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("reduction", reduction);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

struct ScatterND {
  struct Attrs {
    std::string reduction = "none";
    template <class V>
    void Visit(V& v) {
      v("reduction", reduction);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// cache [B, …, T, …], update [B, …, S, …], write_indices [B]? -> the cache with the update in it.
struct TensorScatter {
  struct Attrs {
    int64_t axis = -2;
    std::string mode = "linear";
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("mode", mode);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

struct OptionalAxisAttr {
  std::optional<int64_t> axis;
  template <class V>
  void Visit(V& v) {
    v("axis", axis);
  }
};

// Slices along an axis (absent: elements) where the condition holds.
struct Compress {
  using Attrs = OptionalAxisAttr;
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// Distinct elements, or slices along an axis: values, first positions, which value each was, how
// many.
struct Unique {
  struct Attrs {
    std::optional<int64_t> axis;
    bool sorted = true;
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("sorted", sorted);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// boxes [B, N, 4], scores [B, C, N] -> rows of (batch, class, box).
struct NonMaxSuppression {
  struct Attrs {
    bool center_point_box = false;
    template <class V>
    void Visit(V& v) {
      v("center_point_box", center_point_box);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

}  // namespace dunlin
