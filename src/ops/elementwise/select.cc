// Where and Clip: a choice between values per element.
#include "kernels/elementwise.h"
#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/lower.h"

namespace dunlin {
namespace {

struct Where {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(CheckType<Booleans>(ctx.dtype(0), "Where (condition)"));
    const DType t = TRY(CommonDType(ctx, "Where", 1, 3));
    return InferBroadcast(ctx, "Where", t, 0, 3);
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    return RunReference<3>(ctx, TRY(Loop(ctx.out(0).dtype)));
  }

  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) {
    const DType dtype = ctx.input(1).dtype;
    if (DTypeBits(dtype) != 32)
      return MakeBroadcastKernel<3>("where.plain", ctx, kCheapGrain, TRY(Loop(dtype)));
    // The loop moves bits, whatever they mean.
    return MakeBroadcastKernel<3>(
        "where.simd", ctx, kCheapGrain,
        BlockFn<3>([](const Operands<3>& in, void* out, const Block<3>& b) {
          SelectF32({static_cast<const bool*>(in[0]) + b.offset[0], b.row[0], b.col[0]},
                    {static_cast<const float*>(in[1]) + b.offset[1], b.row[1], b.col[1]},
                    {static_cast<const float*>(in[2]) + b.offset[2], b.row[2], b.col[2]},
                    static_cast<float*>(out) + b.out, b.rows, b.cols);
        }));
  }

  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) {
    return ElementwiseLayouts(query);
  }

 private:
  static Result<BlockFn<3>> Loop(DType dtype) {
    return LoopFor<3, AnyType>(dtype, "Where", []<class T>(TypeTag<T>) -> BlockFn<3> {
      return [](const Operands<3>& in, void* out, const Block<3>& at) {
        const auto [sc, sa, sb] = at.col;
        for (int64_t r = 0; r < at.rows; ++r) {
          const bool* c = static_cast<const bool*>(in[0]) + at.offset[0] + r * at.row[0];
          const T* a = static_cast<const T*>(in[1]) + at.offset[1] + r * at.row[1];
          const T* b = static_cast<const T*>(in[2]) + at.offset[2] + r * at.row[2];
          T* y = static_cast<T*>(out) + at.out + r * at.cols;
          for (int64_t i = 0; i < at.cols; ++i) y[i] = c[i * sc] ? a[i * sa] : b[i * sb];
        }
      };
    });
  }
};

// min(max(x, low), high): where low > high the result is high; NaN stays.
struct Clip {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    const DType t = TRY(CommonDType(ctx, "Clip", 0, ctx.input_count()));
    TRY(CheckType<Numbers>(t, "Clip"));
    for (int i = 1; i < ctx.input_count(); ++i)
      if (ctx.has(i) && ctx.input(i).ranked && ElementCount(ctx.input(i).dims).value_or(1) != 1)
        return Fail(Code::kInvalidArgument, "Clip: {} is not a scalar but has extents {}",
                    i == 1 ? "min" : "max", ToString(ctx.input(i).dims));
    ctx.Set(0, ctx.input(0));
    return {};
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    return VisitTypes<Numbers>(x.dtype, "Clip", [&]<class T>(TypeTag<T>) -> Status {
      Limit(ctx, x.as<T>(), ctx.out(0).mut<T>(), x.count());
      return {};
    });
  }

  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) {
    const DType dtype = ctx.input(0).dtype;
    if (dtype == DType::kF32) return std::make_unique<FastClip>(CountOf(ctx.input(0).dims));
    return LowerFor<Numbers>(dtype, "Clip", [&]<class T>(TypeTag<T>) -> Result<KernelPtr> {
      return std::make_unique<PlainClip<T>>();
    });
  }

  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) {
    return ElementwiseLayouts(query);
  }

 private:
  // The bound of input i, read at run time since it need not be constant.
  template <class T>
  static ComputeOf<T> Bound(const RunContext& ctx, int i, ComputeOf<T> otherwise) {
    return ctx.has(i) ? Widen(*ctx.in(i).as<T>()) : otherwise;
  }

  template <class T>
  static void Limit(const RunContext& ctx, const T* x, T* y, int64_t n) {
    using C = ComputeOf<T>;
    using Limits = std::numeric_limits<C>;
    const C low = Bound<T>(ctx, 1, Limits::has_infinity ? -Limits::infinity() : Limits::lowest());
    const C high = Bound<T>(ctx, 2, Limits::has_infinity ? Limits::infinity() : Limits::max());
    for (int64_t i = 0; i < n; ++i) {
      C v = Widen(x[i]);
      if (v < low) v = low;
      if (v > high) v = high;
      y[i] = Narrow<T>(v);
    }
  }

  class FastClip final : public Kernel {
   public:
    explicit FastClip(int64_t count) : count_(count) {}
    std::string_view name() const override { return "clip.simd"; }
    Status Run(RunContext& ctx) const override {
      const UnaryParams p = {UnaryOp::kClip, float(Bound<float>(ctx, 1, -HUGE_VALF)),
                             float(Bound<float>(ctx, 2, HUGE_VALF))};
      const auto* x = static_cast<const float*>(ctx.in(0).data);
      auto* y = static_cast<float*>(ctx.out(0).data);
      if (count_ <= kCheapGrain)
        MapF32(p, x, y, count_);
      else
        ctx.ParallelFor(count_, kCheapGrain,
                        [&](int64_t b, int64_t e) { MapF32(p, x + b, y + b, e - b); });
      return {};
    }

   private:
    int64_t count_;
  };

  template <class T>
  class PlainClip final : public Kernel {
   public:
    std::string_view name() const override { return "clip.plain"; }
    Status Run(RunContext& ctx) const override {
      Limit(ctx, ctx.in(0).as<T>(), ctx.out(0).mut<T>(), ctx.in(0).count());
      return {};
    }
  };
};

}  // namespace

std::vector<OpDef> SelectOps() {
  return {Declare<Where>("Where", {.min_inputs = 3, .max_inputs = 3, .in_place = -2}),
          Declare<Clip>("Clip", {.min_inputs = 1, .max_inputs = 3, .in_place = 0})};
}

}  // namespace dunlin
