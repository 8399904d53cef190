// Convolutions of codes with 3x3 windows at stride 1 by Winograd's method, in exact integers.
#include <algorithm>
#include <cstdlib>

#include "kernels/code_winograd.h"
#include "ops/quant/code_pixels.h"
#include "ops/quant/quant_conv_kernel.h"
#include "ops/quant/sums.h"

namespace dunlin {
namespace {

constexpr int64_t kReadBeyond = 63;     // by the epilogue's widest vectors, see SumBlock
constexpr int64_t kColumnsAtOnce = 64;  // whose sums of a block of tiles stay in the nearer caches

// Bit for bit what the reference gives.
class CodeWinogradKernel final : public Kernel {
 public:
  ProductInputs in;
  CodeStoreAttrs store;
  ConvShape shape;
  ConvGeometry geometry;
  CodeWinogradShape winograd;
  Tensor packed;
  int64_t shares = 1;  // of the work, each with its own memory

  std::string_view name() const override { return "codes.winograd"; }
  InputUse uses(int input) const override {
    return input == in.b || input == in.b_zero ? InputUse::kNothing : InputUse::kValues;
  }
  int64_t sums_columns() const {
    return std::min(kColumnsAtOnce / winograd.panels.width * winograd.panels.width,
                    winograd.panels.padded());
  }
  static size_t Aligned(int64_t bytes) { return size_t(bytes + 63) / 64 * 64; }
  // A share's: the transforms', then sums of output pixels.
  size_t share_bytes() const {
    return Aligned(winograd.scratch_bytes()) +
           Aligned((4 * kCodeWinogradTiles * sums_columns() + kReadBeyond) * 4);
  }
  size_t zeros_at() const { return Aligned(int64_t(EpilogueBytes(shape.outputs))); }
  size_t shares_at() const { return zeros_at() + Aligned(shape.channels); }
  size_t scratch_bytes() const override { return shares_at() + size_t(shares) * share_bytes(); }

  Status Run(RunContext& ctx) const override {
    auto* const memory = static_cast<std::byte*>(ctx.scratch());
    const int32_t zero = in.a_zero >= 0 && ctx.has(in.a_zero)
                             ? CodeAt(ctx.in(in.a_zero).dtype, ctx.in(in.a_zero).data, 0)
                             : 0;
    const PreparedEpilogue p =
        PrepareEpilogue(ctx, in, store, shape.outputs, ctx.out(0).dtype, memory);
    auto* const zeros = reinterpret_cast<uint8_t*>(memory + zeros_at());
    std::fill_n(zeros, shape.channels, uint8_t(zero));
    const Rows y(ctx, in, p, shape.outputs);
    const int64_t blocks = (tiles() + kCodeWinogradTiles - 1) / kCodeWinogradTiles;
    // Where blocks are few, threads have columns of the same block.
    const int64_t parts =
        blocks >= 2 * shares ? 1 : std::min<int64_t>(shares, winograd.panels.count);
    ctx.ParallelFor(shares, 1, [&](int64_t begin, int64_t end) {
      for (int64_t share = begin; share < end; ++share) {
        const Place place{&ctx.in(in.a), zero, zeros, memory + shares_at() + share * share_bytes()};
        for (int64_t i = blocks * parts * share / shares; i < blocks * parts * (share + 1) / shares;
             ++i)
          RunBlock(place, y, i / parts, winograd.panels.count * (i % parts) / parts,
                   winograd.panels.count * (i % parts + 1) / parts);
      }
    });
    return {};
  }

 private:
  struct Place {
    const TensorView* x;
    int32_t zero;
    const uint8_t* zeros;
    std::byte* memory;
  };
  int64_t tile_rows() const { return (geometry.axis[1].out + 1) / 2; }
  int64_t tile_columns() const { return (geometry.axis[2].out + 1) / 2; }
  int64_t tiles() const { return shape.batch * tile_rows() * tile_columns(); }

  // Panels [begin, end) of a block of tiles.
  void RunBlock(const Place& place, const Rows& y, int64_t block, int64_t begin,
                int64_t end) const {
    const void* pixels[16 * kCodeWinogradTiles];
    const int64_t first = block * kCodeWinogradTiles,
                  count = std::min(kCodeWinogradTiles, tiles() - first);
    FillPixels(place, first, count, pixels);
    CodeWinogradArgs a;
    a.x = pixels;
    a.is_signed = place.x->dtype == DType::kI8;
    a.zero = place.zero;
    a.tiles = count;
    a.packed = packed.as<int16_t>();
    a.scratch = place.memory;
    a.sums = reinterpret_cast<int32_t*>(place.memory + Aligned(winograd.scratch_bytes()));
    a.sums_stride = sums_columns();
    CodeWinogradInput(winograd, a);
    const int64_t width = winograd.panels.width, step = sums_columns() / width;
    for (int64_t p = begin; p < end; p += step) {
      const int64_t panels = std::min(step, end - p);
      CodeWinogradSums(winograd, a, p, p + panels);
      Store(y, a.sums, first, count, p * width,
            std::min(panels * width, shape.outputs - p * width));
    }
  }

  void FillPixels(const Place& place, int64_t first, int64_t count, const void** pixels) const {
    const ConvAxis &h = geometry.axis[1], &w = geometry.axis[2];
    const auto* x = static_cast<const uint8_t*>(place.x->data);
    for (int64_t t = 0; t < count; ++t) {
      const int64_t tile = first + t, image = tile / (tile_rows() * tile_columns());
      const int64_t top = tile / tile_columns() % tile_rows() * 2 - h.pad,
                    left = tile % tile_columns() * 2 - w.pad;
      for (int64_t i = 0; i < 16; ++i) {
        const int64_t py = top + i / 4, px = left + i % 4;
        const bool inside = uint64_t(py) < uint64_t(h.in) && uint64_t(px) < uint64_t(w.in);
        pixels[16 * t + i] =
            inside ? x + ((image * h.in + py) * w.in + px) * shape.channels : place.zeros;
      }
    }
  }

  // Of neighbouring tiles the same pixels lie two apart.
  void Store(const Rows& y, const int32_t* sums, int64_t first, int64_t count, int64_t column,
             int64_t n) const {
    const int64_t height = geometry.axis[1].out, width = geometry.axis[2].out;
    for (int64_t t = 0; t < count;) {
      const int64_t tile = first + t, tx = tile % tile_columns();
      const int64_t run = std::min(count - t, tile_columns() - tx);
      const int64_t oy = tile / tile_columns() % tile_rows() * 2,
                    image = tile / (tile_rows() * tile_columns());
      for (int64_t i = 0; i < 2 && oy + i < height; ++i)
        for (int64_t j = 0; j < 2; ++j) {
          const int64_t ox = 2 * tx + j, pixels = std::min(run, (width - ox + 1) / 2);
          if (pixels > 0)
            y.Store(sums + (4 * t + 2 * i + j) * sums_columns(), 4 * sums_columns(),
                    (image * height + oy + i) * width + ox, pixels, column, n, 0, 2);
        }
      t += run;
    }
  }
};

}  // namespace

bool HasWinogradKernel(const ConvShape& s) {
  // With fewer the transforms cost more than the products save.
  constexpr int64_t kLeastChannels = 16, kLeastOutputs = 16;
  if (s.window.size() != 2 || s.group != 1 || s.channels < kLeastChannels ||
      s.outputs < kLeastOutputs)
    return false;
  for (const WindowAxis& a : s.window)
    if (a.kernel != 3 || a.stride != 1 || a.dilation != 1 || a.out < 4) return false;
  return true;
}

bool WinogradIsExact(const Tensor& w, const Tensor* zero) {
  const int64_t outputs = w.dims()[0], each = w.count() / outputs;
  for (int64_t n = 0; n < outputs; ++n) {
    const int32_t z =
        zero == nullptr ? 0 : CodeAt(zero->dtype(), zero->raw(), zero->count() == 1 ? 0 : n);
    int64_t total = 0;
    for (int64_t i = n * each; i < (n + 1) * each; ++i)
      total += std::abs(CodeAt(w.dtype(), w.raw(), i) - z);
    if (!CodeWinogradFits(total)) return false;
  }
  return true;
}

Result<KernelPtr> LowerCodeWinograd(const ConvShape& shape, const ProductInputs& in,
                                    const CodeStoreAttrs& store, LowerContext& ctx) {
  auto kernel = std::make_unique<CodeWinogradKernel>();
  CodeWinogradKernel& k = *kernel;
  k.in = in;
  k.store = store;
  k.shape = shape;
  k.geometry = CodePixels(shape, 1).geometry();
  k.winograd.channels = shape.channels;
  k.winograd.panels = MakeCodePanels(shape.outputs);
  k.shares = std::max(1, ctx.threads());
  const Tensor& w = *ctx.value(in.b);
  const Tensor* zero = in.b_zero >= 0 && ctx.has(in.b_zero) ? ctx.value(in.b_zero) : nullptr;
  const std::string recipe = fmt::format(
      "codes winograd {} channels {} outputs {} panels of {} zero {}", DTypeName(w.dtype()),
      shape.channels, shape.outputs, k.winograd.panels.width, ZeroText(zero));
  const auto& s = k.winograd;
  k.packed = TRY(ctx.weights().Get(w, recipe, [&, zero](const Tensor& t) -> Result<Tensor> {
    Tensor p = TRY(Tensor::Create(DType::kI16, {s.packed_codes()}));
    const auto source = [&](int64_t tap, int64_t c, int64_t n) {
      const int32_t z =
          zero == nullptr ? 0 : CodeAt(zero->dtype(), zero->raw(), zero->count() == 1 ? 0 : n);
      return CodeAt(t.dtype(), t.raw(), (n * s.channels + c) * 9 + tap) - z;
    };
    ctx.weights().ParallelFor(s.panels.count, 1, [&](int64_t begin, int64_t end) {
      PackCodeWinograd(s, begin, end, source, p.mut<int16_t>());
    });
    return p;
  }));
  return KernelPtr(std::move(kernel));
}

}  // namespace dunlin
