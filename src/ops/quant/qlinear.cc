#include "ops/quant/qlinear.h"

namespace dunlin {

Result<Linear> ReadLinear(std::string_view name, const RunContext& ctx, int scale, int zero) {
  const int64_t scales = ctx.in(scale).count(), zeros = ctx.has(zero) ? ctx.in(zero).count() : 1;
  if (scales != 1 || zeros != 1)
    return Fail(Code::kInvalidArgument, "{}: takes one scale and one zero point a tensor, not {}",
                name, std::max(scales, zeros));
  return Linear{TRY(Scales(name, ctx.in(scale)))[0], TRY(ZeroPoints(name, ctx, zero))[0]};
}

Status CheckLinear(std::string_view name, const InferContext& ctx,
                   std::initializer_list<int> inputs) {
  for (const int i : inputs)
    if (ctx.has(i) && ctx.input(i).ranked && ElementCount(ctx.input(i).dims).value_or(1) != 1)
      return Fail(Code::kInvalidArgument, "{}: takes one scale and one zero point a tensor, not {}",
                  name, ToString(ctx.input(i).dims));
  return {};
}

std::vector<OpDef> QLinearOps() {
  std::vector<OpDef> all;
  for (const auto& part :
       {QLinearBinaryOps(), QLinearPoolOps(), QLinearSoftmaxOps(), CodeTableOps(), CodeResizeOps()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace dunlin
