// Operators of com.microsoft on codes whose arithmetic is not that of dequantising, computing and
// quantising: halves fall elsewhere. What they give is what ONNX Runtime's kernels give on x86.
#include "ops/elementwise/broadcast.h"
#include "ops/elementwise/lower.h"
#include "ops/pool/pool.h"
#include "ops/quant/quant.h"
#include "ops/reduce/axes.h"

namespace dunlin {
namespace {

// Codes of up to 16 bits.
struct ShortCodes {
  template <class T>
  static constexpr bool kHas = Integers::kHas<T> && sizeof(T) <= 2;
};

// A scale and a zero point (optional: 0) for a whole tensor.
struct Linear {
  float scale = 1;
  int32_t zero = 0;
};
Result<Linear> ReadLinear(std::string_view name, const RunContext& ctx, int scale, int zero) {
  const auto scales = TRY(Scales(name, ctx.in(scale)));
  const auto zeros = TRY(ZeroPoints(name, ctx, zero));
  if (scales.size() != 1 || zeros.size() != 1)
    return Fail(Code::kInvalidArgument, "{}: takes one scale and one zero point a tensor, not {}",
                name, std::max(scales.size(), zeros.size()));
  return Linear{scales[0], zeros[0]};
}
// The same check of what is known ahead.
Status CheckLinear(std::string_view name, const InferContext& ctx,
                   std::initializer_list<int> inputs) {
  for (const int i : inputs)
    if (ctx.has(i) && ctx.input(i).ranked && ElementCount(ctx.input(i).dims).value_or(1) != 1)
      return Fail(Code::kInvalidArgument, "{}: takes one scale and one zero point a tensor, not {}",
                  name, ToString(ctx.input(i).dims));
  return {};
}

// ---- sums and products -------------------------------------------------------------------------

// Ratios to the result's scale, one multiply-add after the other, rounded to f32 after each.
template <class T>
struct AddCodes {
  AddCodes(const Linear& a, const Linear& b, const Linear& y)
      : a_(a.scale / y.scale),
        b_(b.scale / y.scale),
        fixed_(float(y.zero) - float(double(a_) * a.zero + double(b_ * float(b.zero)))) {}
  T operator()(T a, T b) const {
    // A product of a code and an f32 is exact in f64, as it is inside a fused multiply-add.
    const float t = float(double(b) * double(b_) + double(fixed_));
    return CodeOf<T>(float(double(a) * double(a_) + double(t)), 0);
  }

 private:
  float a_, b_, fixed_;
};
// Of 16 bits.
template <class T>
struct AddWideCodes {
  AddWideCodes(const Linear& a, const Linear& b, const Linear& y) : a_(a), b_(b), y_(y) {}
  T operator()(T a, T b) const {
    const float sum =
        a_.scale * float(int32_t(a) - a_.zero) + b_.scale * float(int32_t(b) - b_.zero);
    const float lowest = float(std::numeric_limits<T>::lowest() - y_.zero),
                highest = float(std::numeric_limits<T>::max() - y_.zero);
    return CodeOf<T>(std::min(std::max(sum / y_.scale, lowest), highest) + float(y_.zero), 0);
  }

 private:
  Linear a_, b_, y_;
};
template <class T>
struct MulCodes {
  MulCodes(const Linear& a, const Linear& b, const Linear& y)
      : a_(a.zero), b_(b.zero), ratio_(a.scale * b.scale / y.scale), zero_(float(y.zero)) {}
  T operator()(T a, T b) const {
    const int64_t product = (int64_t(a) - a_) * (int64_t(b) - b_);
    return CodeOf<T>(float(product) * ratio_ + zero_, 0);
  }

 private:
  int32_t a_, b_;
  float ratio_, zero_;
};

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

  // Where both operands are stored alike, in whatever order.
  static bool Flat(const Dims& a, const Dims& b) { return a == b; }

  template <class T, class Op>
  static Status Run(RunContext& ctx, const Op& op) {
    const TensorView &a = ctx.in(0), &b = ctx.in(3);
    const T *pa = a.as<T>(), *pb = b.as<T>();
    T* y = ctx.out(0).mut<T>();
    if (Flat(a.dims, b.dims)) {
      ctx.ParallelFor(a.count(), kCheapGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) y[i] = op(pa[i], pb[i]);
      });
      return {};
    }
    const auto plan = PlanBroadcast<2>(ctx.out(0).dims, {a.dims, b.dims});
    const int64_t cols = plan.cols(), sa = plan.strides[0].back(), sb = plan.strides[1].back();
    if (cols == 0) return {};
    ctx.ParallelFor(
        plan.rows(), std::max<int64_t>(1, kCheapGrain / cols), [&](int64_t begin, int64_t end) {
          ForEachRow(plan, begin, end, [&](int64_t out, const std::array<int64_t, 2>& in) {
            for (int64_t i = 0; i < cols; ++i)
              y[out + i] = op(pa[in[0] + i * sa], pb[in[1] + i * sb]);
          });
        });
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    const Linear a = TRY(ReadLinear(kName, ctx, 1, 2)), b = TRY(ReadLinear(kName, ctx, 4, 5)),
                 y = TRY(ReadLinear(kName, ctx, 6, 7));
    const DType t = ctx.in(0).dtype;
    if (ctx.in(3).dtype != t || Broadcast(ctx.in(0).dims, ctx.in(3).dims) != ctx.out(0).dims)
      return Fail(Code::kInvalidArgument, "{}: the operands do not go together", kName);
    return VisitTypes<ShortCodes>(t, kName, [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (sizeof(T) == 1)
        return Run<T>(ctx, Narrow8<T>(a, b, y));
      else
        return Run<T>(ctx, Wide16<T>(a, b, y));
    });
  }

  class BinaryKernel final : public Kernel {
   public:
    std::string_view name() const override { return "codes.elementwise"; }
    Status Run(RunContext& ctx) const override { return Reference({}, ctx); }
  };
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&) {
    return KernelPtr(std::make_unique<BinaryKernel>());
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) {
    return Flat(q.inputs[0].dims, q.inputs[3].dims) ? ElementwiseLayouts(q) : RowMajorLayouts(q);
  }
};

// ---- pools -------------------------------------------------------------------------------------

// Images as [N, C, spatial…] or [N, spatial…, C].
struct Images {
  int64_t batch = 1, channels = 1;
  Dims spatial;
  bool last = false;
  // Element (image, channel, pixel) of images with `pixels` pixels.
  int64_t At(int64_t image, int64_t channel, int64_t pixel, int64_t pixels) const {
    return last ? (image * pixels + pixel) * channels + channel
                : (image * channels + channel) * pixels + pixel;
  }
  Dims With(const Dims& other_spatial) const {
    Dims d = {batch};
    if (!last) d.push_back(channels);
    for (const int64_t s : other_spatial) d.push_back(s);
    if (last) d.push_back(channels);
    return d;
  }
};
Result<Images> SplitImages(std::string_view name, const Dims& x, bool channels_last) {
  if (x.rank() < 3)
    return Fail(Code::kInvalidArgument, "{}: takes images of rank 3 or more, not {}", name,
                ToString(x));
  Images v;
  v.last = channels_last;
  v.batch = x[0];
  v.channels = channels_last ? x.back() : x[1];
  for (size_t i = channels_last ? 1 : 2; i + (channels_last ? 1 : 0) < x.size(); ++i)
    v.spatial.push_back(x[i]);
  return v;
}

// Inputs x, x_scale, x_zero_point (optional), y_scale, y_zero_point (optional).
template <class F>
Status InferPool(std::string_view name, InferContext& ctx, bool channels_last, const F& pooled) {
  TRY(CheckType<Bytes>(ctx.dtype(0), name));
  TRY(CheckLinear(name, ctx, {1, 2, 3, 4}));
  if (!ctx.input(0).ranked) {
    ctx.Set(0, Type::Unranked(ctx.dtype(0)));
    return {};
  }
  const Images images = TRY(SplitImages(name, ctx.input(0).dims, channels_last));
  ctx.Set(0, Type::Of(ctx.dtype(0), images.With(TRY(pooled(images.spatial)))));
  return {};
}

// The mean is taken of real numbers, and the zero point added before rounding.
struct QLinearAveragePool {
  static constexpr std::string_view kName = "QLinearAveragePool";
  struct Attrs : AveragePoolAttrs {
    bool channels_last = false;
    template <class V>
    void Visit(V& v) {
      AveragePoolAttrs::Visit(v);
      v("channels_last", channels_last);
    }
  };
  static Result<Window> WindowOf(const Attrs& a, const Dims& spatial) {
    return ResolveWindow(a, spatial, {}, a.ceil_mode ? Rounding::kCeil : Rounding::kFloor);
  }
  static Dims OutOf(const Window& w) {
    Dims d;
    for (const WindowAxis& a : w) d.push_back(a.out);
    return d;
  }
  static Status Infer(const Attrs& a, InferContext& ctx) {
    return InferPool(kName, ctx, a.channels_last, [&](const Dims& spatial) -> Result<Dims> {
      return OutOf(TRY(WindowOf(a, spatial)));
    });
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const Images images = TRY(SplitImages(kName, x.dims, a.channels_last));
    const Window window = TRY(WindowOf(a, images.spatial));
    const Linear from = TRY(ReadLinear(kName, ctx, 1, 2)), to = TRY(ReadLinear(kName, ctx, 3, 4));
    const int64_t pixels = CountOf(images.spatial), out_pixels = CountOf(OutOf(window));
    int64_t all = 1;
    for (const WindowAxis& w : window) all *= w.kernel;
    return VisitTypes<Bytes>(x.dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      const Q* in = x.as<Q>();
      Q* y = ctx.out(0).mut<Q>();
      ForEachWindow(window, [&](int64_t o, std::span<const WindowTap> taps) {
        const auto count = float(a.count_include_pad ? all : int64_t(taps.size()));
        for (int64_t n = 0; n < images.batch; ++n)
          for (int64_t c = 0; c < images.channels; ++c) {
            float sum = 0;
            for (const WindowTap& t : taps)
              sum += from.scale * float(int32_t(in[images.At(n, c, t.input, pixels)]) - from.zero);
            y[images.At(n, c, o, out_pixels)] =
                CodeOf<Q>(sum / count / to.scale + float(to.zero), 0);
          }
      });
      return {};
    });
  }
};

// The exact sum is scaled once.
struct QLinearGlobalAveragePool {
  static constexpr std::string_view kName = "QLinearGlobalAveragePool";
  struct Attrs {
    bool channels_last = false;
    template <class V>
    void Visit(V& v) {
      v("channels_last", channels_last);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    return InferPool(kName, ctx, a.channels_last,
                     [](const Dims& spatial) -> Result<Dims> { return Dims(spatial.size(), 1); });
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const Images images = TRY(SplitImages(kName, x.dims, a.channels_last));
    const Linear from = TRY(ReadLinear(kName, ctx, 1, 2)), to = TRY(ReadLinear(kName, ctx, 3, 4));
    const int64_t pixels = CountOf(images.spatial);
    const float scale = from.scale / (to.scale * float(pixels));
    return VisitTypes<Bytes>(x.dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      for (int64_t n = 0; n < images.batch; ++n)
        for (int64_t c = 0; c < images.channels; ++c) {
          int64_t sum = -int64_t(from.zero) * pixels;
          for (int64_t p = 0; p < pixels; ++p) sum += x.as<Q>()[images.At(n, c, p, pixels)];
          ctx.out(0).mut<Q>()[images.At(n, c, 0, 1)] =
              CodeOf<Q>(float(int32_t(sum)) * scale, to.zero);
        }
      return {};
    });
  }
};

// ---- softmax -----------------------------------------------------------------------------------

// Exponentials come from a table, whose numbers are as large as their sum allows; the result's
// scale is taken for the reciprocal of an integer. Inputs x, x_scale, x_zero_point (optional),
// y_scale, y_zero_point.
struct QLinearSoftmax {
  static constexpr std::string_view kName = "QLinearSoftmax";
  struct Attrs {
    std::optional<int64_t> axis;  // -1, or 1 before opset 13
    int64_t opset = 13;           // before 13: over all axes from `axis` on
    template <class V>
    void Visit(V& v) {
      v("axis", axis);
      v("opset", opset);
    }
    int64_t AxisOrDefault() const { return axis.value_or(opset < 13 ? 1 : -1); }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckType<Bytes>(ctx.dtype(0), kName));
    TRY(CheckLinear(kName, ctx, {1, 2, 3, 4}));
    if (ctx.input(0).ranked) TRY(ResolveAxis(kName, a.AxisOrDefault(), ctx.input(0).dims.rank()));
    ctx.Set(0, ctx.input(0));
    return {};
  }
  // exp(-distance * scale) for distances from the greatest code, times one factor for all.
  static std::vector<float> Table(float scale, int64_t terms) {
    const double fits = std::log(std::numeric_limits<float>::max() / float(terms)) - 5;
    std::vector<float> table(256);
    for (int d = 0; d < 256; ++d)
      table[size_t(d)] = float(std::exp((std::max(0.0, fits) / double(scale) - d) * double(scale)));
    return table;
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    AxisSplit split = SplitAt(x.dims, TRY(ResolveAxis(kName, a.AxisOrDefault(), x.dims.rank())));
    if (a.opset < 13) {
      split.axis *= split.inner;
      split.inner = 1;
    }
    const Linear from = TRY(ReadLinear(kName, ctx, 1, 2)), to = TRY(ReadLinear(kName, ctx, 3, 4));
    const std::vector<float> table = Table(from.scale, std::max<int64_t>(1, split.axis));
    const float steps = std::floor(1.0f / to.scale);
    return VisitTypes<Bytes>(x.dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      for (int64_t i = 0; split.axis > 0 && i < split.outer * split.inner; ++i) {
        const int64_t first = i / split.inner * split.axis * split.inner + i % split.inner;
        const Q* in = x.as<Q>() + first;
        Q* y = ctx.out(0).mut<Q>() + first;
        int most = in[0];
        for (int64_t k = 0; k < split.axis; ++k) most = std::max(most, int(in[k * split.inner]));
        float sum = 0;
        for (int64_t k = 0; k < split.axis; ++k) sum += table[size_t(most - in[k * split.inner])];
        for (int64_t k = 0; k < split.axis; ++k)
          y[k * split.inner] =
              CodeOf<Q>(table[size_t(most - in[k * split.inner])] * steps / sum, to.zero);
      }
      return {};
    });
  }
};

using QLinearAdd = QLinearBinary<AddCodes, AddWideCodes>;
using QLinearMul = QLinearBinary<MulCodes, MulCodes>;

}  // namespace

std::vector<OpDef> QLinearOps() {
  constexpr OpTraits binary = {.domain = "com.microsoft", .min_inputs = 7, .max_inputs = 8};
  constexpr OpTraits unary = {.domain = "com.microsoft", .min_inputs = 4, .max_inputs = 5};
  return {Declare<QLinearAdd>("QLinearAdd", binary), Declare<QLinearMul>("QLinearMul", binary),
          Declare<QLinearAveragePool>(QLinearAveragePool::kName, unary),
          Declare<QLinearGlobalAveragePool>(QLinearGlobalAveragePool::kName, unary),
          Declare<QLinearSoftmax>(QLinearSoftmax::kName, unary)};
}

}  // namespace dunlin
