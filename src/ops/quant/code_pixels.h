// The input of a convolution of codes as its kernels read it: channels last, 16 bits wide, the zero
// point subtracted; and where under each output pixel the taps of the window lie.
#pragma once

#include "kernels/conv.h"
#include "ops/conv/conv.h"

namespace dunlin {

// Where an output pixel's window begins.
struct WindowCorner {
  int64_t image, z, y, x;
};

class CodePixels {
 public:
  CodePixels() = default;
  CodePixels(const ConvShape& shape, bool depthwise);

  const ConvGeometry& geometry() const { return geometry_; }
  // A tap is one pixel of the window, or where channels are few a row of the window: then rows are
  // stored with their padding, so that a row of the window is one run of codes.
  int64_t taps() const { return joined_ ? rows_ : geometry_.taps(); }
  int64_t tap_codes() const { return joined_ ? window_width() * channels_ : group_channels(); }
  int64_t pairs() const { return (tap_codes() + 1) / 2; }
  bool joined() const { return joined_; }
  // Which weight code k of tap t meets: channel within the group, and place in the window.
  int64_t ChannelOf(int64_t k) const { return joined_ ? k % channels_ : k; }
  int64_t PlaceOf(int64_t t, int64_t k) const {
    return joined_ ? t * window_width() + k / channels_ : t;
  }
  // Where a group's codes begin within a pixel.
  int64_t group_codes() const { return depthwise_ ? 1 : 2 * ((group_channels() + 1) / 2); }

  int64_t count() const;  // of 16-bit integers for the whole input
  int64_t zeros() const;  // that a tap beside the image needs
  // A product of pixels as they lie.
  bool pointwise() const { return pointwise_; }
  int64_t pixel_codes() const { return pixel_codes_; }

  // Blocks of the input that can be widened independently, and their number.
  int64_t blocks() const;
  void WidenBlock(DType t, const void* x, bool x_last, int32_t zero, int64_t block,
                  int16_t* to) const;
  // Pixels [first, first + count) of the batch, of a pointwise product.
  void WidenPixels(DType t, const void* x, bool x_last, int32_t zero, int64_t first, int64_t count,
                   int16_t* to) const;

  // Of output pixels [first, first + count) of the batch.
  void FillCorners(int64_t first, int64_t count, WindowCorner* to) const;
  // The codes under taps [t_begin, t_end) of m windows: rows[(t - t_begin) * stride + i].
  void FillRows(const int16_t* x, const int16_t* zeros, const WindowCorner* corners, int64_t m,
                int64_t t_begin, int64_t t_end, const int16_t** rows, int64_t stride) const;

 private:
  int64_t group_channels() const { return channels_ / group_; }
  int64_t window_width() const { return geometry_.axis[2].kernel; }
  int64_t block_pixels() const { return std::max<int64_t>(1, 8192 / pixel_codes_); }
  void WidenRun(DType t, const void* x, bool x_last, int32_t zero, int64_t image, int64_t first,
                int64_t count, int16_t* to) const;

  ConvGeometry geometry_;
  int64_t batch_ = 0, channels_ = 0, group_ = 1;
  bool depthwise_ = false, pointwise_ = false, joined_ = false;
  int64_t pixel_codes_ = 0;
  int64_t rows_ = 1;       // of the window, over all axes but the last
  int64_t row_codes_ = 0;  // of a stored row, where rows are joined
};

}  // namespace dunlin
