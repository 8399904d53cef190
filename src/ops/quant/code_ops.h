// The integer operators that whatever says quantisation is rewritten to: convolutions and matrix
// products of 8-bit codes with everything that may follow them. For the passes that build them.
#pragma once

#include <string_view>

#include "kernels/code_epilogue.h"
#include "ops/conv/conv.h"

namespace dunlin {

// What becomes of exact sums, s = sum of (x - x_zero) * (w - w_zero):
//
//   v = s * x_scale * w_scale + bias           bias i32: added to s; f32: to v
//   v = mid_scale * code of v                  where mid_scale is not 0
//   v = v + residual                           codes: residual_scale * (residual - residual_zero)
//   v = activation(v)
//   y = table[code of v]                       where y_scale is not 0; otherwise y = v, f32
struct CodeStoreAttrs {
  int64_t activation = 0;  // enum class Activation
  float act_a = 0, act_b = 0;
  float mid_scale = 0;
  int64_t mid_zero = 0;
  DType mid_type = DType::kU8;
  float residual_scale = 0;
  int64_t residual_zero = 0;
  float y_scale = 0;
  int64_t y_zero = 0;
  DType y_type = DType::kU8;  // of the codes, which the table may change
  template <class V>
  void Visit(V& v) {
    v("activation", activation);
    v("act_a", act_a);
    v("act_b", act_b);
    v("mid_scale", mid_scale);
    v("mid_zero", mid_zero);
    v("mid_type", mid_type);
    v("residual_scale", residual_scale);
    v("residual_zero", residual_zero);
    v("y_scale", y_scale);
    v("y_zero", y_zero);
    v("y_type", y_type);
  }
};

// Inputs of both: x (u8 or i8), x_scale (f32: one; of matrix products one or one a row), x_zero
// (optional), w (u8 or i8), w_scale (f32: one or one a column), w_zero (optional: one or one a
// column), bias (optional: i32 or f32 [columns]), residual (optional: f32, u8 or i8, of y's
// extents), table (optional: u8 or i8 [256], by the bits of the code).
enum CodeOpInput { kX, kXScale, kXZero, kW, kWScale, kWZero, kBias, kResidual, kTable };
inline constexpr int kCodeOpInputs = 9;

// dunlin.CodeConv: x [N, C, spatial…], w [M, C/group, kernel…].
inline constexpr std::string_view kCodeConvName = "CodeConv";
struct CodeConvAttrs : ConvAttrs {
  CodeStoreAttrs store;
  template <class V>
  void Visit(V& v) {
    ConvAttrs::Visit(v);
    store.Visit(v);
  }
};

// dunlin.CodeMatMul: x and w as MatMul's; trans_a, trans_b swap the axes of matrices. The sums are
// multiplied by alpha.
inline constexpr std::string_view kCodeMatMulName = "CodeMatMul";
struct CodeMatMulAttrs {
  bool trans_a = false, trans_b = false;
  float alpha = 1;
  CodeStoreAttrs store;
  template <class V>
  void Visit(V& v) {
    v("trans_a", trans_a);
    v("trans_b", trans_b);
    v("alpha", alpha);
    store.Visit(v);
  }
};

}  // namespace dunlin
