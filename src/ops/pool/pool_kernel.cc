#include "ops/pool/pool_kernel.h"

#include <algorithm>
#include <limits>

#include "kernels/codes.h"
#include "ops/pool/code_windows.h"

namespace dunlin {
namespace {

// Work of one chunk: about 10 microseconds of reading from the second-level cache.
constexpr int64_t kChunkFloats = 1 << 17;
// The same of whole planes, which are read once and often come from behind that cache.
constexpr int64_t kGlobalFloats = 1 << 15;

// Sums are at most taps 2^-24 sum |x| from the reference's, maxima are equal.
class PoolKernel final : public Kernel {
 public:
  PoolArgs args;  // without x and y
  Tensor outside, scales;
  int64_t rows = 0, grain = 1;

  bool reads_strided(int) const override { return true; }
  bool writes_strided(int) const override { return true; }
  std::string_view name() const override {
    return args.pool == Pool::kMax ? "pool.max" : "pool.average";
  }
  Status Run(RunContext& ctx) const override {
    PoolArgs a = args;
    a.x = ctx.in(0).as<float>();
    a.y = ctx.out(0).mut<float>();
    a.geometry.pixel_stride = ctx.in(0).pixel_step();
    a.y_stride = ctx.out(0).pixel_step();
    ctx.ParallelFor(rows, grain, [&](int64_t begin, int64_t end) { PoolRows(a, begin, end); });
    return {};
  }
};

// Maxima of bytes.
template <class Q>
class CodeMaxKernel final : public Kernel {
 public:
  CodeMaxKernel(const Dims& x, const Window& window)
      : batch_(x[0]), channels_(x[1]), window_(window) {}
  bool reads_strided(int) const override { return true; }
  bool writes_strided(int) const override { return true; }
  std::string_view name() const override { return "codes.max_pool"; }
  Status Run(RunContext& ctx) const override {
    Q* const y = ctx.out(0).mut<Q>();
    const int64_t y_step = ctx.out(0).pixel_step();
    RunCodeWindows<Q>(ctx, window_, batch_, channels_, ctx.in(0).pixel_step(),
                      [&](int64_t pixel, const Q* const* taps, int64_t count) {
                        MaxCodes(taps, count, channels_, y + pixel * y_step);
                      });
    return {};
  }

 private:
  int64_t batch_, channels_;
  Window window_;
};

class GlobalPoolKernel final : public Kernel {
 public:
  Pool pool = Pool::kMax;
  bool channels_last = false;
  int64_t batch = 0, channels = 0, pixels = 0;

  std::string_view name() const override {
    return pool == Pool::kMax ? "pool.global_max" : "pool.global_average";
  }
  Status Run(RunContext& ctx) const override {
    const float* x = ctx.in(0).as<float>();
    float* y = ctx.out(0).mut<float>();
    const auto grain = [&](int64_t width) {
      return std::max<int64_t>(1, kGlobalFloats / std::max<int64_t>(1, pixels * width));
    };
    if (!channels_last) {
      ctx.ParallelFor(batch * channels, grain(1), [&](int64_t begin, int64_t end) {
        GlobalPoolPlanes(pool, x, pixels, y, begin, end);
      });
      return {};
    }
    // Blocks of channels of every image, so that one image is shared as well.
    const int64_t width = std::min(channels, kGlobalPoolChannels);
    const int64_t blocks = channels == 0 ? 0 : (channels + width - 1) / width;
    ctx.ParallelFor(batch * blocks, grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end;) {
        const int64_t n = i / blocks, first = i % blocks;
        const int64_t count = std::min(end - i, blocks - first);
        GlobalPoolChannelsLast(pool, x + n * pixels * channels, pixels, channels, y + n * channels,
                               first * width, std::min(channels, (first + count) * width));
        i += count;
      }
    });
    return {};
  }
};

bool IsImage(const Type& x) {
  return x.dtype == DType::kF32 && x.ranked && x.dims.rank() >= 3 && x.dims.rank() <= 5;
}

LayoutPlan AllRowMajor(const LayoutQuery& query) {
  LayoutPlan plan;
  plan.inputs.assign(query.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(query.outputs.size(), Layout::kRowMajor);
  return plan;
}

}  // namespace

Result<KernelPtr> LowerPool(Pool pool, const Window& window, const std::vector<int64_t>& counts,
                            LowerContext& ctx) {
  const Type& x = ctx.input(0);
  if (ctx.wants(1) || ctx.input_layout(0) != Layout::kChannelsLast ||
      ctx.output_layout(0) != Layout::kChannelsLast)
    return KernelPtr();
  if (pool == Pool::kMax && IsCodeImage(x) && CodeWindowsFit(window)) {
    if (x.dtype == DType::kU8)
      return KernelPtr(std::make_unique<CodeMaxKernel<uint8_t>>(x.dims, window));
    return KernelPtr(std::make_unique<CodeMaxKernel<int8_t>>(x.dims, window));
  }
  if (!IsImage(x)) return KernelPtr();
  auto k = std::make_unique<PoolKernel>();
  PoolArgs& a = k->args;
  a.pool = pool;
  a.channels = x.dims[1];
  for (size_t i = 0; i < window.size(); ++i) {
    const WindowAxis& w = window[i];
    a.geometry.axis[3 - window.size() + i] = {w.in,     w.out,      w.kernel,
                                              w.stride, w.dilation, w.pad_begin};
  }
  if (a.geometry.taps() > kMaxPoolTaps) return KernelPtr();
  k->outside = TRY(Tensor::Create(DType::kF32, {a.channels}));
  std::fill_n(k->outside.mut<float>(), a.channels,
              pool == Pool::kMax ? -std::numeric_limits<float>::infinity() : 0.0f);
  k->scales = TRY(Tensor::Create(DType::kF32, {int64_t(counts.size())}));
  for (size_t i = 0; i < counts.size(); ++i)
    k->scales.mut<float>()[i] = 1.0f / float(std::max<int64_t>(1, counts[i]));
  a.outside = k->outside.as<float>();
  a.scales = k->scales.as<float>();
  k->rows = x.dims[0] * a.geometry.axis[0].out * a.geometry.axis[1].out;
  const int64_t row_work = a.geometry.axis[2].out * a.geometry.taps() * a.channels;
  k->grain = std::max<int64_t>(1, kChunkFloats / std::max<int64_t>(1, row_work));
  return KernelPtr(std::move(k));
}

LayoutPlan PoolLayouts(Pool pool, const LayoutQuery& query) {
  LayoutPlan plan = AllRowMajor(query);
  const Type& x = query.inputs[0];
  const bool indices = query.outputs.size() > 1 && query.outputs[1].dtype != DType::kUndefined;
  if ((IsImage(x) || (pool == Pool::kMax && IsCodeImage(x))) && !indices)
    plan.inputs[0] = plan.outputs[0] = Layout::kChannelsLast;
  return plan;
}

Result<KernelPtr> LowerGlobalPool(Pool pool, LowerContext& ctx) {
  const Type& x = ctx.input(0);
  if (x.dtype != DType::kF32 || x.dims.rank() < 3) return KernelPtr();
  auto k = std::make_unique<GlobalPoolKernel>();
  k->pool = pool;
  k->channels_last = ctx.input_layout(0) == Layout::kChannelsLast;
  k->batch = x.dims[0];
  k->channels = x.dims[1];
  k->pixels = CountOf(std::span<const int64_t>(x.dims).subspan(2));
  return KernelPtr(std::move(k));
}

// The output's layouts coincide: its spatial extents are 1.
LayoutPlan GlobalPoolLayouts(const LayoutQuery& query) {
  LayoutPlan plan = AllRowMajor(query);
  if (IsImage(query.inputs[0])) plan.inputs[0] = plan.outputs[0] = query.current[0];
  return plan;
}

}  // namespace dunlin
