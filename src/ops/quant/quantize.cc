// QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear: between real numbers and codes.
#include "ops/quant/linear.h"

namespace dunlin {

std::span<const OpDef> QuantOps() {
  static const std::vector<OpDef> all = [] {
    std::vector<OpDef> v;
    for (const auto& part : {QuantizeOps(), QuantMatMulOps(), QuantConvOps(), QLinearOps(),
                             CodeTableOps(), QuantizeRowsOps(), BlockWeightOps(), GatherBlockOps()})
      v.insert(v.end(), part.begin(), part.end());
    return v;
  }();
  return all;
}

Result<std::vector<float>> Scales(std::string_view name, const TensorView& t) {
  std::vector<float> v(static_cast<size_t>(t.count()));
  if (IsNarrow(t.dtype)) {
    for (size_t i = 0; i < v.size(); ++i) v[i] = float(LoadNarrow(t.dtype, t.data, int64_t(i)));
    return v;
  }
  TRY(VisitTypes<Numbers>(t.dtype, name, [&]<class T>(TypeTag<T>) -> Status {
    for (size_t i = 0; i < v.size(); ++i) v[i] = float(t.as<T>()[i]);
    return {};
  }));
  return v;
}

Result<std::vector<int32_t>> ZeroPoints(std::string_view name, const RunContext& ctx, int i) {
  if (!ctx.has(i)) return std::vector<int32_t>{0};
  const TensorView& t = ctx.in(i);
  std::vector<int32_t> v(static_cast<size_t>(t.count()));
  if (IsNarrow(t.dtype)) {
    for (size_t k = 0; k < v.size(); ++k) {
      const double zero = LoadNarrow(t.dtype, t.data, int64_t(k));
      if (zero != std::nearbyint(zero))  // NaN as well
        return Fail(Code::kUnimplemented, "{}: the zero point {} is no integer", name, zero);
      v[k] = int32_t(zero);
    }
    return v;
  }
  TRY(VisitTypes<Codes>(t.dtype, name, [&]<class T>(TypeTag<T>) -> Status {
    for (size_t k = 0; k < v.size(); ++k) v[k] = static_cast<int32_t>(t.as<T>()[k]);
    return {};
  }));
  return v;
}

Result<Granularity> ResolveGranularity(std::string_view name, const LinearAttrs& a, const Dims& x,
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

namespace {

// Checks shared by both directions.
Status CheckParameters(std::string_view name, const LinearAttrs& a, const InferContext& ctx) {
  const Type &x = ctx.input(0), &scale = ctx.input(1);
  if (x.ranked && scale.ranked) TRY(ResolveGranularity(name, a, x.dims, scale.dims));
  if (ctx.has(2) && scale.ranked && ctx.input(2).ranked) {
    const auto count = ElementCount(scale.dims), points = ElementCount(ctx.input(2).dims);
    if (count && points && *count != *points)
      return Fail(Code::kInvalidArgument, "{}: {} scales but {} zero points", name, *count,
                  *points);
  }
  return {};
}

// The parameters of a run, one zero point for every scale.
struct Parameters {
  Granularity granularity;
  std::vector<float> scales;
  std::vector<int32_t> zeros;
};
Result<Parameters> ReadParameters(std::string_view name, const LinearAttrs& a,
                                  const RunContext& ctx) {
  Parameters p;
  p.granularity = TRY(ResolveGranularity(name, a, ctx.in(0).dims, ctx.in(1).dims));
  p.scales = TRY(Scales(name, ctx.in(1)));
  p.zeros = TRY(ZeroPoints(name, ctx, 2));
  if (!ctx.has(2)) p.zeros.assign(p.scales.size(), 0);
  if (p.zeros.size() != p.scales.size())
    return Fail(Code::kInvalidArgument, "{}: {} scales but {} zero points", name, p.scales.size(),
                p.zeros.size());
  return p;
}

// Numbers of less than 8 bits, which share bytes, and 8-bit floats.
Status QuantizeNarrow(const LinearAttrs& a, const Parameters& p, const TensorView& x,
                      TensorView& y) {
  const NarrowRule rule = {a.saturate ? Overflow::kSaturate : Overflow::kSpecial};
  const bool integer = IsNarrowInt(y.dtype);
  const int bits = DTypeBits(y.dtype);
  const bool is_signed = y.dtype == DType::kI4 || y.dtype == DType::kI2;
  const double lowest = is_signed ? -(1 << (bits - 1)) : 0, highest = lowest + (1 << bits) - 1;
  return VisitTypes<Numbers>(x.dtype, "QuantizeLinear", [&]<class T>(TypeTag<T>) -> Status {
    ForEachScaledRun(p.granularity, 0, x.count(),
                     [&](int64_t first, int64_t n, int64_t s, int64_t step) {
                       for (int64_t i = 0; i < n; ++i) {
                         const auto at = size_t(s + i * step);
                         double v = RoundedQuotient(double(Widen(x.as<T>()[first + i])),
                                                    double(p.scales[at]), a.precision);
                         if (integer) {
                           v = std::nearbyint(v) + p.zeros[at];
                           v = v > lowest ? std::min(v, highest) : lowest;
                         } else {
                           v += p.zeros[at];
                         }
                         StoreNarrow(y.dtype, y.data, first + i, v, rule);
                       }
                     });
    return {};
  });
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
    const Parameters p = TRY(ReadParameters(kName, a, ctx));
    if (IsNarrow(ctx.out(0).dtype)) return QuantizeNarrow(a, p, x, ctx.out(0));
    return VisitTypes<Numbers>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      return VisitTypes<Codes>(ctx.out(0).dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
        ForEachScaledRun(p.granularity, 0, x.count(),
                         [&](int64_t i, int64_t n, int64_t s, int64_t step) {
                           QuantizeRun(x.as<T>() + i, n, p.scales.data() + s, p.zeros.data() + s,
                                       step, a.precision, ctx.out(0).mut<Q>() + i);
                         });
        return {};
      });
    });
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerQuantize(a, ctx);
  }
  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) { return LinearLayouts(a, q); }
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
    const Parameters p = TRY(ReadParameters(kName, a, ctx));
    if (IsNarrow(x.dtype))
      return VisitTypes<Floats>(ctx.out(0).dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
        const NarrowValues values(x.dtype);
        ForEachScaledRun(p.granularity, 0, x.count(),
                         [&](int64_t i, int64_t n, int64_t s, int64_t step) {
                           DequantizeNarrowRun(values, x.data, i, n, p.scales.data() + s,
                                               p.zeros.data() + s, step, ctx.out(0).mut<T>() + i);
                         });
        return {};
      });
    return VisitTypes<Codes>(x.dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      return VisitTypes<Floats>(ctx.out(0).dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
        ForEachScaledRun(p.granularity, 0, x.count(),
                         [&](int64_t i, int64_t n, int64_t s, int64_t step) {
                           DequantizeRun(x.as<Q>() + i, n, p.scales.data() + s, p.zeros.data() + s,
                                         step, ctx.out(0).mut<T>() + i);
                         });
        return {};
      });
    });
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerDequantize(a, ctx);
  }
  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) { return LinearLayouts(a, q); }
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
    if (x.dtype != DType::kF32)
      return Fail(Code::kInvalidArgument, "{}: takes f32, not {}", kName, DTypeName(x.dtype));
    const float* in = x.as<float>();
    const int64_t n = x.count();
    float lowest = 0, highest = 0;
    for (int64_t i = 0; i < n; ++i) {
      lowest = std::min(lowest, in[i]);
      highest = std::max(highest, in[i]);
    }
    const float scale = highest == lowest ? 1 : (highest - lowest) / 255;
    const uint8_t zero = CodeOf<uint8_t>(-lowest / scale, 0);
    const int32_t point = zero;
    if (ctx.wants(0)) QuantizeRun(in, n, &scale, &point, 0, DType::kF32, ctx.out(0).mut<uint8_t>());
    if (ctx.wants(1)) *ctx.out(1).mut<float>() = scale;
    if (ctx.wants(2)) *ctx.out(2).mut<uint8_t>() = zero;
    return {};
  }
  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) {
    return LowerDynamicQuantize(ctx);
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& q) { return LinearLayouts({}, q); }
};

}  // namespace

std::vector<OpDef> QuantizeOps() {
  return {Declare<QuantizeLinear>(QuantizeLinear::kName, {.min_inputs = 2, .max_inputs = 3}),
          Declare<DequantizeLinear>(DequantizeLinear::kName, {.min_inputs = 2, .max_inputs = 3}),
          Declare<DynamicQuantizeLinear>(DynamicQuantizeLinear::kName,
                                         {.min_outputs = 3, .max_outputs = 3})};
}

}  // namespace dunlin
