// dunlin.QuantizeRows: codes of f32 with a scale for every row, made as the numbers come. Products
// of such codes with weights that were quantised ahead lose far less than with one scale for all:
// a token with large numbers does not coarsen the others.
#include <cmath>

#include "kernels/codes.h"
#include "ops/elementwise/lower.h"
#include "ops/quant/quant.h"

namespace dunlin {
namespace {

// x f32 [..., K] -> codes i8 [..., K] in [-127, 127], zero point 0, and scales f32 [rows]: the
// largest magnitude / 127, or 1 of a row of zeros. A row with NaN or infinity has the scale NaN.
struct QuantizeRows {
  static constexpr std::string_view kName = "dunlin.QuantizeRows";
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    Type y = ctx.input(0);
    if (y.dtype != DType::kF32 && y.dtype != DType::kUndefined)
      return Fail(Code::kInvalidArgument, "{}: takes f32, not {}", kName, DTypeName(y.dtype));
    if (y.ranked && y.dims.empty())
      return Fail(Code::kInvalidArgument, "{}: takes rows, not a scalar", kName);
    int64_t rows = 1;
    if (!y.ranked) rows = kUnknownDim;
    for (int i = 0; y.ranked && i + 1 < y.dims.rank(); ++i) {
      const int64_t d = y.dims[size_t(i)];
      if (rows == 1)
        rows = d;
      else if (d != 1)
        rows = IsKnown(rows) && IsKnown(d) ? rows * d : kUnknownDim;
    }
    y.dtype = DType::kI8;
    ctx.Set(0, std::move(y));
    ctx.Set(1, Type::Of(DType::kF32, {rows}));
    return {};
  }

  static bool IsFinite(const float* x, int64_t n) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; ++i) {
      uint32_t bits;
      __builtin_memcpy(&bits, x + i, sizeof bits);
      bad |= uint32_t((bits & 0x7f800000u) == 0x7f800000u);
    }
    return bad == 0;
  }
  static float ScaleOf(float most) { return most > 0 ? most / 127 : 1; }

  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const int64_t k = x.dims.back(), rows = k == 0 ? 0 : x.count() / k;
    for (int64_t r = 0; r < rows; ++r) {
      const float* from = x.as<float>() + r * k;
      float most = 0;
      for (int64_t i = 0; i < k; ++i) most = std::max(most, std::fabs(from[i]));
      const float scale = ScaleOf(most);
      const bool finite = IsFinite(from, k);
      for (int64_t i = 0; i < k; ++i)
        ctx.out(0).mut<int8_t>()[r * k + i] =
            finite ? CodeOf<int8_t>(from[i] / scale, 0) : int8_t{0};
      ctx.out(1).mut<float>()[r] = finite ? scale : NAN;
    }
    return {};
  }

  class RowsKernel final : public Kernel {
   public:
    std::string_view name() const override { return "quantize.rows"; }
    Status Run(RunContext& ctx) const override {
      const TensorView& x = ctx.in(0);
      const int64_t k = x.dims.back(), rows = k == 0 ? 0 : x.count() / k;
      auto* const codes = ctx.out(0).mut<int8_t>();
      auto* const scales = ctx.out(1).mut<float>();
      ctx.ParallelFor(rows, std::max<int64_t>(1, kCheapGrain / 2 / std::max<int64_t>(1, k)),
                      [&](int64_t begin, int64_t end) {
                        for (int64_t r = begin; r < end; ++r)
                          scales[r] = Row(x.as<float>() + r * k, k, codes + r * k);
                      });
      return {};
    }
    static float Row(const float* x, int64_t k, int8_t* codes) {
      if (!IsFinite(x, k)) {
        std::fill_n(codes, k, int8_t{0});
        return NAN;
      }
      const RangeOfF32 range = RangeF32(x, k);
      const float scale = ScaleOf(std::max(-range.lowest, range.highest));
      const int32_t zero = 0;
      QuantizeF32(x, k, &scale, &zero, 0, codes);
      return scale;
    }
  };
  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) {
    if (!ctx.wants(0) || !ctx.wants(1)) return KernelPtr();
    return KernelPtr(std::make_unique<RowsKernel>());
  }
};

}  // namespace

std::vector<OpDef> QuantizeRowsOps() {
  return {Declare<QuantizeRows>("QuantizeRows",
                                {.domain = "dunlin", .min_outputs = 2, .max_outputs = 2})};
}

}  // namespace dunlin
