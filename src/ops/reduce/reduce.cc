// ReduceSum, ReduceMean, ReduceMax … : one result per kept position.
#include "ops/reduce/reduce.h"

#include "ops/elementwise/numeric.h"
#include "ops/reduce/axes.h"

namespace dunlin {

std::span<const OpDef> ReduceOps() {
  static const std::vector<OpDef> all = [] {
    std::vector<OpDef> v;
    for (const auto& part : {ReduceNumberOps(), SoftmaxOps(), AxisOps()})
      v.insert(v.end(), part.begin(), part.end());
    return v;
  }();
  return all;
}

namespace {

// Each reduction is an accumulator over A: double for floats, int64_t (wrapping) for integers;
// `kInDouble` makes integers use double as well. An accumulator that saw nothing returns ONNX's
// value of the empty set.

template <class A>
struct SumOf {
  A acc = 0;
  void Add(A x) { acc = WrapAdd(acc, x); }
  A Get(int64_t) const { return acc; }
};
template <class A>
struct MeanOf : SumOf<A> {
  A Get(int64_t n) const { return this->acc / A(n); }
};
template <class A>
struct ProdOf {
  A acc = 1;
  void Add(A x) { acc = WrapMul(acc, x); }
  A Get(int64_t) const { return acc; }
};
template <class A>
struct L1Of : SumOf<A> {
  void Add(A x) { SumOf<A>::Add(x < A(0) ? WrapSub(A(0), x) : x); }
};
template <class A>
struct SumSquareOf : SumOf<A> {
  void Add(A x) { SumOf<A>::Add(WrapMul(x, x)); }
};
template <class A>
struct L2Of : SumSquareOf<A> {
  A Get(int64_t) const { return std::sqrt(this->acc); }
};
template <class A>
struct LogSumOf : SumOf<A> {
  A Get(int64_t) const { return std::log(this->acc); }
};
// log(sum(e^x)) relative to the largest x so far, so that nothing overflows.
template <class A>
struct LogSumExpOf {
  A largest = -std::numeric_limits<A>::infinity(), sum = 0;
  void Add(A x) {
    if (x > largest) {
      sum = (sum == 0 ? 0 : sum * std::exp(largest - x)) + 1;
      largest = x;
    } else if (!(std::isinf(x) && x < 0)) {
      sum += x == largest ? 1 : std::exp(x - largest);
    }
  }
  A Get(int64_t) const { return std::log(sum) + (sum == 0 ? 0 : largest); }
};

template <class T>
constexpr T LowestOf() {
  if constexpr (std::is_same_v<T, bool>)
    return false;
  else if constexpr (kIsHalf<T>)
    return T(-std::numeric_limits<float>::infinity());
  else if constexpr (std::is_floating_point_v<T>)
    return -std::numeric_limits<T>::infinity();
  else
    return std::numeric_limits<T>::lowest();
}
template <class T>
constexpr T HighestOf() {
  if constexpr (std::is_same_v<T, bool>)
    return true;
  else if constexpr (kIsHalf<T>)
    return T(std::numeric_limits<float>::infinity());
  else if constexpr (std::is_floating_point_v<T>)
    return std::numeric_limits<T>::infinity();
  else
    return std::numeric_limits<T>::max();
}

// What numbers become, given the operator and the element type.
template <class T, bool in_double>
using Accumulator =
    std::conditional_t<kIsFloat<T> || in_double, double,
                       std::conditional_t<std::is_same_v<T, uint64_t>, uint64_t, int64_t>>;

struct ReduceAttrs {
  bool keepdims = true, noop_with_empty_axes = false;
  template <class V>
  void Visit(V& v) {
    v("keepdims", keepdims);
    v("noop_with_empty_axes", noop_with_empty_axes);
  }
};

Status InferReduce(const ReduceAttrs& a, std::string_view name, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (!x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const int rank = x.dims.rank();
  const auto axes = ctx.has(1) ? ctx.ints(1) : std::vector<int64_t>{};
  if (!axes) {  // not known yet: the rank may be
    if (ctx.value(1) != nullptr)
      return Fail(Code::kInvalidArgument, "{}: axes are not integers", name);
    const Type& t = ctx.input(1);
    const bool counted = t.ranked && t.dims.rank() == 1 && t.dims[0] > 0 && t.dims[0] <= rank;
    if (a.keepdims)
      ctx.Set(0, Type::Of(x.dtype, Dims(size_t(rank), kUnknownDim)));
    else if (counted)
      ctx.Set(0, Type::Of(x.dtype, Dims(size_t(rank - t.dims[0]), kUnknownDim)));
    else
      ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  std::vector<bool> mask = TRY(AxisMask(name, *axes, rank));
  if (axes->empty() && !a.noop_with_empty_axes) mask.assign(size_t(rank), true);
  ctx.Set(0, Type::Of(x.dtype, ReducedDims(x.dims, mask, a.keepdims)));
  return {};
}

// The reduced dimensions at run time; inference has checked the axes if it knew them.
Result<std::vector<bool>> MaskOf(const ReduceAttrs& a, std::string_view name, RunContext& ctx) {
  const int rank = ctx.in(0).rank();
  std::vector<int64_t> axes;
  if (ctx.has(1)) {
    const TensorView& t = ctx.in(1);
    if (t.dtype == DType::kI64)
      axes.assign(t.as<int64_t>(), t.as<int64_t>() + t.count());
    else if (t.dtype == DType::kI32)
      axes.assign(t.as<int32_t>(), t.as<int32_t>() + t.count());
    else
      return Fail(Code::kInvalidArgument, "{}: axes of element type {}", name, DTypeName(t.dtype));
  }
  if (axes.empty() && !a.noop_with_empty_axes) return std::vector<bool>(size_t(rank), true);
  return AxisMask(name, axes, rank);
}

// `Of` is the accumulator; `in_double`: integers are accumulated as doubles.
template <template <class> class Of, bool in_double>
struct Reduce {
  using Attrs = ReduceAttrs;
  template <class F>
  struct Named {
    using Attrs = ReduceAttrs;
    static Status Infer(const Attrs& a, InferContext& ctx) {
      TRY(CheckType<Numbers>(ctx.dtype(0), F::kName));
      return InferReduce(a, F::kName, ctx);
    }
    static Status Reference(const Attrs& a, RunContext& ctx) {
      const TensorView& x = ctx.in(0);
      const ReducePlan plan = PlanReduce(x.dims, TRY(MaskOf(a, F::kName, ctx)));
      return VisitTypes<Numbers>(x.dtype, F::kName, [&]<class T>(TypeTag<T>) -> Status {
        using A = Accumulator<T, in_double>;
        const T* in = x.as<T>();
        T* out = ctx.out(0).mut<T>();
        const int64_t n = plan.reduced.count();
        ForEachOffset(plan.kept, 0, [&](int64_t base) {
          Of<A> acc;
          ForEachOffset(plan.reduced, base, [&](int64_t i) { acc.Add(A(Widen(in[i]))); });
          *out++ = n == 0 && std::is_integral_v<T> && in_double ? T(0) : Narrow<T>(acc.Get(n));
        });
        return {};
      });
    }
  };
};

// Max and Min also take booleans, and let NaN win.
template <class F, bool max>
struct ReduceExtreme {
  using Attrs = ReduceAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckType<NumbersAndBooleans>(ctx.dtype(0), F::kName));
    return InferReduce(a, F::kName, ctx);
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const ReducePlan plan = PlanReduce(x.dims, TRY(MaskOf(a, F::kName, ctx)));
    return VisitTypes<NumbersAndBooleans>(x.dtype, F::kName, [&]<class T>(TypeTag<T>) -> Status {
      const T* in = x.as<T>();
      T* out = ctx.out(0).mut<T>();
      ForEachOffset(plan.kept, 0, [&](int64_t base) {
        auto best = Widen(max ? LowestOf<T>() : HighestOf<T>());
        ForEachOffset(plan.reduced, base, [&](int64_t i) {
          const auto v = Widen(in[i]);
          if (max ? v > best : v < best) best = v;
          if (v != v) best = v;
        });
        *out++ = Narrow<T>(best);
      });
      return {};
    });
  }
};

struct ReduceMax : ReduceExtreme<ReduceMax, true> {
  static constexpr std::string_view kName = "ReduceMax";
};
struct ReduceMin : ReduceExtreme<ReduceMin, false> {
  static constexpr std::string_view kName = "ReduceMin";
};
struct ReduceSum : Reduce<SumOf, false>::Named<ReduceSum> {
  static constexpr std::string_view kName = "ReduceSum";
};
struct ReduceMean : Reduce<MeanOf, true>::Named<ReduceMean> {
  static constexpr std::string_view kName = "ReduceMean";
};
struct ReduceProd : Reduce<ProdOf, false>::Named<ReduceProd> {
  static constexpr std::string_view kName = "ReduceProd";
};
struct ReduceL1 : Reduce<L1Of, false>::Named<ReduceL1> {
  static constexpr std::string_view kName = "ReduceL1";
};
struct ReduceL2 : Reduce<L2Of, true>::Named<ReduceL2> {
  static constexpr std::string_view kName = "ReduceL2";
};
struct ReduceSumSquare : Reduce<SumSquareOf, false>::Named<ReduceSumSquare> {
  static constexpr std::string_view kName = "ReduceSumSquare";
};
struct ReduceLogSum : Reduce<LogSumOf, true>::Named<ReduceLogSum> {
  static constexpr std::string_view kName = "ReduceLogSum";
};
struct ReduceLogSumExp : Reduce<LogSumExpOf, true>::Named<ReduceLogSumExp> {
  static constexpr std::string_view kName = "ReduceLogSumExp";
};

template <class T>
OpDef Row() {
  return Declare<T>(T::kName, {.min_inputs = 1, .max_inputs = 2});
}

}  // namespace

std::vector<OpDef> ReduceNumberOps() {
  return {Row<ReduceSum>(),    Row<ReduceMean>(),     Row<ReduceMax>(), Row<ReduceMin>(),
          Row<ReduceProd>(),   Row<ReduceL1>(),       Row<ReduceL2>(),  Row<ReduceSumSquare>(),
          Row<ReduceLogSum>(), Row<ReduceLogSumExp>()};
}

}  // namespace dunlin
