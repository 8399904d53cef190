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

  // A product of the input's pixels as they lie.
  bool pointwise() const {
    if (shape.group != 1) return false;
    for (const ConvAxis& a : geometry.axis)
      if (a.kernel != 1 || a.stride != 1 || a.pad != 0 || a.in != a.out) return false;
    return true;
  }
  // Columns that an item has, in panels.
  int64_t wide() const { return std::max<int64_t>(1, kSumColumns / panels.width); }
  int64_t column_items() const { return (panels.count + wide() - 1) / wide(); }

  Status Run(RunContext& ctx) const override {
    auto* const x = static_cast<int16_t*>(ctx.scratch());
    const Input input{ctx.in(in.a), in.a_zero >= 0 && ctx.has(in.a_zero)
                                        ? CodeAt(ctx.in(in.a_zero).dtype, ctx.in(in.a_zero).data, 0)
                                        : 0};
    const PreparedEpilogue p =
        PrepareEpilogue(ctx, in, store, shape.outputs, ctx.out(0).dtype,
                        static_cast<std::byte*>(ctx.scratch()) + epilogue_at());
    const bool widen_rows = pointwise() && column_items() == 1;
    if (!widen_rows) Widen(ctx, input, x);
    const Rows y(ctx, in, p, shape.outputs);
    depthwise() ? Depthwise(ctx, x, y) : Multiply(ctx, input, widen_rows, x, y);
    return {};
  }

 private:
  struct Input {
    const TensorView& codes;
    int32_t zero;
  };

  void Widen(RunContext& ctx, const Input& x, int16_t* to) const {
    const int64_t plane = geometry.in_pixels();
    // Blocks of pixels of one image, small enough that what is written stays in the cache.
    const int64_t block = std::max<int64_t>(1, 8192 / pixel_codes());
    const int64_t blocks = (plane + block - 1) / block;
    ctx.ParallelFor(shape.batch * blocks, 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % blocks * block;
        WidenBlock(x, i / blocks, first, std::min(block, plane - first), to);
      }
    });
  }
  // Pixels [first, first + count) of an image to their place in `to`.
  void WidenBlock(const Input& x, int64_t image, int64_t first, int64_t count, int16_t* to) const {
    const int64_t plane = geometry.in_pixels(), codes = pixel_codes(), k = group_channels();
    const int64_t per_group = codes / shape.group, c = shape.channels;
    const auto* bytes = static_cast<const uint8_t*>(x.codes.data);
    to += (image * plane + first) * codes;
    const bool even = per_group == k || depthwise();
    if (!x_last) {
      if (even) {
        WidenPlanes(x.codes.dtype, bytes + image * c * plane + first, plane, c, x.zero, count, to,
                    codes);
        return;
      }
      for (int64_t g = 0; g < shape.group; ++g)
        WidenPlanes(x.codes.dtype, bytes + (image * c + g * k) * plane + first, plane, k, x.zero,
                    count, to + g * per_group, codes);
    } else if (even) {
      WidenCodes(x.codes.dtype, bytes + (image * plane + first) * c, x.zero, count * c, to);
      return;
    } else {
      for (int64_t p = 0; p < count; ++p)
        for (int64_t g = 0; g < shape.group; ++g)
          WidenCodes(x.codes.dtype, bytes + (image * plane + first + p) * c + g * k, x.zero, k,
                     to + p * codes + g * per_group);
    }
    for (int64_t p = 0; p < count; ++p)
      for (int64_t g = 0; g < shape.group; ++g) to[p * codes + g * per_group + k] = 0;
  }

  // Where an output pixel's window begins.
  struct Corner {
    int64_t image, z, y, x;
  };
  // Of output pixels from `first` on.
  void FillCorners(int64_t first, int64_t count, Corner* to) const {
    const ConvAxis *d = &geometry.axis[0], *h = &geometry.axis[1], *w = &geometry.axis[2];
    int64_t ow = first % w->out, rest = first / w->out, oh = rest % h->out;
    rest /= h->out;
    int64_t od = rest % d->out, image = rest / d->out;
    for (int64_t i = 0; i < count; ++i) {
      to[i] = {image, od * d->stride - d->pad, oh * h->stride - h->pad, ow * w->stride - w->pad};
      if (++ow < w->out) continue;
      ow = 0;
      if (++oh < h->out) continue;
      oh = 0;
      if (++od < d->out) continue;
      od = 0;
      ++image;
    }
  }
  // The pixel under each tap [t_begin, t_end) of the windows at `corners`.
  void FillRows(const int16_t* x, const Corner* corners, int64_t m, int64_t t_begin, int64_t t_end,
                const int16_t** rows, int64_t row_stride) const {
    const ConvAxis *d = &geometry.axis[0], *h = &geometry.axis[1], *w = &geometry.axis[2];
    const int64_t plane = geometry.in_pixels(), codes = pixel_codes();
    for (int64_t t = t_begin; t < t_end; ++t, rows += row_stride) {
      const int64_t dx = t % w->kernel * w->dilation, dy = t / w->kernel % h->kernel * h->dilation,
                    dz = t / w->kernel / h->kernel * d->dilation;
      for (int64_t i = 0; i < m; ++i) {
        const int64_t px = corners[i].x + dx, py = corners[i].y + dy, pz = corners[i].z + dz;
        const bool inside = uint64_t(px) < uint64_t(w->in) && uint64_t(py) < uint64_t(h->in) &&
                            uint64_t(pz) < uint64_t(d->in);
        rows[i] = inside ? x + (corners[i].image * plane + (pz * h->in + py) * w->in + px) * codes
                         : zeros.as<int16_t>();
      }
    }
  }

  void Multiply(RunContext& ctx, const Input& input, bool widen_rows, int16_t* x,
                const Rows& y) const {
    const int64_t taps = geometry.taps(), m = shape.batch * geometry.out_pixels();
    const int64_t items = (m + kSumRows - 1) / kSumRows * column_items() * shape.group;
    const int64_t work = kSumRows * wide() * panels.width * taps * 2 * pairs();
    const int64_t group_codes = panels.packed_codes(taps * pairs());
    ctx.ParallelFor(
        items, std::max<int64_t>(1, kLeastSumWork / work), [&](int64_t begin, int64_t end) {
          alignas(64) int32_t sums[kSumRows * kSumColumns];
          const int16_t* rows[kSumRows * kTapsAtOnce];
          Corner corners[kSumRows];
          for (int64_t i = begin; i < end; ++i) {
            const int64_t column = i % column_items() * wide(),
                          group = i / column_items() % shape.group;
            const int64_t row = i / column_items() / shape.group * kSumRows;
            CodeProductArgs g;
            g.m = std::min(kSumRows, m - row);
            g.rows = rows;
            g.row_stride = kSumRows;
            g.pairs = pairs();
            g.packed = packed.as<int16_t>() + group * group_codes;
            g.packed_pairs = taps * pairs();
            g.c = sums;
            g.c_stride = kSumColumns;
            if (widen_rows) WidenPixels(input, row, g.m, x);
            if (pointwise())
              for (int64_t r = 0; r < g.m; ++r) rows[r] = x + (row + r) * pixel_codes();
            else
              FillCorners(row, g.m, corners);
            for (int64_t t = 0; t < taps; t += kTapsAtOnce) {
              g.taps = std::min(kTapsAtOnce, taps - t);
              g.first_pair = t * pairs();
              g.accumulate = t > 0;
              if (!pointwise())
                FillRows(x + group * 2 * pairs(), corners, g.m, t, t + g.taps, rows, kSumRows);
              CodeProduct(panels, g, column, std::min(column + wide(), panels.count));
            }
            y.Store(sums, kSumColumns, row, g.m, group * group_outputs() + column * panels.width,
                    std::min(wide() * panels.width, group_outputs() - column * panels.width));
          }
        });
  }
  // Pixels of the whole batch, which may be of two images.
  void WidenPixels(const Input& input, int64_t first, int64_t count, int16_t* to) const {
    const int64_t plane = geometry.in_pixels();
    for (int64_t at = first; at < first + count;) {
      const int64_t image = at / plane, n = std::min(first + count, (image + 1) * plane) - at;
      WidenBlock(input, image, at - image * plane, n, to);
      at += n;
    }
  }

  void Depthwise(RunContext& ctx, const int16_t* x, const Rows& y) const {
    const int64_t taps = geometry.taps(), c = shape.channels;
    const int64_t m = shape.batch * geometry.out_pixels();
    ctx.ParallelFor(
        m, std::max<int64_t>(1, kLeastSumWork / 4 / (taps * c)), [&](int64_t begin, int64_t end) {
          alignas(64) int32_t sums[kChannelsAtOnce];
          const int16_t* rows[kTapsAtOnce];
          Corner corner;
          for (int64_t i = begin; i < end; ++i) {
            FillCorners(i, 1, &corner);
            for (int64_t first = 0; first < c; first += kChannelsAtOnce) {
              const int64_t n = std::min(kChannelsAtOnce, c - first);
              std::fill_n(sums, n, 0);
              for (int64_t t = 0; t < taps; t += kTapsAtOnce) {
                const int64_t some = std::min(kTapsAtOnce, taps - t);
                FillRows(x + first, &corner, 1, t, t + some, rows, 1);
                CodeDepthwise(rows, some, packed.as<int16_t>() + t * c + first, c, n, sums);
              }
              y.Store(sums, kChannelsAtOnce, i, 1, first, n);
            }
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
