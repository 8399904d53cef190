// Convolutions of codes as exact products of integers over channels-last pixels.
#include <algorithm>

#include "ops/quant/code_pixels.h"
#include "ops/quant/code_weights.h"
#include "ops/quant/quant_conv_kernel.h"

namespace dunlin {
namespace {

constexpr int64_t kTapsAtOnce = 64;  // of pointers on the stack

// Bit for bit what the reference gives.
class CodeConvKernel final : public Kernel {
 public:
  ProductInputs in;
  CodeStoreAttrs store;
  ConvShape shape;
  CodePixels pixels;
  bool x_last = false;  // the input is stored channels-last
  CodeWeights weights;  // a part for every group; of depth-wise ones only `packed`

  int64_t group_channels() const { return shape.channels / shape.group; }
  int64_t group_outputs() const { return shape.outputs / shape.group; }

  std::string_view name() const override {
    if (pixels.joined()) return weights.bytes ? "bytes.rows" : "codes.rows";
    if (pixels.pointwise()) return weights.bytes ? "bytes.pointwise" : "codes.pointwise";
    return weights.bytes ? "bytes.indirect" : "codes.indirect";
  }
  InputUse uses(int input) const override {
    return input == in.b || input == in.b_zero ? InputUse::kNothing : InputUse::kValues;
  }
  // Codes that are read where the tensor has them.
  bool in_place() const { return weights.bytes && x_last && !pixels.joined(); }
  size_t BytesOf(int64_t codes) const {
    return size_t(codes * (weights.bytes ? 1 : 2) + 63) / 64 * 64;
  }
  size_t padding_at() const { return in_place() ? 0 : BytesOf(pixels.count()); }
  size_t epilogue_at() const { return padding_at() + BytesOf(pixels.padding()); }
  size_t scratch_bytes() const override { return epilogue_at() + EpilogueBytes(shape.outputs); }

  Result<Tensor> Pack(const Tensor& w, const Tensor* zero) const {
    const int64_t places = shape.taps(), channels = group_channels();
    const auto code = [&](int64_t output, int64_t channel, int64_t place) {
      const int32_t z =
          zero == nullptr ? 0 : CodeAt(zero->dtype(), zero->raw(), zero->count() == 1 ? 0 : output);
      return int16_t(CodeAt(w.dtype(), w.raw(), (output * channels + channel) * places + place) -
                     z);
    };
    return weights.Pack([&](int64_t g, int64_t t, int64_t k, int64_t n) {
      return code(g * group_outputs() + n, pixels.ChannelOf(k), pixels.PlaceOf(t, k));
    });
  }

  // Columns that an item has, in panels.
  int64_t wide() const { return std::max<int64_t>(1, kSumColumns / weights.panels.width); }
  int64_t column_items() const { return (weights.panels.count + wide() - 1) / wide(); }

  Status Run(RunContext& ctx) const override {
    weights.bytes ? RunOn<uint8_t>(ctx) : RunOn<int16_t>(ctx);
    return {};
  }

 private:
  struct Input {
    const TensorView& codes;
    int32_t zero;
  };

  template <class Code>
  void RunOn(RunContext& ctx) const {
    auto* const memory = static_cast<std::byte*>(ctx.scratch());
    auto* const x = reinterpret_cast<Code*>(memory);
    const Input input{ctx.in(in.a), in.a_zero >= 0 && ctx.has(in.a_zero)
                                        ? CodeAt(ctx.in(in.a_zero).dtype, ctx.in(in.a_zero).data, 0)
                                        : 0};
    PreparedEpilogue p =
        PrepareEpilogue(ctx, in, store, shape.outputs, ctx.out(0).dtype, memory + epilogue_at());
    if (weights.bytes)
      SubtractZero(p, memory + epilogue_at(), shape.outputs, weights.totals(),
                   ByteZero(input.codes.dtype, input.zero));
    std::fill_n(reinterpret_cast<Code*>(memory + padding_at()), pixels.padding(),
                PaddingCode<Code>(input.zero));
    const bool read_rows = pixels.pointwise() && column_items() == 1;
    if (!in_place() && !read_rows) Read(ctx, input, x);
    const Rows y(ctx, in, p, shape.outputs);
    Multiply(ctx, input, read_rows, x, y);
  }

  template <class Code>
  void Read(RunContext& ctx, const Input& x, Code* to) const {
    ctx.ParallelFor(pixels.blocks(), 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        pixels.ReadBlock(x.codes.dtype, x.codes.data, x_last, x.zero, i, to);
    });
  }
  template <class Code>
  const Code* Padding(RunContext& ctx) const {
    return reinterpret_cast<const Code*>(static_cast<const std::byte*>(ctx.scratch()) +
                                         padding_at());
  }

  template <class Code>
  void Multiply(RunContext& ctx, const Input& input, bool read_rows, Code* memory,
                const Rows& y) const {
    const Code* const x = in_place() ? static_cast<const Code*>(input.codes.data) : memory;
    const int64_t taps = pixels.taps(), width = weights.panels.width;
    const int64_t m = shape.batch * shape.out_pixels();
    const int64_t items = (m + kSumRows - 1) / kSumRows * column_items() * shape.group;
    const int64_t work = kSumRows * wide() * width * taps * pixels.tap_codes();
    const int64_t stride = std::min(wide(), weights.panels.count) * width;
    ctx.ParallelFor(
        items, std::max<int64_t>(1, kLeastSumWork / work), [&](int64_t begin, int64_t end) {
          alignas(64) int32_t sums[kSumRows * kSumColumns + 64];
          const Code* rows[kSumRows * kTapsAtOnce];
          WindowCorner corners[kSumRows];
          CodeRows<Code> some;
          some.at = rows;
          some.stride = kSumRows;
          some.is_signed = input.codes.dtype == DType::kI8;
          // Rows that are read where they are needed all go to the first one's place, which no
          // other range has.
          Code* const own = memory + begin * kSumRows * pixels.pixel_codes();
          for (int64_t i = begin; i < end; ++i) {
            const int64_t column = i % column_items() * wide(),
                          group = i / column_items() % shape.group;
            const int64_t row = i / column_items() / shape.group * kSumRows;
            some.m = std::min(kSumRows, m - row);
            const bool here = read_rows && !in_place();
            if (here)
              pixels.ReadPixels(input.codes.dtype, input.codes.data, x_last, input.zero, row,
                                some.m, own);
            if (pixels.pointwise())
              for (int64_t r = 0; r < some.m; ++r)
                rows[r] =
                    here ? own + r * pixels.pixel_codes() : x + (row + r) * pixels.pixel_codes();
            else
              pixels.FillCorners(row, some.m, corners);
            for (int64_t t = 0; t < taps; t += kTapsAtOnce) {
              some.first_tap = t;
              some.taps = std::min(kTapsAtOnce, taps - t);
              if (!pixels.pointwise())
                pixels.FillRows(x + group * pixels.group_codes(), Padding<Code>(ctx), corners,
                                some.m, t, t + some.taps, rows, kSumRows);
              weights.Multiply(weights.part(group), some, column,
                               std::min(column + wide(), weights.panels.count), sums, stride);
            }
            y.Store(sums, stride, row, some.m, group * group_outputs() + column * width,
                    std::min(wide() * width, group_outputs() - column * width));
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
  if (HasDepthwiseKernel(k.shape))  // whose input is channels-last, as CodeConvLayouts asks
    return ctx.input_layout(in.a) == Layout::kChannelsLast
               ? LowerCodeDepthwise(k.shape, in, store, ctx)
               : Result<KernelPtr>(KernelPtr());
  const Tensor* zero = in.b_zero >= 0 && ctx.has(in.b_zero) ? ctx.value(in.b_zero) : nullptr;
  const bool bytes = MultiplyAsBytes(*w, zero, k.shape.outputs, w->count() / k.shape.outputs);
  // Four products an instruction are more than Winograd's method saves.
  if (!bytes && HasWinogradKernel(k.shape) && ctx.input_layout(in.a) == Layout::kChannelsLast &&
      WinogradIsExact(*w, zero))
    return LowerCodeWinograd(k.shape, in, store, ctx);
  if (HasGroupedKernel(k.shape)) return LowerCodeGrouped(k.shape, in, store, ctx);
  k.in = in;
  k.store = store;
  k.pixels = CodePixels(k.shape, bytes ? 1 : 2);
  k.x_last = ctx.input_layout(in.a) == Layout::kChannelsLast;
  k.weights = {bytes,           MakeCodePanels(k.group_outputs()),
               k.pixels.taps(), k.pixels.tap_codes(),
               k.shape.group,   {}};
  const std::string recipe = fmt::format(
      "codes conv {} {} groups {} outputs {} channels {} taps {} of {} panels of {} zero {}",
      bytes ? "bytes" : "pairs", DTypeName(w->dtype()), k.shape.group, k.shape.outputs,
      k.shape.channels, k.pixels.taps(), k.shape.taps(), k.weights.panels.width, ZeroText(zero));
  k.weights.packed =
      TRY(ctx.weights().Get(*w, recipe, [&](const Tensor& t) { return k.Pack(t, zero); }));
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
