// What com.microsoft's operators on codes share. Their arithmetic is not that of dequantising,
// computing and quantising: halves fall elsewhere. What they give is what ONNX Runtime's kernels
// give on x86.
#pragma once

#include "ops/quant/quant.h"

namespace dunlin {

std::vector<OpDef> QLinearBinaryOps();   // QLinearAdd, QLinearMul
std::vector<OpDef> QLinearPoolOps();     // QLinearAveragePool, QLinearGlobalAveragePool
std::vector<OpDef> QLinearSoftmaxOps();  // QLinearSoftmax
std::vector<OpDef> CodeTableOps();       // dunlin.CodeTable
std::vector<OpDef> CodeResizeOps();      // dunlin.CodeResize

// A scale and a zero point (optional: 0) for a whole tensor.
struct Linear {
  float scale = 1;
  int32_t zero = 0;
};
Result<Linear> ReadLinear(std::string_view name, const RunContext& ctx, int scale, int zero);
// The same check of what is known ahead.
Status CheckLinear(std::string_view name, const InferContext& ctx,
                   std::initializer_list<int> inputs);
// Whether a zero point is absent or of this type, as the kernels over bytes need it.
inline bool ZeroFits(const LowerContext& ctx, int zero, DType type) {
  return !ctx.has(zero) || ctx.input(zero).dtype == type;
}

}  // namespace dunlin
