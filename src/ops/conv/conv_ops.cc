// Conv, FusedConv, ConvTranspose: inference, reference and the family's table.
#include <algorithm>
#include <cmath>

#include "ops/conv/conv.h"
#include "ops/conv/conv_kernel.h"
#include "ops/conv/deform_conv.h"
#include "ops/op.h"

namespace dunlin {
namespace {

std::span<const int64_t> Spatial(const Dims& d) { return std::span<const int64_t>(d).subspan(2); }

// What ResolveConv and ResolveConvTranspose have in common: `in_channels` and the outputs' count
// are read from other axes of w.
Status CheckConvExtents(int64_t group, const Dims& x, const Dims& w) {
  if (group < 1) return Fail(Code::kInvalidArgument, "group is {}, it must be 1 or more", group);
  if (x.rank() < 3)
    return Fail(Code::kInvalidArgument, "input 0 has the extents {}, [N, C, spatial…] is needed",
                ToString(x));
  if (w.rank() != x.rank())
    return Fail(Code::kInvalidArgument, "weights {} do not fit an input {}: the ranks differ",
                ToString(w), ToString(x));
  return {};
}

Status CheckGroups(int64_t group, int64_t channels, int64_t expected_channels, int64_t outputs) {
  if (IsKnown(channels) && IsKnown(expected_channels) && channels != expected_channels)
    return Fail(Code::kInvalidArgument, "the input has {} channels, the weights are for {}",
                channels, expected_channels);
  for (const int64_t c : {channels, outputs})
    if (IsKnown(c) && c % group != 0)
      return Fail(Code::kInvalidArgument, "{} channels cannot be split into {} groups", c, group);
  return {};
}

// A product of an extent with a known factor.
int64_t Times(int64_t extent, int64_t factor) {
  return IsKnown(extent) && extent < (int64_t{1} << 40) && factor < (int64_t{1} << 20)
             ? extent * factor
         : factor == 1 ? extent
                       : kUnknownDim;
}

}  // namespace

Result<ConvShape> ResolveConv(const ConvAttrs& attrs, const Dims& x, const Dims& w) {
  TRY(CheckConvExtents(attrs.group, x, w));
  ConvShape s{x[0], x[1], w[0], attrs.group, {}};
  TRY(CheckGroups(s.group, x[1], Times(w[1], s.group), w[0]));
  s.window = TRY(ResolveWindow(attrs, Spatial(x), Spatial(w), Rounding::kFloor));
  return s;
}

Result<ConvShape> ResolveConvTranspose(const ConvTransposeAttrs& attrs, const Dims& x,
                                       const Dims& w) {
  TRY(CheckConvExtents(attrs.group, x, w));
  ConvShape s{x[0], x[1], Times(w[1], attrs.group), attrs.group, {}};
  TRY(CheckGroups(s.group, x[1], w[0], s.outputs));
  s.window = TRY(ResolveTransposedWindow(attrs, attrs.output_padding, attrs.output_shape,
                                         Spatial(x), Spatial(w)));
  return s;
}

namespace {

Result<ActivationParams> ActivationOf(const ConvAttrs&) { return ActivationParams{}; }
Result<ActivationParams> ActivationOf(const FusedConvAttrs& a) {
  return ReadActivation(a.activation, a.act_a, a.act_b);
}

Status CheckFloat(DType t) {
  if (t == DType::kUndefined || IsFloat(t)) return {};
  return Fail(Code::kInvalidArgument, "input 0 is {}, a float type is needed", DTypeName(t));
}

Status CheckVector(InferContext& ctx, int i, int64_t count, std::string_view what) {
  if (!ctx.has(i) || !ctx.input(i).ranked) return {};
  const Dims& d = ctx.input(i).dims;
  if (d.rank() != 1 || (IsKnown(d[0]) && IsKnown(count) && d[0] != count))
    return Fail(Code::kInvalidArgument, "{} has the extents {} where [{}] is needed", what,
                ToString(d), count);
  return {};
}

// The first known element type among the inputs; an error when two differ.
Result<DType> CommonDType(InferContext& ctx) {
  DType t = DType::kUndefined;
  for (int i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.has(i) || ctx.dtype(i) == DType::kUndefined) continue;
    if (t == DType::kUndefined) t = ctx.dtype(i);
    if (t != ctx.dtype(i))
      return Fail(Code::kInvalidArgument, "inputs of the types {} and {}: they must be equal",
                  DTypeName(t), DTypeName(ctx.dtype(i)));
  }
  TRY(CheckFloat(t));
  return t;
}

// x and w with the rank that at least one of them gives; unranked when none does.
struct Operands {
  bool ranked = false;
  Dims x, w;
};
Operands ReadOperands(InferContext& ctx) {
  const Type& x = ctx.input(0);
  const Type& w = ctx.input(1);
  Operands o;
  o.ranked = x.ranked || w.ranked;
  if (!o.ranked) return o;
  o.x = x.ranked ? x.dims : Dims(w.dims.size(), kUnknownDim);
  o.w = w.ranked ? w.dims : Dims(x.dims.size(), kUnknownDim);
  return o;
}

Dims OutputDims(int64_t batch, int64_t channels, const Window& window, bool transposed) {
  Dims d{batch, channels};
  for (const WindowAxis& a : window) d.push_back(transposed ? a.in : a.out);
  return d;
}

// Output pixel o of a (n, m) plane, before bias: the sum over the group's channels and taps.
template <class T>
double At(const T* p, int64_t i) {
  if constexpr (kIsHalf<T>)
    return double(float(p[i]));
  else
    return double(p[i]);
}
template <class T>
T To(double v) {
  if constexpr (kIsHalf<T>)
    return T(float(v));
  else
    return T(v);
}

template <class A>
struct ConvOp {
  using Attrs = A;

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    TRY(ActivationOf(attrs));
    const DType dtype = TRY(CommonDType(ctx));
    const Operands o = ReadOperands(ctx);
    if (!o.ranked) {
      ctx.Set(0, Type::Unranked(dtype));
      return {};
    }
    const ConvShape s = TRY(ResolveConv(attrs, o.x, o.w));
    TRY(CheckVector(ctx, 2, s.outputs, "the bias"));
    const Dims y = OutputDims(s.batch, s.outputs, s.window, false);
    if (ctx.has(3) && ctx.input(3).ranked && AllKnown(ctx.input(3).dims) && AllKnown(y) &&
        !(ctx.input(3).dims == y))
      return Fail(Code::kInvalidArgument, "the residual has the extents {}, the output {}",
                  ToString(ctx.input(3).dims), ToString(y));
    ctx.Set(0, Type::Of(dtype, y));
    return {};
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    const ConvShape s = TRY(ResolveConv(attrs, ctx.in(0).dims, ctx.in(1).dims));
    const ActivationParams act = TRY(ActivationOf(attrs));
    return VisitDType(ctx.in(0).dtype, "Conv", [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (kIsFloat<T>) {
        const T* x = ctx.in(0).as<T>();
        const T* w = ctx.in(1).as<T>();
        const T* bias = ctx.has(2) ? ctx.in(2).as<T>() : nullptr;
        const T* residual = ctx.has(3) ? ctx.in(3).as<T>() : nullptr;
        T* y = ctx.out(0).mut<T>();
        const int64_t in_pixels = s.in_pixels(), out_pixels = s.out_pixels(), taps = s.taps();
        const int64_t per_group = s.channels / s.group, outputs = s.outputs / s.group;
        ForEachWindow(s.window, [&](int64_t o, std::span<const WindowTap> window) {
          for (int64_t n = 0; n < s.batch; ++n)
            for (int64_t m = 0; m < s.outputs; ++m) {
              double sum = 0;
              for (int64_t c = 0; c < per_group; ++c) {
                const int64_t plane = (n * s.channels + m / outputs * per_group + c) * in_pixels;
                for (const WindowTap& t : window)
                  sum += At(x, plane + t.input) * At(w, (m * per_group + c) * taps + t.kernel);
              }
              const int64_t at = (n * s.outputs + m) * out_pixels + o;
              if (bias != nullptr) sum += At(bias, m);
              if (residual != nullptr) sum += At(residual, at);
              y[at] = To<T>(ActivateReference(act, sum));
            }
        });
        return {};
      }
      return Fail(Code::kUnimplemented, "convolution of {}", DTypeName(ctx.in(0).dtype));
    });
  }

  static Result<KernelPtr> Lower(const Attrs& attrs, LowerContext& ctx) {
    const ActivationParams act = TRY(ActivationOf(attrs));
    return LowerConv(attrs, act, ctx);
  }
  static LayoutPlan Layouts(const Attrs& attrs, const LayoutQuery& query) {
    return ConvLayouts(attrs, query);
  }

  static int64_t Macs(const Attrs&, std::span<const Type> in, std::span<const Type> out) {
    const int64_t outputs = std::max<int64_t>(1, in[1].dims[0]);
    return CountOf(out[0].dims) * (CountOf(in[1].dims) / outputs);
  }
};

struct ConvTransposeOp {
  using Attrs = ConvTransposeAttrs;

  static Status Infer(const Attrs& attrs, InferContext& ctx) {
    const DType dtype = TRY(CommonDType(ctx));
    const Operands o = ReadOperands(ctx);
    if (!o.ranked) {
      ctx.Set(0, Type::Unranked(dtype));
      return {};
    }
    const ConvShape s = TRY(ResolveConvTranspose(attrs, o.x, o.w));
    TRY(CheckVector(ctx, 2, s.outputs, "the bias"));
    ctx.Set(0, Type::Of(dtype, OutputDims(s.batch, s.outputs, s.window, true)));
    return {};
  }

  static Status Reference(const Attrs& attrs, RunContext& ctx) {
    const ConvShape s = TRY(ResolveConvTranspose(attrs, ctx.in(0).dims, ctx.in(1).dims));
    return VisitDType(ctx.in(0).dtype, "ConvTranspose", [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (kIsFloat<T>) {
        const T* x = ctx.in(0).as<T>();
        const T* w = ctx.in(1).as<T>();
        T* y = ctx.out(0).mut<T>();
        // The window's "in" is our output: every input pixel is scattered over its window.
        const int64_t y_pixels = s.in_pixels(), x_pixels = s.out_pixels(), taps = s.taps();
        const int64_t per_group = s.channels / s.group, outputs = s.outputs / s.group;
        std::vector<double> plane(static_cast<size_t>(y_pixels));
        for (int64_t n = 0; n < s.batch; ++n)
          for (int64_t m = 0; m < s.outputs; ++m) {
            std::fill(plane.begin(), plane.end(), ctx.has(2) ? At(ctx.in(2).as<T>(), m) : 0.0);
            const int64_t g = m / outputs;
            ForEachWindow(s.window, [&](int64_t i, std::span<const WindowTap> window) {
              for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
                const double v = At(x, (n * s.channels + c) * x_pixels + i);
                for (const WindowTap& t : window)
                  plane[size_t(t.input)] +=
                      v * At(w, (c * outputs + m % outputs) * taps + t.kernel);
              }
            });
            for (int64_t p = 0; p < y_pixels; ++p)
              y[(n * s.outputs + m) * y_pixels + p] = To<T>(plane[size_t(p)]);
          }
        return {};
      }
      return Fail(Code::kUnimplemented, "transposed convolution of {}", DTypeName(ctx.in(0).dtype));
    });
  }

  static Result<KernelPtr> Lower(const Attrs& attrs, LowerContext& ctx) {
    return LowerConvTranspose(attrs, ctx);
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) {
    return ConvTransposeLayouts(query);
  }

  static int64_t Macs(const Attrs&, std::span<const Type> in, std::span<const Type>) {
    const int64_t channels = std::max<int64_t>(1, in[1].dims[0]);
    return CountOf(in[0].dims) * (CountOf(in[1].dims) / channels);
  }
};

}  // namespace

std::span<const OpDef> ConvOps() {
  static const OpDef ops[] = {
      Declare<ConvOp<ConvAttrs>>("Conv", {.min_inputs = 2, .max_inputs = 3}),
      Declare<ConvOp<FusedConvAttrs>>(kFusedConvName,
                                      {.domain = "dunlin", .min_inputs = 2, .max_inputs = 4}),
      Declare<ConvTransposeOp>("ConvTranspose", {.min_inputs = 2, .max_inputs = 3}),
      Declare<DeformConv>("DeformConv", {.min_inputs = 3, .max_inputs = 5}),
  };
  return ops;
}

}  // namespace dunlin
