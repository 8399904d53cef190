// Depth-wise convolution of codes, every channel with its own kernel, as exact sums modulo 2^32:
//
//   sums[p, c] = start[c] + sum over kernel rows r and taps k of
//                x(r, p * stride + k * dilation)[c] * w[r, k, c]
//
// x are bytes as they are stored, channels-last, without their zero point: sum w (x - zero) =
// sum w x - zero * sum w, so the caller subtracts zero * (sum of the channel's weights) in `start`,
// and pixels of the padding are pixels full of the code `zero`. Needs no scratch; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dunlin {

struct CodeDepthwiseShape {
  int64_t channels = 0;
  int64_t rows = 1;                  // of the kernel: of a volume, depth times height
  int64_t taps = 1;                  // of a kernel row
  int64_t stride = 1, dilation = 1;  // along a row
  // Input pixels under `pixels` neighbouring output pixels, in each kernel row.
  int64_t columns(int64_t pixels) const {
    return (pixels - 1) * stride + (taps - 1) * dilation + 1;
  }
};

// Channels that share a pass over a strip: as many bytes as a cache line has.
inline constexpr int64_t kCodeDepthwiseBlock = 64;

// Channels of a vector of the SIMD target in use, on which packed weights depend: part of the
// recipe of a packed weight.
int64_t CodeDepthwiseWidth();
int64_t CodeDepthwisePackedCodes(const CodeDepthwiseShape& shape);
// w [rows, taps, channels] with their zero point subtracted -> packed.
void PackCodeDepthwise(const CodeDepthwiseShape& shape, const int16_t* w, int16_t* packed);

// Pointers to pixels [first, first + count) of an image row of `extent` pixels; those outside it,
// and all of a row that does not exist (null), point at `zeros`.
inline void FillCodePixels(const void* line, int64_t extent, int64_t pixel_bytes, int64_t first,
                           int64_t count, const void* zeros, const void** to) {
  const char* const pixels = static_cast<const char*>(line);
  for (int64_t j = 0; j < count; ++j) {
    const int64_t at = first + j;
    to[j] = line != nullptr && at >= 0 && at < extent ? pixels + at * pixel_bytes : zeros;
  }
}

struct CodeDepthwiseArgs {
  // x[s * strip_stride + r * x_stride + j]: the channels of pixel j under kernel row r of strip s,
  // j < shape.columns(pixels). Strips that lie above each other share their lists.
  const void* const* x = nullptr;
  int64_t x_stride = 0, strip_stride = 0;
  bool is_signed = false;  // bytes are s8, else u8
  const int16_t* packed = nullptr;
  const int32_t* start = nullptr;  // [channels]
  int64_t strips = 1;
  int64_t pixels = 0;  // of a strip: neighbours in one output row
  // Channel c of pixel p of strip s at sums[(s * pixels + p) * sums_stride + c - begin].
  int32_t* sums = nullptr;
  int64_t sums_stride = 0;
};
// Channels [begin, end); begin is a multiple of kCodeDepthwiseBlock, and so is end unless it is the
// last. Fastest for kernels of 3 or 5 neighbouring taps with as many rows, stride 1 or 2, in long
// strips, as long as inputs and sums of a block's strips fit the first-level cache together: about
// 56 outputs.
void CodeDepthwise(const CodeDepthwiseShape& shape, const CodeDepthwiseArgs& args, int64_t begin,
                   int64_t end);

}  // namespace dunlin
