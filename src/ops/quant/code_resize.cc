#include "ops/quant/code_resize.h"

#include <algorithm>
#include <cmath>

#include "kernels/code_resize.h"
#include "ops/elementwise/lower.h"
#include "ops/movement/axes.h"
#include "ops/quant/qlinear.h"
#include "ops/quant/sums.h"
#include "ops/resize/resampling.h"

namespace dunlin {

bool IsCodeResize(const Resize::Attrs& a) {
  return a.mode == "linear" && !a.antialias && !a.exclude_outside &&
         a.keep_aspect_ratio_policy == "stretch" &&
         a.coordinate_transformation_mode != "tf_crop_and_resize";
}

namespace {

constexpr std::string_view kName = "dunlin.CodeResize";
// Where the pixels of y come from.
class Places {
 public:
  static Result<Places> Create(const CodeResizeAttrs& a, DType type, const Dims& x, const Dims& y,
                               const std::vector<float>& scales) {
    if (!IsCodeResize(a) || x.rank() != 4 || y.rank() != 4)
      return Fail(Code::kInvalidArgument,
                  "{}: interpolates images of rank 4 without antialiasing or cropping, not {}",
                  kName, ToString(x));
    std::vector<int64_t> sizes;  // where no scales are given, y's extents are the sizes
    if (scales.empty()) {
      if (a.axes.empty()) sizes.assign(y.begin(), y.end());
      for (const int axis : TRY(NormalizeAxes(a.axes, x.rank()))) sizes.push_back(y[size_t(axis)]);
    }
    const auto axes = TRY(ResizeAxes(a, x, {}, scales, sizes));
    for (size_t i = 0; i < 4; ++i)
      if (axes[i].out != y[i] || (i < 2 && x[i] != y[i]) || x[i] > INT32_MAX)
        return Fail(Code::kInvalidArgument, "{}: resizes height and width, not {} to {}", kName,
                    ToString(x), ToString(y));
    Places p;
    p.h_ = TapsOf(a, axes[2]);
    const AxisTaps w = TapsOf(a, axes[3]);
    p.index_.assign(w.index.begin(), w.index.end());
    for (const double weight : w.weight)
      p.weights_.push_back(float(weight) * (a.x_scale / a.y_scale));
    p.width_ = x[3];
    p.in_pixels_ = x[2] * x[3];
    CodeResizeRow& r = p.row_;
    r.type = type;
    r.x_zero = int32_t(a.x_zero);
    r.range = CodeRange::Of(type, int32_t(a.y_zero));
    r.row_taps = p.h_.taps;
    r.columns = y[3];
    r.column_taps = w.taps;
    return p;
  }
  // Row `row` of y, of an image that begins at `x`.
  CodeResizeRow Row(const uint8_t* x, int64_t row, int64_t channels) const {
    CodeResizeRow r = row_;
    r.channels = channels;
    r.index = index_.data();
    r.weights = weights_.data();
    for (int64_t t = 0; t < r.row_taps; ++t) {
      const auto at = size_t(row * r.row_taps + t);
      r.rows[t] = x + h_.index[at] * width_ * channels;
      r.row_weights[t] = float(h_.weight[at]);
    }
    return r;
  }
  int64_t in_pixels() const { return in_pixels_; }

 private:
  AxisTaps h_;
  std::vector<int32_t> index_;
  std::vector<float> weights_;
  CodeResizeRow row_;
  int64_t width_ = 1, in_pixels_ = 1;
};

class ResizeKernel final : public Kernel {
 public:
  ResizeKernel(Places places, const Dims& y)
      : places_(std::move(places)), batch_(y[0]), channels_(y[1]), rows_(y[2]), width_(y[3]) {}
  std::string_view name() const override { return "codes.resize"; }
  InputUse uses(int input) const override {
    return input == 0 ? InputUse::kValues : InputUse::kNothing;
  }
  Status Run(RunContext& ctx) const override {
    const auto* x = static_cast<const uint8_t*>(ctx.in(0).data);
    auto* y = static_cast<uint8_t*>(ctx.out(0).data);
    const int64_t row = width_ * channels_;
    ctx.ParallelFor(
        batch_ * rows_, std::max<int64_t>(1, kChunk / row), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i)
            ResizeCodes(
                places_.Row(x + i / rows_ * places_.in_pixels() * channels_, i % rows_, channels_),
                y + i * row);
        });
    return {};
  }

 private:
  static constexpr int64_t kChunk = 32 << 10;  // codes: about 10 microseconds
  Places places_;
  int64_t batch_, channels_, rows_, width_;
};

struct CodeResize {
  using Attrs = CodeResizeAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckType<Bytes>(ctx.dtype(0), kName));
    const int64_t low = ctx.dtype(0) == DType::kU8 ? 0 : -128,
                  high = ctx.dtype(0) == DType::kI8 ? 127 : 255;
    for (const int64_t zero : {a.x_zero, a.y_zero})
      if (zero < low || zero > high)
        return Fail(Code::kInvalidArgument, "{}: the zero point {} is no code", kName, zero);
    for (const float scale : {a.x_scale, a.y_scale})
      if (!(scale > 0) || std::isinf(scale))
        return Fail(Code::kInvalidArgument, "{}: a scale is {}", kName, scale);
    return Resize::Infer(a, ctx);
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const Dims& y = ctx.out(0).dims;
    const auto scales = ctx.has(2) ? TRY(Scales(kName, ctx.in(2))) : std::vector<float>();
    const Places p = TRY(Places::Create(a, x.dtype, x.dims, y, scales));
    auto* out = static_cast<uint8_t*>(ctx.out(0).data);
    for (int64_t i = 0; i < ctx.out(0).count(); ++i) {
      const auto* plane = static_cast<const uint8_t*>(x.data) + i / (y[2] * y[3]) * p.in_pixels();
      out[i] = ResizedCode(p.Row(plane, i / y[3] % y[2], 1), i % y[3], 0);
    }
    return {};
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    const Type &x = ctx.input(0), &y = ctx.output(0);
    if (!Plannable(a, x, y) || ctx.input_layout(0) != Layout::kChannelsLast ||
        ctx.output_layout(0) != Layout::kChannelsLast)
      return KernelPtr();
    std::vector<float> scales;
    if (ctx.has(2) && CountOf(ctx.input(2).dims) != 0) {
      const Tensor* t = ctx.value(2);
      if (t == nullptr || t->dtype() != DType::kF32) return KernelPtr();
      scales.assign(t->as<float>(), t->as<float>() + t->count());
    }
    Places p = TRY(Places::Create(a, x.dtype, x.dims, y.dims, scales));
    return KernelPtr(std::make_unique<ResizeKernel>(std::move(p), y.dims));
  }
  static bool Plannable(const Attrs& a, const Type& x, const Type& y) {
    return IsByte(x.dtype) && x.IsStatic() && y.IsStatic() && x.dims.rank() == 4 &&
           IsCodeResize(a) && CountOf(x.dims) != 0 && CountOf(y.dims) != 0;
  }
  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) {
    LayoutPlan plan = RowMajorLayouts(q);
    const bool scales = q.inputs.size() > 2 && q.inputs[2].dtype != DType::kUndefined;
    if (Plannable(a, q.inputs[0], q.outputs[0]) && (!scales || q.constant[2]))
      plan.inputs[0] = plan.outputs[0] = Layout::kChannelsLast;
    return plan;
  }
};

}  // namespace

std::vector<OpDef> CodeResizeOps() {
  return {
      Declare<CodeResize>("CodeResize", {.domain = "dunlin", .min_inputs = 1, .max_inputs = 4})};
}

}  // namespace dunlin
