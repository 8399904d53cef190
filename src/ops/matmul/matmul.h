// Attributes of the matrix products, for whoever builds such nodes (the fusion passes).
#pragma once

#include <string_view>

#include "kernels/activation.h"
#include "ops/op.h"

namespace dunlin {

// ONNX Gemm-13: y = alpha op(a) op(b) + beta c.   a, b matrices, c broadcast to y, optional
struct GemmAttrs {
  float alpha = 1, beta = 1;
  bool trans_a = false, trans_b = false;
  template <class V>
  void Visit(V& v) {
    v("alpha", alpha);
    v("beta", beta);
    v("transA", trans_a);
    v("transB", trans_b);
  }
};

// dunlin.FusedMatMul: y = activation(alpha op(a) op(b) + bias + residual).
// Inputs a, b (as MatMul's; trans_a, trans_b swap their last two axes), bias (optional, broadcast
// to y), residual (optional, of y's type).
inline constexpr std::string_view kFusedMatMulName = "FusedMatMul";
struct FusedMatMulAttrs {
  bool trans_a = false, trans_b = false;
  float alpha = 1;
  int64_t activation = 0;  // enum class Activation
  float act_a = 0, act_b = 0;
  template <class V>
  void Visit(V& v) {
    v("trans_a", trans_a);
    v("trans_b", trans_b);
    v("alpha", alpha);
    v("activation", activation);
    v("act_a", act_a);
    v("act_b", act_b);
  }
};

}  // namespace dunlin
