// DeformConv: a convolution whose taps read between the pixels, each at a place of its own.
//   x [N, C, in…], w [M, C/group, kernel…], offset [N, offset_group * taps * axes, out…],
//   bias [M]?, mask [N, offset_group * taps, out…]? -> y [N, M, out…]
// Tap k of output o reads x, linearly interpolated and 0 outside, at the place of an ordinary
// convolution plus offset, times mask. Source: ONNX DeformConv-22.
#pragma once

#include "ops/conv/conv.h"
#include "ops/op.h"

namespace dunlin {

struct DeformConv {
  struct Attrs : ConvAttrs {
    int64_t offset_group = 1;
    template <class V>
    void Visit(V& v) {
      // As Conv, but for auto_pad, which it has not.
      v("dilations", dilations);
      v("group", group);
      v("kernel_shape", kernel_shape);
      v("offset_group", offset_group);
      v("pads", pads);
      v("strides", strides);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
  // f32 images (two spatial axes): within 2 K 2^-24 sum |column||w| of the reference.
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery&);
  static int64_t Macs(const Attrs&, std::span<const Type> in, std::span<const Type> out);
};

}  // namespace dunlin
