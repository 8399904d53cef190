// Depth-wise convolutions of codes over channels-last bytes.
#include <algorithm>

#include "kernels/code_depthwise.h"
#include "ops/quant/code_pixels.h"
#include "ops/quant/quant_conv_kernel.h"
#include "ops/quant/sums.h"

namespace dunlin {
namespace {

// Sums of a block of channels that stay in the first-level cache with what they are made of.
constexpr int64_t kOutputsAtOnce = 56;

// Bit for bit what the reference gives.
class CodeDepthwiseKernel final : public Kernel {
 public:
  ProductInputs in;
  CodeStoreAttrs store;
  ConvShape shape;
  ConvGeometry geometry;
  CodeDepthwiseShape window;
  Tensor packed;         // the weights
  Tensor weight_totals;  // i32 [channels]: the sums of each channel's
  int64_t shares = 1;    // of the work, each with its own memory
  // What is made at once: strips of neighbouring pixels of output rows that lie above each other.
  int64_t pixels = 1, strips = 1;

  std::string_view name() const override { return "codes.depthwise"; }
  InputUse uses(int input) const override {
    return input == in.b || input == in.b_zero ? InputUse::kNothing : InputUse::kValues;
  }

  void Cut() {
    const ConvAxis &h = geometry.axis[1], &w = geometry.axis[2];
    const int64_t cuts = (w.out + kOutputsAtOnce - 1) / kOutputsAtOnce;
    pixels = (w.out + cuts - 1) / cuts;
    // Some windows' rows do not follow each other, and every thread wants something to do.
    const int64_t rows = geometry.axis[0].kernel > 1 || h.dilation > 1
                             ? 1
                             : h.out * geometry.axis[0].out * shape.batch * cuts / (2 * shares);
    strips = std::clamp<int64_t>(std::min(rows, kOutputsAtOnce / pixels), 1, h.out);
  }

  // Scratch: the epilogue's, what each channel starts with, a pixel of the padding; and of every
  // share pointers and sums.
  int64_t list_rows() const { return (strips - 1) * geometry.axis[1].stride + window.rows; }
  int64_t list_columns() const { return window.columns(pixels); }
  static size_t Aligned(int64_t bytes) { return size_t(bytes + 63) / 64 * 64; }
  size_t starts_at() const { return Aligned(int64_t(EpilogueBytes(shape.channels))); }
  size_t zeros_at() const { return starts_at() + Aligned(shape.channels * 4); }
  size_t shares_at() const { return zeros_at() + Aligned(shape.channels); }
  size_t list_bytes() const {
    return Aligned(list_rows() * list_columns() * int64_t(sizeof(void*)));
  }
  size_t share_bytes() const {
    return list_bytes() + Aligned((strips * pixels * kCodeDepthwiseBlock + 63) * 4);
  }
  size_t scratch_bytes() const override { return shares_at() + size_t(shares) * share_bytes(); }

  Status Run(RunContext& ctx) const override {
    auto* const memory = static_cast<std::byte*>(ctx.scratch());
    const int32_t zero = in.a_zero >= 0 && ctx.has(in.a_zero)
                             ? CodeAt(ctx.in(in.a_zero).dtype, ctx.in(in.a_zero).data, 0)
                             : 0;
    const PreparedEpilogue p =
        PrepareEpilogue(ctx, in, store, shape.channels, ctx.out(0).dtype, memory);
    auto* const starts = reinterpret_cast<int32_t*>(memory + starts_at());
    for (int64_t c = 0; c < shape.channels; ++c)
      starts[c] = int32_t(uint32_t(-zero) * uint32_t(weight_totals.as<int32_t>()[c]));
    auto* const zeros = reinterpret_cast<uint8_t*>(memory + zeros_at());
    std::fill_n(zeros, shape.channels, uint8_t(zero));
    const Rows y(ctx, in, p, shape.channels);
    const int64_t parts = items();
    const int64_t work = shape.batch * shape.out_pixels() * shape.channels * shape.taps();
    ctx.ParallelFor(shares, work < kLeastSumWork ? shares : 1, [&](int64_t begin, int64_t end) {
      for (int64_t share = begin; share < end; ++share) {
        std::byte* const own = memory + shares_at() + size_t(share) * share_bytes();
        const Place place{ctx.in(in.a), starts, zeros, reinterpret_cast<const void**>(own),
                          reinterpret_cast<int32_t*>(own + list_bytes())};
        for (int64_t i = parts * share / shares; i < parts * (share + 1) / shares; ++i)
          RunItem(place, y, i);
      }
    });
    return {};
  }

 private:
  struct Place {
    const TensorView& x;
    const int32_t* starts;
    const uint8_t* zeros;
    const void** lists;
    int32_t* sums;
  };
  int64_t row_cuts() const { return (geometry.axis[1].out + strips - 1) / strips; }
  int64_t column_cuts() const { return (geometry.axis[2].out + pixels - 1) / pixels; }
  int64_t items() const { return shape.batch * geometry.axis[0].out * row_cuts() * column_cuts(); }

  void RunItem(const Place& place, const Rows& y, int64_t item) const {
    const ConvAxis &d = geometry.axis[0], &h = geometry.axis[1], &w = geometry.axis[2];
    const int64_t ox = item % column_cuts() * pixels,
                  oy = item / column_cuts() % row_cuts() * strips,
                  oz = item / column_cuts() / row_cuts() % d.out,
                  image = item / column_cuts() / row_cuts() / d.out;
    const int64_t columns = std::min(pixels, w.out - ox), c = shape.channels;
    CodeDepthwiseArgs a;
    a.strips = std::min(strips, h.out - oy);
    FillLists(place, image, oz, oy, ox, a.strips, window.columns(columns));
    a.x = place.lists;
    a.x_stride = list_columns();
    a.strip_stride = h.stride * list_columns();
    a.is_signed = place.x.dtype == DType::kI8;
    a.packed = packed.as<int16_t>();
    a.pixels = columns;
    a.sums = place.sums;
    a.sums_stride = kCodeDepthwiseBlock;
    for (int64_t first = 0; first < c; first += kCodeDepthwiseBlock) {
      const int64_t n = std::min(kCodeDepthwiseBlock, c - first);
      a.start = place.starts;
      CodeDepthwise(window, a, first, first + n);
      for (int64_t s = 0; s < a.strips; ++s)
        y.Store(a.sums + s * columns * a.sums_stride, a.sums_stride,
                ((image * d.out + oz) * h.out + oy + s) * w.out + ox, columns, first, n);
    }
  }

  // The first `columns` input pixels of every input row that the strips read.
  void FillLists(const Place& place, int64_t image, int64_t oz, int64_t oy, int64_t ox,
                 int64_t count, int64_t columns) const {
    const ConvAxis &d = geometry.axis[0], &h = geometry.axis[1], &w = geometry.axis[2];
    const auto* const x = static_cast<const uint8_t*>(place.x.data);
    const int64_t c = shape.channels;
    const auto fill = [&](int64_t row, int64_t iz, int64_t iy) {
      const bool inside = uint64_t(iz) < uint64_t(d.in) && uint64_t(iy) < uint64_t(h.in);
      const uint8_t* const line =
          inside ? x + ((image * d.in + iz) * h.in + iy) * w.in * c : nullptr;
      FillCodePixels(line, w.in, c, ox * w.stride - w.pad, columns, place.zeros,
                     place.lists + row * list_columns());
    };
    const int64_t z = oz * d.stride - d.pad, top = oy * h.stride - h.pad;
    if (count > 1)
      for (int64_t r = 0; r < (count - 1) * h.stride + h.kernel; ++r) fill(r, z, top + r);
    else
      for (int64_t r = 0; r < window.rows; ++r)
        fill(r, z + r / h.kernel * d.dilation, top + r % h.kernel * h.dilation);
  }
};

}  // namespace

bool HasDepthwiseKernel(const ConvShape& s) {
  return s.group > 1 && s.group == s.channels && s.outputs == s.channels;
}

Result<KernelPtr> LowerCodeDepthwise(const ConvShape& shape, const ProductInputs& in,
                                     const CodeStoreAttrs& store, LowerContext& ctx) {
  auto kernel = std::make_unique<CodeDepthwiseKernel>();
  CodeDepthwiseKernel& k = *kernel;
  k.in = in;
  k.store = store;
  k.shape = shape;
  k.geometry = CodePixels(shape, 1).geometry();
  const Tensor& w = *ctx.value(in.b);
  const Tensor* zero = in.b_zero >= 0 && ctx.has(in.b_zero) ? ctx.value(in.b_zero) : nullptr;
  const ConvAxis* const axis = k.geometry.axis;
  const int64_t taps = shape.taps(), c = shape.channels;
  k.window = {c, axis[0].kernel * axis[1].kernel, axis[2].kernel, axis[2].stride, axis[2].dilation};
  k.shares = std::max(1, ctx.threads());
  k.Cut();
  const auto code = [&, zero](const Tensor& t, int64_t channel, int64_t tap) {
    const int32_t z =
        zero == nullptr ? 0 : CodeAt(zero->dtype(), zero->raw(), zero->count() == 1 ? 0 : channel);
    return int16_t(CodeAt(t.dtype(), t.raw(), channel * taps + tap) - z);
  };
  const std::string recipe = fmt::format(
      "codes depthwise {} channels {} kernel {}x{} vectors of {} zero {}", DTypeName(w.dtype()), c,
      k.window.rows, k.window.taps, CodeDepthwiseWidth(), ZeroText(zero));
  k.packed = TRY(ctx.weights().Get(w, recipe, [&](const Tensor& t) -> Result<Tensor> {
    const Tensor plain = TRY(Tensor::Create(DType::kI16, {taps * c}));
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t i = 0; i < c; ++i) plain.mut<int16_t>()[tap * c + i] = code(t, i, tap);
    Tensor p = TRY(Tensor::Create(DType::kI16, {CodeDepthwisePackedCodes(k.window)}));
    PackCodeDepthwise(k.window, plain.as<int16_t>(), p.mut<int16_t>());
    return p;
  }));
  k.weight_totals = TRY(Tensor::Zeros(DType::kI32, {c}));
  for (int64_t i = 0; i < c; ++i)
    for (int64_t tap = 0; tap < taps; ++tap) k.weight_totals.mut<int32_t>()[i] += code(w, i, tap);
  return KernelPtr(std::move(kernel));
}

}  // namespace dunlin
