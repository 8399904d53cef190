// The input of a convolution of codes as its kernels read it: channels last, of either kind of
// codes (see code_weights.h); and where under each output pixel the taps of the window lie.
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
  // A group's codes are filled up to a multiple of `multiple`.
  CodePixels(const ConvShape& shape, int64_t multiple);

  const ConvGeometry& geometry() const { return geometry_; }
  // A tap is one pixel of the window, or where channels are few a row of the window: then rows are
  // stored with their padding, so that a row of the window is one run of codes.
  int64_t taps() const { return joined_ ? rows_ : geometry_.taps(); }
  int64_t tap_codes() const { return joined_ ? window_width() * channels_ : group_channels(); }
  bool joined() const { return joined_; }
  // Which weight code k of tap t meets: channel within the group, and place in the window.
  int64_t ChannelOf(int64_t k) const { return joined_ ? k % channels_ : k; }
  int64_t PlaceOf(int64_t t, int64_t k) const {
    return joined_ ? t * window_width() + k / channels_ : t;
  }
  // Where a group's codes begin within a pixel.
  int64_t group_codes() const { return (group_channels() + multiple_ - 1) / multiple_ * multiple_; }

  int64_t count() const;    // of codes for the whole input
  int64_t padding() const;  // codes that a tap beside the image needs
  // A product of pixels as they lie.
  bool pointwise() const { return pointwise_; }
  int64_t pixel_codes() const { return pixel_codes_; }

  // Blocks of the input that can be read independently, and their number.
  int64_t blocks() const;
  template <class Code>
  void ReadBlock(DType t, const void* x, bool x_last, int32_t zero, int64_t block, Code* to) const;
  // Pixels [first, first + count) of the batch, of a pointwise product; the first one to `to`.
  template <class Code>
  void ReadPixels(DType t, const void* x, bool x_last, int32_t zero, int64_t first, int64_t count,
                  Code* to) const;

  // Of output pixels [first, first + count) of the batch.
  void FillCorners(int64_t first, int64_t count, WindowCorner* to) const;
  // The codes under taps [t_begin, t_end) of m windows: rows[(t - t_begin) * stride + i].
  template <class Code>
  void FillRows(const Code* x, const Code* padding, const WindowCorner* corners, int64_t m,
                int64_t t_begin, int64_t t_end, const Code** rows, int64_t stride) const;

 private:
  int64_t group_channels() const { return channels_ / group_; }
  int64_t window_width() const { return geometry_.axis[2].kernel; }
  int64_t block_pixels() const { return std::max<int64_t>(1, 8192 / pixel_codes_); }
  template <class Code>
  void ReadRun(DType t, const void* x, bool x_last, int32_t zero, int64_t image, int64_t first,
               int64_t count, Code* to) const;

  ConvGeometry geometry_;
  int64_t batch_ = 0, channels_ = 0, group_ = 1, multiple_ = 1;
  bool pointwise_ = false, joined_ = false;
  int64_t pixel_codes_ = 0;
  int64_t rows_ = 1;       // of the window, over all axes but the last
  int64_t row_codes_ = 0;  // of a stored row, where rows are joined
};

}  // namespace dunlin
