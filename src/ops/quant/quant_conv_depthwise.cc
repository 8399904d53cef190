// Depth-wise convolutions of codes over channels-last bytes.
#include <algorithm>

#include "kernels/code_depthwise.h"
#include "ops/quant/code_pixels.h"
#include "ops/quant/quant_conv_kernel.h"
#include "ops/quant/sums.h"

namespace dunlin {
namespace {

// Bit for bit what the reference gives.
class CodeDepthwiseKernel final : public Kernel {
 public:
  ProductInputs in;
  CodeStoreAttrs store;
  ConvShape shape;
  ConvGeometry geometry;
  Tensor packed;         // the weights
  Tensor weight_totals;  // i32 [channels]: the sums of each channel's

  std::string_view name() const override { return "codes.depthwise"; }
  InputUse uses(int input) const override {
    return input == in.b || input == in.b_zero ? InputUse::kNothing : InputUse::kValues;
  }
  size_t zeros_at() const { return EpilogueBytes(shape.channels); }
  size_t scratch_bytes() const override { return zeros_at() + size_t(shape.channels); }

  Status Run(RunContext& ctx) const override {
    auto* const memory = static_cast<std::byte*>(ctx.scratch());
    const int32_t zero = in.a_zero >= 0 && ctx.has(in.a_zero)
                             ? CodeAt(ctx.in(in.a_zero).dtype, ctx.in(in.a_zero).data, 0)
                             : 0;
    PreparedEpilogue p = PrepareEpilogue(ctx, in, store, shape.channels, ctx.out(0).dtype, memory);
    SubtractZero(p, memory, shape.channels, weight_totals.as<int32_t>(), zero);
    auto* const zeros = reinterpret_cast<uint8_t*>(memory + zeros_at());
    std::fill_n(zeros, shape.channels, uint8_t(zero));
    const Rows y(ctx, in, p, shape.channels);
    const ConvAxis &h = geometry.axis[1], &w = geometry.axis[2];
    const int64_t blocks = (w.out + kDepthwiseOutputs - 1) / kDepthwiseOutputs;
    const int64_t work = kDepthwiseOutputs * shape.channels * h.kernel * w.kernel;
    ctx.ParallelFor(shape.batch * h.out * blocks, std::max<int64_t>(1, kLeastSumWork / 2 / work),
                    [&](int64_t begin, int64_t end) { RunBlocks(ctx, zeros, y, begin, end); });
    return {};
  }

 private:
  void RunBlocks(RunContext& ctx, const uint8_t* zeros, const Rows& y, int64_t begin,
                 int64_t end) const {
    const ConvAxis &h = geometry.axis[1], &w = geometry.axis[2];
    const int64_t blocks = (w.out + kDepthwiseOutputs - 1) / kDepthwiseOutputs;
    const int64_t columns = (kDepthwiseOutputs - 1) * w.stride + w.kernel, c = shape.channels;
    constexpr int64_t kMostColumns = (kDepthwiseOutputs - 1) * 2 + 5;
    const uint8_t* pixels[kMostColumns * 5];
    alignas(64) int32_t sums[kDepthwiseOutputs * kDepthwiseChannels + 64];
    CodeDepthwiseArgs a;
    a.type = ctx.in(in.a).dtype;
    a.kernel = w.kernel, a.stride = w.stride, a.channels = c;
    a.pixels = pixels;
    a.packed = packed.as<int16_t>();
    a.sums = sums;
    a.sums_stride = (c + 31) / 32 * 32;
    const auto* x = static_cast<const uint8_t*>(ctx.in(in.a).data);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t ox = i % blocks * kDepthwiseOutputs, oy = i / blocks % h.out,
                    image = i / blocks / h.out;
      for (int64_t k = 0; k < columns; ++k)
        for (int64_t r = 0; r < h.kernel; ++r) {
          const int64_t ix = ox * w.stride - w.pad + k, iy = oy * h.stride - h.pad + r;
          const bool inside = uint64_t(ix) < uint64_t(w.in) && uint64_t(iy) < uint64_t(h.in);
          pixels[k * h.kernel + r] = inside ? x + ((image * h.in + iy) * w.in + ix) * c : zeros;
        }
      CodeDepthwiseRow(a);
      y.Store(sums, a.sums_stride, (image * h.out + oy) * w.out + ox,
              std::min(kDepthwiseOutputs, w.out - ox), 0, c);
    }
  }
};

}  // namespace

bool HasDepthwiseKernel(const ConvShape& s) {
  if (s.window.size() != 2 || s.group != s.channels || s.outputs != s.channels) return false;
  const WindowAxis &h = s.window[0], &w = s.window[1];
  return h.kernel == w.kernel && h.dilation == 1 && w.dilation == 1 &&
         HasCodeDepthwise(w.kernel, w.stride, s.channels);
}

Result<KernelPtr> LowerCodeDepthwise(const ConvShape& shape, const ProductInputs& in,
                                     const CodeStoreAttrs& store, LowerContext& ctx) {
  auto kernel = std::make_unique<CodeDepthwiseKernel>();
  CodeDepthwiseKernel& k = *kernel;
  k.in = in;
  k.store = store;
  k.shape = shape;
  k.geometry = CodePixels(shape, true).geometry();
  const Tensor& w = *ctx.value(in.b);
  const Tensor* zero = in.b_zero >= 0 && ctx.has(in.b_zero) ? ctx.value(in.b_zero) : nullptr;
  const int64_t taps = shape.taps(), c = shape.channels, kernel_size = shape.window[1].kernel;
  const auto code = [&, zero](const Tensor& t, int64_t channel, int64_t tap) {
    const int32_t z =
        zero == nullptr ? 0 : CodeAt(zero->dtype(), zero->raw(), zero->count() == 1 ? 0 : channel);
    return int16_t(CodeAt(t.dtype(), t.raw(), channel * taps + tap) - z);
  };
  const std::string recipe =
      fmt::format("codes depthwise {} channels {} kernel {} blocks of {} zero {}",
                  DTypeName(w.dtype()), c, kernel_size, CodeDepthwiseLanes(), ZeroText(zero));
  k.packed = TRY(ctx.weights().Get(w, recipe, [&](const Tensor& t) -> Result<Tensor> {
    const Tensor plain = TRY(Tensor::Create(DType::kI16, {taps * c}));
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t i = 0; i < c; ++i) plain.mut<int16_t>()[tap * c + i] = code(t, i, tap);
    Tensor p = TRY(Tensor::Create(DType::kI16, {CodeDepthwisePacked(kernel_size, c)}));
    PackCodeDepthwise(kernel_size, c, plain.as<int16_t>(), p.mut<int16_t>());
    return p;
  }));
  k.weight_totals = TRY(Tensor::Zeros(DType::kI32, {c}));
  for (int64_t i = 0; i < c; ++i)
    for (int64_t tap = 0; tap < taps; ++tap) k.weight_totals.mut<int32_t>()[i] += code(w, i, tap);
  return KernelPtr(std::move(kernel));
}

}  // namespace dunlin
