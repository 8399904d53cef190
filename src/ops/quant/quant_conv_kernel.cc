// Convolutions of codes as exact products of 16-bit integers over channels-last pixels.
#include <algorithm>

#include "kernels/code_product.h"
#include "kernels/conv.h"
#include "ops/quant/sums.h"

namespace dunlin {
namespace {

constexpr int64_t kMaxAxes = 3;
constexpr int64_t kTapsAtOnce = 64;       // of pointers on the stack
constexpr int64_t kChannelsAtOnce = 512;  // of a depthwise pixel's sums on the stack

ConvGeometry GeometryOf(const ConvShape& s) {
  ConvGeometry g;
  const size_t missing = kMaxAxes - s.window.size();
  for (size_t i = 0; i < s.window.size(); ++i) {
    const WindowAxis& a = s.window[i];
    g.axis[missing + i] = {a.in, a.out, a.kernel, a.stride, a.dilation, a.pad_begin};
  }
  return g;
}

// Bit for bit what the reference gives.
class CodeConvKernel final : public Kernel {
 public:
  ProductInputs in;
  CodeStoreAttrs store;
  ConvShape shape;
  ConvGeometry geometry;
  bool x_last = false;  // the input is stored channels-last
  CodePanels panels;    // of one group
  Tensor packed, zeros;

  int64_t group_channels() const { return shape.channels / shape.group; }
  int64_t group_outputs() const { return shape.outputs / shape.group; }
  bool depthwise() const {
    return shape.group > 1 && group_channels() == 1 && group_outputs() == 1;
  }
  int64_t pairs() const { return (group_channels() + 1) / 2; }
  // Codes of a widened pixel: every group's channels are filled up to pairs.
  int64_t pixel_codes() const { return depthwise() ? shape.channels : shape.group * 2 * pairs(); }
  int64_t pixels() const { return shape.batch * geometry.in_pixels(); }

  std::string_view name() const override {
    return depthwise() ? "codes.depthwise" : "codes.indirect";
  }
  InputUse uses(int input) const override {
    return input == in.b || input == in.b_zero ? InputUse::kNothing : InputUse::kValues;
  }
  size_t epilogue_at() const { return size_t(pixels() * pixel_codes() * 2 + 63) / 64 * 64; }
  size_t scratch_bytes() const override { return epilogue_at() + EpilogueBytes(shape.outputs); }

  Result<Tensor> Pack(const Tensor& w, const Tensor* zero) const {
    const int64_t taps = shape.taps(), k = group_channels();
    const auto code = [&](int64_t output, int64_t channel, int64_t tap) {
      const int32_t z =
          zero == nullptr ? 0 : CodeAt(zero->dtype(), zero->raw(), zero->count() == 1 ? 0 : output);
      return int16_t(CodeAt(w.dtype(), w.raw(), (output * k + channel) * taps + tap) - z);
    };
    if (depthwise()) {
      Tensor p = TRY(Tensor::Create(DType::kI16, {taps * shape.channels}));
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t c = 0; c < shape.channels; ++c)
          p.mut<int16_t>()[t * shape.channels + c] = code(c, 0, t);
      return p;
    }
    const int64_t group_codes = panels.packed_codes(taps * pairs());
    Tensor p = TRY(Tensor::Create(DType::kI16, {shape.group * group_codes}));
    for (int64_t g = 0; g < shape.group; ++g)
      PackCodes(
          panels, taps, k, 0, panels.count,
          [&](int64_t t, int64_t c, int64_t n) { return code(g * group_outputs() + n, c, t); },
          p.mut<int16_t>() + g * group_codes);
    return p;
  }

  Status Run(RunContext& ctx) const override {
    auto* const x = static_cast<int16_t*>(ctx.scratch());
    Widen(ctx, x);
    const CodeEpilogue e =
        PrepareEpilogue(ctx, in, store, shape.outputs, ctx.out(0).dtype,
                        static_cast<std::byte*>(ctx.scratch()) + epilogue_at())
            .e;
    depthwise() ? Depthwise(ctx, x, e) : Multiply(ctx, x, e);
    return {};
  }

 private:
  void Widen(RunContext& ctx, int16_t* to) const {
    const TensorView& x = ctx.in(in.a);
    const int32_t zero = in.a_zero >= 0 && ctx.has(in.a_zero)
                             ? CodeAt(ctx.in(in.a_zero).dtype, ctx.in(in.a_zero).data, 0)
                             : 0;
    const int64_t plane = geometry.in_pixels(), codes = pixel_codes();
    // Blocks of pixels of one image, small enough that what is written stays in the cache.
    const int64_t block = std::max<int64_t>(1, 8192 / codes);
    const int64_t blocks = (plane + block - 1) / block;
    ctx.ParallelFor(shape.batch * blocks, 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / blocks, first = i % blocks * block;
        WidenBlock(x, image, first, std::min(block, plane - first), zero,
                   to + (image * plane + first) * codes);
      }
    });
  }
  void WidenBlock(const TensorView& x, int64_t image, int64_t first, int64_t count, int32_t zero,
                  int16_t* to) const {
    const int64_t plane = geometry.in_pixels(), codes = pixel_codes(), k = group_channels();
    const int64_t per_group = codes / shape.group;
    if (x_last) {
      for (int64_t p = 0; p < count; ++p)
        for (int64_t g = 0; g < shape.group; ++g) {
          if (depthwise()) {  // all groups at once
            WidenCodes(x.dtype, x.data, (image * plane + first + p) * shape.channels, 1, zero,
                       shape.channels, to + p * codes);
            break;
          }
          WidenCodes(x.dtype, x.data, (image * plane + first + p) * shape.channels + g * k, 1, zero,
                     k, to + p * codes + g * per_group);
        }
    } else {
      for (int64_t c = 0; c < shape.channels; ++c)
        WidenCodes(x.dtype, x.data, (image * shape.channels + c) * plane + first, 1, zero, count,
                   to + c / k * per_group + c % k, codes);
    }
    if (per_group != k)
      for (int64_t p = 0; p < count; ++p)
        for (int64_t g = 0; g < shape.group; ++g) to[p * codes + g * per_group + k] = 0;
  }

  // The pixel under each tap [t_begin, t_end) of output pixels [m_begin, m_begin + m).
  void FillRows(const int16_t* x, int64_t m_begin, int64_t m, int64_t t_begin, int64_t t_end,
                const int16_t** rows, int64_t row_stride) const {
    const ConvAxis *d = &geometry.axis[0], *h = &geometry.axis[1], *w = &geometry.axis[2];
    const int64_t plane = geometry.in_pixels(), codes = pixel_codes();
    for (int64_t i = 0; i < m; ++i) {
      int64_t at = m_begin + i;
      const int64_t ow = at % w->out;
      at /= w->out;
      const int64_t oh = at % h->out;
      at /= h->out;
      const int64_t od = at % d->out, image = at / d->out;
      for (int64_t t = t_begin; t < t_end; ++t) {
        const int64_t x_at = ow * w->stride - w->pad + t % w->kernel * w->dilation;
        const int64_t y_at = oh * h->stride - h->pad + t / w->kernel % h->kernel * h->dilation;
        const int64_t z_at = od * d->stride - d->pad + t / w->kernel / h->kernel * d->dilation;
        const bool inside =
            x_at >= 0 && x_at < w->in && y_at >= 0 && y_at < h->in && z_at >= 0 && z_at < d->in;
        rows[(t - t_begin) * row_stride + i] =
            inside ? x + (image * plane + (z_at * h->in + y_at) * w->in + x_at) * codes
                   : zeros.as<int16_t>();
      }
    }
  }

  void Multiply(RunContext& ctx, const int16_t* x, const CodeEpilogue& e) const {
    const Rows y(ctx, in, e, shape.outputs);
    const int64_t taps = geometry.taps();
    const int64_t m = shape.batch * geometry.out_pixels();
    const int64_t wide = std::max<int64_t>(1, kSumColumns / panels.width);
    const int64_t column_items = (panels.count + wide - 1) / wide;
    const int64_t items = (m + kSumRows - 1) / kSumRows * column_items * shape.group;
    const int64_t work = kSumRows * wide * panels.width * taps * 2 * pairs();
    const int64_t group_codes = panels.packed_codes(taps * pairs());
    ctx.ParallelFor(
        items, std::max<int64_t>(1, kLeastSumWork / work), [&](int64_t begin, int64_t end) {
          int32_t sums[kSumRows * kSumColumns];
          const int16_t* rows[kSumRows * kTapsAtOnce];
          for (int64_t i = begin; i < end; ++i) {
            const int64_t column = i % column_items * wide, group = i / column_items % shape.group;
            const int64_t row = i / column_items / shape.group * kSumRows;
            CodeProductArgs g;
            g.m = std::min(kSumRows, m - row);
            g.rows = rows;
            g.row_stride = kSumRows;
            g.pairs = pairs();
            g.packed = packed.as<int16_t>() + group * group_codes;
            g.packed_pairs = taps * pairs();
            g.c = sums;
            g.c_stride = kSumColumns;
            for (int64_t t = 0; t < taps; t += kTapsAtOnce) {
              g.taps = std::min(kTapsAtOnce, taps - t);
              g.first_pair = t * pairs();
              g.accumulate = t > 0;
              FillRows(x + group * 2 * pairs(), row, g.m, t, t + g.taps, rows, kSumRows);
              CodeProduct(panels, g, column, std::min(column + wide, panels.count));
            }
            const int64_t first = group * group_outputs() + column * panels.width;
            const int64_t n =
                std::min(wide * panels.width, group_outputs() - column * panels.width);
            for (int64_t r = 0; r < g.m; ++r)
              StoreSums(e, sums + r * kSumColumns, 1, first, n, y.residual(row + r, first),
                        y.at(row + r, first));
          }
        });
  }

  void Depthwise(RunContext& ctx, const int16_t* x, const CodeEpilogue& e) const {
    const Rows y(ctx, in, e, shape.outputs);
    const int64_t taps = geometry.taps(), c = shape.channels;
    const int64_t m = shape.batch * geometry.out_pixels();
    ctx.ParallelFor(
        m, std::max<int64_t>(1, kLeastSumWork / 4 / (taps * c)), [&](int64_t begin, int64_t end) {
          int32_t sums[kChannelsAtOnce];
          const int16_t* rows[kTapsAtOnce];
          for (int64_t i = begin; i < end; ++i)
            for (int64_t first = 0; first < c; first += kChannelsAtOnce) {
              const int64_t n = std::min(kChannelsAtOnce, c - first);
              std::fill_n(sums, n, 0);
              for (int64_t t = 0; t < taps; t += kTapsAtOnce) {
                const int64_t some = std::min(kTapsAtOnce, taps - t);
                FillRows(x + first, i, 1, t, t + some, rows, 1);
                CodeDepthwise(rows, some, packed.as<int16_t>() + t * c + first, c, n, sums);
              }
              StoreSums(e, sums, 1, first, n, y.residual(i, first), y.at(i, first));
            }
        });
  }
};

bool HasKernel(const Type& x, const Type& y) {
  return IsByte(x.dtype) && x.ranked && x.dims.rank() >= 3 && x.dims.rank() <= 2 + kMaxAxes &&
         (y.dtype == DType::kI32 || y.dtype == DType::kF32 || IsByte(y.dtype));
}

// Zero points are read when the kernel runs, those of the weights when they are packed.
bool ZerosFit(const ProductInputs& in, const LowerContext& ctx, int64_t outputs) {
  const auto count = [&](int i) {
    return i < 0 || !ctx.has(i) ? int64_t{1} : CountOf(ctx.input(i).dims);
  };
  return count(in.a_zero) == 1 && (count(in.b_zero) == 1 || count(in.b_zero) == outputs);
}

}  // namespace

Result<KernelPtr> LowerCodeConv(const ConvAttrs& attrs, const ProductInputs& in,
                                const CodeStoreAttrs& store, LowerContext& ctx) {
  const Type& x = ctx.input(in.a);
  const Tensor* w = ctx.value(in.b);
  const bool zero_known = in.b_zero < 0 || !ctx.has(in.b_zero) || ctx.value(in.b_zero) != nullptr;
  if (!HasKernel(x, ctx.output(0)) || ctx.output_layout(0) != Layout::kChannelsLast ||
      w == nullptr || !IsByte(w->dtype()) || !zero_known)
    return KernelPtr();
  auto kernel = std::make_unique<CodeConvKernel>();
  CodeConvKernel& k = *kernel;
  k.shape = TRY(ResolveConv(attrs, x.dims, w->dims()));
  if (CountOf(ctx.output(0).dims) == 0 || k.shape.channels == 0 ||
      !EpilogueFits(ctx, in, k.shape.outputs, 1) || !ZerosFit(in, ctx, k.shape.outputs))
    return KernelPtr();
  k.in = in;
  k.store = store;
  k.geometry = GeometryOf(k.shape);
  k.x_last = ctx.input_layout(in.a) == Layout::kChannelsLast;
  k.panels = MakeCodePanels(k.group_outputs());
  k.zeros = TRY(Tensor::Zeros(DType::kI16, {k.pixel_codes()}));
  const Tensor* zero = in.b_zero >= 0 && ctx.has(in.b_zero) ? ctx.value(in.b_zero) : nullptr;
  const std::string recipe =
      fmt::format("codes conv {} groups {} outputs {} channels {} taps {} panels of {} zero {}",
                  DTypeName(w->dtype()), k.shape.group, k.shape.outputs, k.shape.channels,
                  k.shape.taps(), k.panels.width, ZeroText(zero));
  k.packed = TRY(ctx.weights().Get(*w, recipe, [&](const Tensor& t) { return k.Pack(t, zero); }));
  return KernelPtr(std::move(kernel));
}

LayoutPlan CodeConvLayouts(const ProductInputs& in, const LayoutQuery& query) {
  LayoutPlan plan;
  plan.inputs.assign(query.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(query.outputs.size(), Layout::kRowMajor);
  if (!HasKernel(query.inputs[size_t(in.a)], query.outputs[0]) || !query.constant[size_t(in.b)])
    return plan;
  // Widening copies the input anyway.
  plan.inputs[size_t(in.a)] = query.current[size_t(in.a)];
  plan.outputs[0] = Layout::kChannelsLast;
  if (in.residual >= 0 && size_t(in.residual) < plan.inputs.size())
    plan.inputs[size_t(in.residual)] = Layout::kChannelsLast;
  return plan;
}

}  // namespace dunlin
