// Attributes of the convolutions, for whoever builds such nodes (the fusion passes).
#pragma once

#include <string_view>

#include "kernels/activation.h"
#include "ops/conv/window.h"

namespace dunlin {

// ONNX Conv-11: y = conv(x, w) + b.   x [N, C, spatial…], w [M, C/group, kernel…], b [M] optional
struct ConvAttrs : WindowAttrs {
  int64_t group = 1;
  template <class V>
  void Visit(V& v) {
    WindowAttrs::Visit(v);
    v("group", group);
  }
};

// dunlin.FusedConv: y = activation(conv(x, w) + b + residual).
// Inputs x, w, b (optional), residual (optional, of y's type).
inline constexpr std::string_view kFusedConvName = "FusedConv";
struct FusedConvAttrs : ConvAttrs {
  int64_t activation = 0;  // enum class Activation
  float act_a = 0, act_b = 0;
  template <class V>
  void Visit(V& v) {
    ConvAttrs::Visit(v);
    v("activation", activation);
    v("act_a", act_a);
    v("act_b", act_b);
  }
};

// ONNX ConvTranspose-11.   x [N, C, spatial…], w [C, M/group, kernel…], b [M] optional
struct ConvTransposeAttrs : ConvAttrs {
  std::vector<int64_t> output_padding, output_shape;
  template <class V>
  void Visit(V& v) {
    ConvAttrs::Visit(v);
    v("output_padding", output_padding);
    v("output_shape", output_shape);
  }
};

// Everything a convolution of known types is made of.
struct ConvShape {
  int64_t batch = 0, channels = 0, outputs = 0, group = 1;
  Window window;  // of the forward convolution; for ConvTranspose see ResolveTransposedWindow
  int64_t taps() const {
    int64_t n = 1;
    for (const WindowAxis& a : window) n *= a.kernel;
    return n;
  }
  int64_t in_pixels() const {
    int64_t n = 1;
    for (const WindowAxis& a : window) n *= a.in;
    return n;
  }
  int64_t out_pixels() const {
    int64_t n = 1;
    for (const WindowAxis& a : window) n *= a.out;
    return n;
  }
};
// Checks extents against each other. Of known extents only.
Result<ConvShape> ResolveConv(const ConvAttrs& attrs, const Dims& x, const Dims& w);
Result<ConvShape> ResolveConvTranspose(const ConvTransposeAttrs& attrs, const Dims& x,
                                       const Dims& w);

}  // namespace dunlin
