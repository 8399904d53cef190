// Sliding windows over spatial axes: what convolutions and pools share. Attributes in, per-axis
// geometry out, and the plain walk over all windows that their references use.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "ir/op_def.h"
#include "tensor/dims.h"

namespace dunlin {

// ONNX's attributes of Conv, ConvTranspose and the pools. Empty vectors: the default for every
// axis.
struct WindowAttrs {
  std::string auto_pad = "NOTSET";
  std::vector<int64_t> kernel_shape, strides, dilations, pads;
  template <class V>
  void Visit(V& v) {
    v("auto_pad", auto_pad);
    v("kernel_shape", kernel_shape);
    v("strides", strides);
    v("dilations", dilations);
    v("pads", pads);
  }
};

// One spatial axis. Window o covers in-positions o * stride - pad_begin + k * dilation, 0 <= k <
// kernel.
struct WindowAxis {
  int64_t in = kUnknownDim, out = kUnknownDim;
  int64_t kernel = 1, stride = 1, dilation = 1;
  int64_t pad_begin = 0, pad_end = 0;
  int64_t extent() const { return (kernel - 1) * dilation + 1; }  // covered by one window
};
using Window = std::vector<WindowAxis>;

enum class Rounding : uint8_t { kFloor, kCeil };

// `in` may hold unknown or symbolic extents; then `out` is unknown, or the same symbol where the
// geometry keeps any extent. `kernel` (from the weights) wins over attrs.kernel_shape and must
// agree with it; empty: only the attribute says. kInvalidArgument: counts that differ from the
// number of axes, zero or negative strides, dilations, kernels, negative pads, a window larger than
// the padded input.
Result<Window> ResolveWindow(const WindowAttrs& attrs, std::span<const int64_t> in,
                             std::span<const int64_t> kernel, Rounding rounding);

// The window whose scatter ConvTranspose is: axis.in is ConvTranspose's *output*, axis.out its
// input.
Result<Window> ResolveTransposedWindow(const WindowAttrs& attrs,
                                       const std::vector<int64_t>& output_padding,
                                       const std::vector<int64_t>& output_shape,
                                       std::span<const int64_t> in,
                                       std::span<const int64_t> kernel);

struct WindowTap {
  int64_t kernel;  // row-major index of the kernel element
  int64_t input;   // row-major index of the input element
};

// f(output index, taps inside the input) for every window, row-major. All extents known.
template <class F>
void ForEachWindow(const Window& window, F&& f) {
  int64_t outputs = 1;
  for (const WindowAxis& a : window) outputs *= a.out;
  std::vector<WindowTap> taps, next;
  std::vector<int64_t> at(window.size(), 0);
  for (int64_t o = 0; o < outputs; ++o) {
    taps.assign(1, {0, 0});
    for (size_t i = 0; i < window.size(); ++i) {
      const WindowAxis& a = window[i];
      next.clear();
      for (const WindowTap& t : taps)
        for (int64_t k = 0; k < a.kernel; ++k) {
          const int64_t p = at[i] * a.stride - a.pad_begin + k * a.dilation;
          if (p >= 0 && p < a.in) next.push_back({t.kernel * a.kernel + k, t.input * a.in + p});
        }
      taps.swap(next);
    }
    f(o, std::span<const WindowTap>(taps));
    for (size_t i = window.size(); i-- > 0;) {
      if (++at[i] < window[i].out) break;
      at[i] = 0;
    }
  }
}

}  // namespace dunlin
