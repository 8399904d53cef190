// Windows over channels-last images of bytes, for the pools of codes. Internal to lowerings.
#pragma once

#include <algorithm>

#include "ops/conv/window.h"
#include "ops/op.h"

namespace dunlin {

// Larger windows are for the reference.
inline constexpr int64_t kMaxCodeTaps = 512;

inline bool IsCodeImage(const Type& x) {
  return (x.dtype == DType::kU8 || x.dtype == DType::kI8) && x.ranked && x.dims.rank() >= 3 &&
         x.dims.rank() <= 5;
}
inline bool CodeWindowsFit(const Window& window) {
  int64_t taps = 1;
  for (const WindowAxis& w : window) taps *= w.kernel;
  return window.size() <= 3 && taps <= kMaxCodeTaps;
}

// Calls pixel(output pixel, pointers to the input pixels under its window, their count) for all
// pixels of all images of input 0, on all threads. Pointers are in the order of the window's
// elements; those in the padding are left out. Neighbouring input pixels lie x_step apart.
template <class Q, class F>
void RunCodeWindows(RunContext& ctx, const Window& window, int64_t batch, int64_t channels,
                    int64_t x_step, const F& pixel) {
  WindowAxis axis[3] = {{1, 1}, {1, 1}, {1, 1}};
  std::copy(window.begin(), window.end(), axis + 3 - window.size());
  const WindowAxis &d = axis[0], &h = axis[1], &w = axis[2];
  const int64_t row_work = w.out * channels * d.kernel * h.kernel * w.kernel;
  constexpr int64_t kChunk = 1 << 18;  // bytes read: about 10 microseconds
  const Q* const x = ctx.in(0).as<Q>();
  ctx.ParallelFor(
      batch * d.out * h.out, std::max<int64_t>(1, kChunk / std::max<int64_t>(1, row_work)),
      [&](int64_t begin, int64_t end) {
        const Q* taps[kMaxCodeTaps];
        for (int64_t row = begin; row < end; ++row) {
          const int64_t oh = row % h.out, od = row / h.out % d.out, n = row / h.out / d.out;
          for (int64_t ow = 0; ow < w.out; ++ow) {
            int64_t count = 0;
            for (int64_t i = 0; i < d.kernel; ++i) {
              const int64_t z = od * d.stride - d.pad_begin + i * d.dilation;
              if (z < 0 || z >= d.in) continue;
              for (int64_t j = 0; j < h.kernel; ++j) {
                const int64_t y = oh * h.stride - h.pad_begin + j * h.dilation;
                if (y < 0 || y >= h.in) continue;
                for (int64_t k = 0; k < w.kernel; ++k) {
                  const int64_t at = ow * w.stride - w.pad_begin + k * w.dilation;
                  if (at >= 0 && at < w.in)
                    taps[count++] = x + (((n * d.in + z) * h.in + y) * w.in + at) * x_step;
                }
              }
            }
            pixel(row * w.out + ow, taps, count);
          }
        }
      });
}

}  // namespace dunlin
