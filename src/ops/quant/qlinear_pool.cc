// Means over windows and over whole planes of codes.
#include "kernels/codes.h"
#include "ops/elementwise/lower.h"
#include "ops/pool/code_windows.h"
#include "ops/pool/pool.h"
#include "ops/quant/qlinear.h"

namespace dunlin {
namespace {

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

// Output pixels of channels-last memory, bit for bit what the reference gives.
template <class Q>
class AverageKernel final : public Kernel {
 public:
  AverageKernel(const Images& images, const Window& window, bool count_include_pad)
      : images_(images), window_(window), count_all_(count_include_pad) {
    for (const WindowAxis& w : window) all_ *= w.kernel;
  }
  std::string_view name() const override { return "codes.average_pool"; }
  // In an operator whose own extents have the channels last, a pixel's place is not told by
  // dims[1].
  bool reads_strided(int) const override { return !images_.last; }
  bool writes_strided(int) const override { return !images_.last; }
  Status Run(RunContext& ctx) const override {
    const Linear from = TRY(ReadLinear(name(), ctx, 1, 2)), to = TRY(ReadLinear(name(), ctx, 3, 4));
    const CodeAverage average = {from.scale, to.scale, float(all_), from.zero, to.zero};
    const int64_t channels = images_.channels;
    const int64_t x_step = images_.last ? channels : ctx.in(0).pixel_step(),
                  y_step = images_.last ? channels : ctx.out(0).pixel_step();
    Q* y = ctx.out(0).mut<Q>();
    RunCodeWindows<Q>(ctx, window_, images_.batch, channels, x_step,
                      [&](int64_t pixel, const Q* const* taps, int64_t count) {
                        CodeAverage p = average;
                        if (!count_all_) p.divisor = float(count);
                        AverageCodes(p, taps, count, channels, y + pixel * y_step);
                      });
    return {};
  }

 private:
  Images images_;
  Window window_;
  bool count_all_;
  int64_t all_ = 1;
};

template <class Q>
class GlobalAverageKernel final : public Kernel {
 public:
  explicit GlobalAverageKernel(const Images& images)
      : images_(images), pixels_(CountOf(images.spatial)) {}
  std::string_view name() const override { return "codes.global_average"; }
  Status Run(RunContext& ctx) const override {
    const Linear from = TRY(ReadLinear(name(), ctx, 1, 2)), to = TRY(ReadLinear(name(), ctx, 3, 4));
    const float scale = from.scale / (to.scale * float(pixels_));
    const int64_t all_zeros = from.zero * pixels_, channels = images_.channels;
    const auto code = [&](int64_t sum) {
      return CodeOf<Q>(float(int32_t(sum - all_zeros)) * scale, to.zero);
    };
    const Q* x = ctx.in(0).as<Q>();
    Q* y = ctx.out(0).mut<Q>();
    const auto grain = [&](int64_t width) {
      return std::max<int64_t>(1, kCodesAtOnce / std::max<int64_t>(1, pixels_ * width));
    };
    if (!images_.last) {
      ctx.ParallelFor(images_.batch * channels, grain(1), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) y[i] = code(SumCodes(x + i * pixels_, pixels_));
      });
      return {};
    }
    // Blocks of channels of every image, so that one image is shared as well.
    constexpr int64_t kWidth = 64;  // codes of a cache line
    const int64_t blocks = (channels + kWidth - 1) / kWidth;
    ctx.ParallelFor(images_.batch * blocks, grain(kWidth), [&](int64_t begin, int64_t end) {
      int32_t sums[kWidth];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / blocks, first = i % blocks * kWidth;
        const int64_t width = std::min(kWidth, channels - first);
        SumCodeColumns(x + n * pixels_ * channels + first, channels, pixels_, width, sums);
        for (int64_t c = 0; c < width; ++c) y[n * channels + first + c] = code(sums[c]);
      }
    });
    return {};
  }

 private:
  static constexpr int64_t kCodesAtOnce = 1 << 17;  // about 5 microseconds of adding
  Images images_;
  int64_t pixels_;
};

bool Lowerable(const LowerContext& ctx, bool channels_last) {
  const Type& x = ctx.input(0);
  const Layout layout = channels_last ? Layout::kRowMajor : Layout::kChannelsLast;
  return IsCodeImage(x) && ctx.input_layout(0) == layout && ctx.output_layout(0) == layout &&
         ZeroFits(ctx, 2, x.dtype) && ZeroFits(ctx, 4, x.dtype);
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

  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    const Type& x = ctx.input(0);
    if (!Lowerable(ctx, a.channels_last)) return KernelPtr();
    const Images images = TRY(SplitImages(kName, x.dims, a.channels_last));
    const Window window = TRY(WindowOf(a, images.spatial));
    if (!CodeWindowsFit(window)) return KernelPtr();
    return LowerFor<Bytes>(x.dtype, kName, [&]<class Q>(TypeTag<Q>) -> Result<KernelPtr> {
      return KernelPtr(std::make_unique<AverageKernel<Q>>(images, window, a.count_include_pad));
    });
  }
  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) {
    LayoutPlan plan = RowMajorLayouts(q);
    if (!a.channels_last && IsCodeImage(q.inputs[0]))
      plan.inputs[0] = plan.outputs[0] = Layout::kChannelsLast;
    return plan;
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

  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    const Type& x = ctx.input(0);
    if (!IsCodeImage(x) || !ZeroFits(ctx, 2, x.dtype) || !ZeroFits(ctx, 4, x.dtype))
      return KernelPtr();
    Images images = TRY(SplitImages(kName, x.dims, a.channels_last));
    images.last |= ctx.input_layout(0) == Layout::kChannelsLast;
    return LowerFor<Bytes>(x.dtype, kName, [&]<class Q>(TypeTag<Q>) -> Result<KernelPtr> {
      return KernelPtr(std::make_unique<GlobalAverageKernel<Q>>(images));
    });
  }
  // The output's layouts coincide: its spatial extents are 1.
  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) {
    LayoutPlan plan = RowMajorLayouts(q);
    if (!a.channels_last && IsCodeImage(q.inputs[0]))
      plan.inputs[0] = plan.outputs[0] = q.current[0];
    return plan;
  }
};

}  // namespace

std::vector<OpDef> QLinearPoolOps() {
  constexpr OpTraits traits = {.domain = "com.microsoft", .min_inputs = 4, .max_inputs = 5};
  return {Declare<QLinearAveragePool>(QLinearAveragePool::kName, traits),
          Declare<QLinearGlobalAveragePool>(QLinearGlobalAveragePool::kName, traits)};
}

}  // namespace dunlin
