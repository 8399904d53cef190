// QuantizeLinear and DequantizeLinear: which scale belongs to which element.
#pragma once

#include "ops/quant/quant.h"
#include "ops/reduce/axes.h"

namespace dunlin {

struct LinearAttrs {
  int64_t axis = 1, block_size = 0;
  DType output_dtype = DType::kUndefined;
  bool saturate = true;  // for the 8-bit floats
  // In which the quotient is rounded; kUndefined: f32, of which f64 data make f64.
  DType precision = DType::kUndefined;
  template <class V>
  void Visit(V& v) {
    v("axis", axis);
    v("block_size", block_size);
    v("output_dtype", output_dtype);
    v("saturate", saturate);
    v("precision", precision);
  }
};

// One scale for all, one per index of the axis, or one per block of it.
struct Granularity {
  AxisSplit split;        // of the data
  int64_t block = 1;      // indices of the axis that share a scale
  int64_t per_outer = 0;  // scales per outer index; 0: the same for all
  int64_t per_axis = 0, per_inner = 0;
  int64_t ScaleAt(int64_t outer, int64_t axis, int64_t inner) const {
    return outer * per_outer + axis / block * per_axis + inner * per_inner;
  }
};

// kInvalidArgument when the extents of data and scale do not go together. Unknown extents pass.
Result<Granularity> ResolveGranularity(std::string_view name, const LinearAttrs& a, const Dims& x,
                                       const Dims& scale);

// Calls run(first element, count, first scale, scales advance by 0 or 1 an element) for elements
// [begin, end): all of them once, in order.
template <class F>
void ForEachScaledRun(const Granularity& g, int64_t begin, int64_t end, const F& run) {
  const int64_t inner = g.split.inner, axis = g.split.axis;
  if (g.per_axis == 0 && g.per_inner == 0) return run(begin, end - begin, int64_t{0}, int64_t{0});
  for (int64_t i = begin; i < end;) {
    const int64_t in = i % inner, at = i / inner % axis, outer = i / inner / axis;
    const int64_t scale = g.ScaleAt(outer, at, in);
    int64_t n = inner - in, step = g.per_inner;
    if (inner == 1) {  // along the axis: a block, or neighbouring scales
      n = g.block == 1 ? axis - at : g.block - at % g.block;
      step = g.block == 1 ? g.per_axis : 0;
    }
    n = std::min(std::min(n, inner == 1 ? axis - at : n), end - i);
    run(i, n, scale, step);
    i += n;
  }
}

// The fast kernels; nullptr where the reference has to do.
Result<KernelPtr> LowerQuantize(const LinearAttrs& a, LowerContext& ctx);
Result<KernelPtr> LowerDequantize(const LinearAttrs& a, LowerContext& ctx);
Result<KernelPtr> LowerDynamicQuantize(LowerContext& ctx);
LayoutPlan LinearLayouts(const LinearAttrs& a, const LayoutQuery& query);

// y[i] = the code of x[i] / scale. The quotient is rounded in `precision`, or in f32.
template <class T, class Q>
void QuantizeRun(const T* x, int64_t n, const float* scale, const int32_t* zero, int64_t step,
                 DType precision, Q* y) {
  if constexpr (std::is_same_v<T, double>) {
    for (int64_t i = 0; i < n; ++i) {
      const double q = x[i] / double(scale[i * step]);
      y[i] = CodeOf<Q>(precision == DType::kF32 ? double(float(q)) : q, zero[i * step]);
    }
  } else {
    const auto each = [&](const auto& round) {
      if (step == 0) {
        const float s = scale[0];
        const int32_t z = zero[0];
        for (int64_t i = 0; i < n; ++i) y[i] = CodeOf<Q>(round(float(x[i]) / s), z);
      } else {
        for (int64_t i = 0; i < n; ++i) y[i] = CodeOf<Q>(round(float(x[i]) / scale[i]), zero[i]);
      }
    };
    if (precision == DType::kF16)
      each([](float q) { return float(Half(q)); });
    else if (precision == DType::kBF16)
      each([](float q) { return float(BFloat16(q)); });
    else
      each([](float q) { return q; });
  }
}

// x / scale as a double, rounded as QuantizeRun rounds it.
inline double RoundedQuotient(double x, double scale, DType precision) {
  const double q = x / scale;
  switch (precision) {
    case DType::kF64:
      return q;
    case DType::kF16:
      return double(float(Half(float(q))));
    case DType::kBF16:
      return double(float(BFloat16(float(q))));
    default:
      return double(float(q));
  }
}

// What the codes of a narrow type stand for; f32 holds all of them.
struct NarrowValues {
  explicit NarrowValues(DType t) : type(t) {
    for (int code = 0; code < 1 << DTypeBits(t); ++code)
      of_code[code] = float(DecodeNarrow(t, uint8_t(code)));
  }
  DType type;
  float of_code[256];
};
template <class T>
void DequantizeNarrowRun(const NarrowValues& values, const void* x, int64_t first, int64_t n,
                         const float* scale, const int32_t* zero, int64_t step, T* y) {
  for (int64_t i = 0; i < n; ++i)
    y[i] =
        Narrow<T>((values.of_code[NarrowCode(values.type, x, first + i)] - float(zero[i * step])) *
                  scale[i * step]);
}

// y[i] = (x[i] - zero) * scale, the difference exact and then rounded to f32.
template <class Q, class T>
void DequantizeRun(const Q* x, int64_t n, const float* scale, const int32_t* zero, int64_t step,
                   T* y) {
  using Wide = std::conditional_t<(sizeof(Q) < 4), int32_t, int64_t>;
  for (int64_t i = 0; i < n; ++i)
    y[i] = Narrow<T>(float(Wide(x[i]) - Wide(zero[i * step])) * scale[i * step]);
}

}  // namespace dunlin
