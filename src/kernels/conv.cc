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
  GemmArgs a = args;
  a.m = m_end - m_begin;
  if (a.m == 0) return;
  a.c = args.c + m_begin * args.c_stride;
  if (args.epilogue.residual != nullptr)
    a.epilogue.residual += m_begin * args.epilogue.residual_stride;
  if (g.pointwise()) {
    GemmStrided(panels, a, x + m_begin * g.pixel_stride, g.pixel_stride, begin, end);
    return;
  }
  const float* rows[kPointers];
  const int64_t taps = g.taps();
  const int64_t taps_at_once = std::max<int64_t>(1, kPointers / a.m);
  a.rows = rows;
  a.row_stride = a.m;
  for (int64_t t = 0; t < taps; t += taps_at_once) {
    a.taps = std::min(taps_at_once, taps - t);
    FillConvRows(g, x, zeros, m_begin, m_end, t, t + a.taps, rows, a.row_stride);
    a.first_row = t * a.k;
    a.first = t == 0;
    a.last = t + a.taps == taps;
    Gemm(panels, a, begin, end);
  }
}

}  // namespace dunlin
