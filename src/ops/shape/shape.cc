#include "ops/shape/shape.h"

#include "ops/movement/axes.h"
#include "ops/movement/elements.h"

namespace dunlin {
namespace {

struct Window {
  int64_t begin, end;
};
Window ShapeWindow(const Shape::Attrs& a, int64_t rank) {
  const auto clamp = [&](int64_t v) { return std::clamp<int64_t>(v < 0 ? v + rank : v, 0, rank); };
  const int64_t begin = clamp(a.start), end = a.end ? clamp(*a.end) : rank;
  return {begin, std::max(begin, end)};
}

}  // namespace

std::span<const OpDef> ShapeOps() {
  static const OpDef ops[] = {
      Declare<Shape>("Shape", {}),
      Declare<Size>("Size", {}),
      Declare<Reshape>("Reshape", {.min_inputs = 2, .max_inputs = 2, .is_view = true}),
      Declare<Flatten>("Flatten", {.is_view = true}),
      Declare<Squeeze>("Squeeze", {.min_inputs = 1, .max_inputs = 2, .is_view = true}),
      Declare<Unsqueeze>("Unsqueeze", {.min_inputs = 2, .max_inputs = 2, .is_view = true}),
      Declare<Constant>("Constant", {.min_inputs = 0, .max_inputs = 0}),
      Declare<ConstantOfShape>("ConstantOfShape", {}),
      Declare<Range>("Range", {.min_inputs = 3, .max_inputs = 3}),
      Declare<EyeLike>("EyeLike", {}),
      Declare<OneHot>("OneHot", {.min_inputs = 3, .max_inputs = 3}),
      Declare<NonZero>("NonZero", {}),
  };
  return ops;
}

Status Shape::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (!x.ranked) {
    ctx.Set(0, Type::Of(DType::kI64, {kUnknownDim}));
    return {};
  }
  const Window w = ShapeWindow(a, x.dims.rank());
  ctx.Set(0, Type::Of(DType::kI64, {w.end - w.begin}));
  ctx.SetShapeValue(
      0, Dims(std::span<const int64_t>(x.dims.data() + w.begin, size_t(w.end - w.begin))));
  return {};
}

Status Shape::Reference(const Attrs& a, RunContext& ctx) {
  const Dims& d = ctx.in(0).dims;
  const Window w = ShapeWindow(a, d.rank());
  std::copy(d.begin() + w.begin, d.begin() + w.end, ctx.out(0).mut<int64_t>());
  return {};
}

Status Size::Infer(const Attrs&, InferContext& ctx) {
  const Type& x = ctx.input(0);
  ctx.Set(0, Type::Of(DType::kI64, {}));
  if (!x.ranked) return {};
  int64_t n = 1;
  for (const int64_t d : x.dims) {
    n = MulDims(n, d);
    if (n == kUnknownDim) return {};
  }
  ctx.SetShapeValue(0, {n});
  return {};
}

Status Size::Reference(const Attrs&, RunContext& ctx) {
  *ctx.out(0).mut<int64_t>() = ctx.in(0).count();
  return {};
}

Status View::Copy(RunContext& ctx) {
  if (ctx.in(0).count() != ctx.out(0).count())
    return Fail(Code::kInternal, "a view of {} elements over {}", ctx.out(0).count(),
                ctx.in(0).count());
  return CopyAll(ctx.in(0), ctx.out(0));
}

}  // namespace dunlin
