// Sums and products of codes.
#include "kernels/codes.h"
#include "ops/elementwise/broadcast.h"
#include "ops/elementwise/lower.h"
#include "ops/quant/qlinear.h"

namespace dunlin {
namespace {

// Codes of up to 16 bits.
struct ShortCodes {
  template <class T>
  static constexpr bool kHas = Integers::kHas<T> && sizeof(T) <= 2;
};

// Ratios to the result's scale, one multiply-add after the other, rounded to f32 after each.
template <class T>
struct Sum {
  CodeSum p;
  Sum(const Linear& a, const Linear& b, const Linear& y)
      : p{a.scale / y.scale, b.scale / y.scale, 0} {
    p.fixed = float(y.zero) - float(double(p.a_ratio) * a.zero + double(p.b_ratio * float(b.zero)));
  }
  T operator()(T a, T b) const {
    // A product of a code and an f32 is exact in f64, as it is inside a fused multiply-add.
    const float t = float(double(b) * double(p.b_ratio) + double(p.fixed));
    return CodeOf<T>(float(double(a) * double(p.a_ratio) + double(t)), 0);
  }
  void Rows(StridedCodes<T> a, StridedCodes<T> b, T* y, int64_t rows, int64_t cols) const {
    AddCodes(p, a, b, y, rows, cols);
  }
};
// Of 16 bits.
template <class T>
struct WideSum {
  Linear a_, b_, y_;
  WideSum(const Linear& a, const Linear& b, const Linear& y) : a_(a), b_(b), y_(y) {}
  T operator()(T a, T b) const {
    const float sum =
        a_.scale * float(int32_t(a) - a_.zero) + b_.scale * float(int32_t(b) - b_.zero);
    const float lowest = float(std::numeric_limits<T>::lowest() - y_.zero),
                highest = float(std::numeric_limits<T>::max() - y_.zero);
    return CodeOf<T>(std::min(std::max(sum / y_.scale, lowest), highest) + float(y_.zero), 0);
  }
};
template <class T>
struct Product {
  CodeProductOf p;
  Product(const Linear& a, const Linear& b, const Linear& y)
      : p{a.zero, b.zero, a.scale * b.scale / y.scale, float(y.zero)} {}
  T operator()(T a, T b) const {
    const int64_t product = (int64_t(a) - p.a_zero) * (int64_t(b) - p.b_zero);
    return CodeOf<T>(float(product) * p.ratio + p.fixed, 0);
  }
  void Rows(StridedCodes<T> a, StridedCodes<T> b, T* y, int64_t rows, int64_t cols) const {
    MulCodes(p, a, b, y, rows, cols);
  }
};

// The loop over blocks of inputs 0 and 3; `op` outlives it.
template <class T, class Op>
BlockFn<2> PlainLoop(const Op& op) {
  return [op = &op](const Operands<2>& in, void* out, const Block<2>& b) {
    const T *pa = static_cast<const T*>(in[0]) + b.offset[0],
            *pb = static_cast<const T*>(in[1]) + b.offset[1];
    T* y = static_cast<T*>(out) + b.out;
    for (int64_t r = 0; r < b.rows; ++r)
      for (int64_t c = 0; c < b.cols; ++c)
        *y++ = (*op)(pa[r * b.row[0] + c * b.col[0]], pb[r * b.row[1] + c * b.col[1]]);
  };
}
template <class T, class Op>
BlockFn<2> FastLoop(const Op& op) {
  if constexpr (sizeof(T) > 1)
    return PlainLoop<T>(op);
  else
    return [op = &op](const Operands<2>& in, void* out, const Block<2>& b) {
      op->Rows({static_cast<const T*>(in[0]) + b.offset[0], b.row[0], b.col[0]},
               {static_cast<const T*>(in[1]) + b.offset[1], b.row[1], b.col[1]},
               static_cast<T*>(out) + b.out, b.rows, b.cols);
    };
}

// Inputs a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point.
template <template <class> class Narrow8, template <class> class Wide16>
struct QLinearBinary {
  using Attrs = NoAttrs;
  static constexpr std::string_view kName = "a sum or product of codes";

  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(CheckType<ShortCodes>(ctx.dtype(0), kName));
    TRY(CheckLinear(kName, ctx, {1, 2, 4, 5, 6, 7}));
    const DType known = ctx.dtype(0) != DType::kUndefined ? ctx.dtype(0) : ctx.dtype(3);
    if (ctx.dtype(3) != DType::kUndefined && ctx.dtype(3) != known)
      return Fail(Code::kInvalidArgument, "{}: takes codes of one type, not {} and {}", kName,
                  DTypeName(known), DTypeName(ctx.dtype(3)));
    if (!ctx.input(0).ranked || !ctx.input(3).ranked) {
      ctx.Set(0, Type::Unranked(known));
      return {};
    }
    const auto y = Broadcast(ctx.input(0).dims, ctx.input(3).dims);
    if (!y)
      return Fail(Code::kInvalidArgument, "{}: {} and {} do not broadcast", kName,
                  ToString(ctx.input(0).dims), ToString(ctx.input(3).dims));
    ctx.Set(0, Type::Of(known, *y));
    return {};
  }

  // Calls run(TypeTag<T>, op) with the operation on codes of the type of input 0.
  template <class F>
  static Status WithOp(RunContext& ctx, const F& run) {
    const Linear a = TRY(ReadLinear(kName, ctx, 1, 2)), b = TRY(ReadLinear(kName, ctx, 4, 5)),
                 y = TRY(ReadLinear(kName, ctx, 6, 7));
    return VisitTypes<ShortCodes>(ctx.in(0).dtype, kName, [&]<class T>(TypeTag<T> tag) -> Status {
      if constexpr (sizeof(T) == 1)
        run(tag, Narrow8<T>(a, b, y));
      else
        run(tag, Wide16<T>(a, b, y));
      return {};
    });
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView &a = ctx.in(0), &b = ctx.in(3);
    if (a.dtype != b.dtype || Broadcast(a.dims, b.dims) != ctx.out(0).dims)
      return Fail(Code::kInvalidArgument, "{}: the operands do not go together", kName);
    return WithOp(ctx, [&]<class T>(TypeTag<T>, const auto& op) {
      const auto plan = PlanBroadcast<2>(ctx.out(0).dims, {a.dims, b.dims});
      RunSerial<2>(plan, PlainLoop<T>(op), {a.data, b.data}, ctx.out(0).data);
    });
  }

  class BinaryKernel final : public Kernel {
   public:
    explicit BinaryKernel(BroadcastPlan<2> plan) : plan_(std::move(plan)) {}
    std::string_view name() const override { return "codes.elementwise"; }
    Status Run(RunContext& ctx) const override {
      return WithOp(ctx, [&]<class T>(TypeTag<T>, const auto& op) {
        RunParallel<2>(ctx, plan_, kCheapGrain, FastLoop<T>(op), {ctx.in(0).data, ctx.in(3).data},
                       ctx.out(0).data);
      });
    }

   private:
    BroadcastPlan<2> plan_;
  };
  // The vectors' products of distances are exact for zero points that are codes themselves.
  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) {
    const DType t = ctx.input(0).dtype;
    if (ctx.input(3).dtype != t || !ZeroFits(ctx, 2, t) || !ZeroFits(ctx, 5, t) ||
        !ZeroFits(ctx, 7, t) ||
        Broadcast(ctx.input(0).dims, ctx.input(3).dims) != ctx.output(0).dims)
      return KernelPtr();
    auto plan = PlanLowered<2>(ctx, {0, 3});
    if (!plan) return KernelPtr();
    return KernelPtr(std::make_unique<BinaryKernel>(std::move(*plan)));
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return ElementwiseLayouts(q); }
};

using QLinearAdd = QLinearBinary<Sum, WideSum>;
using QLinearMul = QLinearBinary<Product, Product>;

}  // namespace

std::vector<OpDef> QLinearBinaryOps() {
  constexpr OpTraits traits = {
      .domain = "com.microsoft", .min_inputs = 7, .max_inputs = 8, .in_place = -2};
  return {Declare<QLinearAdd>("QLinearAdd", traits), Declare<QLinearMul>("QLinearMul", traits)};
}

}  // namespace dunlin
