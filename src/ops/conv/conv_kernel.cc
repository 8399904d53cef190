#include "ops/conv/conv_kernel.h"

#include <algorithm>

#include "kernels/bf16_product.h"
#include "kernels/conv.h"
#include "kernels/depthwise.h"
#include "kernels/transpose.h"
#include "ops/band.h"
#include "ops/choice.h"

namespace dunlin {
namespace {

constexpr int64_t kMaxAxes = 3;

// Images of one plane: bands are rows of the height.
bool IsFlat(const ConvGeometry& g) { return g.axis[0].in == 1 && g.axis[0].out == 1; }

Result<Tensor> ZeroFloats(int64_t count) { return Tensor::Zeros(DType::kF32, {count}); }

// Convolution as an indirect product, group by group.
// Within 2 K 2^-24 sum |x||w| of the reference for sums of K terms. Padding is multiplied as zeros:
// an infinite weight gives NaN where it meets it.
class IndirectKernel final : public Kernel, public BandKernel {
 public:
  ConvShape shape;
  ConvGeometry geometry;
  ActivationParams act;
  GemmPanels panels;
  GemmSplit split;
  bool bf16 = false;  // pairs of bf16 in `packed`
  Tensor packed;      // of constant weights
  Tensor zeros;

  int64_t group_channels() const { return shape.channels / shape.group; }
  int64_t group_outputs() const { return shape.outputs / shape.group; }
  int64_t packed_rows() const { return shape.taps() * group_channels(); }
  // Floats or pairs of a group's weights.
  int64_t group_packed() const {
    return panels.packed_floats(bf16 ? PairRows(shape.taps(), group_channels()) : packed_rows());
  }

  bool reads_strided(int input) const override { return input == 0 || input == 3; }
  bool writes_strided(int) const override { return true; }
  std::string_view name() const override {
    if (bf16) return geometry.pointwise() ? "conv.pointwise_bf16" : "conv.indirect_bf16";
    return geometry.pointwise() ? "conv.pointwise" : "conv.indirect";
  }
  InputUse uses(int input) const override {
    return input == 1 && packed.defined() ? InputUse::kNothing : InputUse::kValues;
  }
  size_t scratch_bytes() const override {
    return packed.defined() ? 0 : size_t(shape.group * group_packed()) * sizeof(float);
  }

  // Panels [begin, end), counted through all groups; `pack` is PackGemm or PackBf16.
  template <class T, class Pack>
  void PackPanels(const float* w, int64_t begin, int64_t end, T* to, const Pack& pack) const {
    const int64_t taps = shape.taps(), k = group_channels();
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / panels.count, panel = i % panels.count;
      pack(panels, {w + group * group_outputs() * k * taps, taps, k, 1, taps, k * taps}, panel,
           panel + 1, to + group * group_packed());
    }
  }

  const BandKernel* bands() const override {
    return packed.defined() && IsFlat(geometry) ? this : nullptr;
  }
  BandShape band_shape() const override { return BandShapeOf(shape, geometry); }
  void RunBand(const BandArgs& band) const override {
    const int64_t width = geometry.axis[2].out, most = ConvMaxRows(shape.taps());
    const GemmArgs g = Args(nullptr, band.bias, band.residual, band.y);
    ConvGeometry from = geometry;
    if (band.pixel_stride != 0) from.pixel_stride = band.pixel_stride;
    for (int64_t m = band.begin * width; m < band.end * width; m += most)
      Multiply(from, band.x, g, 0, shape.group,
               {m, std::min(m + most, band.end * width), 0, panels.count});
  }

  // `weights` where they are not constant.
  GemmArgs Args(const float* weights, const float* bias, const float* residual, float* y) const {
    GemmArgs g;
    g.k = group_channels();
    if (bf16)
      g.pairs = packed.as<uint32_t>();
    else
      g.packed = packed.defined() ? packed.as<float>() : weights;
    g.packed_rows = packed_rows();
    g.c = y;
    g.c_stride = shape.outputs;
    g.epilogue.bias = bias;
    g.epilogue.residual = residual;
    g.epilogue.residual_stride = shape.outputs;
    g.epilogue.activation = act;
    return g;
  }

  void Multiply(const ConvGeometry& from, const float* x, const GemmArgs& g, int64_t group_begin,
                int64_t group_end, const GemmSplit::Item& item) const {
    if (shape.group == 1)
      ConvIndirect(panels, from, x, zeros.as<float>(), g, item.m_begin, item.m_end,
                   item.panel_begin, item.panel_end);
    else
      ConvIndirectGroups(panels, from, x, zeros.as<float>(), g, {group_outputs(), group_packed()},
                         item.m_begin, item.m_end, group_begin, group_end);
  }

  Status Run(RunContext& ctx) const override {
    const float* x = ctx.in(0).as<float>();
    float* const weights = static_cast<float*>(ctx.scratch());
    if (!packed.defined())
      ctx.ParallelFor(shape.group * panels.count, 1, [&](int64_t begin, int64_t end) {
        PackPanels(ctx.in(1).as<float>(), begin, end, weights, PackGemm);
      });
    float* const y = ctx.out(0).mut<float>();
    const float* const bias = ctx.has(2) ? ctx.in(2).as<float>() : nullptr;
    const float* const residual = ctx.has(3) ? ctx.in(3).as<float>() : nullptr;
    ConvGeometry from = geometry;
    from.pixel_stride = ctx.in(0).pixel_step();
    GemmArgs g = Args(weights, bias, residual, y);
    g.c_stride = ctx.out(0).pixel_step();
    if (ctx.has(3)) g.epilogue.residual_stride = ctx.in(3).pixel_step();
    // The groups of an item share the pointers to its pixels.
    ctx.ParallelFor(split.items() * shape.group, split.grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end;) {
        const int64_t group = i % shape.group, groups = std::min(shape.group - group, end - i);
        Multiply(from, x, g, group, group + groups, split.item(i / shape.group));
        i += groups;
      }
    });
    return {};
  }
};

// Few input channels: a whole kernel row is one tap, because the channels of neighbouring pixels
// lie side by side. The image is copied first, to put the channels last and padding around the
// rows.
class RowTapKernel final : public Kernel {
 public:
  ConvShape shape;
  ConvGeometry geometry;  // of the copy: the last axis has one element, no padding, wider rows
  ActivationParams act;
  GemmPanels panels;
  GemmSplit split;
  Tensor packed, zeros;
  bool bf16 = false;       // pairs of bf16 in `packed`
  int64_t row_floats = 0;  // of the copy
  int64_t pad = 0, width = 0;
  bool channels_last = false;

  int64_t k() const { return shape.window.back().kernel * shape.channels; }
  int64_t packed_rows() const { return geometry.taps() * k(); }
  int64_t image_rows() const { return geometry.axis[0].in * geometry.axis[1].in; }

  bool reads_strided(int input) const override { return input == 3; }
  bool writes_strided(int) const override { return true; }
  std::string_view name() const override { return bf16 ? "conv.row_taps_bf16" : "conv.row_taps"; }
  InputUse uses(int input) const override {
    return input == 1 && packed.defined() ? InputUse::kNothing : InputUse::kValues;
  }
  size_t scratch_bytes() const override {
    return size_t(shape.batch * image_rows() * row_floats) * sizeof(float);
  }

  Status Run(RunContext& ctx) const override {
    const float* x = ctx.in(0).as<float>();
    float* const copy = static_cast<float*>(ctx.scratch());
    ctx.ParallelFor(shape.batch * image_rows(), std::max<int64_t>(1, (1 << 15) / row_floats),
                    [&](int64_t begin, int64_t end) {
                      for (int64_t r = begin; r < end; ++r) CopyRow(x, r, copy + r * row_floats);
                    });
    GemmArgs g;
    g.k = k();
    if (bf16)
      g.pairs = packed.as<uint32_t>();
    else
      g.packed = packed.as<float>();
    g.packed_rows = packed_rows();
    g.c = ctx.out(0).mut<float>();
    g.c_stride = ctx.out(0).pixel_step();
    g.epilogue.bias = ctx.has(2) ? ctx.in(2).as<float>() : nullptr;
    g.epilogue.residual = ctx.has(3) ? ctx.in(3).as<float>() : nullptr;
    g.epilogue.residual_stride = ctx.has(3) ? ctx.in(3).pixel_step() : 0;
    g.epilogue.activation = act;
    ctx.ParallelFor(split.items(), split.grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const GemmSplit::Item item = split.item(i);
        ConvIndirect(panels, geometry, copy, zeros.as<float>(), g, item.m_begin, item.m_end,
                     item.panel_begin, item.panel_end);
      }
    });
    return {};
  }

  // Weights [M, C, taps, kw] with the channels last: [taps, kw, C, M].
  Result<Tensor> Pack(const Tensor& w) const {
    const int64_t c = shape.channels, kw = shape.window.back().kernel, taps = geometry.taps();
    Tensor rows = TRY(Tensor::Create(DType::kF32, {packed_rows() * shape.outputs}));
    float* out = rows.mut<float>();
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t i = 0; i < kw; ++i)
        for (int64_t j = 0; j < c; ++j)
          for (int64_t m = 0; m < shape.outputs; ++m)
            *out++ = w.as<float>()[((m * c + j) * taps + t) * kw + i];
    const GemmSource source = {rows.as<float>(), taps, k(), k() * shape.outputs, shape.outputs, 1};
    if (!bf16) {
      Tensor result = TRY(Tensor::Create(DType::kF32, {panels.packed_floats(packed_rows())}));
      PackGemm(panels, source, 0, panels.count, result.mut<float>());
      return result;
    }
    Tensor result = TRY(Tensor::Create(DType::kU32, {panels.packed_floats(PairRows(taps, k()))}));
    PackBf16(panels, source, 0, panels.count, result.mut<uint32_t>());
    return result;
  }

 private:
  void CopyRow(const float* x, int64_t row, float* to) const {
    const int64_t c = shape.channels, n = row / image_rows(), y = row % image_rows();
    std::fill_n(to, pad * c, 0.0f);
    float* const middle = to + pad * c;
    const int64_t used = std::min(width, row_floats / c - pad);
    if (channels_last || c == 1) {
      std::copy_n(x + row * width * c, used * c, middle);
    } else {
      const int64_t plane = image_rows() * width;
      Transpose2D(x + n * c * plane + y * width, plane * 4, middle, c * 4, c, used, 4);
    }
    std::fill(middle + used * c, to + row_floats, 0.0f);
  }
};

// One kernel per channel.
class DepthwiseKernel final : public Kernel, public BandKernel {
 public:
  ConvShape shape;
  ConvGeometry geometry;
  ActivationParams act;
  Tensor packed;  // [taps, channels], of constant weights
  Tensor zeros;   // channels
  int64_t grain = 1;

  std::string_view name() const override { return "conv.depthwise"; }
  InputUse uses(int input) const override {
    return input == 1 && packed.defined() ? InputUse::kNothing : InputUse::kValues;
  }
  size_t scratch_bytes() const override {
    return packed.defined() ? 0 : size_t(shape.taps() * shape.channels) * sizeof(float);
  }

  void Pack(const float* w, float* to) const {
    const int64_t taps = shape.taps();
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t c = 0; c < shape.channels; ++c) to[t * shape.channels + c] = w[c * taps + t];
  }

  const BandKernel* bands() const override {
    return packed.defined() && IsFlat(geometry) ? this : nullptr;
  }
  BandShape band_shape() const override { return BandShapeOf(shape, geometry); }
  void RunBand(const BandArgs& band) const override {
    DepthwiseArgs a = Args();
    a.x = band.x;
    a.weights = packed.as<float>();
    if (band.bias != nullptr) a.bias = band.bias;
    a.residual = band.residual;
    a.y = band.y;
    Depthwise(a, band.begin, band.end);
  }

  DepthwiseArgs Args() const {
    DepthwiseArgs a;
    a.geometry = geometry;
    a.channels = shape.channels;
    a.zeros = a.bias = zeros.as<float>();
    a.activation = act;
    return a;
  }

  Status Run(RunContext& ctx) const override {
    DepthwiseArgs a = Args();
    a.x = ctx.in(0).as<float>();
    if (packed.defined()) {
      a.weights = packed.as<float>();
    } else {
      Pack(ctx.in(1).as<float>(), static_cast<float*>(ctx.scratch()));
      a.weights = static_cast<const float*>(ctx.scratch());
    }
    if (ctx.has(2)) a.bias = ctx.in(2).as<float>();
    a.residual = ctx.has(3) ? ctx.in(3).as<float>() : nullptr;
    a.y = ctx.out(0).mut<float>();
    const int64_t rows = shape.batch * geometry.axis[0].out * geometry.axis[1].out;
    ctx.ParallelFor(rows, grain, [&](int64_t begin, int64_t end) { Depthwise(a, begin, end); });
    return {};
  }
};

Result<KernelPtr> LowerDepthwise(const ConvShape& shape, const ActivationParams& act,
                                 LowerContext& ctx) {
  auto k = std::make_unique<DepthwiseKernel>();
  k->shape = shape;
  k->geometry = GeometryOf(shape);
  k->act = act;
  k->zeros = TRY(ZeroFloats(shape.channels));
  // About 5 microseconds of multiply-adds at half the peak of a core.
  const int64_t row_work = k->geometry.axis[2].out * shape.taps() * shape.channels;
  k->grain = std::max<int64_t>(1, (1 << 17) / std::max<int64_t>(1, row_work));
  if (const Tensor* w = ctx.value(1)) {
    const std::string recipe =
        fmt::format("depthwise taps {} channels {}", shape.taps(), shape.channels);
    const auto pack = [&](const Tensor& t) -> Result<Tensor> {
      Tensor packed = TRY(Tensor::Create(DType::kF32, {shape.taps() * shape.channels}));
      k->Pack(t.as<float>(), packed.mut<float>());
      return packed;
    };
    k->packed = TRY(ctx.weights().Get(*w, recipe, pack));
  }
  return KernelPtr(std::move(k));
}

Result<KernelPtr> LowerIndirect(const ConvShape& shape, const ActivationParams& act,
                                LowerContext& ctx) {
  auto k = std::make_unique<IndirectKernel>();
  k->shape = shape;
  k->geometry = GeometryOf(shape);
  k->act = act;
  k->panels = MakeGemmPanels(k->group_outputs());
  k->split = SplitGemm(k->panels, shape.group, shape.batch * shape.out_pixels(), k->packed_rows(),
                       ConvMaxRows(shape.taps()), ctx.threads());
  if (shape.group > 1) k->split.panel_step = k->panels.count, k->split.panel_items = 1;
  k->zeros = TRY(ZeroFloats(shape.channels));
  if (const Tensor* w = ctx.value(1)) {
    k->bf16 = ctx.bf16_products() && Bf16ProductPays(k->packed_rows(), k->group_outputs());
    const DType type = k->bf16 ? DType::kU32 : DType::kF32;
    const std::string recipe = fmt::format(
        "conv {} lanes {} panels {} group {} outputs {} channels {} taps {}", DTypeName(type),
        k->panels.lanes, k->panels.count, shape.group, shape.outputs, shape.channels, shape.taps());
    const auto pack = [&](const Tensor& t) -> Result<Tensor> {
      Tensor packed = TRY(Tensor::Create(type, {shape.group * k->group_packed()}));
      ctx.weights().ParallelFor(shape.group * k->panels.count, 1, [&](int64_t begin, int64_t end) {
        const float* const w = t.as<float>();
        if (k->bf16)
          k->PackPanels(w, begin, end, packed.mut<uint32_t>(), PackBf16);
        else
          k->PackPanels(w, begin, end, packed.mut<float>(), PackGemm);
      });
      return packed;
    };
    k->packed = TRY(ctx.weights().Get(*w, recipe, pack));
  }
  return KernelPtr(std::move(k));
}

// With fewer channels than this a tap is too short for the product of pixels.
constexpr int64_t kFewChannels = 8;

bool RowTapsFit(const ConvShape& s) {
  const WindowAxis& last = s.window.back();
  // Wider padding would make the copy larger than the image and its weights.
  const bool narrow = last.pad_begin < last.kernel && last.pad_end < last.kernel;
  return s.group == 1 && last.kernel > 1 && last.dilation == 1 && narrow;
}

bool WantsRowTaps(const ConvShape& s) { return s.channels < kFewChannels && RowTapsFit(s); }

Result<KernelPtr> LowerRowTaps(const ConvShape& shape, const ActivationParams& act,
                               LowerContext& ctx) {
  auto k = std::make_unique<RowTapKernel>();
  k->shape = shape;
  k->act = act;
  k->channels_last = ctx.input_layout(0) == Layout::kChannelsLast;
  k->geometry = GeometryOf(shape);
  ConvAxis& last = k->geometry.axis[2];
  k->pad = last.pad;
  k->width = last.in;
  last.in = (last.out - 1) * last.stride + last.kernel;  // what the windows cover, padding included
  k->row_floats = last.in * shape.channels;
  last.kernel = 1;
  last.pad = 0;
  k->panels = MakeGemmPanels(shape.outputs);
  k->split = SplitGemm(k->panels, 1, shape.batch * shape.out_pixels(), k->packed_rows(),
                       ConvMaxRows(k->geometry.taps()), ctx.threads());
  k->zeros = TRY(ZeroFloats(k->k()));
  k->bf16 = ctx.bf16_products() && Bf16ProductPays(k->packed_rows(), shape.outputs);
  const std::string recipe = fmt::format(
      "conv rows{} lanes {} panels {} outputs {} channels {} taps {} k {}", k->bf16 ? " bf16" : "",
      k->panels.lanes, k->panels.count, shape.outputs, shape.channels, k->geometry.taps(), k->k());
  k->packed =
      TRY(ctx.weights().Get(*ctx.value(1), recipe, [&](const Tensor& t) { return k->Pack(t); }));
  return KernelPtr(std::move(k));
}

// The cost model's choice first.
std::vector<Way> WaysOf(const ConvShape& shape, const ActivationParams& act, LowerContext& ctx) {
  std::vector<Way> ways;
  const bool constant = ctx.value(1) != nullptr;
  const Way row_taps{"row_taps", [&] { return LowerRowTaps(shape, act, ctx); }};
  if (constant && WantsRowTaps(shape)) ways.push_back(row_taps);
  if (ctx.input_layout(0) != Layout::kChannelsLast) return ways;
  const bool depthwise = shape.group > 1 && shape.group == shape.channels &&
                         shape.outputs == shape.channels && DepthwiseFits(GeometryOf(shape));
  if (depthwise) ways.push_back({"depthwise", [&] { return LowerDepthwise(shape, act, ctx); }});
  if (constant && shape.group > 1)
    ways.push_back({"grouped", [&] { return LowerGrouped(shape, act, ctx); }});
  if (depthwise) return ways;
  const bool bf16 =
      ctx.bf16_products() &&
      Bf16ProductPays(shape.taps() * shape.channels / shape.group, shape.outputs / shape.group);
  const int tile = constant ? WinogradTile(shape, bf16) : 0;
  const auto add_winograd = [&](int m) {
    ways.push_back(
        {fmt::format("winograd_{0}x{0}", m), [&, m] { return LowerWinograd(shape, m, act, ctx); }});
  };
  for (const int m : {4, 2})
    if (m <= tile) add_winograd(m);
  ways.push_back({"indirect", [&] { return LowerIndirect(shape, act, ctx); }});
  if (!constant) return ways;
  for (const int m : {2, 4})
    if (m > tile && WinogradFits(shape)) add_winograd(m);
  // More channels than that fill whole vectors either way, and the copy costs.
  constexpr int64_t kMostRowTapChannels = 32;
  if (!WantsRowTaps(shape) && RowTapsFit(shape) && shape.channels <= kMostRowTapChannels)
    ways.push_back(row_taps);
  return ways;
}

}  // namespace

ConvGeometry GeometryOf(const ConvShape& s) {
  ConvGeometry g;
  const size_t missing = 3 - s.window.size();
  for (size_t i = 0; i < s.window.size(); ++i) {
    const WindowAxis& a = s.window[i];
    g.axis[missing + i] = {a.in, a.out, a.kernel, a.stride, a.dilation, a.pad_begin};
  }
  g.pixel_stride = s.channels;
  return g;
}

BandShape BandShapeOf(const ConvShape& s, const ConvGeometry& g) {
  return {s.batch, g.axis[1], g.axis[2].in * s.channels, g.axis[2].out * s.outputs};
}

bool HasConvKernel(const Type& x) {
  return x.dtype == DType::kF32 && x.ranked && x.dims.rank() >= 3 && x.dims.rank() <= 2 + kMaxAxes;
}

Result<KernelPtr> LowerConv(const ConvAttrs& attrs, const ActivationParams& act,
                            LowerContext& ctx) {
  if (!HasConvKernel(ctx.input(0)) || ctx.output_layout(0) != Layout::kChannelsLast)
    return KernelPtr();
  const ConvShape shape = TRY(ResolveConv(attrs, ctx.input(0).dims, ctx.input(1).dims));
  return LowerBy(ctx, WaysOf(shape, act, ctx));
}

LayoutPlan ConvLayouts(const ConvAttrs& attrs, const LayoutQuery& query) {
  LayoutPlan plan;
  plan.inputs.assign(query.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(query.outputs.size(), Layout::kRowMajor);
  if (!HasConvKernel(query.inputs[0])) return plan;
  plan.inputs[0] = plan.outputs[0] = Layout::kChannelsLast;
  if (query.inputs.size() > 3) plan.inputs[3] = Layout::kChannelsLast;
  // The copy for row taps takes any layout.
  if (query.constant[1] && query.inputs[1].ranked) {
    const auto shape = ResolveConv(attrs, query.inputs[0].dims, query.inputs[1].dims);
    if (shape.has_value() && WantsRowTaps(*shape)) plan.inputs[0] = query.current[0];
  }
  return plan;
}

}  // namespace dunlin
