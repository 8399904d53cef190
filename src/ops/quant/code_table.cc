// Any function of one code, computed ahead for all 256 of them.
#include "kernels/codes.h"
#include "ops/elementwise/lower.h"
#include "ops/quant/qlinear.h"

namespace dunlin {

Result<Tensor> AllCodes(DType type) {
  DUNLIN_CHECK(type == DType::kU8 || type == DType::kI8, "codes are bytes");
  Tensor t = TRY(Tensor::Create(type, {256}));
  for (int i = 0; i < 256; ++i) t.raw()[i] = std::byte(i);
  return t;
}

namespace {

// y = table[x], x being u8 or i8, taken as a byte without sign (i8: -1 is 255), and the table u8 or
// i8 [256]; y is of the table's type. Of the domain "dunlin": made by rules.
struct CodeTable {
  static constexpr std::string_view kName = "CodeTable";
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(CheckType<Bytes>(ctx.dtype(0), kName));
    TRY(CheckType<Bytes>(ctx.dtype(1), kName));
    const Type& table = ctx.input(1);
    if (table.ranked && ElementCount(table.dims).value_or(256) != 256)
      return Fail(Code::kInvalidArgument, "{}: takes a table of 256 codes, not {}", kName,
                  ToString(table.dims));
    Type y = ctx.input(0);
    y.dtype = table.dtype;
    ctx.Set(0, std::move(y));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    if (ctx.in(1).count() != 256)
      return Fail(Code::kInvalidArgument, "{}: takes a table of 256 codes, not {}", kName,
                  ctx.in(1).count());
    const auto *x = static_cast<const uint8_t*>(ctx.in(0).data),
               *table = static_cast<const uint8_t*>(ctx.in(1).data);
    auto* y = static_cast<uint8_t*>(ctx.out(0).data);
    for (int64_t i = 0; i < ctx.in(0).count(); ++i) y[i] = table[x[i]];
    return {};
  }

  class TableKernel final : public Kernel {
   public:
    std::string_view name() const override { return "codes.table"; }
    bool reads_strided(int input) const override { return input == 0; }
    bool writes_strided(int) const override { return true; }
    Status Run(RunContext& ctx) const override {
      const TensorView &x = ctx.in(0), &y = ctx.out(0);
      if (ctx.in(1).count() != 256) return Reference({}, ctx);
      const auto *from = static_cast<const uint8_t*>(x.data),
                 *table = static_cast<const uint8_t*>(ctx.in(1).data);
      auto* to = static_cast<uint8_t*>(y.data);
      const int64_t n = x.count();
      if (x.pixel_stride == 0 && y.pixel_stride == 0) {
        ctx.ParallelFor(n, kCheapGrain, [&](int64_t begin, int64_t end) {
          MapCodes(table, from + begin, 0, to + begin, 0, 1, end - begin);
        });
        return {};
      }
      const int64_t channels = x.dims[1];
      ctx.ParallelFor(n / channels, std::max<int64_t>(1, kCheapGrain / channels),
                      [&](int64_t begin, int64_t end) {
                        MapCodes(table, from + begin * x.pixel_step(), x.pixel_step(),
                                 to + begin * y.pixel_step(), y.pixel_step(), end - begin,
                                 channels);
                      });
      return {};
    }
  };
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&) {
    return KernelPtr(std::make_unique<TableKernel>());
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return ElementwiseLayouts(q); }
};

}  // namespace

std::vector<OpDef> CodeTableOps() {
  return {Declare<CodeTable>(
      CodeTable::kName, {.domain = "dunlin", .min_inputs = 2, .max_inputs = 2, .in_place = 0})};
}

}  // namespace dunlin
