// Operators about extents and constants: Shape, Size, Reshape, Flatten, Squeeze, Unsqueeze,
// Constant, ConstantOfShape, Range, EyeLike, OneHot, NonZero. Semantics: ONNX opset 21. All results
// are exact.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ops/op.h"

namespace dunlin {

std::span<const OpDef> ShapeOps();

struct Shape {
  struct Attrs {
    int64_t start = 0;
    std::optional<int64_t> end;
    template <class V>
    void Visit(V& v) {
      v("start", start);
      v("end", end);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

struct Size {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// Views: other extents over the same elements. Their references copy, for executors that do not
// alias.
struct View {
  static Status Copy(RunContext& ctx);
};

struct Reshape : View {
  struct Attrs {
    bool allowzero = false;
    template <class V>
    void Visit(V& v) {
      v("allowzero", allowzero);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext& ctx) { return Copy(ctx); }
};

struct Flatten : View {
  struct Attrs {
    int64_t axis = 1;
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext& ctx) { return Copy(ctx); }
};

struct Squeeze : View {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext& ctx) { return Copy(ctx); }
};

struct Unsqueeze : View {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext& ctx) { return Copy(ctx); }
};

// Exactly one of the attributes is given. An empty list or string cannot be told from an absent
// one.
struct Constant {
  struct Attrs {
    Tensor value;
    std::optional<int64_t> value_int;
    std::optional<float> value_float;
    std::string value_string;
    std::vector<int64_t> value_ints;
    std::vector<float> value_floats;
    std::vector<std::string> value_strings;
    template <class V>
    void Visit(V& v) {
      v("value", value);
      v("value_int", value_int);
      v("value_float", value_float);
      v("value_string", value_string);
      v("value_ints", value_ints);
      v("value_floats", value_floats);
      v("value_strings", value_strings);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

struct ConstantOfShape {
  struct Attrs {
    Tensor value;  // one element; absent: f32 0
    template <class V>
    void Visit(V& v) {
      v("value", value);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// start, limit, delta.
struct Range {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

struct EyeLike {
  struct Attrs {
    DType dtype = DType::kUndefined;  // absent: the input's
    int64_t k = 0;
    template <class V>
    void Visit(V& v) {
      v("dtype", dtype);
      v("k", k);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// indices, depth, values [off, on]. Indices outside [-depth, depth) are all off.
struct OneHot {
  struct Attrs {
    int64_t axis = -1;
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// Indices of non-zero elements, [rank, count], in row-major order.
struct NonZero {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

}  // namespace dunlin
