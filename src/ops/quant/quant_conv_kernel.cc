// Convolutions of codes as exact products of 16-bit integers over channels-last pixels.
#include <algorithm>

#include "kernels/code_product.h"
#include "ops/quant/code_pixels.h"
#include "ops/quant/quant_conv_kernel.h"
#include "ops/quant/sums.h"

namespace dunlin {
namespace {

constexpr int64_t kTapsAtOnce = 64;       // of pointers on the stack
constexpr int64_t kChannelsAtOnce = 512;  // of a depthwise pixel's sums on the stack

// Bit for bit what the reference gives.
class CodeConvKernel final : public Kernel {
 public:
  ProductInputs in;
  CodeStoreAttrs store;
  ConvShape shape;
  CodePixels pixels;
  bool x_last = false;  // the input is stored channels-last
  CodePanels panels;    // of one group
  Tensor packed, zeros;

  int64_t group_channels() const { return shape.channels / shape.group; }
  int64_t group_outputs() const { return shape.outputs / shape.group; }
  bool depthwise() const { return IsDepthwise(shape); }
  static bool IsDepthwise(const ConvShape& s) {
    return s.group > 1 && s.channels == s.group && s.outputs == s.group;
  }

  std::string_view name() const override {
    return depthwise()          ? "codes.depthwise"
           : pixels.joined()    ? "codes.rows"
           : pixels.pointwise() ? "codes.pointwise"
                                : "codes.indirect";
  }
  InputUse uses(int input) const override {
    return input == in.b || input == in.b_zero ? InputUse::kNothing : InputUse::kValues;
  }
  size_t epilogue_at() const { return size_t(pixels.count() * 2 + 63) / 64 * 64; }
  size_t scratch_bytes() const override { return epilogue_at() + EpilogueBytes(shape.outputs); }

  Result<Tensor> Pack(const Tensor& w, const Tensor* zero) const {
    const int64_t places = shape.taps(), channels = group_channels();
    const auto code = [&](int64_t output, int64_t channel, int64_t place) {
      const int32_t z =
          zero == nullptr ? 0 : CodeAt(zero->dtype(), zero->raw(), zero->count() == 1 ? 0 : output);
      return int16_t(CodeAt(w.dtype(), w.raw(), (output * channels + channel) * places + place) -
                     z);
    };
    if (depthwise()) {
      Tensor p = TRY(Tensor::Create(DType::kI16, {places * shape.channels}));
      for (int64_t t = 0; t < places; ++t)
        for (int64_t c = 0; c < shape.channels; ++c)
          p.mut<int16_t>()[t * shape.channels + c] = code(c, 0, t);
      return p;
    }
    const int64_t group_codes = panels.packed_codes(pixels.taps() * pixels.pairs());
    Tensor p = TRY(Tensor::Create(DType::kI16, {shape.group * group_codes}));
    for (int64_t g = 0; g < shape.group; ++g)
      PackCodes(
          panels, pixels.taps(), pixels.tap_codes(), 0, panels.count,
          [&](int64_t t, int64_t k, int64_t n) {
            return code(g * group_outputs() + n, pixels.ChannelOf(k), pixels.PlaceOf(t, k));
          },
          p.mut<int16_t>() + g * group_codes);
    return p;
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
    const bool widen_rows = pixels.pointwise() && column_items() == 1;
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
    ctx.ParallelFor(pixels.blocks(), 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        pixels.WidenBlock(x.codes.dtype, x.codes.data, x_last, x.zero, i, to);
    });
  }

  void Multiply(RunContext& ctx, const Input& input, bool widen_rows, int16_t* x,
                const Rows& y) const {
    const int64_t taps = pixels.taps(), pairs = pixels.pairs();
    const int64_t m = shape.batch * shape.out_pixels();
    const int64_t items = (m + kSumRows - 1) / kSumRows * column_items() * shape.group;
    const int64_t work = kSumRows * wide() * panels.width * taps * 2 * pairs;
    const int64_t group_codes = panels.packed_codes(taps * pairs);
    ctx.ParallelFor(
        items, std::max<int64_t>(1, kLeastSumWork / work), [&](int64_t begin, int64_t end) {
          alignas(64) int32_t sums[kSumRows * kSumColumns + 64];
          const int16_t* rows[kSumRows * kTapsAtOnce];
          WindowCorner corners[kSumRows];
          for (int64_t i = begin; i < end; ++i) {
            const int64_t column = i % column_items() * wide(),
                          group = i / column_items() % shape.group;
            const int64_t row = i / column_items() / shape.group * kSumRows;
            CodeProductArgs g;
            g.m = std::min(kSumRows, m - row);
            g.rows = rows;
            g.row_stride = kSumRows;
            g.pairs = pairs;
            g.packed = packed.as<int16_t>() + group * group_codes;
            g.packed_pairs = taps * pairs;
            g.c = sums;
            g.c_stride = kSumColumns;
            if (widen_rows)
              pixels.WidenPixels(input.codes.dtype, input.codes.data, x_last, input.zero, row, g.m,
                                 x);
            if (pixels.pointwise())
              for (int64_t r = 0; r < g.m; ++r) rows[r] = x + (row + r) * pixels.pixel_codes();
            else
              pixels.FillCorners(row, g.m, corners);
            for (int64_t t = 0; t < taps; t += kTapsAtOnce) {
              g.taps = std::min(kTapsAtOnce, taps - t);
              g.first_pair = t * pairs;
              g.accumulate = t > 0;
              if (!pixels.pointwise())
                pixels.FillRows(x + group * pixels.group_codes(), zeros.as<int16_t>(), corners, g.m,
                                t, t + g.taps, rows, kSumRows);
              CodeProduct(panels, g, column, std::min(column + wide(), panels.count));
            }
            y.Store(sums, kSumColumns, row, g.m, group * group_outputs() + column * panels.width,
                    std::min(wide() * panels.width, group_outputs() - column * panels.width));
          }
        });
  }
  void Depthwise(RunContext& ctx, const int16_t* x, const Rows& y) const {
    const int64_t taps = pixels.taps(), c = shape.channels;
    const int64_t m = shape.batch * shape.out_pixels();
    ctx.ParallelFor(
        m, std::max<int64_t>(1, kLeastSumWork / 4 / (taps * c)), [&](int64_t begin, int64_t end) {
          alignas(64) int32_t sums[kChannelsAtOnce + 64];
          const int16_t* rows[kTapsAtOnce];
          WindowCorner corner;
          for (int64_t i = begin; i < end; ++i) {
            pixels.FillCorners(i, 1, &corner);
            for (int64_t first = 0; first < c; first += kChannelsAtOnce) {
              const int64_t n = std::min(kChannelsAtOnce, c - first);
              std::fill_n(sums, n, 0);
              for (int64_t t = 0; t < taps; t += kTapsAtOnce) {
                const int64_t some = std::min(kTapsAtOnce, taps - t);
                pixels.FillRows(x + first, zeros.as<int16_t>(), &corner, 1, t, t + some, rows, 1);
                CodeDepthwise(rows, some, packed.as<int16_t>() + t * c + first, c, n, sums);
              }
              y.Store(sums, kChannelsAtOnce, i, 1, first, n);
            }
          }
        });
  }
};

bool HasKernel(const Type& x, const Type& y) {
  return IsByte(x.dtype) && x.ranked && x.dims.rank() >= 3 && x.dims.rank() <= 5 &&
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
  if (HasDepthwiseKernel(k.shape) && ctx.input_layout(in.a) == Layout::kChannelsLast)
    return LowerCodeDepthwise(k.shape, in, store, ctx);
  const Tensor* zero = in.b_zero >= 0 && ctx.has(in.b_zero) ? ctx.value(in.b_zero) : nullptr;
  if (HasWinogradKernel(k.shape) && ctx.input_layout(in.a) == Layout::kChannelsLast &&
      WinogradIsExact(*w, zero))
    return LowerCodeWinograd(k.shape, in, store, ctx);
  k.in = in;
  k.store = store;
  k.pixels = CodePixels(k.shape, CodeConvKernel::IsDepthwise(k.shape));
  k.x_last = ctx.input_layout(in.a) == Layout::kChannelsLast;
  k.panels = MakeCodePanels(k.group_outputs());
  k.zeros = TRY(Tensor::Zeros(DType::kI16, {k.pixels.zeros()}));
  const std::string recipe = fmt::format(
      "codes conv {} groups {} outputs {} channels {} taps {} of {} panels of {} zero {}",
      DTypeName(w->dtype()), k.shape.group, k.shape.outputs, k.shape.channels, k.pixels.taps(),
      k.shape.taps(), k.panels.width, ZeroText(zero));
  k.packed = TRY(ctx.weights().Get(*w, recipe, [&](const Tensor& t) { return k.Pack(t, zero); }));
  return KernelPtr(std::move(kernel));
}

LayoutPlan CodeConvLayouts(const ConvAttrs& attrs, const ProductInputs& in,
                           const LayoutQuery& query) {
  LayoutPlan plan;
  plan.inputs.assign(query.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(query.outputs.size(), Layout::kRowMajor);
  if (!HasKernel(query.inputs[size_t(in.a)], query.outputs[0]) || !query.constant[size_t(in.b)])
    return plan;
  // Widening copies the input anyway; some kernels widen in registers.
  const auto shape =
      ResolveConv(attrs, query.inputs[size_t(in.a)].dims, query.inputs[size_t(in.b)].dims);
  plan.inputs[size_t(in.a)] = shape && (HasDepthwiseKernel(*shape) || HasWinogradKernel(*shape))
                                  ? Layout::kChannelsLast
                                  : query.current[size_t(in.a)];
  plan.outputs[0] = Layout::kChannelsLast;
  if (in.residual >= 0 && size_t(in.residual) < plan.inputs.size())
    plan.inputs[size_t(in.residual)] = Layout::kChannelsLast;
  return plan;
}

}  // namespace dunlin
