// Quantising and dequantising on all threads.
#include "kernels/codes.h"
#include "ops/elementwise/lower.h"
#include "ops/quant/linear.h"

namespace dunlin {
namespace {

// Some operations an element; see ops/elementwise/lower.h.
constexpr int64_t kGrain = kCheapGrain;

struct HalfOrSingle {
  template <class T>
  static constexpr bool kHas = kIsHalf<T> || std::is_same_v<T, float>;
};

// Bit for bit what the reference gives: the same loops over other ranges.
template <class From, class To>
class LinearKernel final : public Kernel {
 public:
  LinearKernel(const Granularity& g, int64_t scales, DType precision)
      : g_(g), scales_(scales), precision_(precision) {}
  std::string_view name() const override { return kIsFloat<From> ? "quantize" : "dequantize"; }
  size_t scratch_bytes() const override { return size_t(scales_) * 8; }
  Status Run(RunContext& ctx) const override {
    auto* const scales = static_cast<float*>(ctx.scratch());
    auto* const zeros = reinterpret_cast<int32_t*>(scales + scales_);
    TRY(VisitTypes<HalfOrSingle>(ctx.in(1).dtype, name(), [&]<class S>(TypeTag<S>) -> Status {
      for (int64_t i = 0; i < scales_; ++i) scales[i] = float(ctx.in(1).as<S>()[i]);
      return {};
    }));
    std::fill_n(zeros, scales_, 0);
    if (ctx.has(2))
      TRY(VisitTypes<Codes>(ctx.in(2).dtype, name(), [&]<class Z>(TypeTag<Z>) -> Status {
        for (int64_t i = 0; i < scales_; ++i) zeros[i] = int32_t(ctx.in(2).as<Z>()[i]);
        return {};
      }));
    const From* x = ctx.in(0).as<From>();
    To* y = ctx.out(0).mut<To>();
    ctx.ParallelFor(ctx.in(0).count(), kGrain, [&](int64_t begin, int64_t end) {
      ForEachScaledRun(g_, begin, end, [&](int64_t i, int64_t n, int64_t s, int64_t step) {
        if constexpr (std::is_same_v<From, float> && sizeof(To) == 1)
          precision_ == DType::kUndefined || precision_ == DType::kF32
              ? QuantizeF32(x + i, n, scales + s, zeros + s, step, y + i)
              : QuantizeRun(x + i, n, scales + s, zeros + s, step, precision_, y + i);
        else if constexpr (kIsFloat<From>)
          QuantizeRun(x + i, n, scales + s, zeros + s, step, precision_, y + i);
        else if constexpr (sizeof(From) == 1 && std::is_same_v<To, float>)
          DequantizeF32(x + i, n, scales + s, zeros + s, step, y + i);
        else
          DequantizeRun(x + i, n, scales + s, zeros + s, step, y + i);
      });
    });
    return {};
  }

 private:
  Granularity g_;
  int64_t scales_;
  DType precision_;
};

// The same of narrow codes; constants of them stay packed.
template <class To>
class NarrowDequantizeKernel final : public Kernel {
 public:
  NarrowDequantizeKernel(const Granularity& g, int64_t scales, DType from)
      : g_(g), scales_(scales), values_(from) {}
  std::string_view name() const override { return "dequantize.narrow"; }
  size_t scratch_bytes() const override { return size_t(scales_) * 8; }
  Status Run(RunContext& ctx) const override {
    auto* const scales = static_cast<float*>(ctx.scratch());
    auto* const zeros = reinterpret_cast<int32_t*>(scales + scales_);
    const auto read = TRY(Scales(name(), ctx.in(1)));
    std::copy(read.begin(), read.end(), scales);
    std::fill_n(zeros, scales_, 0);
    if (ctx.has(2)) {
      const auto points = TRY(ZeroPoints(name(), ctx, 2));
      std::copy(points.begin(), points.end(), zeros);
    }
    To* y = ctx.out(0).mut<To>();
    ctx.ParallelFor(ctx.in(0).count(), kGrain, [&](int64_t begin, int64_t end) {
      ForEachScaledRun(g_, begin, end, [&](int64_t i, int64_t n, int64_t s, int64_t step) {
        DequantizeNarrowRun(values_, ctx.in(0).data, i, n, scales + s, zeros + s, step, y + i);
      });
    });
    return {};
  }

 private:
  Granularity g_;
  int64_t scales_;
  NarrowValues values_;
};

// The parameters are as LinearKernel reads them.
bool Fits(const LowerContext& ctx) {
  const Type& scale = ctx.input(1);
  if (scale.dtype != DType::kF32 && scale.dtype != DType::kF16 && scale.dtype != DType::kBF16)
    return false;
  return !ctx.has(2) || CountOf(ctx.input(2).dims) == CountOf(scale.dims);
}

// Which scale belongs to which element, in the order in which input 0 is stored.
Result<Granularity> StoredGranularity(std::string_view name, const LinearAttrs& a,
                                      const LowerContext& ctx) {
  const Dims& x = ctx.input(0).dims;
  Granularity g = TRY(ResolveGranularity(name, a, x, ctx.input(1).dims));
  if (ctx.input_layout(0) == Layout::kChannelsLast && g.per_axis != 0) {  // see LinearLayouts
    g.split.outer *= g.split.inner;
    g.split.inner = 1;
  }
  return g;
}

template <class Types>
bool Has(DType t) {
  return CheckType<Types>(t, "").has_value();
}

// Ranges in chunks, so that the least and the greatest do not depend on the number of threads; NaN
// is passed over.
class DynamicQuantizeKernel final : public Kernel {
 public:
  explicit DynamicQuantizeKernel(int64_t count) : chunks_((count + kGrain - 1) / kGrain) {}
  std::string_view name() const override { return "quantize.dynamic"; }
  size_t scratch_bytes() const override { return size_t(chunks_) * sizeof(RangeOfF32); }
  Status Run(RunContext& ctx) const override {
    const TensorView& x = ctx.in(0);
    const float* in = x.as<float>();
    const int64_t n = x.count();
    auto* const ranges = static_cast<RangeOfF32*>(ctx.scratch());
    ctx.ParallelFor(chunks_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        ranges[c] = RangeF32(in + c * kGrain, std::min(kGrain, n - c * kGrain));
    });
    float lowest = 0, highest = 0;
    for (int64_t c = 0; c < chunks_; ++c) {
      lowest = std::min(lowest, ranges[c].lowest);
      highest = std::max(highest, ranges[c].highest);
    }
    const float scale = highest == lowest ? 1 : (highest - lowest) / 255;
    const uint8_t zero = CodeOf<uint8_t>(-lowest / scale, 0);
    const int32_t point = zero;
    if (ctx.wants(0)) {
      uint8_t* y = ctx.out(0).mut<uint8_t>();
      ctx.ParallelFor(n, kGrain, [&](int64_t begin, int64_t end) {
        QuantizeF32(in + begin, end - begin, &scale, &point, 0, y + begin);
      });
    }
    if (ctx.wants(1)) *ctx.out(1).mut<float>() = scale;
    if (ctx.wants(2)) *ctx.out(2).mut<uint8_t>() = zero;
    return {};
  }

 private:
  int64_t chunks_;
};

}  // namespace

Result<KernelPtr> LowerQuantize(const LinearAttrs& a, LowerContext& ctx) {
  const DType from = ctx.input(0).dtype, to = ctx.output(0).dtype;
  if (!Fits(ctx) || !Has<HalfOrSingle>(from) || !Has<Codes>(to)) return KernelPtr();
  const Granularity g = TRY(StoredGranularity("QuantizeLinear", a, ctx));
  const int64_t scales = CountOf(ctx.input(1).dims);
  return LowerFor<HalfOrSingle>(from, "quantize", [&]<class T>(TypeTag<T>) {
    return LowerFor<Codes>(to, "quantize", [&]<class Q>(TypeTag<Q>) -> Result<KernelPtr> {
      return KernelPtr(std::make_unique<LinearKernel<T, Q>>(g, scales, a.precision));
    });
  });
}

Result<KernelPtr> LowerDequantize(const LinearAttrs& a, LowerContext& ctx) {
  const DType from = ctx.input(0).dtype, to = ctx.output(0).dtype;
  if (!Fits(ctx) || !(IsNarrow(from) || Has<Codes>(from)) || !Has<HalfOrSingle>(to))
    return KernelPtr();
  const Granularity g = TRY(StoredGranularity("DequantizeLinear", a, ctx));
  const int64_t scales = CountOf(ctx.input(1).dims);
  if (IsNarrow(from))
    return LowerFor<HalfOrSingle>(to, "dequantize", [&]<class T>(TypeTag<T>) -> Result<KernelPtr> {
      return KernelPtr(std::make_unique<NarrowDequantizeKernel<T>>(g, scales, from));
    });
  return LowerFor<Codes>(from, "dequantize", [&]<class Q>(TypeTag<Q>) {
    return LowerFor<HalfOrSingle>(to, "dequantize", [&]<class T>(TypeTag<T>) -> Result<KernelPtr> {
      return KernelPtr(std::make_unique<LinearKernel<Q, T>>(g, scales, DType::kUndefined));
    });
  });
}

Result<KernelPtr> LowerDynamicQuantize(LowerContext& ctx) {
  return KernelPtr(std::make_unique<DynamicQuantizeKernel>(CountOf(ctx.input(0).dims)));
}

namespace {
// Whether scale and zero point are one per channel.
bool IsPerChannel(const LinearAttrs& a, const LayoutQuery& q) {
  const Type &x = q.inputs[0], &scale = q.inputs[1];
  return a.block_size == 0 && scale.ranked && scale.dims.rank() == 1 && x.ranked &&
         x.dims.rank() >= 3 && (a.axis == 1 || a.axis == 1 - x.dims.rank());
}
}  // namespace

// Where all elements share a scale, the order in which they are stored does not matter; scales of
// channels are found in both.
LayoutPlan LinearLayouts(const LinearAttrs& a, const LayoutQuery& q) {
  if (IsNarrow(q.inputs[0].dtype) || IsNarrow(q.outputs[0].dtype)) return RowMajorLayouts(q);
  const bool per_channel = q.inputs.size() > 1 && IsPerChannel(a, q);
  for (size_t i = 1; i < q.inputs.size() && !per_channel; ++i)
    if (q.inputs[i].dtype != DType::kUndefined &&
        (!q.inputs[i].ranked || ElementCount(q.inputs[i].dims) != 1))
      return RowMajorLayouts(q);
  LayoutPlan plan = ElementwiseLayouts(q);
  // A scale and a zero point that are made have no layout.
  std::fill(plan.outputs.begin() + 1, plan.outputs.end(), Layout::kRowMajor);
  return plan;
}

}  // namespace dunlin
