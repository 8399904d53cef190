#include "kernels/conv.h"

#include <algorithm>

namespace dunlin {
namespace {

// Pointers on the stack of ConvIndirect: 32 KiB.
constexpr int64_t kPointers = 4096;

// Output positions whose tap k falls inside the input: [first, last).
struct Inside {
  int64_t first, last;
};
Inside InsideOf(const ConvAxis& a, int64_t k) {
  const int64_t shift = k * a.dilation - a.pad;  // in = out * stride + shift
  const int64_t first = shift >= 0 ? 0 : (-shift + a.stride - 1) / a.stride;
  const int64_t room = a.in - shift;
  const int64_t last = room <= 0 ? 0 : std::min(a.out, (room + a.stride - 1) / a.stride);
  return {std::min(first, a.out), std::max(last, std::min(first, a.out))};
}

// The arguments for output pixels [m_begin, m_end).
GemmArgs AtPixel(GemmArgs a, int64_t m_begin, int64_t m_end) {
  a.m = m_end - m_begin;
  a.c += m_begin * a.c_stride;
  if (a.epilogue.residual != nullptr) a.epilogue.residual += m_begin * a.epilogue.residual_stride;
  return a;
}

// Calls multiply for as many taps at once as there are pointers for.
template <class F>
void ForTaps(const ConvGeometry& g, const float* x, const float* zeros, GemmArgs a, int64_t m_begin,
             const F& multiply) {
  if (a.m == 0) return;
  const float* rows[kPointers];
  const int64_t taps = g.taps();
  const int64_t taps_at_once = std::max<int64_t>(1, kPointers / a.m);
  a.rows = rows;
  a.row_stride = a.m;
  for (int64_t t = 0; t < taps; t += taps_at_once) {
    a.taps = std::min(taps_at_once, taps - t);
    FillConvRows(g, x, zeros, m_begin, m_begin + a.m, t, t + a.taps, rows, a.row_stride);
    a.first_row = t * a.k;
    a.first = t == 0;
    a.last = t + a.taps == taps;
    multiply(a);
  }
}

}  // namespace

void FillConvRows(const ConvGeometry& g, const float* x, const float* zeros, int64_t m_begin,
                  int64_t m_end, int64_t t_begin, int64_t t_end, const float** rows,
                  int64_t row_stride) {
  const ConvAxis& d = g.axis[0];
  const ConvAxis& h = g.axis[1];
  const ConvAxis& w = g.axis[2];
  const int64_t image = g.in_pixels() * g.pixel_stride;
  for (int64_t m = m_begin; m < m_end;) {
    // A run of output pixels in one image row.
    const int64_t w0 = m % w.out, oh = m / w.out % h.out, od = m / w.out / h.out % d.out;
    const int64_t n = m / g.out_pixels();
    const int64_t w1 = std::min(w.out, w0 + m_end - m);
    for (int64_t t = t_begin; t < t_end; ++t) {
      const float** out = rows + (t - t_begin) * row_stride + (m - m_begin) - w0;  // indexed by ow
      const int64_t kw = t % w.kernel, kh = t / w.kernel % h.kernel, kd = t / w.kernel / h.kernel;
      const int64_t id = od * d.stride - d.pad + kd * d.dilation;
      const int64_t ih = oh * h.stride - h.pad + kh * h.dilation;
      if (id < 0 || id >= d.in || ih < 0 || ih >= h.in) {
        std::fill(out + w0, out + w1, zeros);
        continue;
      }
      const Inside inside = InsideOf(w, kw);
      const int64_t first = std::clamp(inside.first, w0, w1);
      const int64_t last = std::clamp(inside.last, first, w1);
      const float* row = x + n * image + (id * h.in + ih) * w.in * g.pixel_stride;
      const int64_t step = w.stride * g.pixel_stride;
      const float* pixel = row + (first * w.stride - w.pad + kw * w.dilation) * g.pixel_stride;
      std::fill(out + w0, out + first, zeros);
      for (int64_t i = first; i < last; ++i, pixel += step) out[i] = pixel;
      std::fill(out + last, out + w1, zeros);
    }
    m += w1 - w0;
  }
}

int64_t ConvMaxRows(int64_t taps) { return std::max<int64_t>(48, kPointers / taps); }

void ConvIndirect(const GemmPanels& panels, const ConvGeometry& g, const float* x,
                  const float* zeros, const GemmArgs& args, int64_t m_begin, int64_t m_end,
                  int64_t begin, int64_t end) {
  if (!g.pointwise()) {
    ForTaps(g, x, zeros, AtPixel(args, m_begin, m_end), m_begin,
            [&](const GemmArgs& a) { Gemm(panels, a, begin, end); });
    return;
  }
  GemmStrided(panels, AtPixel(args, m_begin, m_end), x + m_begin * g.pixel_stride, g.pixel_stride,
              begin, end);
}

void ConvIndirectGroups(const GemmPanels& panels, const ConvGeometry& g, const float* x,
                        const float* zeros, const GemmArgs& args, const ConvGroups& groups,
                        int64_t m_begin, int64_t m_end, int64_t group_begin, int64_t group_end) {
  ForTaps(g, x, zeros, AtPixel(args, m_begin, m_end), m_begin, [&](GemmArgs a) {
    const GemmArgs first = a;
    for (int64_t i = group_begin; i < group_end; ++i) {
      a.a_first = i * a.k;
      if (a.pairs != nullptr)
        a.pairs = first.pairs + i * groups.packed;
      else
        a.packed = first.packed + i * groups.packed;
      a.c = first.c + i * groups.outputs;
      if (a.epilogue.bias != nullptr) a.epilogue.bias = first.epilogue.bias + i * groups.outputs;
      if (a.epilogue.residual != nullptr)
        a.epilogue.residual = first.epilogue.residual + i * groups.outputs;
      Gemm(panels, a, 0, panels.count);
    }
  });
}

}  // namespace dunlin
