// MaxPool, AveragePool, LpPool, their global forms and MaxUnpool: inference, reference, table.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/conv/window.h"
#include "ops/op.h"
#include "ops/pool/pool.h"
#include "ops/pool/pool_kernel.h"
#include "tensor/saturate.h"

namespace dunlin {
namespace {

std::span<const int64_t> Spatial(const Dims& d) { return std::span<const int64_t>(d).subspan(2); }

Status CheckRank(const Dims& x) {
  if (x.rank() >= 3) return {};
  return Fail(Code::kInvalidArgument, "input 0 has the extents {}, [N, C, spatial…] is needed",
              ToString(x));
}

template <class T>
double Load(const T* p, int64_t i) {
  if constexpr (kIsHalf<T>)
    return double(float(p[i]));
  else
    return double(p[i]);
}
template <class T>
T Store(double v) {
  if constexpr (kIsHalf<T>)
    return T(float(v));
  else if constexpr (std::is_integral_v<T>)
    return SaturateCast<T>(v);
  else
    return T(v);
}

// Calls f(TypeTag<T>) for number types; `what` names the operator in the error.
template <class F>
Status VisitNumber(DType t, std::string_view what, F&& f) {
  return VisitDType(t, what, [&]<class T>(TypeTag<T> tag) -> Status {
    if constexpr (kIsNumber<T>) return f(tag);
    return Fail(Code::kUnimplemented, "{} of {}", what, DTypeName(t));
  });
}

Result<Window> Resolve(const PoolAttrs& attrs, const Dims& x) {
  TRY(CheckRank(x));
  if (attrs.kernel_shape.empty()) return Fail(Code::kInvalidArgument, "kernel_shape is missing");
  return ResolveWindow(attrs, Spatial(x), {}, attrs.ceil_mode ? Rounding::kCeil : Rounding::kFloor);
}

// Extents [N, C, spatial…] of a pool's result into every output.
Status InferPool(const PoolAttrs& attrs, InferContext& ctx, std::span<const DType> dtypes) {
  const Type& x = ctx.input(0);
  const Dims unknown(2 + attrs.kernel_shape.size(), kUnknownDim);
  const Dims& xd = x.ranked ? x.dims : unknown;
  const Window window = TRY(Resolve(attrs, xd));
  Dims y{xd[0], xd[1]};
  for (const WindowAxis& a : window) y.push_back(a.out);
  for (int o = 0; o < int(dtypes.size()); ++o)
    if (ctx.wants(o)) ctx.Set(o, Type::Of(dtypes[size_t(o)], y));
  return {};
}

// The place of a row-major spatial index when the last axis is the slowest.
int64_t ColumnMajor(const Window& window, int64_t index) {
  int64_t result = 0;
  for (size_t i = window.size(); i-- > 0;) {
    result = result * window[i].in + index % window[i].in;
    index /= window[i].in;
  }
  return result;
}

}  // namespace

// NaN is never greater than anything: it is passed over, and a window of nothing but NaN (or
// padding) gives the lowest value.
struct MaxPoolOp {
  using Attrs = MaxPoolAttrs;

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    const DType dtypes[] = {ctx.dtype(0), DType::kI64};
    return InferPool(attrs, ctx, dtypes);
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    const Dims& xd = ctx.in(0).dims;
    const Window window = TRY(Resolve(attrs, xd));
    const int64_t planes = xd[0] * xd[1], in = CountOf(Spatial(xd));
    const int64_t out = CountOf(Spatial(ctx.out(0).dims));
    return VisitNumber(ctx.in(0).dtype, "MaxPool", [&]<class T>(TypeTag<T>) -> Status {
      const T* x = ctx.in(0).as<T>();
      T* y = ctx.out(0).mut<T>();
      int64_t* indices = ctx.wants(1) ? ctx.out(1).mut<int64_t>() : nullptr;
      ForEachWindow(window, [&](int64_t o, std::span<const WindowTap> taps) {
        for (int64_t p = 0; p < planes; ++p) {
          T best = Lowest<T>();
          int64_t at = -1;
          for (const WindowTap& t : taps) {
            const T v = x[p * in + t.input];
            if (Greater(v, best) || at < 0) {
              if (Greater(v, best)) best = v;
              at = t.input;
            }
          }
          y[p * out + o] = best;
          if (indices != nullptr)
            indices[p * out + o] =
                at < 0 ? -1 : p * in + (attrs.storage_order != 0 ? ColumnMajor(window, at) : at);
        }
      });
      return {};
    });
  }

  static Result<KernelPtr> Lower(const Attrs& attrs, LowerContext& ctx) {
    const Window window = TRY(Resolve(attrs, ctx.input(0).dims));
    return LowerPool(Pool::kMax, window, {}, ctx);
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) {
    return PoolLayouts(Pool::kMax, query);
  }

  template <class T>
  static T Lowest() {
    if constexpr (kIsHalf<T>)
      return T(-std::numeric_limits<float>::infinity());
    else if constexpr (kIsFloat<T>)
      return -std::numeric_limits<T>::infinity();
    else
      return std::numeric_limits<T>::lowest();
  }
  template <class T>
  static bool Greater(T a, T b) {
    if constexpr (kIsHalf<T>)
      return float(a) > float(b);
    else
      return a > b;
  }
};

struct AveragePoolOp {
  using Attrs = AveragePoolAttrs;

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    const DType dtypes[] = {ctx.dtype(0)};
    return InferPool(attrs, ctx, dtypes);
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    const Dims& xd = ctx.in(0).dims;
    const Window window = TRY(Resolve(attrs, xd));
    const int64_t planes = xd[0] * xd[1], in = CountOf(Spatial(xd));
    const int64_t out = CountOf(Spatial(ctx.out(0).dims));
    return VisitNumber(ctx.in(0).dtype, "AveragePool", [&]<class T>(TypeTag<T>) -> Status {
      const T* x = ctx.in(0).as<T>();
      T* y = ctx.out(0).mut<T>();
      ForEachWindow(window, [&](int64_t o, std::span<const WindowTap> taps) {
        const int64_t count =
            attrs.count_include_pad ? PaddedCount(window, o) : int64_t(taps.size());
        for (int64_t p = 0; p < planes; ++p) {
          double sum = 0;
          for (const WindowTap& t : taps) sum += Load(x, p * in + t.input);
          y[p * out + o] = Store<T>(sum / double(std::max<int64_t>(1, count)));
        }
      });
      return {};
    });
  }

  static Result<KernelPtr> Lower(const Attrs& attrs, LowerContext& ctx) {
    const Window window = TRY(Resolve(attrs, ctx.input(0).dims));
    std::vector<int64_t> counts;
    ForEachWindow(window, [&](int64_t o, std::span<const WindowTap> taps) {
      counts.push_back(attrs.count_include_pad ? PaddedCount(window, o) : int64_t(taps.size()));
    });
    return LowerPool(Pool::kAverage, window, counts, ctx);
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) {
    return PoolLayouts(Pool::kAverage, query);
  }

  // Elements of window o inside the padded input: a window that ceil_mode lets hang over the end
  // counts no more than that.
  static int64_t PaddedCount(const Window& window, int64_t o) {
    int64_t count = 1;
    for (size_t i = window.size(); i-- > 0;) {
      const WindowAxis& a = window[i];
      const int64_t begin = o % a.out * a.stride - a.pad_begin;
      o /= a.out;
      const int64_t room = a.in + a.pad_end - begin;
      count *= std::min(a.kernel, (room + a.dilation - 1) / a.dilation);
    }
    return count;
  }
};

// The p-norm of what `next` yields.
template <class Values>
double Norm(int64_t p, const Values& values) {
  double sum = 0;
  values([&](double v) {
    sum += p == 1 ? std::fabs(v) : p == 2 ? v * v : std::pow(std::fabs(v), p);
  });
  return p == 1 ? sum : p == 2 ? std::sqrt(sum) : std::pow(sum, 1.0 / double(p));
}
Status CheckNorm(int64_t p) {
  if (p >= 1) return {};
  return Fail(Code::kInvalidArgument, "the norm's p is {}, it must be 1 or more", p);
}

struct LpPoolOp {
  using Attrs = LpPoolAttrs;

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    TRY(CheckNorm(attrs.p));
    const DType dtypes[] = {ctx.dtype(0)};
    return InferPool(attrs, ctx, dtypes);
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    TRY(CheckNorm(attrs.p));
    const Dims& xd = ctx.in(0).dims;
    const Window window = TRY(Resolve(attrs, xd));
    const int64_t planes = xd[0] * xd[1], in = CountOf(Spatial(xd));
    const int64_t out = CountOf(Spatial(ctx.out(0).dims));
    return VisitNumber(ctx.in(0).dtype, "LpPool", [&]<class T>(TypeTag<T>) -> Status {
      const T* x = ctx.in(0).as<T>();
      T* y = ctx.out(0).mut<T>();
      ForEachWindow(window, [&](int64_t o, std::span<const WindowTap> taps) {
        for (int64_t p = 0; p < planes; ++p)
          y[p * out + o] = Store<T>(Norm(attrs.p, [&](const auto& add) {
            for (const WindowTap& t : taps) add(Load(x, p * in + t.input));
          }));
      });
      return {};
    });
  }
};

enum class GlobalPool { kAverage, kMax, kLp };

struct GlobalLpAttrs {
  int64_t p = 2;
  template <class V>
  void Visit(V& v) {
    v("p", p);
  }
};

template <GlobalPool kPool>
struct GlobalPoolOp {
  using Attrs = std::conditional_t<kPool == GlobalPool::kLp, GlobalLpAttrs, NoAttrs>;

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    if constexpr (kPool == GlobalPool::kLp) TRY(CheckNorm(attrs.p));
    const Type& x = ctx.input(0);
    if (!x.ranked) {
      ctx.Set(0, Type::Unranked(x.dtype));
      return {};
    }
    TRY(CheckRank(x.dims));
    Dims y(x.dims.size(), 1);
    y[0] = x.dims[0];
    y[1] = x.dims[1];
    ctx.Set(0, Type::Of(x.dtype, y));
    return {};
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    (void)attrs;
    const Dims& xd = ctx.in(0).dims;
    TRY(CheckRank(xd));
    const int64_t planes = xd[0] * xd[1], in = CountOf(Spatial(xd));
    return VisitNumber(ctx.in(0).dtype, "global pooling", [&]<class T>(TypeTag<T>) -> Status {
      T* y = ctx.out(0).mut<T>();
      for (int64_t p = 0; p < planes; ++p) {
        const T* x = ctx.in(0).as<T>() + p * in;
        if constexpr (kPool == GlobalPool::kMax) {
          T best = MaxPoolOp::Lowest<T>();
          for (int64_t i = 0; i < in; ++i)
            if (MaxPoolOp::Greater(x[i], best)) best = x[i];
          y[p] = best;
        } else if constexpr (kPool == GlobalPool::kAverage) {
          double sum = 0;
          for (int64_t i = 0; i < in; ++i) sum += Load(x, i);
          if constexpr (!kIsFloat<T>) sum = in == 0 ? 0 : sum;
          y[p] = Store<T>(kIsFloat<T> || in > 0 ? sum / double(in) : 0);
        } else {
          y[p] = Store<T>(Norm(attrs.p, [&](const auto& add) {
            for (int64_t i = 0; i < in; ++i) add(Load(x, i));
          }));
        }
      }
      return {};
    });
  }
};

template <GlobalPool kPool>
struct FastGlobalPoolOp : GlobalPoolOp<kPool> {
  static Result<KernelPtr> Lower(const NoAttrs&, LowerContext& ctx) {
    return LowerGlobalPool(kPool == GlobalPool::kMax ? Pool::kMax : Pool::kAverage, ctx);
  }
  static LayoutPlan Layouts(const NoAttrs&, const LayoutQuery& query) {
    return GlobalPoolLayouts(query);
  }
};

struct MaxUnpoolOp {
  using Attrs = WindowAttrs;

  // The extents the indices count in: those MaxPool's input had if nothing was cut off.
  static Result<Dims> Inferred(const Attrs& attrs, const Dims& x) {
    TRY(CheckRank(x));
    if (attrs.kernel_shape.empty()) return Fail(Code::kInvalidArgument, "kernel_shape is missing");
    const Window window = TRY(ResolveTransposedWindow(attrs, {}, {}, Spatial(x), {}));
    Dims y{x[0], x[1]};
    for (const WindowAxis& a : window) y.push_back(a.in);
    return y;
  }

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    const Type& x = ctx.input(0);
    const DType dtype = x.dtype, indices = ctx.input(1).dtype;
    if (indices != DType::kI64 && indices != DType::kUndefined)
      return Fail(Code::kInvalidArgument, "the indices are {}, not i64", DTypeName(indices));
    if (ctx.has(2)) {
      if (const auto given = ctx.ints(2);
          given && std::ranges::any_of(*given, [](int64_t d) { return d < 0; }))
        return Fail(Code::kInvalidArgument, "output_shape [{}] has a negative extent",
                    fmt::join(*given, ","));
      const auto shape = ctx.shape_value(2);
      if (!shape) {
        ctx.Set(0, x.ranked ? Type::Of(dtype, Dims(x.dims.size(), kUnknownDim))
                            : Type::Unranked(dtype));
        return {};
      }
      if (x.ranked) {
        const Dims inferred = TRY(Inferred(attrs, x.dims));
        bool fits = shape->size() == x.dims.size();
        for (size_t i = 0; fits && i < shape->size(); ++i)
          fits = !IsKnown((*shape)[i]) || !IsKnown(inferred[i]) || (*shape)[i] >= inferred[i];
        if (!fits)
          return Fail(Code::kInvalidArgument, "output_shape {} does not hold the unpooled {}",
                      ToString(*shape), ToString(inferred));
      }
      ctx.Set(0, Type::Of(dtype, *shape));
      return {};
    }
    if (!x.ranked) {
      ctx.Set(0, Type::Unranked(dtype));
      return {};
    }
    ctx.Set(0, Type::Of(dtype, TRY(Inferred(attrs, x.dims))));
    return {};
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    const Dims inferred = TRY(Inferred(attrs, ctx.in(0).dims));
    TensorView& y = ctx.out(0);
    if (!(ctx.in(1).dims == ctx.in(0).dims))
      return Fail(Code::kInvalidArgument, "the indices have the extents {}, the input {}",
                  ToString(ctx.in(1).dims), ToString(ctx.in(0).dims));
    const int64_t limit = CountOf(inferred);
    return VisitNumber(y.dtype, "MaxUnpool", [&]<class T>(TypeTag<T>) -> Status {
      std::fill_n(y.mut<T>(), y.count(), T());
      for (int64_t i = 0; i < ctx.in(0).count(); ++i) {
        int64_t index = ctx.in(1).as<int64_t>()[i];
        if (index < 0 || index >= limit)
          return Fail(Code::kInvalidArgument, "index {} is outside the {} unpooled elements", index,
                      limit);
        // The same place in the wider output.
        int64_t at = 0, stride = 1;
        for (size_t d = inferred.size(); d-- > 0;) {
          at += index % inferred[d] * stride;
          index /= inferred[d];
          stride *= y.dims[d];
        }
        y.mut<T>()[at] = ctx.in(0).as<T>()[i];
      }
      return {};
    });
  }
};

std::span<const OpDef> PoolOps() {
  static const OpDef ops[] = {
      Declare<MaxPoolOp>("MaxPool", {.max_outputs = 2}),
      Declare<AveragePoolOp>("AveragePool", {}),
      Declare<LpPoolOp>("LpPool", {}),
      Declare<FastGlobalPoolOp<GlobalPool::kAverage>>("GlobalAveragePool", {}),
      Declare<FastGlobalPoolOp<GlobalPool::kMax>>("GlobalMaxPool", {}),
      Declare<GlobalPoolOp<GlobalPool::kLp>>("GlobalLpPool", {}),
      Declare<MaxUnpoolOp>("MaxUnpool", {.min_inputs = 2, .max_inputs = 3}),
      MaxRoiPoolOp(),
  };
  return ops;
}

}  // namespace dunlin
