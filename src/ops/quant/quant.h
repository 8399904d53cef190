// The parts of the quantisation family's table, and the arithmetic they share:
// real = (code - zero_point) * scale, in f32 as ONNX's and its runtimes' is, so that codes agree to
// the last one.
#pragma once

#include <algorithm>
#include <string_view>
#include <vector>

#include "ops/conv/conv.h"
#include "ops/elementwise/numeric.h"
#include "ops/op.h"
#include "ops/quant/code_ops.h"

namespace dunlin {

std::vector<OpDef> QuantizeOps();      // QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear
std::vector<OpDef> QuantMatMulOps();   // MatMulInteger, QLinearMatMul, QGemm
std::vector<OpDef> QuantConvOps();     // ConvInteger, QLinearConv
std::vector<OpDef> CodeTableOps();     // dunlin.CodeTable
std::vector<OpDef> QuantizeRowsOps();  // dunlin.QuantizeRows
std::vector<OpDef> QLinearOps();       // com.microsoft QLinearAdd, QLinearSoftmax and their like
std::vector<OpDef> BlockWeightOps();   // MatMulNBits, MatMulBnb4
std::vector<OpDef> GatherBlockOps();   // GatherBlockQuantized

// Codes: integers of up to 32 bits.
struct Codes {
  template <class T>
  static constexpr bool kHas = Integers::kHas<T> && sizeof(T) <= 4;
};
struct Bytes {
  template <class T>
  static constexpr bool kHas = Integers::kHas<T> && sizeof(T) == 1;
};

// The nearest code (half to even) of a number already divided by the scale, moved by the zero point
// and limited to Q's range. NaN gives the lowest code.
template <class Q, class F>
Q CodeOf(F v, int32_t zero) {
  const F lowest = F(int64_t(std::numeric_limits<Q>::lowest()) - zero),
          highest = F(int64_t(std::numeric_limits<Q>::max()) - zero);
  v = v > lowest ? v : lowest;
  v = v < highest ? v : highest;
  if constexpr (sizeof(Q) < 4)
    return static_cast<Q>(int32_t(std::nearbyint(v)) + zero);
  else  // the limits of 32 bits are rounded to f32
    return static_cast<Q>(std::clamp(int64_t(std::nearbyint(v)) + zero,
                                     int64_t(std::numeric_limits<Q>::lowest()),
                                     int64_t(std::numeric_limits<Q>::max())));
}

// The elements of a scale tensor, rounded to f32.
Result<std::vector<float>> Scales(std::string_view name, const TensorView& t);
// Input i as int32, {0} when it is absent.
Result<std::vector<int32_t>> ZeroPoints(std::string_view name, const RunContext& ctx, int i);

// v[i], or v[0] of a parameter that holds for all.
template <class V>
auto PerChannel(const V& v, int64_t i) {
  return v[v.size() == 1 ? 0 : size_t(i)];
}

// The 256 codes of u8 or i8 in the order of the entries of dunlin.CodeTable's table: computing with
// them what a chain of operators does to a code gives the table.
Result<Tensor> AllCodes(DType type);

// Which input of an operator is what; -1: it has none.
struct ProductInputs {
  int a = 0, b = 1, a_scale = -1, b_scale = -1, y_scale = -1;
  int a_zero = -1, b_zero = -1, y_zero = -1, bias = -1, residual = -1, table = -1;
  bool trans_a = false, trans_b = false;
  float alpha = 1;
};
// The fast kernels; nullptr where the reference has to do. `store`: of the operators that have it.
Result<KernelPtr> LowerCodeMatMul(const ProductInputs& in, const CodeStoreAttrs& store,
                                  LowerContext& ctx);
Result<KernelPtr> LowerCodeConv(const ConvAttrs& attrs, const ProductInputs& in,
                                const CodeStoreAttrs& store, LowerContext& ctx);
// The input in any layout, the output channels-last where there is a kernel.
LayoutPlan CodeConvLayouts(const ConvAttrs& attrs, const ProductInputs& in,
                           const LayoutQuery& query);

// y[batch…, m, n] of a[batch…, m, k] and b[batch…, k, n]; vectors are a row on the left, a column
// on the right.
struct CodeMatMulShape {
  Dims batch, y;
  int64_t m = 1, k = 1, n = 1;
};
Result<CodeMatMulShape> ResolveCodeMatMul(std::string_view name, const Dims& a, const Dims& b);
// The extents ahead of the matrices.
inline std::span<const int64_t> OuterDims(const Dims& d) {
  return std::span<const int64_t>(d).first(d.size() > 2 ? d.size() - 2 : 0);
}

}  // namespace dunlin
