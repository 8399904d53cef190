#include "ops/quant/code_pixels.h"

#include <algorithm>

#include "kernels/transpose.h"
#include "ops/quant/code_weights.h"

namespace dunlin {
namespace {

constexpr int64_t kMaxAxes = 3;

ConvGeometry GeometryOf(const ConvShape& s) {
  ConvGeometry g;
  const size_t missing = kMaxAxes - s.window.size();
  for (size_t i = 0; i < s.window.size(); ++i) {
    const WindowAxis& a = s.window[i];
    g.axis[missing + i] = {a.in, a.out, a.kernel, a.stride, a.dilation, a.pad_begin};
  }
  return g;
}

// Channels last out of channels first; see WidenPlanes.
void ReadPlanes(DType t, const void* x, int64_t plane, int64_t channels, int32_t zero, int64_t n,
                int16_t* to, int64_t stride) {
  WidenPlanes(t, x, plane, channels, zero, n, to, stride);
}
void ReadPlanes(DType, const void* x, int64_t plane, int64_t channels, int32_t, int64_t n,
                uint8_t* to, int64_t stride) {
  Transpose2D(x, plane, to, stride, channels, n, 1);
}

}  // namespace

CodePixels::CodePixels(const ConvShape& s, int64_t multiple)
    : geometry_(GeometryOf(s)),
      batch_(s.batch),
      channels_(s.channels),
      group_(s.group),
      multiple_(multiple) {
  pixel_codes_ = group_ * group_codes();
  pointwise_ = group_ == 1;
  for (const ConvAxis& a : geometry_.axis)
    pointwise_ &= a.kernel == 1 && a.stride == 1 && a.pad == 0 && a.in == a.out;
  const ConvAxis& w = geometry_.axis[2];
  rows_ = geometry_.axis[0].kernel * geometry_.axis[1].kernel;
  // So few channels that half of the vectors' work would be filling, or the taps' turns cost more
  // than their sums: images, above all.
  constexpr int64_t kFewChannels = 7;
  joined_ = group_ == 1 && channels_ <= kFewChannels && w.kernel > 1 && w.dilation == 1;
  if (!joined_) return;
  pixel_codes_ = channels_;
  row_codes_ = std::max(w.in + w.pad, (w.out - 1) * w.stride + w.kernel) * channels_;
}

// An odd number of codes is read to the end of a pair.
int64_t CodePixels::count() const {
  const int64_t images = batch_ * geometry_.axis[0].in * geometry_.axis[1].in;
  return (joined_ ? images * row_codes_ : images * geometry_.axis[2].in * pixel_codes_) + 2;
}
int64_t CodePixels::padding() const { return joined_ ? row_codes_ + 2 : pixel_codes_ + 2; }

int64_t CodePixels::blocks() const {
  const ConvAxis *d = &geometry_.axis[0], *h = &geometry_.axis[1];
  if (joined_) return batch_ * d->in * h->in;
  return batch_ * ((geometry_.in_pixels() + block_pixels() - 1) / block_pixels());
}

template <class Code>
void CodePixels::ReadBlock(DType t, const void* x, bool x_last, int32_t zero, int64_t block,
                           Code* to) const {
  const int64_t plane = geometry_.in_pixels();
  if (joined_) {
    const ConvAxis& w = geometry_.axis[2];
    const int64_t rows = plane / std::max<int64_t>(1, w.in);
    to += block * row_codes_;
    const int64_t left = w.pad * channels_, inside = w.in * channels_;
    const Code padding = PaddingCode<Code>(zero);
    std::fill_n(to, left, padding);
    std::fill(to + left + inside, to + row_codes_ + (block + 1 == blocks() ? 2 : 0), padding);
    ReadRun(t, x, x_last, zero, block / rows, block % rows * w.in, w.in, to + left);
    return;
  }
  const int64_t blocks = (plane + block_pixels() - 1) / block_pixels();
  const int64_t image = block / blocks, first = block % blocks * block_pixels();
  ReadRun(t, x, x_last, zero, image, first, std::min(block_pixels(), plane - first),
          to + (image * plane + first) * pixel_codes_);
}

template <class Code>
void CodePixels::ReadPixels(DType t, const void* x, bool x_last, int32_t zero, int64_t first,
                            int64_t count, Code* to) const {
  const int64_t plane = geometry_.in_pixels();
  for (int64_t at = first; at < first + count;) {
    const int64_t image = at / plane, n = std::min(first + count, (image + 1) * plane) - at;
    ReadRun(t, x, x_last, zero, image, at - image * plane, n, to + (at - first) * pixel_codes_);
    at += n;
  }
}

// Pixels [first, first + count) of an image.
template <class Code>
void CodePixels::ReadRun(DType t, const void* x, bool x_last, int32_t zero, int64_t image,
                         int64_t first, int64_t count, Code* to) const {
  const int64_t plane = geometry_.in_pixels(), k = group_channels(), c = channels_;
  const int64_t per_group = pixel_codes_ / group_;
  const auto* bytes = static_cast<const uint8_t*>(x);
  const bool even = per_group == k;
  if (!x_last) {
    for (int64_t g = 0; g < (even ? 1 : group_); ++g)
      ReadPlanes(t, bytes + (image * c + g * k) * plane + first, plane, even ? c : k, zero, count,
                 to + g * per_group, pixel_codes_);
  } else if (even) {
    ReadCodes(t, bytes, (image * plane + first) * c, 1, zero, count * c, to);
  } else {
    for (int64_t p = 0; p < count; ++p)
      for (int64_t g = 0; g < group_; ++g)
        ReadCodes(t, bytes, (image * plane + first + p) * c + g * k, 1, zero, k,
                  to + p * pixel_codes_ + g * per_group);
  }
  if (even) return;
  for (int64_t p = 0; p < count; ++p)
    for (int64_t g = 0; g < group_; ++g) to[p * pixel_codes_ + g * per_group + k] = 0;
}

void CodePixels::FillCorners(int64_t first, int64_t count, WindowCorner* to) const {
  const ConvAxis *d = &geometry_.axis[0], *h = &geometry_.axis[1], *w = &geometry_.axis[2];
  int64_t ow = first % w->out, rest = first / w->out, oh = rest % h->out;
  rest /= h->out;
  int64_t od = rest % d->out, image = rest / d->out;
  for (int64_t i = 0; i < count; ++i) {
    to[i] = {image, od * d->stride - d->pad, oh * h->stride - h->pad, ow * w->stride - w->pad};
    if (++ow < w->out) continue;
    ow = 0;
    if (++oh < h->out) continue;
    oh = 0;
    if (++od < d->out) continue;
    od = 0;
    ++image;
  }
}

template <class Code>
void CodePixels::FillRows(const Code* x, const Code* padding, const WindowCorner* corners,
                          int64_t m, int64_t t_begin, int64_t t_end, const Code** rows,
                          int64_t stride) const {
  const ConvAxis *d = &geometry_.axis[0], *h = &geometry_.axis[1], *w = &geometry_.axis[2];
  const int64_t width = joined_ ? 1 : w->kernel;
  const int64_t row = joined_ ? row_codes_ : w->in * pixel_codes_;
  for (int64_t t = t_begin; t < t_end; ++t, rows += stride) {
    const int64_t dx = t % width * w->dilation, dy = t / width % h->kernel * h->dilation,
                  dz = t / width / h->kernel * d->dilation;
    for (int64_t i = 0; i < m; ++i) {
      const int64_t py = corners[i].y + dy, pz = corners[i].z + dz;
      // A joined row holds its padding, from which its pixels are counted.
      const int64_t px = joined_ ? corners[i].x + w->pad : corners[i].x + dx;
      const bool inside = (joined_ || uint64_t(px) < uint64_t(w->in)) &&
                          uint64_t(py) < uint64_t(h->in) && uint64_t(pz) < uint64_t(d->in);
      rows[i] = inside
                    ? x + ((corners[i].image * d->in + pz) * h->in + py) * row + px * pixel_codes_
                    : padding;
    }
  }
}

#define DUNLIN_CODE_PIXELS(Code)                                                                   \
  template void CodePixels::ReadBlock(DType, const void*, bool, int32_t, int64_t, Code*) const;    \
  template void CodePixels::ReadPixels(DType, const void*, bool, int32_t, int64_t, int64_t, Code*) \
      const;                                                                                       \
  template void CodePixels::FillRows(const Code*, const Code*, const WindowCorner*, int64_t,       \
                                     int64_t, int64_t, const Code**, int64_t) const;
DUNLIN_CODE_PIXELS(int16_t)
DUNLIN_CODE_PIXELS(uint8_t)
#undef DUNLIN_CODE_PIXELS

}  // namespace dunlin
