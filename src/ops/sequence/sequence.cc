// Sequences (lists of tensors) and optionals. An optional that holds something is represented by
// what it holds, one that holds nothing by an absent input.
#include <algorithm>
#include <cstring>

#include "ops/op.h"

namespace dunlin {
namespace {

Type SequenceOf(Type element) {
  element.kind = Type::Kind::kSequence;
  return element;
}

Status NeedSequence(InferContext& ctx, int i) {
  const Type& t = ctx.input(i);
  // An optional may hold one, and so may a value of which nothing is known.
  const bool tensor = t.kind == Type::Kind::kTensor && (t.ranked || t.dtype != DType::kUndefined);
  if (!tensor && t.key == DType::kUndefined) return {};
  return Fail(Code::kInvalidArgument, "input {} is {}, not a sequence of tensors", i, ToString(t));
}

Result<const SequenceValue*> SequenceInput(RunContext& ctx, int i) {
  if (const SequenceValue* s = ctx.sequence(i)) {
    TRY(NeedTensors(*s));
    return s;
  }
  return Fail(Code::kInvalidArgument, "input {} is not a sequence", i);
}

// The one integer of an input.
Result<int64_t> IntegerInput(RunContext& ctx, int i) {
  const Tensor t = TRY(ctx.TakeInput(i));
  const auto v = TRY(ToInts(t));
  if (v.size() != 1)
    return Fail(Code::kInvalidArgument, "input {} has {} elements instead of one", i, v.size());
  return v[0];
}

// A position in [-size, size + past_end), from input i or `fallback`, counted from the front.
Result<size_t> Position(RunContext& ctx, int i, int64_t fallback, size_t size, int64_t past_end) {
  const int64_t given = ctx.has(i) ? TRY(IntegerInput(ctx, i)) : fallback;
  const auto n = int64_t(size);
  if (given < -n || given >= n + past_end)
    return Fail(Code::kInvalidArgument, "position {} outside a sequence of {}", given, n);
  return size_t(given < 0 ? given + n : given);
}

// The type of a list whose items have either type: what the two share.
Result<Type> MergeElements(Type a, const Type& b) {
  if (a.dtype == DType::kUndefined) a.dtype = b.dtype;
  if (b.dtype != DType::kUndefined && a.dtype != b.dtype)
    return Fail(Code::kInvalidArgument, "a sequence cannot hold {} and {}", DTypeName(a.dtype),
                DTypeName(b.dtype));
  a.ranked = a.ranked && b.ranked && a.dims.size() == b.dims.size();
  if (!a.ranked) a.dims = {};
  for (size_t i = 0; i < a.dims.size(); ++i)
    if (a.dims[i] != b.dims[i]) a.dims[i] = kUnknownDim;
  return a;
}

struct SequenceConstruct {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    Type t = ctx.input(0);
    for (int i = 1; i < ctx.input_count(); ++i) t = TRY(MergeElements(t, ctx.input(i)));
    ctx.Set(0, SequenceOf(t));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    SequenceValue s{ctx.in(0).dtype, {}};
    for (int i = 0; i < ctx.input_count(); ++i) s.items.push_back(TRY(ctx.TakeInput(i)));
    return ctx.SetSequence(0, std::move(s));
  }
};

struct SequenceEmpty {
  struct Attrs {
    DType dtype = DType::kF32;
    template <class V>
    void Visit(V& v) {
      v("dtype", dtype);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    ctx.Set(0, SequenceOf(Type::Unranked(a.dtype)));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    return ctx.SetSequence(0, {a.dtype, {}});
  }
};

struct SequenceInsert {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(NeedSequence(ctx, 0));
    // An empty sequence says nothing of extents, and is not known to be empty here: keep the
    // element type.
    const Type t = TRY(MergeElements(Type::Unranked(ctx.dtype(0)), ctx.input(1)));
    ctx.Set(0, SequenceOf(t));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    SequenceValue s = *TRY(SequenceInput(ctx, 0));
    const auto size = int64_t(s.items.size());
    const size_t at = TRY(Position(ctx, 2, size, s.items.size(), 1));
    Tensor item = TRY(ctx.TakeInput(1));
    if (s.dtype != DType::kUndefined && item.dtype() != s.dtype)
      return Fail(Code::kInvalidArgument, "a sequence of {} cannot take {}", DTypeName(s.dtype),
                  DTypeName(item.dtype()));
    s.dtype = item.dtype();
    s.items.insert(s.items.begin() + long(at), std::move(item));
    return ctx.SetSequence(0, std::move(s));
  }
};

struct SequenceErase {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(NeedSequence(ctx, 0));
    ctx.Set(0, ctx.input(0));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    SequenceValue s = *TRY(SequenceInput(ctx, 0));
    const size_t at = TRY(Position(ctx, 1, -1, s.items.size(), 0));
    s.items.erase(s.items.begin() + long(at));
    return ctx.SetSequence(0, std::move(s));
  }
};

struct SequenceAt {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(NeedSequence(ctx, 0));
    Type t = ctx.input(0);
    t.kind = Type::Kind::kTensor;
    ctx.Set(0, t);
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    const SequenceValue& s = *TRY(SequenceInput(ctx, 0));
    const size_t at = TRY(Position(ctx, 1, 0, s.items.size(), 0));
    return ctx.SetOutput(0, s.items[at]);
  }
};

struct SequenceLength {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(NeedSequence(ctx, 0));
    ctx.Set(0, Type::Of(DType::kI64, {}));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    ctx.out(0).mut<int64_t>()[0] = int64_t(TRY(SequenceInput(ctx, 0))->items.size());
    return {};
  }
};

// Copies [rows, extent] of `from` (piece elements each) into [rows, stride] of `to`.
void CopyRows(DType dtype, const std::byte* from, int64_t from_stride, std::byte* to,
              int64_t to_stride, int64_t rows, int64_t piece) {
  if (piece == 0) return;  // however many rows of nothing
  const int64_t size = DTypeBits(dtype) / 8;
  for (int64_t r = 0; r < rows; ++r) {
    const std::byte* a = from + r * from_stride * size;
    std::byte* b = to + r * to_stride * size;
    if (dtype == DType::kString) {
      const auto* s = reinterpret_cast<const std::string*>(a);
      std::copy(s, s + piece, reinterpret_cast<std::string*>(b));
    } else if (piece > 0) {
      std::memcpy(b, a, size_t(piece * size));
    }
  }
}

Status NeedWholeBytes(DType t) {
  if (DTypeBits(t) % 8 == 0) return {};
  return Fail(Code::kUnimplemented, "sequences of element type {}", DTypeName(t));
}

Result<int> Axis(int64_t axis, int rank) {
  if (axis < -rank || axis >= rank)
    return Fail(Code::kInvalidArgument, "axis {} outside rank {}", axis, rank);
  return int(axis < 0 ? axis + rank : axis);
}

struct SplitToSequence {
  struct Attrs {
    int64_t axis = 0;
    bool keepdims = true;  // only without `split`
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("keepdims", keepdims);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    Type t = ctx.input(0);
    if (t.ranked) {
      const auto axis = size_t(TRY(Axis(a.axis, t.dims.rank())));
      if (!ctx.has(1) && !a.keepdims)
        t.dims.erase(axis);
      else
        t.dims[axis] = ctx.has(1) ? kUnknownDim : 1;
    }
    ctx.Set(0, SequenceOf(t));
    return {};
  }

  // The lengths of the pieces of an extent.
  static Result<std::vector<int64_t>> Lengths(RunContext& ctx, int64_t extent) {
    // Extents of empty tensors can be beyond all memory.
    constexpr int64_t kMaxItems = int64_t{1} << 24;
    if (extent > kMaxItems)
      return Fail(Code::kResourceExhausted, "an extent of {} to split, at most {} is allowed",
                  extent, kMaxItems);
    if (!ctx.has(1)) return std::vector<int64_t>(size_t(extent), 1);
    const Tensor split = TRY(ctx.TakeInput(1));
    std::vector<int64_t> lengths = TRY(ToInts(split));
    if (split.rank() == 0) {
      const int64_t each = lengths[0];
      if (each <= 0) return Fail(Code::kInvalidArgument, "split is {}", each);
      lengths.assign(size_t(extent / each), each);
      if (extent % each != 0) lengths.push_back(extent % each);
      return lengths;
    }
    int64_t rest = extent;
    for (const int64_t n : lengths) {
      if (n < 0 || n > rest)
        return Fail(Code::kInvalidArgument, "split does not add up to the extent {}", extent);
      rest -= n;
    }
    if (rest != 0)
      return Fail(Code::kInvalidArgument, "split leaves {} of the extent {}", rest, extent);
    return lengths;
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    TRY(NeedWholeBytes(x.dtype));
    const auto axis = size_t(TRY(Axis(a.axis, x.rank())));
    const auto lengths = TRY(Lengths(ctx, x.dims[axis]));
    int64_t rows = 1, inner = 1;
    for (size_t i = 0; i < axis; ++i) rows *= x.dims[i];
    for (size_t i = axis + 1; i < x.dims.size(); ++i) inner *= x.dims[i];
    SequenceValue s{x.dtype, {}};
    const auto* from = static_cast<const std::byte*>(x.data);
    for (const int64_t n : lengths) {
      Dims dims = x.dims;
      dims[axis] = n;
      if (!ctx.has(1) && !a.keepdims) dims.erase(axis);
      Tensor item = TRY(Tensor::Create(x.dtype, dims));
      CopyRows(x.dtype, from, x.dims[axis] * inner, item.raw(), n * inner, rows, n * inner);
      from += n * inner * (DTypeBits(x.dtype) / 8);
      s.items.push_back(std::move(item));
    }
    return ctx.SetSequence(0, std::move(s));
  }
};

struct ConcatFromSequence {
  struct Attrs {
    int64_t axis = 0;
    bool new_axis = false;
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("new_axis", new_axis);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(NeedSequence(ctx, 0));
    Type t = ctx.input(0);
    t.kind = Type::Kind::kTensor;
    if (t.ranked) {
      const auto axis = size_t(TRY(Axis(a.axis, t.dims.rank() + (a.new_axis ? 1 : 0))));
      if (a.new_axis)
        t.dims.insert(axis, kUnknownDim);
      else
        t.dims[axis] = kUnknownDim;
    }
    ctx.Set(0, t);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const SequenceValue& s = *TRY(SequenceInput(ctx, 0));
    if (s.items.empty())
      return Fail(Code::kInvalidArgument, "an empty sequence cannot be concatenated");
    const Tensor& first = s.items[0];
    TRY(NeedWholeBytes(first.dtype()));
    const auto axis = size_t(TRY(Axis(a.axis, first.rank() + (a.new_axis ? 1 : 0))));
    int64_t total = 0;
    for (const Tensor& item : s.items) {
      bool fits = item.dtype() == first.dtype() && item.rank() == first.rank();
      for (size_t i = 0; fits && i < first.dims().size(); ++i)
        fits = item.dims()[i] == first.dims()[i] || (i == axis && !a.new_axis);
      if (!fits)
        return Fail(Code::kInvalidArgument, "items {}{} and {}{} cannot be concatenated",
                    DTypeName(first.dtype()), ToString(first.dims()), DTypeName(item.dtype()),
                    ToString(item.dims()));
      total += a.new_axis ? 1 : item.dims()[axis];
    }
    Dims dims = first.dims();
    if (a.new_axis)
      dims.insert(axis, total);
    else
      dims[axis] = total;
    TensorView& out = *TRY(ctx.Allocate(0, first.dtype(), dims));
    int64_t rows = 1, inner = 1;
    for (size_t i = 0; i < axis; ++i) rows *= dims[i];
    for (size_t i = axis + 1; i < dims.size(); ++i) inner *= dims[i];
    auto* to = static_cast<std::byte*>(out.data);
    for (const Tensor& item : s.items) {
      const int64_t piece = a.new_axis ? inner : item.dims()[axis] * inner;
      CopyRows(first.dtype(), item.raw(), piece, to, total * inner, rows, piece);
      to += piece * (DTypeBits(first.dtype()) / 8);
    }
    return {};
  }
};

struct Optional {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    // The attribute `type` says what an optional that holds nothing could hold; nobody needs to
    // know.
    Type t = ctx.has(0) ? ctx.input(0) : Type{};
    t.kind = Type::Kind::kOptional;
    ctx.Set(0, t);
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    return SetValue(ctx, 0, TRY(TakeValue(ctx, 0)));
  }
};

struct OptionalHasElement {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    ctx.Set(0, Type::Of(DType::kBool, {}));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    ctx.out(0).mut<bool>()[0] = ctx.input_count() > 0 && ctx.has(0);
    return {};
  }
};

struct OptionalGetElement {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    // Of an optional that may hold a tensor or a sequence, only running tells which.
    ctx.Set(0, ctx.input(0));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    if (!ctx.has(0)) return Fail(Code::kInvalidArgument, "the optional holds nothing");
    return SetValue(ctx, 0, TRY(TakeValue(ctx, 0)));
  }
};

}  // namespace

std::span<const OpDef> SequenceOps() {
  static const OpDef ops[] = {
      Declare<SequenceConstruct>("SequenceConstruct", {.max_inputs = -1}),
      Declare<SequenceEmpty>("SequenceEmpty", {.min_inputs = 0, .max_inputs = 0}),
      Declare<SequenceInsert>("SequenceInsert", {.min_inputs = 2, .max_inputs = 3}),
      Declare<SequenceErase>("SequenceErase", {.min_inputs = 1, .max_inputs = 2}),
      Declare<SequenceAt>("SequenceAt", {.min_inputs = 2, .max_inputs = 2}),
      Declare<SequenceLength>("SequenceLength", {}),
      Declare<SplitToSequence>("SplitToSequence", {.min_inputs = 1, .max_inputs = 2}),
      Declare<ConcatFromSequence>("ConcatFromSequence", {}),
      Declare<Optional>("Optional", {.min_inputs = 0, .max_inputs = 1}),
      Declare<OptionalHasElement>("OptionalHasElement", {.min_inputs = 0, .max_inputs = 1}),
      Declare<OptionalGetElement>("OptionalGetElement", {}),
  };
  return ops;
}

}  // namespace dunlin
