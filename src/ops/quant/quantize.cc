// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: between real numbers and codes.
#include "ops/quant/quant.h"
#include "ops/reduce/axes.h"

namespace dunlin {

std::span<const OpDef> QuantOps() {
  static const std::vector<OpDef> all = [] {
    std::vector<OpDef> v;
    for (const auto& part : {QuantizeOps(), QuantMatMulOps(), QuantConvOps()})
      v.insert(v.end(), part.begin(), part.end());
    return v;
  }();
  return all;
}

Result<std::vector<double>> Scales(std::string_view name, const TensorView& t) {
  std::vector<double> v(static_cast<size_t>(t.count()));
  TRY(VisitTypes<Floats>(t.dtype, name, [&]<class T>(TypeTag<T>) -> Status {
    for (size_t i = 0; i < v.size(); ++i) v[i] = Widen(t.as<T>()[i]);
    return {};
  }));
  return v;
}

Result<std::vector<int32_t>> ZeroPoints(std::string_view name, const RunContext& ctx, int i) {
  if (!ctx.has(i)) return std::vector<int32_t>{0};
  const TensorView& t = ctx.in(i);
  std::vector<int32_t> v(static_cast<size_t>(t.count()));
  TRY(VisitTypes<Codes>(t.dtype, name, [&]<class T>(TypeTag<T>) -> Status {
    for (size_t k = 0; k < v.size(); ++k) v[k] = static_cast<int32_t>(t.as<T>()[k]);
    return {};
  }));
  return v;
}

namespace {

struct LinearAttrs {
  int64_t axis = 1, block_size = 0;
  DType output_dtype = DType::kUndefined;
  bool saturate = true;  // for the 8-bit floats
  template <class V>
  void Visit(V& v) {
    v("axis", axis);
    v("block_size", block_size);
    v("output_dtype", output_dtype);
    v("saturate", saturate);
  }
};

// Which scale belongs to which element: one for all, one per index of the axis, or one per block of
// it.
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
Result<Granularity> Resolve(std::string_view name, const LinearAttrs& a, const Dims& x,
                            const Dims& scale) {
  Granularity g;
  if (scale.rank() == 0 || (scale.rank() == 1 && scale[0] == 1 && a.block_size == 0)) {
    g.split.axis = CountOf(x);
    return g;
  }
  const int axis = TRY(ResolveAxis(name, a.axis, x.rank()));
  g.split = SplitAt(x, axis);
  const auto differ = [](int64_t p, int64_t q) { return IsKnown(p) && IsKnown(q) && p != q; };
  if (a.block_size == 0) {
    if (scale.rank() != 1 || x.empty() || differ(scale[0], x[size_t(axis)]))
      return Fail(Code::kInvalidArgument, "{}: scale {} does not fit axis {} of {}", name,
                  ToString(scale), axis, ToString(x));
    g.per_axis = 1;
    return g;
  }
  bool fits = a.block_size > 0 && scale.rank() == x.rank();
  for (int i = 0; fits && i < x.rank(); ++i) {
    const int64_t extent = x[size_t(i)];
    const int64_t wanted =
        i == axis && IsKnown(extent) ? (extent == 0 ? 0 : (extent - 1) / a.block_size + 1) : extent;
    fits = !differ(wanted, scale[size_t(i)]);
  }
  if (!fits)
    return Fail(Code::kInvalidArgument,
                "{}: scale {} does not fit blocks of {} along axis {} of {}", name, ToString(scale),
                a.block_size, axis, ToString(x));
  g.block = a.block_size;
  g.per_inner = 1;
  g.per_axis = g.split.inner;
  g.per_outer = (g.split.axis == 0 ? 0 : (g.split.axis - 1) / g.block + 1) * g.split.inner;
  return g;
}

// Checks shared by both directions.
Status CheckParameters(std::string_view name, const LinearAttrs& a, const InferContext& ctx) {
  const Type &x = ctx.input(0), &scale = ctx.input(1);
  if (x.ranked && scale.ranked) TRY(Resolve(name, a, x.dims, scale.dims));
  if (ctx.has(2) && scale.ranked && ctx.input(2).ranked) {
    const auto count = ElementCount(scale.dims), points = ElementCount(ctx.input(2).dims);
    if (count && points && *count != *points)
      return Fail(Code::kInvalidArgument, "{}: {} scales but {} zero points", name, *count,
                  *points);
  }
  return {};
}

template <class F>
void ForEachElement(const Granularity& g, const F& f) {
  int64_t at = 0;
  for (int64_t o = 0; o < g.split.outer; ++o)
    for (int64_t k = 0; k < g.split.axis; ++k)
      for (int64_t i = 0; i < g.split.inner; ++i, ++at) f(at, size_t(g.ScaleAt(o, k, i)));
}

struct QuantizeLinear {
  static constexpr std::string_view kName = "QuantizeLinear";
  using Attrs = LinearAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    Type y = ctx.input(0);
    y.dtype = ctx.has(2)                            ? ctx.dtype(2)
              : a.output_dtype != DType::kUndefined ? a.output_dtype
                                                    : DType::kU8;
    TRY(CheckParameters(kName, a, ctx));
    ctx.Set(0, std::move(y));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const Granularity g = TRY(Resolve(kName, a, x.dims, ctx.in(1).dims));
    const auto scales = TRY(Scales(kName, ctx.in(1)));
    const auto points = TRY(ZeroPoints(kName, ctx, 2));
    return VisitTypes<Numbers>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      return VisitTypes<Codes>(ctx.out(0).dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
        const T* in = x.as<T>();
        Q* out = ctx.out(0).mut<Q>();
        // The quotient is rounded to f32, as the specification's f32 division is.
        ForEachElement(g, [&](int64_t i, size_t s) {
          const double q = double(float(double(Widen(in[i])) / scales[s]));
          out[i] = Saturate<Q>(std::nearbyint(q) + PerChannel(points, int64_t(s)));
        });
        return {};
      });
    });
  }
};

struct DequantizeLinear {
  static constexpr std::string_view kName = "DequantizeLinear";
  using Attrs = LinearAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    Type y = ctx.input(0);
    y.dtype = a.output_dtype != DType::kUndefined ? a.output_dtype : ctx.dtype(1);
    TRY(CheckParameters(kName, a, ctx));
    ctx.Set(0, std::move(y));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const Granularity g = TRY(Resolve(kName, a, x.dims, ctx.in(1).dims));
    const auto scales = TRY(Scales(kName, ctx.in(1)));
    const auto points = TRY(ZeroPoints(kName, ctx, 2));
    return VisitTypes<Codes>(x.dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      return VisitTypes<Floats>(ctx.out(0).dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
        const Q* in = x.as<Q>();
        T* out = ctx.out(0).mut<T>();
        ForEachElement(g, [&](int64_t i, size_t s) {
          out[i] = Narrow<T>((double(in[i]) - PerChannel(points, int64_t(s))) * scales[s]);
        });
        return {};
      });
    });
  }
};

// The range of x, widened to contain 0, mapped to 0..255.
struct DynamicQuantizeLinear {
  static constexpr std::string_view kName = "DynamicQuantizeLinear";
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    Type y = ctx.input(0);
    if (y.dtype != DType::kF32 && y.dtype != DType::kUndefined)
      return Fail(Code::kInvalidArgument, "{}: takes f32, not {}", kName, DTypeName(y.dtype));
    y.dtype = DType::kU8;
    ctx.Set(0, std::move(y));
    ctx.Set(1, Type::Of(DType::kF32, {}));
    ctx.Set(2, Type::Of(DType::kU8, {}));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const float* in = x.as<float>();
    const int64_t n = x.count();
    float lowest = 0, highest = 0;
    for (int64_t i = 0; i < n; ++i) {
      lowest = std::min(lowest, in[i]);
      highest = std::max(highest, in[i]);
    }
    const float scale = highest == lowest ? 1 : (highest - lowest) / 255;
    const uint8_t zero = Saturate<uint8_t>(-lowest / scale);
    for (int64_t i = 0; ctx.wants(0) && i < n; ++i)
      ctx.out(0).mut<uint8_t>()[i] =
          Saturate<uint8_t>(std::nearbyint(double(in[i] / scale)) + zero);
    if (ctx.wants(1)) *ctx.out(1).mut<float>() = scale;
    if (ctx.wants(2)) *ctx.out(2).mut<uint8_t>() = zero;
    return {};
  }
};

}  // namespace

std::vector<OpDef> QuantizeOps() {
  return {Declare<QuantizeLinear>(QuantizeLinear::kName, {.min_inputs = 2, .max_inputs = 3}),
          Declare<DequantizeLinear>(DequantizeLinear::kName, {.min_inputs = 2, .max_inputs = 3}),
          Declare<DynamicQuantizeLinear>(DynamicQuantizeLinear::kName,
                                         {.min_outputs = 3, .max_outputs = 3})};
}

}  // namespace dunlin
