// The fast paths of Resize: the last one or two spatial axes, in either layout.
#include <algorithm>

#include "kernels/resize.h"
#include "ops/movement/axes.h"
#include "ops/resize/resampling.h"

namespace dunlin {
namespace {

// About 10 microseconds of writing.
constexpr int64_t kChunkBytes = 64 << 10;

// What both Layouts and Lower must agree on: whether the kernels below can do this at all.
bool Plannable(const Resize::Attrs& a, const Type& x, const Type& y) {
  if (!x.IsStatic() || !y.IsStatic() || a.coordinate_transformation_mode == "tf_crop_and_resize")
    return false;
  const int rank = x.dims.rank();
  if (rank < 3 || rank > 5 || CountOf(x.dims) == 0 || CountOf(y.dims) == 0) return false;
  for (int i = 0; i < std::max(2, rank - 2); ++i)
    if (x.dims[size_t(i)] != y.dims[size_t(i)]) return false;
  for (const int64_t d : x.dims)
    if (d > INT32_MAX) return false;
  if (a.mode == "nearest") return x.dtype != DType::kString && DTypeBits(x.dtype) >= 8;
  return x.dtype == DType::kF32;
}

struct Table {
  int64_t in = 1, out = 1;
  int taps = 1;
  std::vector<int32_t> index;
  std::vector<float> weight;

  // [out][taps], or [taps][out] when transposed.
  Table(const AxisTaps& t, int64_t in_extent, int64_t out_extent, bool transposed)
      : in(in_extent),
        out(out_extent),
        taps(t.taps),
        index(t.index.size()),
        weight(t.index.size()) {
    for (int64_t o = 0; o < out; ++o)
      for (int k = 0; k < taps; ++k) {
        const auto from = size_t(o * taps + k), to = transposed ? size_t(k * out + o) : from;
        index[to] = int32_t(t.index[from]);
        weight[to] = float(t.weight[from]);
      }
  }
  ResampleAxis axis() const { return {in, out, taps, index.data(), weight.data()}; }
};

class ResizeKernel final : public Kernel {
 public:
  ResizeKernel(bool nearest, bool last, int elem_bytes, int64_t planes, int64_t channels, Table h,
               Table w)
      : nearest_(nearest),
        last_(last),
        elem_bytes_(elem_bytes),
        planes_(planes),
        channels_(channels),
        h_(std::move(h)),
        w_(std::move(w)) {}

  Status Run(RunContext& ctx) const override {
    const void* x = ctx.in(0).data;
    void* y = ctx.out(0).data;
    const ResampleAxis h = h_.axis(), w = w_.axis();
    const int64_t pixel_bytes = channels_ * elem_bytes_, rows = planes_ * h.out;
    const auto run = [&](int64_t begin, int64_t end) {
      if (nearest_)
        PickRows(x, y, h, w, pixel_bytes, begin, end);
      else if (last_)
        ResampleRowsChannelsLast(static_cast<const float*>(x), static_cast<float*>(y), h, w,
                                 channels_, begin, end);
      else
        ResampleRows(static_cast<const float*>(x), static_cast<float*>(y), h, w, begin, end);
    };
    const int64_t row_bytes = std::max<int64_t>(1, w.out * pixel_bytes);
    if (rows * row_bytes < 2 * kChunkBytes)
      run(0, rows);
    else
      ctx.ParallelFor(rows, std::max<int64_t>(1, kChunkBytes / row_bytes), run);
    return {};
  }
  std::string_view name() const override { return nearest_ ? "resize.nearest" : "resize.taps"; }

 private:
  bool nearest_, last_;
  int elem_bytes_;
  int64_t planes_, channels_;  // channels: elements of one pixel
  Table h_, w_;
};

// The numbers of a constant input; nullopt when it is there but not constant.
template <class T>
std::optional<std::vector<T>> Known(const LowerContext& ctx, int i) {
  if (!ctx.has(i) || CountOf(ctx.input(i).dims) == 0) return std::vector<T>();
  const Tensor* t = ctx.value(i);
  if (t == nullptr) return std::nullopt;
  const auto wide = Convert(*t, kDTypeOf<T>);
  if (!wide) return std::nullopt;
  return std::vector<T>(wide->template as<T>(), wide->template as<T>() + wide->count());
}

}  // namespace

LayoutPlan Resize::Layouts(const Attrs& a, const LayoutQuery& q) {
  LayoutPlan plan;
  plan.inputs.assign(q.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(q.outputs.size(), Layout::kRowMajor);
  const bool scales = q.inputs.size() > 2 && q.inputs[2].dtype != DType::kUndefined;
  const bool known =
      scales ? bool(q.constant[2])
             : a.keep_aspect_ratio_policy == "stretch" || (q.constant.size() > 3 && q.constant[3]);
  if (known && Plannable(a, q.inputs[0], q.outputs[0]))
    plan.inputs[0] = plan.outputs[0] = q.current[0];
  return plan;
}

Result<KernelPtr> Resize::Lower(const Attrs& a, LowerContext& ctx) {
  const Type &x = ctx.input(0), &y = ctx.output(0);
  if (!Plannable(a, x, y)) return KernelPtr();
  const auto scales = Known<float>(ctx, 2);
  auto sizes = Known<int64_t>(ctx, 3);
  if (!scales) return KernelPtr();
  if (!sizes) {
    // Stretched to computed sizes: the output's extents are these sizes.
    if (a.keep_aspect_ratio_policy != "stretch") return KernelPtr();
    sizes.emplace();
    if (a.axes.empty()) sizes->assign(y.dims.begin(), y.dims.end());
    for (const int axis : TRY(NormalizeAxes(a.axes, x.dims.rank())))
      sizes->push_back(y.dims[size_t(axis)]);
  }
  const auto axes = TRY(ResizeAxes(a, x.dims, {}, *scales, *sizes));
  const auto rank = x.dims.size();
  for (size_t i = 0; i < rank; ++i) {
    if (axes[i].out != y.dims[i])
      return Fail(Code::kInternal, "axis {} is resized to {}, planned was {}", i, axes[i].out,
                  y.dims[i]);
  }
  // [N, C, L] is an image of one row.
  const bool nearest = a.mode == "nearest", last = ctx.input_layout(0) == Layout::kChannelsLast;
  const AxisResize &aw = axes[rank - 1],
                   ah = rank > 3 ? axes[rank - 2] : AxisResize{1, 1, 1, 1, 0, 1};
  if (!nearest && !last && aw.in > kMaxResampleWidth) return KernelPtr();
  const int64_t depth = rank == 5 ? x.dims[2] : 1;
  const int64_t planes = x.dims[0] * depth * (last ? 1 : x.dims[1]);
  return KernelPtr(std::make_unique<ResizeKernel>(
      nearest, last, DTypeBits(x.dtype) / 8, planes, last ? x.dims[1] : 1,
      Table(TapsOf(a, ah), ah.in, ah.out, false),
      Table(TapsOf(a, aw), aw.in, aw.out, !last && !nearest)));
}

}  // namespace dunlin
