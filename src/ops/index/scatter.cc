#include <cstring>

#include "ops/index/index.h"
#include "ops/index/indices.h"
#include "ops/movement/axes.h"
#include "ops/movement/elements.h"

namespace dunlin {
namespace {

enum class Reduction { kNone, kAdd, kMul, kMax, kMin };
Result<Reduction> ParseReduction(const std::string& s) {
  if (s == "none" || s.empty()) return Reduction::kNone;
  if (s == "add") return Reduction::kAdd;
  if (s == "mul") return Reduction::kMul;
  if (s == "max") return Reduction::kMax;
  if (s == "min") return Reduction::kMin;
  return Fail(Code::kInvalidArgument, "the reduction '{}' is none of none, add, mul, max, min", s);
}

template <class T>
T Combine(Reduction r, T a, T b) {
  if constexpr (kIsHalf<T>) {
    return T(Combine(r, float(a), float(b)));
  } else if constexpr (std::is_same_v<T, bool>) {
    return r == Reduction::kAdd || r == Reduction::kMax ? a || b : a && b;
  } else {
    if constexpr (std::is_integral_v<T>) {  // modular: no overflow is undefined
      const auto x = static_cast<uint64_t>(a), y = static_cast<uint64_t>(b);
      if (r == Reduction::kAdd) return static_cast<T>(x + y);
      if (r == Reduction::kMul) return static_cast<T>(x * y);
    } else {
      if (r == Reduction::kAdd) return a + b;
      if (r == Reduction::kMul) return a * b;
    }
    if (a != a) return a;
    if (r == Reduction::kMax) return a > b ? a : b;
    return a < b ? a : b;
  }
}

// Calls each(put), where put(to, from) combines update `from` into element `to` of y.
template <class F>
Status Scattering(Reduction r, const TensorView& updates, TensorView& y, const F& each) {
  if (r == Reduction::kNone)
    return VisitStorage(y.dtype, [&]<class S>(S) -> Status {
      return each(
          [&](int64_t to, int64_t from) { S::Set(y.data, to, S::Get(updates.data, from)); });
    });
  return VisitDType(y.dtype, "a scatter with a reduction", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (std::is_same_v<T, std::string>) {
      return Fail(Code::kInvalidArgument, "strings cannot be reduced");
    } else {
      const T* u = updates.as<T>();
      T* out = y.mut<T>();
      return each([&](int64_t to, int64_t from) { out[to] = Combine(r, out[to], u[from]); });
    }
  });
}

Status CheckUpdates(const InferContext& ctx) {
  const DType x = ctx.dtype(0), u = ctx.dtype(2);
  if (x != DType::kUndefined && u != DType::kUndefined && x != u)
    return Fail(Code::kInvalidArgument, "updates are {}, data is {}", DTypeName(u), DTypeName(x));
  return CheckIndexType(ctx, 1);
}

}  // namespace

Status ScatterElements::Infer(const Attrs& a, InferContext& ctx) {
  TRY(ParseReduction(a.reduction));
  TRY(CheckUpdates(ctx));
  const Type &x = ctx.input(0), &indices = ctx.input(1), &updates = ctx.input(2);
  if (indices.ranked && updates.ranked) {
    bool equal = indices.dims.rank() == updates.dims.rank();
    for (size_t i = 0; equal && i < indices.dims.size(); ++i)
      equal = MergeDim(indices.dims[i], updates.dims[i]).has_value();
    if (!equal)
      return Fail(Code::kInvalidArgument, "indices {} and updates {} differ", ToString(indices),
                  ToString(updates));
  }
  if (x.ranked) {
    const int axis = TRY(NormalizeAxis(a.axis, x.dims.rank()));
    if (indices.ranked && indices.dims.rank() != x.dims.rank())
      return Fail(Code::kInvalidArgument, "data has rank {}, indices {}", x.dims.rank(),
                  indices.dims.rank());
    for (int i = 0; indices.ranked && i < x.dims.rank(); ++i) {
      const int64_t have = x.dims[size_t(i)], want = indices.dims[size_t(i)];
      if (i != axis && IsKnown(have) && IsKnown(want) && want > have)
        return Fail(Code::kInvalidArgument, "indices have extent {} on axis {}, data only {}", want,
                    i, have);
    }
  }
  ctx.Set(0, x);
  return {};
}

Status ScatterElements::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView &x = ctx.in(0), &indices = ctx.in(1), &updates = ctx.in(2);
  TensorView& y = ctx.out(0);
  const Reduction r = TRY(ParseReduction(a.reduction));
  const auto axis = size_t(TRY(NormalizeAxis(a.axis, x.rank())));
  TRY(CopyAll(x, y));
  const Dims strides = StridesOf(x.dims);
  const Indices index(indices);
  const int64_t n = indices.count();
  return Scattering(r, updates, y, [&](const auto& put) -> Status {
    for (int64_t i = 0; i < n; ++i) {
      int64_t rest = i, to = TRY(index.At(i, x.dims[axis])) * strides[axis];
      for (size_t d = x.dims.size(); d-- > 0; rest /= indices.dims[d])
        if (d != axis) to += rest % indices.dims[d] * strides[d];
      put(to, i);
    }
    return {};
  });
}

Status ScatterND::Infer(const Attrs& a, InferContext& ctx) {
  TRY(ParseReduction(a.reduction));
  TRY(CheckUpdates(ctx));
  const Type &x = ctx.input(0), &indices = ctx.input(1), &updates = ctx.input(2);
  if (indices.ranked && indices.dims.empty())
    return Fail(Code::kInvalidArgument, "indices are a scalar, not a list of tuples");
  if (x.ranked && indices.ranked && IsKnown(indices.dims.back())) {
    const int64_t last = indices.dims.back();
    if (last < 1 || last > x.dims.rank())
      return Fail(Code::kInvalidArgument, "index tuples of {} for data of rank {}", last,
                  x.dims.rank());
    Dims want;
    for (size_t i = 0; i + 1 < indices.dims.size(); ++i) want.push_back(indices.dims[i]);
    for (auto i = size_t(last); i < x.dims.size(); ++i) want.push_back(x.dims[i]);
    bool fits = !updates.ranked || updates.dims.rank() == want.rank();
    for (size_t i = 0; fits && updates.ranked && i < want.size(); ++i)
      fits = MergeDim(want[i], updates.dims[i]).has_value();
    if (!fits)
      return Fail(Code::kInvalidArgument, "updates have extents {}, they must be {}",
                  ToString(std::span<const int64_t>(updates.dims)),
                  ToString(std::span<const int64_t>(want)));
  }
  ctx.Set(0, x);
  return {};
}

Status ScatterND::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView &x = ctx.in(0), &indices = ctx.in(1), &updates = ctx.in(2);
  TensorView& y = ctx.out(0);
  const Reduction r = TRY(ParseReduction(a.reduction));
  TRY(CopyAll(x, y));
  const Dims strides = StridesOf(x.dims);
  const int64_t last = indices.dims.back();  // 0: every tuple means all of x
  const int64_t tuples = CountOf({indices.dims.data(), indices.dims.size() - 1});
  int64_t inner = 1;
  for (auto i = size_t(last); i < x.dims.size(); ++i) inner *= x.dims[i];
  const Indices index(indices);
  return Scattering(r, updates, y, [&](const auto& put) -> Status {
    for (int64_t t = 0; t < tuples; ++t) {
      int64_t to = 0;
      for (int64_t k = 0; k < last; ++k)
        to += TRY(index.At(t * last + k, x.dims[size_t(k)])) * strides[size_t(k)];
      for (int64_t i = 0; i < inner; ++i) put(to + i, t * inner + i);
    }
    return {};
  });
}

}  // namespace dunlin
