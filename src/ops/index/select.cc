// Compress, Unique, NonMaxSuppression: how much they give depends on the data.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ops/index/index.h"
#include "ops/movement/axes.h"
#include "ops/movement/elements.h"

namespace dunlin {
namespace {

// A total order: NaN behind everything, equal to itself.
template <class T>
int Compare(const T& a, const T& b) {
  if constexpr (kIsHalf<T>) {
    return Compare(float(a), float(b));
  } else {
    if (a < b) return -1;
    if (b < a) return 1;
    if constexpr (std::is_floating_point_v<T>) return int(std::isnan(a)) - int(std::isnan(b));
    return 0;
  }
}

// The sequence of things that Unique compares: `count` slices of outer * inner elements.
struct Slices {
  int64_t outer = 1, count = 1, inner = 1;
  Slices(const Dims& d, std::optional<size_t> axis) {
    for (size_t i = 0; i < d.size(); ++i)
      (!axis || i == *axis ? count : i < *axis ? outer : inner) *= d[i];
  }
  int64_t At(int64_t slice, int64_t o, int64_t i) const { return (o * count + slice) * inner + i; }
};

struct Groups {
  std::vector<int64_t> first;    // of each distinct slice
  std::vector<int64_t> inverse;  // of each slice
  std::vector<int64_t> counts;
};

template <class T>
Groups GroupSlices(const T* x, const Slices& s, bool sorted) {
  const auto compare = [&](int64_t a, int64_t b) {
    for (int64_t o = 0; o < s.outer; ++o)
      for (int64_t i = 0; i < s.inner; ++i)
        if (const int c = Compare(x[s.At(a, o, i)], x[s.At(b, o, i)])) return c;
    return 0;
  };
  std::vector<int64_t> order(static_cast<size_t>(s.count));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return compare(a, b) < 0; });
  Groups g;
  g.inverse.resize(order.size());
  for (size_t k = 0; k < order.size(); ++k) {
    if (k == 0 || compare(order[k - 1], order[k]) != 0) {
      g.first.push_back(order[k]);
      g.counts.push_back(0);
    }
    g.inverse[size_t(order[k])] = int64_t(g.first.size()) - 1;
    ++g.counts.back();
  }
  if (sorted) return g;
  // Renumber by first appearance.
  std::vector<size_t> by_first(g.first.size());
  std::iota(by_first.begin(), by_first.end(), size_t{0});
  std::sort(by_first.begin(), by_first.end(),
            [&](size_t a, size_t b) { return g.first[a] < g.first[b]; });
  Groups out;
  std::vector<int64_t> number(by_first.size());
  for (const size_t k : by_first) {
    number[k] = int64_t(out.first.size());
    out.first.push_back(g.first[k]);
    out.counts.push_back(g.counts[k]);
  }
  for (const int64_t k : g.inverse) out.inverse.push_back(number[size_t(k)]);
  return out;
}

Status PutInts(RunContext& ctx, int output, const std::vector<int64_t>& v) {
  if (output >= ctx.output_count() || !ctx.wants(output)) return {};
  TensorView* y = TRY(ctx.Allocate(output, DType::kI64, {int64_t(v.size())}));
  std::copy(v.begin(), v.end(), y->mut<int64_t>());
  return {};
}

struct Box {
  float x1, y1, x2, y2;
  float area() const { return (x2 - x1) * (y2 - y1); }
};

Box BoxAt(const float* p, bool center) {
  if (center) return {p[0] - p[2] / 2, p[1] - p[3] / 2, p[0] + p[2] / 2, p[1] + p[3] / 2};
  return {std::min(p[1], p[3]), std::min(p[0], p[2]), std::max(p[1], p[3]), std::max(p[0], p[2])};
}

bool Overlaps(const Box& a, const Box& b, float threshold) {
  const float w = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  const float h = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (!(w > 0 && h > 0)) return false;
  const float both = w * h, either = a.area() + b.area() - both;
  return a.area() > 0 && b.area() > 0 && either > 0 && both / either > threshold;
}

template <class T>
Result<T> ScalarOr(RunContext& ctx, int i, T otherwise) {
  if (!ctx.has(i)) return otherwise;
  const TensorView& v = ctx.in(i);
  if (v.dtype != kDTypeOf<T> || v.count() < 1)
    return Fail(Code::kInvalidArgument, "input {} must be one {}", i, DTypeName(kDTypeOf<T>));
  return *v.as<T>();
}

}  // namespace

Status Compress::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const Type& condition = ctx.input(1);
  if (condition.ranked && condition.dims.rank() != 1)
    return Fail(Code::kInvalidArgument, "the condition has rank {}", condition.dims.rank());
  if (condition.dtype != DType::kBool && condition.dtype != DType::kUndefined)
    return Fail(Code::kInvalidArgument, "the condition is {}, not bool",
                DTypeName(condition.dtype));
  if (!a.axis) {
    ctx.Set(0, Type::Of(x.dtype, {kUnknownDim}));
  } else if (x.ranked) {
    Dims out = x.dims;
    out[size_t(TRY(NormalizeAxis(*a.axis, x.dims.rank())))] = kUnknownDim;
    ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  } else {
    ctx.Set(0, Type::Unranked(x.dtype));
  }
  return {};
}

Status Compress::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView &x = ctx.in(0), &condition = ctx.in(1);
  std::optional<size_t> axis;
  if (a.axis) axis = size_t(TRY(NormalizeAxis(*a.axis, x.rank())));
  const Slices s(x.dims, axis);
  std::vector<int64_t> kept;
  for (int64_t i = 0; i < condition.count(); ++i)
    if (condition.as<bool>()[i]) kept.push_back(i);
  if (!kept.empty() && kept.back() >= s.count)
    return Fail(Code::kInvalidArgument, "the condition selects {} of {}", kept.back(), s.count);
  Dims out = axis ? x.dims : Dims{0};
  out[axis.value_or(0)] = int64_t(kept.size());
  TensorView* y = TRY(ctx.Allocate(0, x.dtype, out));
  return VisitStorage(x.dtype, [&]<class S>(S) -> Status {
    int64_t to = 0;
    for (int64_t o = 0; o < s.outer; ++o)
      for (const int64_t k : kept)
        for (int64_t i = 0; i < s.inner; ++i) S::Set(y->data, to++, S::Get(x.data, s.At(k, o, i)));
    return {};
  });
}

Status Unique::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (!a.axis) {
    ctx.Set(0, Type::Of(x.dtype, {kUnknownDim}));
  } else if (x.ranked) {
    Dims out = x.dims;
    out[size_t(TRY(NormalizeAxis(*a.axis, x.dims.rank())))] = kUnknownDim;
    ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  } else {
    ctx.Set(0, Type::Unranked(x.dtype));
  }
  for (int o = 1; o < ctx.output_count(); ++o) ctx.Set(o, Type::Of(DType::kI64, {kUnknownDim}));
  return {};
}

Status Unique::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  std::optional<size_t> axis;
  if (a.axis) axis = size_t(TRY(NormalizeAxis(*a.axis, x.rank())));
  const Slices s(x.dims, axis);
  return VisitDType(x.dtype, "Unique", [&]<class T>(TypeTag<T>) -> Status {
    const Groups g = GroupSlices(x.as<T>(), s, a.sorted);
    if (ctx.wants(0)) {
      Dims out = axis ? x.dims : Dims{0};
      out[axis.value_or(0)] = int64_t(g.first.size());
      TensorView* y = TRY(ctx.Allocate(0, x.dtype, out));
      int64_t to = 0;
      for (int64_t o = 0; o < s.outer; ++o)
        for (const int64_t k : g.first)
          for (int64_t i = 0; i < s.inner; ++i) y->mut<T>()[to++] = x.as<T>()[s.At(k, o, i)];
    }
    TRY(PutInts(ctx, 1, g.first));
    TRY(PutInts(ctx, 2, g.inverse));
    return PutInts(ctx, 3, g.counts);
  });
}

Status NonMaxSuppression::Infer(const Attrs&, InferContext& ctx) {
  const Type &boxes = ctx.input(0), &scores = ctx.input(1);
  for (const Type* t : {&boxes, &scores}) {
    if (t->ranked && t->dims.rank() != 3)
      return Fail(Code::kInvalidArgument, "boxes and scores must have rank 3, one has {}",
                  t->dims.rank());
    if (t->dtype != DType::kF32 && t->dtype != DType::kUndefined)
      return Fail(Code::kInvalidArgument, "boxes and scores must be f32, one is {}",
                  DTypeName(t->dtype));
  }
  if (boxes.ranked && IsKnown(boxes.dims[2]) && boxes.dims[2] != 4)
    return Fail(Code::kInvalidArgument, "boxes have {} coordinates, not 4", boxes.dims[2]);
  if (boxes.ranked && scores.ranked &&
      (!MergeDim(boxes.dims[0], scores.dims[0]) || !MergeDim(boxes.dims[1], scores.dims[2])))
    return Fail(Code::kInvalidArgument, "boxes {} and scores {} do not fit", ToString(boxes),
                ToString(scores));
  ctx.Set(0, Type::Of(DType::kI64, {kUnknownDim, 3}));
  return {};
}

Status NonMaxSuppression::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView &boxes = ctx.in(0), &scores = ctx.in(1);
  const int64_t limit = TRY(ScalarOr<int64_t>(ctx, 2, 0));
  const float iou = TRY(ScalarOr<float>(ctx, 3, 0.0f));
  const float least = TRY(ScalarOr<float>(ctx, 4, -INFINITY));
  if (!(iou >= 0 && iou <= 1)) return Fail(Code::kInvalidArgument, "iou_threshold is {}", iou);
  const int64_t batches = scores.dims[0], classes = scores.dims[1], count = scores.dims[2];
  std::vector<int64_t> rows, order;
  for (int64_t b = 0; b < batches; ++b)
    for (int64_t c = 0; c < classes; ++c) {
      const float* score = scores.as<float>() + (b * classes + c) * count;
      const float* box = boxes.as<float>() + b * count * 4;
      order.clear();
      for (int64_t i = 0; i < count; ++i)
        if (score[i] > least) order.push_back(i);
      std::stable_sort(order.begin(), order.end(),
                       [&](int64_t i, int64_t j) { return score[i] > score[j]; });
      std::vector<Box> chosen;
      for (const int64_t i : order) {
        if (int64_t(chosen.size()) >= limit) break;
        const Box candidate = BoxAt(box + i * 4, a.center_point_box);
        if (std::any_of(chosen.begin(), chosen.end(),
                        [&](const Box& k) { return Overlaps(candidate, k, iou); }))
          continue;
        chosen.push_back(candidate);
        rows.insert(rows.end(), {b, c, i});
      }
    }
  TensorView* y = TRY(ctx.Allocate(0, DType::kI64, {int64_t(rows.size()) / 3, 3}));
  std::copy(rows.begin(), rows.end(), y->mut<int64_t>());
  return {};
}

std::span<const OpDef> IndexOps() {
  static const OpDef ops[] = {
      Declare<Gather>("Gather", {.min_inputs = 2, .max_inputs = 2}),
      Declare<GatherElements>("GatherElements", {.min_inputs = 2, .max_inputs = 2}),
      Declare<GatherND>("GatherND", {.min_inputs = 2, .max_inputs = 2}),
      Declare<ScatterElements>("ScatterElements",
                               {.min_inputs = 3, .max_inputs = 3, .in_place = 0}),
      Declare<ScatterElements>("Scatter", {.min_inputs = 3, .max_inputs = 3, .in_place = 0}),
      Declare<ScatterND>("ScatterND", {.min_inputs = 3, .max_inputs = 3, .in_place = 0}),
      Declare<TensorScatter>("TensorScatter", {.min_inputs = 2, .max_inputs = 3, .in_place = 0}),
      Declare<Compress>("Compress", {.min_inputs = 2, .max_inputs = 2}),
      Declare<Unique>("Unique", {.max_outputs = 4}),
      Declare<NonMaxSuppression>("NonMaxSuppression", {.min_inputs = 2, .max_inputs = 5}),
  };
  return ops;
}

}  // namespace dunlin
