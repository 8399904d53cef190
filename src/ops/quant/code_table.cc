// dunlin.CodeTable: any function of 8-bit codes. Inputs x (u8 or i8), table (u8 or i8 [256], by the
// bits of the code); y has x's extents and the table's type.
#include "ops/elementwise/lower.h"
#include "ops/quant/quant.h"

namespace dunlin {
namespace {

struct CodeTable {
  using Attrs = NoAttrs;
  static constexpr std::string_view kName = "dunlin.CodeTable";

  static Status Infer(const Attrs&, InferContext& ctx) {
    for (const int i : {0, 1}) TRY(CheckType<Bytes>(ctx.dtype(i), kName));
    const Type& table = ctx.input(1);
    if (table.ranked && AllKnown(table.dims) && table.dims != Dims{256})
      return Fail(Code::kInvalidArgument, "{}: the table has the extents {}, not [256]", kName,
                  ToString(table.dims));
    Type y = ctx.input(0);
    y.dtype = table.dtype;
    ctx.Set(0, std::move(y));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    if (ctx.in(1).count() != 256)
      return Fail(Code::kInvalidArgument, "{}: the table has {} entries, not 256", kName,
                  ctx.in(1).count());
    const auto* x = static_cast<const uint8_t*>(ctx.in(0).data);
    const auto* table = static_cast<const uint8_t*>(ctx.in(1).data);
    auto* y = static_cast<uint8_t*>(ctx.out(0).data);
    ctx.ParallelFor(ctx.in(0).count(), kCheapGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) y[i] = table[x[i]];
    });
    return {};
  }
  class TableKernel final : public Kernel {
   public:
    std::string_view name() const override { return "codes.table"; }
    Status Run(RunContext& ctx) const override { return Reference({}, ctx); }
  };
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&) {
    return KernelPtr(std::make_unique<TableKernel>());
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) {
    LayoutPlan plan = RowMajorLayouts(q);
    plan.inputs[0] = plan.outputs[0] = q.current[0];
    return plan;
  }
};

}  // namespace

std::vector<OpDef> CodeTableOps() {
  return {Declare<CodeTable>(
      "CodeTable", {.domain = "dunlin", .min_inputs = 2, .max_inputs = 2, .in_place = 0})};
}

}  // namespace dunlin
