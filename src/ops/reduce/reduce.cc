// ReduceSum, ReduceMean, ReduceMax … : one result per kept position.
#include "ops/reduce/reduce.h"

#include "kernels/reduce.h"
#include "ops/elementwise/lower.h"
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

// The same at lowering; nullopt when the axes are not constant.
Result<std::optional<std::vector<bool>>> MaskOf(const ReduceAttrs& a, std::string_view name,
                                                const LowerContext& ctx) {
  std::vector<int64_t> axes;
  if (ctx.has(1)) {
    if (ctx.value(1) == nullptr) return std::nullopt;
    axes = TRY(ToInts(*ctx.value(1)));
  }
  const int rank = ctx.input(0).dims.rank();
  if (axes.empty() && !a.noop_with_empty_axes) return std::vector<bool>(size_t(rank), true);
  return TRY(AxisMask(name, axes, rank));
}

// Channels-last is taken where the reduction then walks memory in order: over all spatial
// dimensions (the "squeeze" of squeeze-and-excite), or over the channels. The result is small or
// has one channel: row-major.
LayoutPlan ReduceLayouts(const LayoutQuery& q) {
  LayoutPlan plan = RowMajorLayouts(q);
  const Type &x = q.inputs[0], &y = q.outputs[0];
  if (q.current[0] != Layout::kChannelsLast || !x.ranked || !y.ranked || x.dims.rank() < 3)
    return plan;
  if (q.inputs.size() > 1 && q.inputs[1].dtype != DType::kUndefined && !q.constant[1]) return plan;
  bool fits = y.dims.rank() == 2;  // without keepdims: [N, C]
  if (y.dims.size() == x.dims.size()) {
    bool spatial = true, channels_only = x.dims[1] != y.dims[1];
    for (size_t i = 2; i < x.dims.size(); ++i) {
      spatial &= y.dims[i] == 1;
      channels_only &= x.dims[i] == y.dims[i];
    }
    fits = spatial || channels_only;
  }
  if (fits) plan.inputs[0] = Layout::kChannelsLast;
  return plan;
}

// Rows whose elements are neighbours in memory, or columns that are.
class FastReduce final : public Kernel {
 public:
  // nullptr when the plan is neither.
  static KernelPtr Make(ReduceOp op, const ReducePlan& plan) {
    FastReduce k;
    k.op_ = op;
    const auto &kept = plan.kept, &reduced = plan.reduced;
    if (reduced.dims.size() != 1 || kept.count() == 0 || reduced.dims[0] == 0 ||
        kept.dims.size() > 2)
      return nullptr;
    k.n_ = reduced.dims[0];
    if (reduced.strides[0] == 1 && kept.dims.size() <= 1) {
      k.outer_ = kept.count();
      k.outer_stride_ = kept.dims.empty() ? 0 : kept.strides[0];
      return std::make_unique<FastReduce>(k);
    }
    if (kept.dims.empty() || kept.strides.back() != 1) return nullptr;
    k.stride_ = reduced.strides[0];
    k.cols_ = kept.dims.back();
    if (kept.dims.size() == 2) {
      k.outer_ = kept.dims[0];
      k.outer_stride_ = kept.strides[0];
    }
    return std::make_unique<FastReduce>(k);
  }

  std::string_view name() const override { return cols_ ? "reduce.columns" : "reduce.rows"; }
  Status Run(RunContext& ctx) const override {
    const auto* x = static_cast<const float*>(ctx.in(0).data);
    auto* y = static_cast<float*>(ctx.out(0).data);
    if (cols_ == 0) {
      const auto rows = [&](int64_t b, int64_t e) {
        ReduceRowsF32(op_, x + b * outer_stride_, outer_stride_, e - b, n_, y + b);
      };
      const int64_t grain = std::max<int64_t>(1, kCheapGrain / n_);
      if (outer_ <= grain)
        rows(0, outer_);
      else
        ctx.ParallelFor(outer_, grain, rows);
      return {};
    }
    // Pieces of whole cache lines of columns.
    const int64_t width = std::max<int64_t>(64, (kCheapGrain / n_ + 63) / 64 * 64);
    const int64_t pieces = (cols_ + width - 1) / width;
    const auto columns = [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        const int64_t o = i / pieces, c = i % pieces * width;
        ReduceColumnsF32(op_, x + o * outer_stride_ + c, stride_, n_, std::min(width, cols_ - c),
                         y + o * cols_ + c);
      }
    };
    const int64_t grain = std::max<int64_t>(1, kCheapGrain / (std::min(width, cols_) * n_));
    if (outer_ * pieces <= grain)
      columns(0, outer_ * pieces);
    else
      ctx.ParallelFor(outer_ * pieces, grain, columns);
    return {};
  }

 private:
  ReduceOp op_ = ReduceOp::kSum;
  int64_t outer_ = 1, outer_stride_ = 0;  // rows, or groups of columns
  int64_t n_ = 1, stride_ = 1;            // what is reduced
  int64_t cols_ = 0;                      // 0: rows
};

// y[i] = the reduction of x over a loop nest at `base`, for one operator and element type.
using ReduceFn = void (*)(const void* x, const ReducePlan::Loop& reduced, int64_t base, void* y,
                          int64_t i);

template <class Types, class F>
Result<ReduceFn> ReduceFnFor(DType t) {
  ReduceFn fn = nullptr;
  TRY(VisitTypes<Types>(t, F::kName, [&]<class T>(TypeTag<T>) -> Status {
    fn = [](const void* x, const ReducePlan::Loop& reduced, int64_t base, void* y, int64_t i) {
      static_cast<T*>(y)[i] = F::Of(static_cast<const T*>(x), reduced, base);
    };
    return {};
  }));
  return fn;
}

// Any loops, element by element.
class PlannedReduce final : public Kernel {
 public:
  PlannedReduce(ReducePlan plan, ReduceFn fn) : plan_(std::move(plan)), fn_(fn) {}
  std::string_view name() const override { return "reduce.plain"; }
  Status Run(RunContext& ctx) const override {
    const void* x = ctx.in(0).data;
    void* y = ctx.out(0).data;
    const int64_t grain =
        std::max<int64_t>(1, kCostlyGrain / std::max<int64_t>(1, plan_.reduced.count()));
    const auto work = [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) fn_(x, plan_.reduced, plan_.kept.OffsetOf(i), y, i);
    };
    const int64_t count = plan_.kept.count();
    if (count <= grain)
      work(0, count);
    else
      ctx.ParallelFor(count, grain, work);
    return {};
  }

 private:
  ReducePlan plan_;
  ReduceFn fn_;
};

// Everything but the arithmetic: F has kName, Types, Of<T>(x, loop, base) and maybe kFast.
template <class F, class TypeSet>
struct ReduceOperator {
  using Attrs = ReduceAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckType<TypeSet>(ctx.dtype(0), F::kName));
    return InferReduce(a, F::kName, ctx);
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const ReducePlan plan = PlanReduce(x.dims, TRY(MaskOf(a, F::kName, ctx)));
    const ReduceFn fn = TRY((ReduceFnFor<TypeSet, F>(x.dtype)));
    int64_t i = 0;
    ForEachOffset(plan.kept, 0,
                  [&](int64_t base) { fn(x.data, plan.reduced, base, ctx.out(0).data, i++); });
    return {};
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    const auto mask = TRY(MaskOf(a, F::kName, ctx));
    if (!mask) return nullptr;
    ReducePlan plan = PlanReduce(ctx.input(0).dims, *mask, ctx.input_layout(0));
    if constexpr (requires { F::kFast; })
      if (ctx.input(0).dtype == DType::kF32)
        if (KernelPtr fast = FastReduce::Make(F::kFast, plan)) return fast;
    return std::make_unique<PlannedReduce>(std::move(plan),
                                           TRY((ReduceFnFor<TypeSet, F>(ctx.input(0).dtype))));
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) { return ReduceLayouts(query); }
};

// `Accumulate` is the accumulator; `in_double`: integers are accumulated as doubles.
template <class F, template <class> class Accumulate, bool in_double>
struct ReduceBy : ReduceOperator<F, Numbers> {
  template <class T>
  static T Of(const T* x, const ReducePlan::Loop& reduced, int64_t base) {
    using A = Accumulator<T, in_double>;
    Accumulate<A> acc;
    ForEachOffset(reduced, base, [&](int64_t i) { acc.Add(A(Widen(x[i]))); });
    const int64_t n = reduced.count();
    return n == 0 && std::is_integral_v<T> && in_double ? T(0) : Narrow<T>(acc.Get(n));
  }
};

// Max and Min also take booleans, and let NaN win.
template <class F, bool max>
struct ReduceExtreme : ReduceOperator<F, NumbersAndBooleans> {
  template <class T>
  static T Of(const T* x, const ReducePlan::Loop& reduced, int64_t base) {
    auto best = Widen(max ? LowestOf<T>() : HighestOf<T>());
    ForEachOffset(reduced, base, [&](int64_t i) {
      const auto v = Widen(x[i]);
      if (max ? v > best : v < best) best = v;
      if (v != v) best = v;
    });
    return Narrow<T>(best);
  }
};

struct ReduceMax : ReduceExtreme<ReduceMax, true> {
  static constexpr std::string_view kName = "ReduceMax";
  static constexpr ReduceOp kFast = ReduceOp::kMax;
};
struct ReduceMin : ReduceExtreme<ReduceMin, false> {
  static constexpr std::string_view kName = "ReduceMin";
  static constexpr ReduceOp kFast = ReduceOp::kMin;
};
struct ReduceSum : ReduceBy<ReduceSum, SumOf, false> {
  static constexpr std::string_view kName = "ReduceSum";
  static constexpr ReduceOp kFast = ReduceOp::kSum;
};
struct ReduceMean : ReduceBy<ReduceMean, MeanOf, true> {
  static constexpr std::string_view kName = "ReduceMean";
  static constexpr ReduceOp kFast = ReduceOp::kMean;
};
struct ReduceProd : ReduceBy<ReduceProd, ProdOf, false> {
  static constexpr std::string_view kName = "ReduceProd";
  static constexpr ReduceOp kFast = ReduceOp::kProd;
};
struct ReduceL1 : ReduceBy<ReduceL1, L1Of, false> {
  static constexpr std::string_view kName = "ReduceL1";
  static constexpr ReduceOp kFast = ReduceOp::kL1;
};
struct ReduceL2 : ReduceBy<ReduceL2, L2Of, true> {
  static constexpr std::string_view kName = "ReduceL2";
  static constexpr ReduceOp kFast = ReduceOp::kL2;
};
struct ReduceSumSquare : ReduceBy<ReduceSumSquare, SumSquareOf, false> {
  static constexpr std::string_view kName = "ReduceSumSquare";
  static constexpr ReduceOp kFast = ReduceOp::kSumSquare;
};
struct ReduceLogSum : ReduceBy<ReduceLogSum, LogSumOf, true> {
  static constexpr std::string_view kName = "ReduceLogSum";
};
struct ReduceLogSumExp : ReduceBy<ReduceLogSumExp, LogSumExpOf, true> {
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
