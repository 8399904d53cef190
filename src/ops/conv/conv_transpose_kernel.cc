// ConvTranspose of channels-last images. Output pixels of one phase (position modulo the strides)
// see the same kernel elements, so each phase is an ordinary convolution of stride 1 with a part of
// the kernel; together the phases use every element once.
#include <algorithm>

#include "kernels/conv.h"
#include "ops/conv/conv_kernel.h"

namespace dunlin {
namespace {

// One axis of one phase: the kernel elements with (element * dilation) % stride == phase, and for
// output position o (o + pad = phase modulo stride) the input position of each is
// (o + pad - element * dilation) / stride.
struct PhaseAxis {
  std::vector<int64_t> elements;
};

// Within 2 K 2^-24 sum |x||w| of the reference for sums of K terms.
class TransposedKernel final : public Kernel {
 public:
  ConvShape shape;
  WindowAxis axis[3];  // `in` is our output, `out` our input
  std::vector<PhaseAxis> phases[3];
  GemmPanels panels;
  Tensor packed, zeros;
  int64_t grain = 1;

  bool writes_strided(int) const override { return true; }
  std::string_view name() const override { return "conv.transposed"; }

  int64_t group_channels() const { return shape.channels / shape.group; }
  int64_t group_outputs() const { return shape.outputs / shape.group; }
  int64_t group_floats() const { return panels.packed_floats(shape.taps() * group_channels()); }
  // Kernel elements of phases before (d, h, w), in the order in which they are packed.
  int64_t TapsBefore(int64_t d, int64_t h, int64_t w) const {
    int64_t taps = 0;
    for (int64_t i = 0; i < int64_t(phases[0].size()); ++i)
      for (int64_t j = 0; j < int64_t(phases[1].size()); ++j)
        for (int64_t k = 0; k < int64_t(phases[2].size()); ++k) {
          if (i == d && j == h && k == w) return taps;
          taps += Count(0, i) * Count(1, j) * Count(2, k);
        }
    return taps;
  }
  int64_t Count(int a, int64_t phase) const {
    return int64_t(phases[a][size_t(phase)].elements.size());
  }

  Status Run(RunContext& ctx) const override {
    const float* x = ctx.in(0).as<float>();
    const float* bias = ctx.has(2) ? ctx.in(2).as<float>() : nullptr;
    const TensorView& y = ctx.out(0);
    const int64_t rows = shape.batch * axis[0].in * axis[1].in;
    ctx.ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        for (int64_t phase = 0; phase < axis[2].stride; ++phase) RunRow(x, bias, y, row, phase);
    });
    return {};
  }

  // Weights [C, M/group, d, h, w] phase by phase: [taps of the phase, C/group, M/group] packed.
  Result<Tensor> Pack(const Tensor& w) const {
    const int64_t c = group_channels(), m = group_outputs(), taps = shape.taps();
    Tensor result = TRY(Tensor::Create(DType::kF32, {shape.group * group_floats()}));
    for (int64_t g = 0; g < shape.group; ++g) {
      float* out = result.mut<float>() + g * group_floats();
      for (const PhaseAxis& d : phases[0])
        for (const PhaseAxis& h : phases[1])
          for (const PhaseAxis& v : phases[2]) {
            Tensor rows = TRY(Tensor::Create(
                DType::kF32,
                {int64_t(d.elements.size() * h.elements.size() * v.elements.size()), c, m}));
            float* to = rows.mut<float>();
            for (const int64_t kd : d.elements)
              for (const int64_t kh : h.elements)
                for (const int64_t kw : v.elements) {
                  const int64_t tap = (kd * axis[1].kernel + kh) * axis[2].kernel + kw;
                  for (int64_t i = 0; i < c; ++i)
                    for (int64_t j = 0; j < m; ++j)
                      *to++ = w.as<float>()[((g * c + i) * m + j) * taps + tap];
                }
            const int64_t k = rows.dims()[0] * c;
            PackGemm(panels, {rows.as<float>(), 1, k, 0, m, 1}, 0, panels.count, out);
            out += panels.packed_floats(k);
          }
    }
    return result;
  }

 private:
  static constexpr int64_t kPointers = 2048;

  // Output pixels of row `row` whose position along the last axis has phase `phase`.
  void RunRow(const float* x, const float* bias, const TensorView& y, int64_t row,
              int64_t phase) const {
    const int64_t od = row / axis[1].in % axis[0].in, oh = row % axis[1].in;
    const int64_t n = row / axis[1].in / axis[0].in;
    const int64_t pd = (od + axis[0].pad_begin) % axis[0].stride;
    const int64_t ph = (oh + axis[1].pad_begin) % axis[1].stride;
    const WindowAxis& w = axis[2];
    // The first such position, and how many there are.
    const int64_t first = ((phase - w.pad_begin) % w.stride + w.stride) % w.stride;
    const int64_t total = first >= w.in ? 0 : (w.in - first + w.stride - 1) / w.stride;
    const int64_t before = TapsBefore(pd, ph, phase);
    const int64_t taps = Count(0, pd) * Count(1, ph) * Count(2, phase);
    const int64_t step = std::max<int64_t>(1, kPointers / std::max<int64_t>(1, taps));
    const int64_t taps_at_once = std::min(taps, kPointers);
    for (int64_t i = 0; i < total; i += step) {
      const int64_t count = std::min(step, total - i);
      for (int64_t g = 0; g < shape.group; ++g) {
        GemmArgs a;
        a.m = count;
        a.k = group_channels();
        a.packed = packed.as<float>() + g * group_floats() + panels.packed_floats(before * a.k);
        a.packed_rows = taps * a.k;
        a.c = static_cast<float*>(y.data) + (row * w.in + first + i * w.stride) * y.pixel_step() +
              g * group_outputs();
        a.c_stride = w.stride * y.pixel_step();
        a.row_stride = count;
        if (bias != nullptr) a.epilogue.bias = bias + g * group_outputs();
        const float* rows[kPointers];
        a.rows = rows;
        int64_t t = 0;
        do {  // once even without taps: the output is the bias there
          a.taps = std::min(taps_at_once, taps - t);
          for (int64_t j = 0; j < a.taps; ++j)
            for (int64_t p = 0; p < count; ++p)
              rows[j * count + p] = Pixel(x, n, od, oh, first + (i + p) * w.stride, pd, ph, phase,
                                          t + j, g * group_channels());
          a.first_row = t * a.k;
          a.first = t == 0;
          t += a.taps;
          a.last = t == taps;
          Gemm(panels, a, 0, panels.count);
        } while (t < taps);
      }
    }
  }

  // The input pixel under tap `t` of a phase, or zeros.
  const float* Pixel(const float* x, int64_t n, int64_t od, int64_t oh, int64_t ow, int64_t pd,
                     int64_t ph, int64_t pw, int64_t t, int64_t channel) const {
    const int64_t at[3] = {od, oh, ow}, phase[3] = {pd, ph, pw};
    const int64_t element[3] = {t / Count(2, pw) / Count(1, ph), t / Count(2, pw) % Count(1, ph),
                                t % Count(2, pw)};
    int64_t index = n;
    for (int a = 0; a < 3; ++a) {
      const int64_t k = phases[a][size_t(phase[a])].elements[size_t(element[a])];
      const int64_t shifted = at[a] + axis[a].pad_begin - k * axis[a].dilation;
      if (shifted < 0 || shifted / axis[a].stride >= axis[a].out) return zeros.as<float>();
      index = index * axis[a].out + shifted / axis[a].stride;
    }
    return x + index * shape.channels + channel;
  }
};

}  // namespace

Result<KernelPtr> LowerConvTranspose(const ConvTransposeAttrs& attrs, LowerContext& ctx) {
  if (ctx.input_layout(0) != Layout::kChannelsLast ||
      ctx.output_layout(0) != Layout::kChannelsLast || ctx.value(1) == nullptr)
    return KernelPtr();
  auto k = std::make_unique<TransposedKernel>();
  k->shape = TRY(ResolveConvTranspose(attrs, ctx.input(0).dims, ctx.input(1).dims));
  const Window& window = k->shape.window;
  for (WindowAxis& a : k->axis) a = {1, 1, 1, 1, 1, 0, 0};
  std::copy(window.begin(), window.end(), k->axis + 3 - window.size());
  // Phases are listed one by one.
  constexpr int64_t kMaxPhases = 4096;
  int64_t phases = 1;
  for (const WindowAxis& a : k->axis)
    if (a.stride > kMaxPhases || (phases *= a.stride) > kMaxPhases) return KernelPtr();
  for (int i = 0; i < 3; ++i) {
    const WindowAxis& a = k->axis[i];
    k->phases[i].resize(size_t(a.stride));
    for (int64_t e = 0; e < a.kernel; ++e)
      k->phases[i][size_t(e * a.dilation % a.stride)].elements.push_back(e);
  }
  k->panels = MakeGemmPanels(k->group_outputs());
  k->zeros = TRY(Tensor::Zeros(DType::kF32, {k->group_channels()}));
  const int64_t row_work =
      k->axis[2].in * k->group_channels() * k->shape.outputs *
      std::max<int64_t>(
          1, k->shape.taps() / (k->axis[0].stride * k->axis[1].stride * k->axis[2].stride));
  k->grain = std::max<int64_t>(1, (1 << 20) / std::max<int64_t>(1, row_work));
  std::string recipe = fmt::format(
      "conv_transpose lanes {} panels {} group {} outputs {} channels {}", k->panels.lanes,
      k->panels.count, k->shape.group, k->shape.outputs, k->shape.channels);
  for (const WindowAxis& a : k->axis)
    recipe += fmt::format(" kernel {} stride {} dilation {}", a.kernel, a.stride, a.dilation);
  const auto pack = [&](const Tensor& t) { return k->Pack(t); };
  k->packed = TRY(ctx.weights().Get(*ctx.value(1), recipe, pack));
  return KernelPtr(std::move(k));
}

LayoutPlan ConvTransposeLayouts(const LayoutQuery& query) {
  LayoutPlan plan;
  plan.inputs.assign(query.inputs.size(), Layout::kRowMajor);
  plan.outputs.assign(query.outputs.size(), Layout::kRowMajor);
  if (HasConvKernel(query.inputs[0]) && query.constant[1])
    plan.inputs[0] = plan.outputs[0] = Layout::kChannelsLast;
  return plan;
}

}  // namespace dunlin
