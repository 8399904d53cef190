#include "ops/elementwise/broadcast.h"

namespace dunlin {

Result<DType> CommonDType(const InferContext& ctx, std::string_view name, int first, int last) {
  DType common = DType::kUndefined;
  for (int i = first; i < last; ++i) {
    if (!ctx.has(i)) continue;
    const DType t = ctx.dtype(i);
    if (common == DType::kUndefined) common = t;
    if (t != DType::kUndefined && t != common)
      return Fail(Code::kInvalidArgument, "{}: inputs of element types {} and {} in one node", name,
                  DTypeName(common), DTypeName(t));
  }
  return common;
}

Status InferBroadcast(InferContext& ctx, std::string_view name, DType dtype, int first, int last) {
  Type out = Type::Of(dtype, {});
  for (int i = first; i < last; ++i) {
    if (!ctx.has(i)) continue;
    const Type& in = ctx.input(i);
    if (!in.ranked) {
      ctx.Set(0, Type::Unranked(dtype));
      return {};
    }
    const auto dims = Broadcast(out.dims, in.dims);
    if (!dims)
      return Fail(Code::kInvalidArgument, "{}: extents {} and {} do not broadcast", name,
                  ToString(out.dims), ToString(in.dims));
    out.dims = *dims;
  }
  ctx.Set(0, std::move(out));
  return {};
}

}  // namespace dunlin
