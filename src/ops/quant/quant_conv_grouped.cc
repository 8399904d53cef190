// Convolutions of codes in narrow groups.
#include <algorithm>

#include "kernels/code_grouped.h"
#include "ops/quant/code_pixels.h"
#include "ops/quant/quant_conv_kernel.h"
#include "ops/quant/sums.h"

namespace dunlin {
namespace {

constexpr int64_t kTapsAtOnce = 64;  // of pointers on the stack

// Bit for bit what the reference gives.
class CodeGroupedKernel final : public Kernel {
 public:
  ProductInputs in;
  CodeStoreAttrs store;
  ConvShape shape;
  CodePixels pixels;
  CodeGroups groups;
  bool x_last = false;  // the input is stored channels-last
  Tensor packed, zeros;

  std::string_view name() const override { return "codes.grouped"; }
  InputUse uses(int input) const override {
    return input == in.b || input == in.b_zero ? InputUse::kNothing : InputUse::kValues;
  }
  size_t epilogue_at() const {
    return size_t((pixels.count() + kCodesPastPixel) * 2 + 63) / 64 * 64;
  }
  size_t scratch_bytes() const override { return epilogue_at() + EpilogueBytes(shape.outputs); }

  Result<Tensor> Pack(const Tensor& w, const Tensor* zero) const {
    Tensor p = TRY(Tensor::Create(DType::kI16, {groups.packed_codes(shape.taps())}));
    PackCodeGroups(
        groups, shape.taps(),
        [&](int64_t t, int64_t k, int64_t n) {
          const int32_t z =
              zero == nullptr ? 0 : CodeAt(zero->dtype(), zero->raw(), zero->count() == 1 ? 0 : n);
          return int16_t(CodeAt(w.dtype(), w.raw(), (n * groups.channels + k) * shape.taps() + t) -
                         z);
        },
        p.mut<int16_t>());
    return p;
  }

  Status Run(RunContext& ctx) const override {
    auto* const x = static_cast<int16_t*>(ctx.scratch());
    const TensorView& codes = ctx.in(in.a);
    const int32_t zero = in.a_zero >= 0 && ctx.has(in.a_zero)
                             ? CodeAt(ctx.in(in.a_zero).dtype, ctx.in(in.a_zero).data, 0)
                             : 0;
    const PreparedEpilogue p =
        PrepareEpilogue(ctx, in, store, shape.outputs, ctx.out(0).dtype,
                        static_cast<std::byte*>(ctx.scratch()) + epilogue_at());
    ctx.ParallelFor(pixels.blocks(), 8, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        pixels.ReadBlock(codes.dtype, codes.data, x_last, zero, i, x);
    });
    Multiply(ctx, x, Rows(ctx, in, p, shape.outputs));
    return {};
  }

 private:
  void Multiply(RunContext& ctx, const int16_t* x, const Rows& y) const {
    const int64_t taps = shape.taps(), m = shape.batch * shape.out_pixels();
    const int64_t wide = kSumColumns / groups.lanes;  // vectors that an item has
    const int64_t columns = (groups.vectors() + wide - 1) / wide;
    const int64_t items = (m + kSumRows - 1) / kSumRows * columns;
    const int64_t work =
        kSumRows * std::min(wide, groups.vectors()) * groups.lanes * taps * 2 * groups.pairs();
    ctx.ParallelFor(
        items, std::max<int64_t>(1, kLeastSumWork / work), [&](int64_t begin, int64_t end) {
          alignas(64) int32_t sums[kSumRows * kSumColumns + 64];
          const int16_t* rows[kSumRows * kTapsAtOnce];
          WindowCorner corners[kSumRows];
          for (int64_t i = begin; i < end; ++i) {
            const int64_t first = i % columns * wide, row = i / columns * kSumRows;
            CodeGroupArgs g;
            g.m = std::min(kSumRows, m - row);
            g.rows = rows;
            g.row_stride = kSumRows;
            g.packed = packed.as<int16_t>();
            g.packed_taps = taps;
            g.c = sums;
            g.c_stride = kSumColumns;
            pixels.FillCorners(row, g.m, corners);
            for (int64_t t = 0; t < taps; t += kTapsAtOnce) {
              g.taps = std::min(kTapsAtOnce, taps - t);
              g.first_tap = t;
              g.accumulate = t > 0;
              pixels.FillRows(x, zeros.as<int16_t>(), corners, g.m, t, t + g.taps, rows, kSumRows);
              CodeGroupProduct(groups, g, first, std::min(first + wide, groups.vectors()));
            }
            y.Store(sums, kSumColumns, row, g.m, first * groups.lanes,
                    std::min(kSumColumns, shape.outputs - first * groups.lanes));
          }
        });
  }
};

}  // namespace

bool HasGroupedKernel(const ConvShape& s) {
  // Wider groups fill the panels of a product, whose tiles are two vectors wide: at 24 outputs this
  // kernel is the faster by an eighth, at 32 the slower by a twentieth.
  constexpr int64_t kWide = 32;
  return s.group > 1 && s.outputs / s.group < kWide &&
         MakeCodeGroups(s.group, s.channels / s.group, s.outputs / s.group).has_value();
}

Result<KernelPtr> LowerCodeGrouped(const ConvShape& shape, const ProductInputs& in,
                                   const CodeStoreAttrs& store, LowerContext& ctx) {
  auto kernel = std::make_unique<CodeGroupedKernel>();
  CodeGroupedKernel& k = *kernel;
  k.in = in;
  k.store = store;
  k.shape = shape;
  k.pixels = CodePixels(shape, 2);
  k.groups =
      *MakeCodeGroups(shape.group, shape.channels / shape.group, shape.outputs / shape.group);
  k.x_last = ctx.input_layout(in.a) == Layout::kChannelsLast;
  k.zeros = TRY(Tensor::Zeros(DType::kI16, {k.pixels.padding() + kCodesPastPixel}));
  const Tensor& w = *ctx.value(in.b);
  const Tensor* zero = in.b_zero >= 0 && ctx.has(in.b_zero) ? ctx.value(in.b_zero) : nullptr;
  const std::string recipe =
      fmt::format("codes grouped {} groups {} outputs {} channels {} taps {} lanes {} zero {}",
                  DTypeName(w.dtype()), shape.group, shape.outputs, shape.channels, shape.taps(),
                  k.groups.lanes, ZeroText(zero));
  k.packed = TRY(ctx.weights().Get(w, recipe, [&](const Tensor& t) { return k.Pack(t, zero); }));
  return KernelPtr(std::move(kernel));
}

}  // namespace dunlin
