#include "ops/conv/deform_conv.h"

#include <algorithm>
#include <cmath>

#include "kernels/gemm.h"
#include "ops/elementwise/numeric.h"
#include "ops/movement/axes.h"

namespace dunlin {
namespace {

constexpr std::string_view kName = "DeformConv";
constexpr size_t kMaxAxes = 4;  // a point between pixels has 2^axes neighbours
enum Input { kX, kW, kOffset, kBias, kMask };

// Checks the extents of an input against [N, rows, out…], as far as both are known.
Status CheckPlanes(const Dims& d, int64_t rows, const ConvShape& s, std::string_view what) {
  bool fits = d.size() == s.window.size() + 2 && MergeDim(d[0], s.batch) && MergeDim(d[1], rows);
  for (size_t i = 0; fits && i < s.window.size(); ++i)
    fits = MergeDim(d[i + 2], s.window[i].out).has_value();
  if (fits) return {};
  Dims want{s.batch, rows};
  for (const WindowAxis& a : s.window) want.push_back(a.out);
  return Fail(Code::kInvalidArgument, "{} has the extents {} where {} is needed", what, ToString(d),
              ToString(want));
}

Result<ConvShape> Resolve(const DeformConv::Attrs& a, const Dims& x, const Dims& w) {
  ConvShape s = TRY(ResolveConv(a, x, w));
  if (s.window.size() > kMaxAxes)
    return Fail(Code::kUnimplemented, "{} spatial axes, at most {} are supported", s.window.size(),
                kMaxAxes);
  if (a.offset_group < 1 || (IsKnown(s.channels) && s.channels % a.offset_group != 0))
    return Fail(Code::kInvalidArgument, "{} channels cannot be split into {} offset groups",
                s.channels, a.offset_group);
  return s;
}

// Offsets (`axes` of them) or masks (1) of all taps.
int64_t Rows(const DeformConv::Attrs& a, const ConvShape& s, int64_t each) {
  int64_t rows = MulDims(a.offset_group, each);
  for (const WindowAxis& axis : s.window) rows = MulDims(rows, axis.kernel);
  return rows;
}

// The pixels around a point, and their weights; fewer where some lie outside.
struct Neighbours {
  int count = 0;
  int64_t at[1 << kMaxAxes] = {};
  double weight[1 << kMaxAxes] = {};
};
Neighbours Around(const Window& window, const double* point) {
  Neighbours n;
  for (size_t i = 0; i < window.size(); ++i)
    if (!(point[i] > -1 && point[i] < double(window[i].in))) return n;
  for (int corner = 0; corner < 1 << window.size(); ++corner) {
    int64_t at = 0;
    double weight = 1;
    for (size_t i = 0; i < window.size() && weight != 0; ++i) {
      const double base = std::floor(point[i]), part = point[i] - base;
      const int64_t p = int64_t(base) + (corner >> i & 1);
      weight *= p < 0 || p >= window[i].in ? 0 : corner >> i & 1 ? part : 1 - part;
      at = at * window[i].in + p;
    }
    // A weight of 0 must not let NaN or infinity through.
    if (weight == 0) continue;
    n.at[n.count] = at;
    n.weight[n.count++] = weight;
  }
  return n;
}

// Where tap `tap` of output pixel `pixel` reads. offset: that image's and group's [taps, axes,
// pixels].
template <class T>
Neighbours TapAt(const ConvShape& s, const T* offset, int64_t tap, int64_t pixel) {
  double point[kMaxAxes];
  const int64_t pixels = s.out_pixels();
  const auto axes = int64_t(s.window.size());
  int64_t rest_tap = tap, rest_pixel = pixel;
  for (int64_t i = axes; i-- > 0;) {
    const WindowAxis& a = s.window[size_t(i)];
    const int64_t place =
        rest_pixel % a.out * a.stride - a.pad_begin + rest_tap % a.kernel * a.dilation;
    point[i] = double(place) + double(Widen(offset[(tap * axes + i) * pixels + pixel]));
    rest_tap /= a.kernel;
    rest_pixel /= a.out;
  }
  return Around(s.window, point);
}

// Output pixels in blocks: what their taps read becomes the rows of a matrix product. The image
// is channels-last, so that a tap reads runs of channels.
class DeformConvKernel final : public Kernel {
 public:
  DeformConvKernel(ConvShape s, int64_t offset_group, GemmPanels panels, Tensor packed, int slots)
      : s_(std::move(s)),
        offset_group_(offset_group),
        panels_(panels),
        packed_(std::move(packed)),
        slots_(slots) {}
  std::string_view name() const override { return "deform_conv.columns"; }
  size_t scratch_bytes() const override { return size_t(slots_ * SlotFloats()) * sizeof(float); }
  InputUse uses(int input) const override {
    return input == kW ? InputUse::kNothing : InputUse::kValues;
  }

  Status Run(RunContext& ctx) const override {
    const int64_t per_image = (s_.out_pixels() + kBlock - 1) / kBlock;
    const int64_t blocks = s_.batch * per_image;
    ctx.ParallelFor(slots_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t slot = begin; slot < end; ++slot) {
        float* rows = static_cast<float*>(ctx.scratch()) + slot * SlotFloats();
        for (int64_t b = slot * blocks / slots_; b < (slot + 1) * blocks / slots_; ++b)
          RunBlock(ctx, b / per_image, b % per_image * kBlock, rows);
      }
    });
    return {};
  }

 private:
  static constexpr int64_t kBlock = 32;  // rows of a product: several of a panel's tile

  int64_t PerGroup() const { return s_.channels / s_.group; }
  int64_t Columns() const { return s_.taps() * PerGroup(); }
  int64_t SlotFloats() const { return kBlock * s_.taps() * s_.channels; }

  void RunBlock(RunContext& ctx, int64_t image, int64_t first, float* rows) const {
    const int64_t count = std::min(kBlock, s_.out_pixels() - first);
    for (int64_t i = 0; i < count; ++i) Fill(ctx, image, first + i, rows + i * Columns());
    const int64_t outputs = s_.outputs / s_.group;
    for (int64_t g = 0; g < s_.group; ++g) {
      GemmArgs args;
      args.k = args.packed_rows = Columns();
      args.m = count;
      args.packed = packed_.as<float>() + g * panels_.packed_floats(Columns());
      args.c =
          ctx.out(0).mut<float>() + (image * s_.out_pixels() + first) * s_.outputs + g * outputs;
      args.c_stride = s_.outputs;
      if (ctx.has(kBias)) args.epilogue.bias = ctx.in(kBias).as<float>() + g * outputs;
      GemmStrided(panels_, args, rows + g * kBlock * Columns(), Columns(), 0, panels_.count);
    }
  }

  // The row of one output pixel in the matrix of every group: [taps, channels of the group].
  void Fill(RunContext& ctx, int64_t image, int64_t pixel, float* row) const {
    const int64_t taps = s_.taps(), axes = int64_t(s_.window.size()), pixels = s_.out_pixels();
    const int64_t run = s_.channels / offset_group_;
    const float* x = ctx.in(kX).as<float>() + image * s_.in_pixels() * s_.channels;
    for (int64_t og = 0; og < offset_group_; ++og) {
      const int64_t first_tap = (image * offset_group_ + og) * taps;
      const float* offset = ctx.in(kOffset).as<float>() + first_tap * axes * pixels;
      for (int64_t t = 0; t < taps; ++t) {
        const Neighbours n = TapAt(s_, offset, t, pixel);
        const float mask =
            ctx.has(kMask) ? ctx.in(kMask).as<float>()[(first_tap + t) * pixels + pixel] : 1.0f;
        // The run of channels may lie in several groups of the convolution.
        for (int64_t c = og * run; c < (og + 1) * run;) {
          const int64_t g = c / PerGroup();
          const int64_t end = std::min((og + 1) * run, (g + 1) * PerGroup());
          float* to = row + g * kBlock * Columns() + t * PerGroup() + c % PerGroup();
          std::fill_n(to, end - c, 0.0f);
          for (int k = 0; k < n.count; ++k) {
            const float weight = float(n.weight[k]) * mask;
            const float* from = x + n.at[k] * s_.channels + c;
            for (int64_t i = 0; i < end - c; ++i) to[i] += weight * from[i];
          }
          c = end;
        }
      }
    }
  }

  ConvShape s_;
  int64_t offset_group_;
  GemmPanels panels_;
  Tensor packed_;
  int64_t slots_;
};

}  // namespace

Status DeformConv::Infer(const Attrs& a, InferContext& ctx) {
  DType dtype = DType::kUndefined;
  for (int i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.has(i) || ctx.dtype(i) == DType::kUndefined) continue;
    TRY(CheckType<Floats>(ctx.dtype(i), kName));
    if (dtype != DType::kUndefined && dtype != ctx.dtype(i))
      return Fail(Code::kInvalidArgument, "inputs of the types {} and {}: they must be equal",
                  DTypeName(dtype), DTypeName(ctx.dtype(i)));
    dtype = ctx.dtype(i);
  }
  int rank = 0;
  for (const int i : {int(kX), int(kW), int(kOffset)})
    if (ctx.input(i).ranked) rank = ctx.input(i).dims.rank();
  if (rank == 0) {
    ctx.Set(0, Type::Unranked(dtype));
    return {};
  }
  const auto dims = [&](int i) {
    return ctx.input(i).ranked ? ctx.input(i).dims : UnknownDims(size_t(rank));
  };
  ConvShape s = TRY(Resolve(a, dims(kX), dims(kW)));
  const int64_t axes = int64_t(s.window.size());
  const Dims offset = dims(kOffset);
  TRY(CheckPlanes(offset, Rows(a, s, axes), s, "the offset"));
  if (ctx.has(kMask) && ctx.input(kMask).ranked)
    TRY(CheckPlanes(ctx.input(kMask).dims, Rows(a, s, 1), s, "the mask"));
  if (ctx.has(kBias) && ctx.input(kBias).ranked &&
      (ctx.input(kBias).dims.rank() != 1 || !MergeDim(ctx.input(kBias).dims[0], s.outputs)))
    return Fail(Code::kInvalidArgument, "the bias {} is not one number for each of {} outputs",
                ToString(ctx.input(kBias)), s.outputs);
  Dims y{MergeDim(s.batch, offset[0]).value_or(s.batch), s.outputs};
  for (size_t i = 0; i < s.window.size(); ++i)
    y.push_back(MergeDim(s.window[i].out, offset[i + 2]).value_or(s.window[i].out));
  TRY(CheckSize(y));
  ctx.Set(0, Type::Of(dtype, std::move(y)));
  return {};
}

Status DeformConv::Reference(const Attrs& a, RunContext& ctx) {
  const ConvShape s = TRY(Resolve(a, ctx.in(kX).dims, ctx.in(kW).dims));
  const auto axes = int64_t(s.window.size());
  TRY(CheckPlanes(ctx.in(kOffset).dims, Rows(a, s, axes), s, "the offset"));
  if (ctx.has(kMask)) TRY(CheckPlanes(ctx.in(kMask).dims, Rows(a, s, 1), s, "the mask"));
  const int64_t taps = s.taps(), pixels = s.out_pixels(), per_group = s.channels / s.group;
  const int64_t run = s.channels / a.offset_group;
  return VisitTypes<Floats>(ctx.in(kX).dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
    std::vector<double> read(size_t(s.channels * taps));  // what the taps of one pixel read
    for (int64_t n = 0; n < s.batch; ++n)
      for (int64_t p = 0; p < pixels; ++p) {
        for (int64_t c = 0; c < s.channels; ++c) {
          const int64_t first_tap = (n * a.offset_group + c / run) * taps;
          const T* plane = ctx.in(kX).as<T>() + (n * s.channels + c) * s.in_pixels();
          for (int64_t t = 0; t < taps; ++t) {
            const T* offset = ctx.in(kOffset).as<T>() + first_tap * axes * pixels;
            const Neighbours around = TapAt(s, offset, t, p);
            double sum = 0;
            for (int k = 0; k < around.count; ++k)
              sum += around.weight[k] * double(Widen(plane[around.at[k]]));
            if (ctx.has(kMask))
              sum *= double(Widen(ctx.in(kMask).as<T>()[(first_tap + t) * pixels + p]));
            read[size_t(c * taps + t)] = sum;
          }
        }
        for (int64_t m = 0; m < s.outputs; ++m) {
          const int64_t first = m / (s.outputs / s.group) * per_group * taps;
          double sum = ctx.has(kBias) ? double(Widen(ctx.in(kBias).as<T>()[m])) : 0;
          for (int64_t k = 0; k < per_group * taps; ++k)
            sum += read[size_t(first + k)] *
                   double(Widen(ctx.in(kW).as<T>()[m * per_group * taps + k]));
          ctx.out(0).mut<T>()[(n * s.outputs + m) * pixels + p] = Narrow<T>(sum);
        }
      }
    return {};
  });
}

LayoutPlan DeformConv::Layouts(const Attrs&, const LayoutQuery& q) {
  LayoutPlan plan;
  plan.inputs.assign(q.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(q.outputs.size(), Layout::kRowMajor);
  if (q.inputs[kX].dtype == DType::kF32 && q.inputs[kX].ranked && q.inputs[kX].dims.rank() == 4 &&
      q.constant[kW])
    plan.inputs[kX] = plan.outputs[0] = Layout::kChannelsLast;
  return plan;
}

Result<KernelPtr> DeformConv::Lower(const Attrs& a, LowerContext& ctx) {
  const Tensor* w = ctx.value(kW);
  if (w == nullptr || ctx.input(kX).dtype != DType::kF32 ||
      ctx.input_layout(kX) != Layout::kChannelsLast)
    return KernelPtr();
  ConvShape s = TRY(Resolve(a, ctx.input(kX).dims, ctx.input(kW).dims));
  if (CountOf(ctx.output(0).dims) == 0 || w->count() == 0) return KernelPtr();
  const int64_t per_group = s.channels / s.group, outputs = s.outputs / s.group, taps = s.taps();
  const GemmPanels panels = MakeGemmPanels(outputs);
  const int64_t floats = panels.packed_floats(taps * per_group);
  const std::string recipe =
      fmt::format("deform_conv {} groups {} lanes {} panels", s.group, panels.lanes, panels.count);
  const int64_t groups = s.group;
  Tensor packed = TRY(ctx.weights().Get(*w, recipe, [&](const Tensor& t) -> Result<Tensor> {
    Tensor out = TRY(Tensor::Create(DType::kF32, {groups * floats}));
    for (int64_t g = 0; g < groups; ++g) {
      const GemmSource source{t.as<float>() + g * outputs * per_group * taps,
                              taps,
                              per_group,
                              1,
                              taps,
                              per_group * taps};
      PackGemm(panels, source, 0, panels.count, out.mut<float>() + g * floats);
    }
    return out;
  }));
  return KernelPtr(std::make_unique<DeformConvKernel>(std::move(s), a.offset_group, panels,
                                                      std::move(packed), 4 * ctx.threads()));
}

int64_t DeformConv::Macs(const Attrs&, std::span<const Type> in, std::span<const Type> out) {
  const int64_t outputs = std::max<int64_t>(1, in[kW].dims[0]);
  return CountOf(out[0].dims) * (CountOf(in[kW].dims) / outputs);
}

}  // namespace dunlin
