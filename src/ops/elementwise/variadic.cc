// Max, Min, Sum and Mean of any number of inputs, with broadcasting.
#include "ops/elementwise/binary.h"
#include "ops/elementwise/elementwise.h"

namespace dunlin {
namespace {

// NaN wins, as in numpy.
struct MaxFn {
  static constexpr std::string_view kName = "Max";
  static constexpr BinaryOp kFast = BinaryOp::kMax;
  using Types = Numbers;
  template <class C>
  static C Combine(C a, C b) {
    return a > b || a != a ? a : b;
  }
  template <class C>
  static C Finish(C a, int) {
    return a;
  }
};
struct MinFn {
  static constexpr std::string_view kName = "Min";
  static constexpr BinaryOp kFast = BinaryOp::kMin;
  using Types = Numbers;
  template <class C>
  static C Combine(C a, C b) {
    return a < b || a != a ? a : b;
  }
  template <class C>
  static C Finish(C a, int) {
    return a;
  }
};
struct SumFn {
  static constexpr std::string_view kName = "Sum";
  static constexpr BinaryOp kFast = BinaryOp::kAdd;
  using Types = Floats;
  template <class C>
  static C Combine(C a, C b) {
    return a + b;
  }
  template <class C>
  static C Finish(C a, int) {
    return a;
  }
};
struct MeanFn {
  static constexpr std::string_view kName = "Mean";
  using Types = Floats;
  template <class C>
  static C Combine(C a, C b) {
    return a + b;
  }
  template <class C>
  static C Finish(C a, int n) {
    return a / n;
  }
};

template <class F>
struct Variadic {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    const DType t = TRY(CommonDType(ctx, F::kName, 0, ctx.input_count()));
    TRY(CheckType<typename F::Types>(t, F::kName));
    return InferBroadcast(ctx, F::kName, t, 0, ctx.input_count());
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    TensorView& y = ctx.out(0);
    const int n = ctx.input_count();
    // One element at a time over all inputs, so that the output may lie over any of them.
    std::vector<Dims> strides;
    for (int k = 0; k < n; ++k) {
      const Dims& d = ctx.in(k).dims;
      Dims s(y.dims.size(), 0);
      int64_t dense = 1;
      for (size_t i = d.size(); i-- > 0; dense *= d[i])
        s[i + y.dims.size() - d.size()] = d[i] == 1 ? 0 : dense;
      strides.push_back(std::move(s));
    }
    return VisitTypes<typename F::Types>(y.dtype, F::kName, [&]<class T>(TypeTag<T>) -> Status {
      using C = ComputeOf<T>;
      std::vector<int64_t> offset(size_t(n), 0);
      Dims index(y.dims.size(), 0);
      T* out = y.mut<T>();
      const int64_t count = y.count();
      for (int64_t i = 0; i < count; ++i) {
        C acc = Widen(ctx.in(0).as<T>()[offset[0]]);
        for (int k = 1; k < n; ++k)
          acc = F::Combine(acc, C(Widen(ctx.in(k).as<T>()[offset[size_t(k)]])));
        out[i] = Narrow<T>(C(F::Finish(acc, n)));
        for (size_t d = index.size(); d-- > 0;) {
          for (int k = 0; k < n; ++k) offset[size_t(k)] += strides[size_t(k)][d];
          if (++index[d] < y.dims[d]) break;
          for (int k = 0; k < n; ++k) offset[size_t(k)] -= strides[size_t(k)][d] * y.dims[d];
          index[d] = 0;
        }
      }
      return {};
    });
  }
};

template <class F>
struct Two {
  template <class C>
  C operator()(C a, C b) const {
    return F::Combine(a, b);
  }
};

// The two-operand forms are binary operators.
template <class F>
struct FastVariadic : Variadic<F> {
  using typename Variadic<F>::Attrs;
  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) {
    if (ctx.input_count() != 2) return nullptr;
    if (ctx.input(0).dtype == DType::kF32) return LowerCombine(ctx, F::kFast);
    return MakeBroadcastKernel<2>(
        "binary.plain", ctx, kCostlyGrain,
        TRY(LoopFor<2, typename F::Types>(ctx.input(0).dtype, F::kName, [&]<class T>(TypeTag<T>) {
          return CombineLoop<Two<F>, T, T>({});
        })));
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) {
    return query.inputs.size() == 2 ? ElementwiseLayouts(query) : RowMajorLayouts(query);
  }
};

template <class T>
OpDef Row(std::string_view name) {
  return Declare<T>(name, {.min_inputs = 1, .max_inputs = -1, .in_place = -2});
}

}  // namespace

std::vector<OpDef> VariadicOps() {
  return {Row<FastVariadic<MaxFn>>("Max"), Row<FastVariadic<MinFn>>("Min"),
          Row<FastVariadic<SumFn>>("Sum"), Row<Variadic<MeanFn>>("Mean")};
}

}  // namespace dunlin
