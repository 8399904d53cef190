// Constant, ConstantOfShape, Range, EyeLike, OneHot, NonZero.
#include <cmath>

#include "ops/movement/axes.h"
#include "ops/movement/elements.h"
#include "ops/shape/shape.h"

namespace dunlin {
namespace {

// The tensor that a Constant's attributes say.
Result<Tensor> ConstantValue(const Constant::Attrs& a) {
  const int given = a.value.defined() + a.value_int.has_value() + a.value_float.has_value() +
                    !a.value_string.empty() + !a.value_ints.empty() + !a.value_floats.empty() +
                    !a.value_strings.empty();
  if (given != 1)
    return Fail(Code::kInvalidArgument,
                "{} of the attributes value, value_int, value_ints, value_float, value_floats, "
                "value_string "
                "and value_strings are given, exactly one must be (sparse_value is not supported)",
                given);
  if (a.value.defined()) return a.value;
  if (a.value_int) return Tensor::Scalar(*a.value_int);
  if (a.value_float) return Tensor::Scalar(*a.value_float);
  if (!a.value_string.empty()) return Tensor::Scalar(a.value_string);
  if (!a.value_ints.empty()) return Tensor::Ints(a.value_ints);
  if (!a.value_floats.empty())
    return Tensor::Of<float>(Dims{int64_t(a.value_floats.size())},
                             std::span<const float>(a.value_floats));
  return Tensor::Of<std::string>(Dims{int64_t(a.value_strings.size())},
                                 std::span<const std::string>(a.value_strings));
}

template <class T>
double AsNumber(T v) {
  if constexpr (kIsHalf<T>)
    return double(float(v));
  else
    return double(v);
}

template <class T>
T FromNumber(double v) {
  if constexpr (kIsHalf<T>)
    return T(float(v));
  else
    return static_cast<T>(v);
}

// Elements of [start, limit) in steps of delta: exact for integers.
template <class T>
Result<int64_t> RangeCount(T start, T limit, T delta) {
  if constexpr (kIsFloat<T>) {
    const double s = AsNumber(start), l = AsNumber(limit), d = AsNumber(delta);
    const double n = std::ceil((l - s) / d);
    if (d == 0 || std::isnan(n) || n > 0x1p56)
      return Fail(Code::kInvalidArgument, "the range from {} to {} by {} has no end", s, l, d);
    return n > 0 ? int64_t(n) : 0;
  } else {
    const auto s = static_cast<__int128>(start), l = static_cast<__int128>(limit),
               d = static_cast<__int128>(delta);
    if (d == 0) return Fail(Code::kInvalidArgument, "the step of a range is 0");
    const __int128 n = d > 0 ? (l - s + d - 1) / d : (s - l - d - 1) / -d;
    if (n > (__int128{1} << 56)) return Fail(Code::kInvalidArgument, "the range is too long");
    return n > 0 ? int64_t(n) : 0;
  }
}

Status VisitRange(DType t, auto&& f) {
  return VisitDType(t, "Range", [&]<class T>(TypeTag<T> tag) -> Status {
    if constexpr (kIsNumber<T>)
      return f(tag);
    else
      return Fail(Code::kInvalidArgument, "a range of {} makes no sense", DTypeName(t));
  });
}

// The number of classes of a OneHot: an integer or a whole float.
Result<int64_t> DepthOf(const TensorView& v) {
  if (v.count() != 1) return Fail(Code::kInvalidArgument, "depth has {} elements", v.count());
  double depth = 0;
  TRY(VisitDType(v.dtype, "OneHot", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (kIsNumber<T>) depth = AsNumber(v.as<T>()[0]);
    return {};
  }));
  if (!(depth >= 1 && depth < 0x1p56)) return Fail(Code::kInvalidArgument, "depth is {}", depth);
  return int64_t(depth);
}

}  // namespace

Status Constant::Infer(const Attrs& a, InferContext& ctx) {
  const Tensor t = TRY(ConstantValue(a));
  ctx.Set(0, Type::Of(t.dtype(), t.dims()));
  if (t.rank() <= 1 && t.count() <= kMaxShapeEntries && IsInteger(t.dtype())) {
    auto v = TRY(ToInts(t));
    for (int64_t& x : v) x = std::max(x, kUnknownDim);
    ctx.SetShapeValue(0, Dims(std::span<const int64_t>(v)));
  }
  return {};
}

Status Constant::Reference(const Attrs& a, RunContext& ctx) {
  const Tensor t = TRY(ConstantValue(a));
  return CopyAll(t.view(), ctx.out(0));
}

Status ConstantOfShape::Infer(const Attrs& a, InferContext& ctx) {
  const DType dtype = a.value.defined() ? a.value.dtype() : DType::kF32;
  if (a.value.defined() && a.value.count() != 1)
    return Fail(Code::kInvalidArgument, "value has {} elements, it must have one", a.value.count());
  const Type& list = ctx.input(0);
  const auto known = TRY(IntList(ctx, 0));
  if (known) {
    for (const int64_t d : *known)
      if (d < 0) return Fail(Code::kInvalidArgument, "the shape has the entry {}", d);
  }
  auto dims = known ? Dims(std::span<const int64_t>(*known)) : ShapeEntries(ctx, 0);
  if (!dims && list.ranked && list.dims.rank() == 1 && IsKnown(list.dims[0]) &&
      list.dims[0] <= kMaxShapeEntries)
    dims = UnknownDims(size_t(list.dims[0]));
  if (!dims) {
    ctx.Set(0, Type::Unranked(dtype));
    return {};
  }
  TRY(CheckSize(*dims));
  ctx.Set(0, Type::Of(dtype, *dims));
  if (IsInteger(dtype) && dims->rank() <= 1 && AllKnown(*dims) &&
      CountOf(*dims) <= kMaxShapeEntries) {
    const int64_t v = a.value.defined() ? TRY(ToInts(a.value))[0] : 0;
    if (v >= 0) ctx.SetShapeValue(0, Dims(size_t(CountOf(*dims)), v));
  }
  return {};
}

Status ConstantOfShape::Reference(const Attrs& a, RunContext& ctx) {
  TensorView& y = ctx.out(0);
  const int64_t n = y.count();
  return VisitStorage(y.dtype, [&]<class S>(S) -> Status {
    const typename S::Value v = a.value.defined() ? S::Get(a.value.raw(), 0) : S::Zero();
    for (int64_t i = 0; i < n; ++i) S::Set(y.data, i, v);
    return {};
  });
}

Status Range::Infer(const Attrs&, InferContext& ctx) {
  DType dtype = DType::kUndefined;
  bool known = true;
  for (int i = 0; i < 3; ++i) {
    const Type& t = ctx.input(i);
    if (t.dtype != DType::kUndefined) {
      if (dtype != DType::kUndefined && dtype != t.dtype)
        return Fail(Code::kInvalidArgument, "a range from {} by {}", DTypeName(dtype),
                    DTypeName(t.dtype));
      dtype = t.dtype;
    }
    if (t.ranked && AllKnown(t.dims) && ElementCount(t.dims).value_or(0) != 1)
      return Fail(Code::kInvalidArgument, "input {} of a range has extents {}", i,
                  ToString(std::span<const int64_t>(t.dims)));
    known = known && ctx.value(i) != nullptr;
  }
  int64_t count = kUnknownDim;
  // Integers only: of other types nothing is an int list.
  const auto start = ctx.ints(0), limit = ctx.ints(1), delta = ctx.ints(2);
  if (known) {
    const Tensor* const v[] = {ctx.value(0), ctx.value(1), ctx.value(2)};
    for (const Tensor* t : v)
      if (t->count() != 1 || t->dtype() != v[0]->dtype())
        return Fail(Code::kInvalidArgument, "a range needs three scalars of one type");
    TRY(VisitRange(v[0]->dtype(), [&]<class T>(TypeTag<T>) -> Status {
      const auto n = RangeCount(*v[0]->as<T>(), *v[1]->as<T>(), *v[2]->as<T>());
      if (!n) return Fail(n.error());
      count = *n;
      return {};
    }));
  } else if (start && limit && delta && start->size() == 1 && limit->size() == 1 &&
             delta->size() == 1) {
    count = TRY(RangeCount(start->front(), limit->front(), delta->front()));
  } else if (start && delta && *start == std::vector<int64_t>{0} &&
             *delta == std::vector<int64_t>{1}) {
    // 0, 1, … s - 1 has the extent s.
    if (const auto s = ShapeEntries(ctx, 1); s && s->size() == 1) count = (*s)[0];
  }
  ctx.Set(0, Type::Of(dtype, {count}));
  if (start && delta && start->size() == 1 && delta->size() == 1 && IsKnown(count) &&
      count <= kMaxShapeEntries) {
    Dims entries;
    for (int64_t k = 0; k < count; ++k) {
      const __int128 e =
          static_cast<__int128>(start->front()) + static_cast<__int128>(k) * delta->front();
      entries.push_back(e >= 0 && e < (__int128{1} << 56) ? int64_t(e) : kUnknownDim);
    }
    ctx.SetShapeValue(0, std::move(entries));
  }
  return {};
}

Status Range::Reference(const Attrs&, RunContext& ctx) {
  const TensorView &start = ctx.in(0), &limit = ctx.in(1), &delta = ctx.in(2);
  TensorView& y = ctx.out(0);
  return VisitRange(start.dtype, [&]<class T>(TypeTag<T>) -> Status {
    const T first = *start.as<T>(), step = *delta.as<T>();
    const int64_t n = TRY(RangeCount(first, *limit.as<T>(), step));
    if (n != y.count())
      return Fail(Code::kInternal, "a range of {} elements, planned were {}", n, y.count());
    for (int64_t i = 0; i < n; ++i) {
      if constexpr (kIsFloat<T>)
        y.mut<T>()[i] = FromNumber<T>(AsNumber(first) + double(i) * AsNumber(step));
      else  // modular arithmetic cannot overflow
        y.mut<T>()[i] = static_cast<T>(static_cast<uint64_t>(first) +
                                       static_cast<uint64_t>(i) * static_cast<uint64_t>(step));
    }
    return {};
  });
}

Status EyeLike::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (x.ranked && x.dims.rank() != 2)
    return Fail(Code::kInvalidArgument, "the input has rank {}, not 2", x.dims.rank());
  ctx.Set(0, Type::Of(a.dtype == DType::kUndefined ? x.dtype : a.dtype,
                      x.ranked ? x.dims : UnknownDims(2)));
  return {};
}

Status EyeLike::Reference(const Attrs& a, RunContext& ctx) {
  TensorView& y = ctx.out(0);
  const int64_t rows = y.dims[0], columns = y.dims[1];
  const int64_t k = std::clamp(a.k, -rows, columns);
  return VisitDType(y.dtype, "EyeLike", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (std::is_same_v<T, std::string>) {
      return Fail(Code::kInvalidArgument, "there is no unit matrix of strings");
    } else {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) {
          if constexpr (std::is_same_v<T, bool>)
            y.mut<T>()[r * columns + c] = c - r == k;
          else
            y.mut<T>()[r * columns + c] = FromNumber<T>(c - r == k);
        }
      return {};
    }
  });
}

Status OneHot::Infer(const Attrs& a, InferContext& ctx) {
  const Type& indices = ctx.input(0);
  const Type& values = ctx.input(2);
  if (values.ranked &&
      (values.dims.rank() != 1 || (IsKnown(values.dims[0]) && values.dims[0] != 2)))
    return Fail(Code::kInvalidArgument, "values must be [off, on], it has extents {}",
                ToString(std::span<const int64_t>(values.dims)));
  int64_t depth = kUnknownDim;
  if (const Tensor* t = ctx.value(1))
    depth = TRY(DepthOf(t->view()));
  else if (const auto e = ShapeEntries(ctx, 1); e && e->size() == 1)
    depth = (*e)[0];
  if (!indices.ranked) {
    ctx.Set(0, Type::Unranked(values.dtype));
    return {};
  }
  const int axis = TRY(NormalizeAxis(a.axis, indices.dims.rank() + 1));
  Dims out = indices.dims;
  out.insert(size_t(axis), depth);
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(values.dtype, std::move(out)));
  return {};
}

Status OneHot::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView &indices = ctx.in(0), &values = ctx.in(2);
  TensorView& y = ctx.out(0);
  const auto axis = size_t(TRY(NormalizeAxis(a.axis, y.rank())));
  const int64_t depth = TRY(DepthOf(ctx.in(1)));
  if (depth != y.dims[axis] || values.count() != 2)
    return Fail(Code::kInvalidArgument, "depth {} or {} values differ from the plan", depth,
                values.count());
  const int64_t inner = StridesOf(y.dims)[axis];
  const int64_t outer = y.count() == 0 ? 0 : indices.count() / inner;
  return VisitDType(indices.dtype, "OneHot", [&]<class I>(TypeTag<I>) -> Status {
    if constexpr (!kIsNumber<I>) {
      return Fail(Code::kInvalidArgument, "indices have element type {}", DTypeName(indices.dtype));
    } else {
      return VisitStorage(y.dtype, [&]<class S>(S) -> Status {
        for (int64_t o = 0; o < outer; ++o)
          for (int64_t i = 0; i < inner; ++i) {
            double index = AsNumber(indices.as<I>()[o * inner + i]);
            if (index < 0) index += double(depth);
            for (int64_t d = 0; d < depth; ++d)
              S::Set(y.data, (o * depth + d) * inner + i, S::Get(values.data, index == double(d)));
          }
        return {};
      });
    }
  });
}

Status NonZero::Infer(const Attrs&, InferContext& ctx) {
  const Type& x = ctx.input(0);
  ctx.Set(0, Type::Of(DType::kI64, {x.ranked ? int64_t(x.dims.rank()) : kUnknownDim, kUnknownDim}));
  return {};
}

Status NonZero::Reference(const Attrs&, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  const int64_t n = x.count();
  const auto rank = size_t(x.rank());
  const Dims strides = StridesOf(x.dims);
  return VisitDType(x.dtype, "NonZero", [&]<class T>(TypeTag<T>) -> Status {
    const auto is_set = [&](int64_t i) {
      if constexpr (std::is_same_v<T, std::string>)
        return !x.as<T>()[i].empty();
      else if constexpr (kIsHalf<T>)
        return float(x.as<T>()[i]) != 0;
      else
        return x.as<T>()[i] != T(0);
    };
    int64_t count = 0;
    for (int64_t i = 0; i < n; ++i) count += is_set(i);
    TensorView* y = TRY(ctx.Allocate(0, DType::kI64, {int64_t(rank), count}));
    auto* out = y->mut<int64_t>();
    int64_t at = 0;
    for (int64_t i = 0; i < n; ++i) {
      if (!is_set(i)) continue;
      for (size_t a = 0; a < rank; ++a) out[int64_t(a) * count + at] = i / strides[a] % x.dims[a];
      ++at;
    }
    return {};
  });
}

}  // namespace dunlin
