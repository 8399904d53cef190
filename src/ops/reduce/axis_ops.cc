// ArgMax, ArgMin, CumSum and TopK: work along one axis that is more than a reduction to a number.
#include "kernels/reduce.h"
#include "ops/elementwise/lower.h"
#include "ops/reduce/axes.h"
#include "ops/reduce/reduce.h"

namespace dunlin {
namespace {

// The order of numbers in which NaN lies above everything.
template <class T>
bool Above(const T& a, const T& b) {
  const auto x = Widen(a), y = Widen(b);
  return x > y || (x != x && y == y);
}
template <class T>
bool Below(const T& a, const T& b) {
  return Above(b, a);
}

// Rows of f32 that lie together.
class FastArg final : public Kernel {
 public:
  FastArg(ReduceOp op, int64_t rows, int64_t n) : op_(op), rows_(rows), n_(n) {}
  std::string_view name() const override { return "arg.rows"; }
  Status Run(RunContext& ctx) const override {
    const auto* x = static_cast<const float*>(ctx.in(0).data);
    auto* y = static_cast<int64_t*>(ctx.out(0).data);
    ctx.ParallelFor(rows_, std::max<int64_t>(1, kCheapGrain / n_),
                    [&](int64_t b, int64_t e) { ArgRowsF32(op_, x + b * n_, e - b, n_, y + b); });
    return {};
  }

 private:
  ReduceOp op_;
  int64_t rows_, n_;
};

// As in numpy the first NaN wins, whether the largest or the smallest is asked for.
template <bool max>
struct ArgExtreme {
  static constexpr std::string_view kName = max ? "ArgMax" : "ArgMin";
  struct Attrs {
    int64_t axis = 0;
    bool keepdims = true, select_last_index = false;
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("keepdims", keepdims);
      v("select_last_index", select_last_index);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Numbers>(x.dtype, kName));
    if (!x.ranked) {
      ctx.Set(0, Type::Unranked(DType::kI64));
      return {};
    }
    const int rank = x.dims.rank(), axis = TRY(ResolveAxis(kName, a.axis, rank));
    std::vector<bool> mask(size_t(rank), false);
    if (axis < rank) mask[size_t(axis)] = true;
    ctx.Set(0, Type::Of(DType::kI64, ReducedDims(x.dims, mask, a.keepdims)));
    return {};
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    const Type& x = ctx.input(0);
    const AxisSplit s = SplitAt(x.dims, TRY(ResolveAxis(kName, a.axis, x.dims.rank())));
    if (x.dtype != DType::kF32 || s.inner != 1 || s.axis == 0 || a.select_last_index)
      return nullptr;
    return std::make_unique<FastArg>(max ? ReduceOp::kMax : ReduceOp::kMin, s.outer, s.axis);
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const AxisSplit s = SplitAt(x.dims, TRY(ResolveAxis(kName, a.axis, x.rank())));
    if (s.axis == 0 && s.outer * s.inner > 0)
      return Fail(Code::kInvalidArgument, "{}: axis {} of {} is empty", kName, a.axis,
                  ToString(x.dims));
    return VisitTypes<Numbers>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      const T* in = x.as<T>();
      int64_t* out = ctx.out(0).mut<int64_t>();
      const auto better = [](const T& p, const T& q) {
        const auto v = Widen(p), w = Widen(q);
        return (max ? v > w : v < w) || (v != v && w == w);
      };
      for (int64_t o = 0; o < s.outer; ++o)
        for (int64_t i = 0; i < s.inner; ++i) {
          const T* line = in + o * s.axis * s.inner + i;
          int64_t best = 0;
          for (int64_t k = 1; k < s.axis; ++k) {
            const T &v = line[k * s.inner], &b = line[best * s.inner];
            if (better(v, b) || (a.select_last_index && !better(b, v))) best = k;
          }
          *out++ = best;
        }
      return {};
    });
  }
};

// A scalar (or one-element) integer input.
Result<int64_t> OneInt(std::string_view name, const TensorView& t) {
  if (t.count() == 1 && t.dtype == DType::kI64) return *t.as<int64_t>();
  if (t.count() == 1 && t.dtype == DType::kI32) return int64_t{*t.as<int32_t>()};
  return Fail(Code::kInvalidArgument, "{}: needs one i64 or i32, got {} {}", name, t.count(),
              DTypeName(t.dtype));
}

struct CumSum {
  struct Attrs {
    bool exclusive = false, reverse = false;
    template <class V>
    void Visit(V& v) {
      v("exclusive", exclusive);
      v("reverse", reverse);
    }
  };
  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(CheckType<Numbers>(ctx.dtype(0), "CumSum"));
    if (const auto axis = ctx.ints(1); axis && axis->size() == 1 && ctx.input(0).ranked)
      TRY(ResolveAxis("CumSum", (*axis)[0], ctx.input(0).dims.rank()));
    ctx.Set(0, ctx.input(0));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const int64_t given = TRY(OneInt("CumSum (axis)", ctx.in(1)));
    const AxisSplit s = SplitAt(x.dims, TRY(ResolveAxis("CumSum", given, x.rank())));
    return VisitTypes<Numbers>(x.dtype, "CumSum", [&]<class T>(TypeTag<T>) -> Status {
      const T* in = x.as<T>();
      T* out = ctx.out(0).mut<T>();
      for (int64_t o = 0; o < s.outer; ++o)
        for (int64_t i = 0; i < s.inner; ++i) {
          const int64_t base = o * s.axis * s.inner + i;
          ComputeOf<T> sum = 0;
          for (int64_t k = 0; k < s.axis; ++k) {
            const int64_t at = base + (a.reverse ? s.axis - 1 - k : k) * s.inner;
            const auto next = WrapAdd(sum, Widen(in[at]));
            out[at] = Narrow<T>(a.exclusive ? sum : next);
            sum = next;
          }
        }
      return {};
    });
  }
};

// The K largest (or smallest) along an axis, best first; of equals the one with the lower index
// first.
struct TopK {
  struct Attrs {
    int64_t axis = -1;
    bool largest = true, sorted = true;  // sorted=0 allows any order: the sorted one is returned
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("largest", largest);
      v("sorted", sorted);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const Type& x = ctx.input(0);
    TRY(CheckType<Numbers>(x.dtype, "TopK"));
    if (!x.ranked) {
      ctx.Set(0, Type::Unranked(x.dtype));
      ctx.Set(1, Type::Unranked(DType::kI64));
      return {};
    }
    Dims dims = x.dims;
    const int axis = TRY(ResolveAxis("TopK", a.axis, dims.rank()));
    if (dims.empty())
      return Fail(Code::kInvalidArgument, "TopK: needs at least one dimension, not a scalar");
    int64_t& extent = dims[size_t(axis)];
    if (const auto k = ctx.ints(1); k && k->size() == 1) {
      if ((*k)[0] < 0 || (IsKnown(extent) && (*k)[0] > extent))
        return Fail(Code::kInvalidArgument, "TopK: K = {} of {} elements along axis {}", (*k)[0],
                    extent, axis);
      extent = (*k)[0];
    } else {
      const auto s = ctx.shape_value(1);
      extent = s && s->size() == 1 && IsSymbol((*s)[0]) ? (*s)[0] : kUnknownDim;
    }
    ctx.Set(0, Type::Of(x.dtype, dims));
    ctx.Set(1, Type::Of(DType::kI64, dims));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const int axis = TRY(ResolveAxis("TopK", a.axis, x.rank()));
    const AxisSplit s = SplitAt(x.dims, axis);
    const int64_t k = TRY(OneInt("TopK (K)", ctx.in(1)));
    if (k < 0 || k > s.axis)
      return Fail(Code::kInvalidArgument, "TopK: K = {} of {} elements along axis {}", k, s.axis,
                  axis);
    return VisitTypes<Numbers>(x.dtype, "TopK", [&]<class T>(TypeTag<T>) -> Status {
      const T* in = x.as<T>();
      T* values = ctx.wants(0) ? ctx.out(0).mut<T>() : nullptr;
      int64_t* indices = ctx.wants(1) ? ctx.out(1).mut<int64_t>() : nullptr;
      std::vector<int64_t> order(static_cast<size_t>(s.axis));
      for (int64_t o = 0; o < s.outer; ++o)
        for (int64_t i = 0; i < s.inner; ++i) {
          const T* line = in + o * s.axis * s.inner + i;
          for (int64_t j = 0; j < s.axis; ++j) order[size_t(j)] = j;
          std::partial_sort(order.begin(), order.begin() + k, order.end(),
                            [&](int64_t p, int64_t q) {
                              const T &v = line[p * s.inner], &w = line[q * s.inner];
                              const bool better = a.largest ? Above(v, w) : Below(v, w);
                              const bool worse = a.largest ? Above(w, v) : Below(w, v);
                              return better || (!worse && p < q);
                            });
          for (int64_t j = 0; j < k; ++j) {
            const int64_t at = (o * k + j) * s.inner + i;
            if (values) values[at] = line[order[size_t(j)] * s.inner];
            if (indices) indices[at] = order[size_t(j)];
          }
        }
      return {};
    });
  }
};

}  // namespace

std::vector<OpDef> AxisOps() {
  return {Declare<ArgExtreme<true>>("ArgMax", {}), Declare<ArgExtreme<false>>("ArgMin", {}),
          Declare<CumSum>("CumSum", {.min_inputs = 2, .max_inputs = 2}),
          Declare<TopK>("TopK",
                        {.min_inputs = 2, .max_inputs = 2, .min_outputs = 2, .max_outputs = 2})};
}

}  // namespace dunlin
