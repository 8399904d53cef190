// Resampling planes of f32 along height and width by weighted taps: linear, cubic, antialiased; and
// picking pixels of any element for nearest. The tables are made by the caller; indices are inside.
#pragma once

#include <cstdint>

namespace dunlin {

// One axis: output o is the sum over k < taps of weight[…] * x[index[…]]. Tables of the rows (h)
// are laid out [out][taps]; those of the columns (w) [taps][out], so that neighbouring columns are
// one vector.
struct ResampleAxis {
  int64_t in = 0, out = 0;
  int taps = 1;
  const int32_t* index = nullptr;
  const float* weight = nullptr;  // unused by PickRows
};

// Widest row that ResampleRows takes; its intermediate row lies on the stack.
inline constexpr int64_t kMaxResampleWidth = 8192;

// Rows [begin, end) of the planes * h.out rows of y [planes, h.out, w.out], from x [planes, h.in,
// w.in].
void ResampleRows(const float* x, float* y, const ResampleAxis& h, const ResampleAxis& w,
                  int64_t begin, int64_t end);
// The same for [planes, h.out, w.out, channels]; both tables are laid out [out][taps].
void ResampleRowsChannelsLast(const float* x, float* y, const ResampleAxis& h,
                              const ResampleAxis& w, int64_t channels, int64_t begin, int64_t end);

// Nearest: rows [begin, end) of [planes, h.out, w.out] pixels of pixel_bytes each; taps are 1.
void PickRows(const void* x, void* y, const ResampleAxis& h, const ResampleAxis& w,
              int64_t pixel_bytes, int64_t begin, int64_t end);

}  // namespace dunlin
