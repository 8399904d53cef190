// Transposed convolutions of codes. Output pixels of one phase (position modulo the strides) see
// the same kernel elements: together the phases are one convolution of stride 1 with strides times
// as many channels, which DepthToSpace moves to their pixels. So what follows them is taken in as
// behind any convolution, and codes are moved, not numbers.
#include <algorithm>

#include "passes/quantised.h"

namespace dunlin {
namespace {

int64_t FloorDiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

// One axis. Element e of the kernel takes input q - j to position r of the stride's block q where
// e = j * stride + r + shift. Block 0 begins `crop` positions ahead of the output.
struct PhaseAxis {
  int64_t stride = 1, dilation = 1, kernel = 1;
  int64_t shift = 0, crop = 0;
  int64_t first = 0, last = 0;  // j
  int64_t pad_end = 0;          // of the convolution; pad_begin is `last`
  int64_t left = 0;             // positions behind the output
  int64_t taps() const { return last - first + 1; }
  // The kernel element of tap u at position r, -1: none.
  int64_t Element(int64_t u, int64_t r) const {
    const int64_t e = (last - u) * stride + r + shift;
    return e >= 0 && e % dilation == 0 && e / dilation < kernel ? e / dilation : -1;
  }
};

// `a` as ResolveTransposedWindow gives it: a.in is the output. Nothing but its extents depends on
// them.
PhaseAxis PhaseAxisOf(const WindowAxis& a, int64_t crop) {
  PhaseAxis p{a.stride, a.dilation, a.kernel};
  p.crop = crop;
  p.shift = a.pad_begin - crop;
  p.first = -FloorDiv(p.stride - 1 + p.shift, p.stride);
  p.last = FloorDiv(a.extent() - 1 - p.shift, p.stride);
  const int64_t blocks = FloorDiv(a.in - 1 + crop, p.stride) + 1;
  p.pad_end = std::max<int64_t>(0, blocks - p.first - a.out);
  p.left = (a.out + p.pad_end + p.first) * p.stride - crop - a.in;
  return p;
}
// Of the two ways to cut the output into blocks the one with fewer taps; without a crop if equal.
PhaseAxis PhaseAxisOf(const WindowAxis& a) {
  const PhaseAxis whole = PhaseAxisOf(a, 0),
                  cut = PhaseAxisOf(a, a.pad_begin - FloorDiv(a.pad_begin, a.stride) * a.stride);
  return cut.taps() < whole.taps() ? cut : whole;
}

// Zeros of the kernel are multiplied, too: more of them than this many times the elements and
// floats win, whose products are at worst half as fast.
constexpr double kMostTaps = 1.8;

struct Phases {
  PhaseAxis h, w;
  int64_t count() const { return h.stride * w.stride; }
};
// nullopt: another way is better, or the only one.
std::optional<Phases> PhasesOf(const ConvTransposeAttrs& attrs, const Type& x, const Dims& w) {
  constexpr int64_t kAnyExtent = 4096;  // where it is unknown
  if (!x.ranked || x.dims.rank() != 4 || w.rank() != 4 || attrs.group != 1) return std::nullopt;
  int64_t in[2];
  for (size_t i = 0; i < 2; ++i) {
    in[i] = IsKnown(x.dims[2 + i]) ? x.dims[2 + i] : kAnyExtent;
    if (!IsKnown(x.dims[2 + i]) && !attrs.output_shape.empty()) return std::nullopt;
  }
  const auto window = ResolveTransposedWindow(attrs, attrs.output_padding, attrs.output_shape, in,
                                              std::span<const int64_t>(w).subspan(2));
  if (!window) return std::nullopt;
  const Phases p{PhaseAxisOf((*window)[0]), PhaseAxisOf((*window)[1])};
  if (p.h.stride != p.w.stride) return std::nullopt;
  for (size_t i = 0; i < 2; ++i) {
    const PhaseAxis& a = i == 0 ? p.h : p.w;
    if ((*window)[i].in < 1 || (*window)[i].out < 1 || a.taps() < 1 || a.last < 0 || a.left < 0)
      return std::nullopt;
  }
  const double taps = double(p.h.taps() * p.w.taps() * p.count());
  return taps <= kMostTaps * double(w[2] * w[3]) ? std::optional(p) : std::nullopt;
}

// w [C, M, kernel…] as [phases * M, C, taps…]; what no element of the kernel meets is `zero`, whose
// codes are one for all or one an output channel.
Result<Tensor> PhaseWeights(const Tensor& w, const Tensor* zero, const Phases& p) {
  const int64_t c_count = w.dims()[0], m_count = w.dims()[1];
  const int64_t rows = p.h.taps(), cols = p.w.taps();
  Tensor to = TRY(Tensor::Create(w.dtype(), {p.count() * m_count, c_count, rows, cols}));
  std::byte* out = to.raw();
  for (int64_t phase = 0; phase < p.count(); ++phase)
    for (int64_t m = 0; m < m_count; ++m) {
      const std::byte none =
          zero == nullptr ? std::byte{0} : zero->raw()[zero->count() == 1 ? 0 : m];
      for (int64_t c = 0; c < c_count; ++c) {
        const std::byte* kernel = w.raw() + (c * m_count + m) * p.h.kernel * p.w.kernel;
        for (int64_t u = 0; u < rows; ++u)
          for (int64_t v = 0; v < cols; ++v) {
            const int64_t y = p.h.Element(u, phase / p.w.stride),
                          x = p.w.Element(v, phase % p.w.stride);
            *out++ = y < 0 || x < 0 ? none : kernel[y * p.w.kernel + x];
          }
      }
    }
  return to;
}

// The same value for every phase, where it is one an output channel.
Result<ValueId> ForPhases(Rewriter& r, ValueId v, int64_t count) {
  if (v == ValueId::kNone || count == 1 || r.type(v).dims.rank() == 0) return v;
  return *TRY(r.Node("Concat", std::vector<ValueId>(size_t(count), v), {{"axis", int64_t{0}}}));
}

// ConvTranspose(Dequantize(x), Dequantize(w), bias) → Slice(DepthToSpace(CodeConv(x, w', bias')))
Built CodesConvTranspose(Rewriter& r, const Match&) {
  const Node& conv = r.node(0);
  const auto attrs = As<ConvTransposeAttrs>(*conv.attrs);
  const auto x = BytesOf(r.g, conv.inputs[0]), w = WeightsOf(r.g, conv.inputs[1], 1);
  const Tensor* codes = w ? ConstantOf(r.g, w->codes) : nullptr;
  if (!x || codes == nullptr || (w->zero != ValueId::kNone && !ConstantOf(r.g, w->zero)) ||
      r.type(conv.outputs[0]).dtype != DType::kF32)
    return std::nullopt;
  const auto p = PhasesOf(attrs, r.type(x->codes), codes->dims());
  const auto bias = BiasFor(r.g, InputOf(conv, 2), *x, *w);
  if (!p || !bias) return std::nullopt;

  Coded phases = *w;
  phases.codes = r.g.AddConstant(r.value(w->codes).name + "/phases",
                                 TRY(PhaseWeights(*codes, ConstantOf(r.g, w->zero), *p)));
  phases.scale = TRY(ForPhases(r, w->scale, w->single ? 1 : p->count()));
  phases.zero = TRY(ForPhases(r, w->zero, w->single ? 1 : p->count()));
  CodeConvAttrs a;
  a.kernel_shape = {p->h.taps(), p->w.taps()};
  a.pads = {p->h.last, p->w.last, p->h.pad_end, p->w.pad_end};
  auto y = TRY(r.NodeWith("dunlin.CodeConv",
                          Factors(*x, phases, TRY(ForPhases(r, *bias, p->count()))), MakeAttrs(a)));
  if (p->count() > 1) y = TRY(r.Node("DepthToSpace", {*y}, {{"blocksize", p->h.stride}}));
  if (p->h.crop + p->w.crop + p->h.left + p->w.left == 0) return y;
  const auto end = [](const PhaseAxis& axis) {
    return axis.left == 0 ? std::numeric_limits<int64_t>::max() : -axis.left;
  };
  const auto pair = [&](const char* name, int64_t h, int64_t w_part) {
    return r.g.AddConstant(r.value(*y).name + name, Tensor::Of<int64_t>({2}, {h, w_part}));
  };
  const ValueId starts = pair("/starts", p->h.crop, p->w.crop),
                ends = pair("/ends", end(p->h), end(p->w)), axes = pair("/axes", 2, 3);
  return r.Node("Slice", {*y, starts, ends, axes});
}

}  // namespace

std::span<const Rule> CodeTransposedRules() {
  static const Rule rules[] = {
      {"codes-conv-transpose", OpMore({"ConvTranspose"}, {Var(0)}, 0), CodesConvTranspose}};
  return rules;
}

}  // namespace dunlin
