// ConvInteger and QLinearConv: convolutions of codes, accumulated exactly modulo 2^32. Padding
// holds the zero point, so it adds nothing.
#include "ops/quant/quant.h"
#include "ops/quant/sums.h"

namespace dunlin {
namespace {

Dims OutputDims(const ConvShape& s) {
  Dims y = {s.batch, s.outputs};
  for (const WindowAxis& a : s.window) y.push_back(a.out);
  return y;
}

Status InferConv(std::string_view name, const ConvAttrs& a, InferContext& ctx, int w, DType out) {
  TRY(CheckType<Bytes>(ctx.dtype(0), name));
  TRY(CheckType<Bytes>(ctx.dtype(w), name));
  const Type &x = ctx.input(0), &weights = ctx.input(w);
  if (!x.ranked && !weights.ranked) {
    ctx.Set(0, Type::Unranked(out));
    return {};
  }
  // One operand's rank is the other's.
  const size_t rank = x.ranked ? x.dims.size() : weights.dims.size();
  const Dims unknown(rank, kUnknownDim);
  const ConvShape s =
      TRY(ResolveConv(a, x.ranked ? x.dims : unknown, weights.ranked ? weights.dims : unknown));
  ctx.Set(0, Type::Of(out, OutputDims(s)));
  return {};
}

// Calls store(index of y, output channel, sum) for every output element.
template <class Store>
Status Convolve(std::string_view name, const ConvAttrs& attrs, const TensorView& x,
                const TensorView& w, const std::vector<int32_t>& x_zero,
                const std::vector<int32_t>& w_zero, const Store& store) {
  const ConvShape s = TRY(ResolveConv(attrs, x.dims, w.dims));
  if (x_zero.size() != 1 || (w_zero.size() != 1 && int64_t(w_zero.size()) != s.outputs))
    return Fail(Code::kInvalidArgument, "{}: {} and {} zero points for {} output channels", name,
                x_zero.size(), w_zero.size(), s.outputs);
  const int64_t in_pixels = s.in_pixels(), out_pixels = s.out_pixels(), taps = s.taps();
  const int64_t per_group = s.channels / s.group, outputs = s.outputs / s.group;
  return VisitTypes<Bytes>(x.dtype, name, [&]<class X>(TypeTag<X>) -> Status {
    return VisitTypes<Bytes>(w.dtype, name, [&]<class W>(TypeTag<W>) -> Status {
      ForEachWindow(s.window, [&](int64_t o, std::span<const WindowTap> window) {
        for (int64_t n = 0; n < s.batch; ++n)
          for (int64_t m = 0; m < s.outputs; ++m) {
            const int32_t zero = PerChannel(w_zero, m);
            int64_t sum = 0;
            for (int64_t c = 0; c < per_group; ++c) {
              const X* plane =
                  x.as<X>() + (n * s.channels + m / outputs * per_group + c) * in_pixels;
              const W* kernel = w.as<W>() + (m * per_group + c) * taps;
              for (const WindowTap& t : window)
                sum += int64_t(int32_t(plane[t.input]) - x_zero[0]) *
                       (int32_t(kernel[t.kernel]) - zero);
            }
            store((n * s.outputs + m) * out_pixels + o, m, int32_t(sum));
          }
      });
      return {};
    });
  });
}

int64_t ConvMacs(const ConvAttrs& a, const Type& x, const Type& w, const Type& y) {
  const auto s = ResolveConv(a, x.dims, w.dims);
  return s ? CountOf(y.dims) * s->taps() * (s->channels / s->group) : 0;
}

struct ConvInteger {
  static constexpr std::string_view kName = "ConvInteger";
  static constexpr ProductInputs kInputs = {.a = 0, .b = 1, .a_zero = 2, .b_zero = 3};
  using Attrs = ConvAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    return InferConv(kName, a, ctx, 1, DType::kI32);
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    int32_t* y = ctx.out(0).mut<int32_t>();
    return Convolve(kName, a, ctx.in(0), ctx.in(1), TRY(ZeroPoints(kName, ctx, 2)),
                    TRY(ZeroPoints(kName, ctx, 3)),
                    [&](int64_t i, int64_t, int32_t sum) { y[i] = sum; });
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerCodeConv(a, kInputs, {}, ctx);
  }
  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) {
    return CodeConvLayouts(a, kInputs, q);
  }
  static int64_t Macs(const Attrs& a, std::span<const Type> in, std::span<const Type> out) {
    return ConvMacs(a, in[0], in[1], out[0]);
  }
};

// Inputs x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias (i32, in
// units of x_scale * w_scale; optional).
struct QLinearConv {
  static constexpr std::string_view kName = "QLinearConv";
  static constexpr ProductInputs kInputs = {.a = 0,
                                            .b = 3,
                                            .a_scale = 1,
                                            .b_scale = 4,
                                            .y_scale = 6,
                                            .a_zero = 2,
                                            .b_zero = 5,
                                            .y_zero = 7,
                                            .bias = 8};
  using Attrs = ConvAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    return InferConv(kName, a, ctx, 3, ctx.dtype(7));
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const auto x_scale = TRY(Scales(kName, ctx.in(1))), w_scale = TRY(Scales(kName, ctx.in(4))),
               y_scale = TRY(Scales(kName, ctx.in(6)));
    const auto y_zero = TRY(ZeroPoints(kName, ctx, 7)), bias = TRY(ZeroPoints(kName, ctx, 8));
    const int64_t outputs = ctx.in(3).dims[0];
    const auto one_or = [](size_t n, int64_t many) { return n == 1 || int64_t(n) == many; };
    if (x_scale.size() != 1 || y_scale.size() != 1 || y_zero.size() != 1 ||
        !one_or(w_scale.size(), outputs) || !one_or(bias.size(), outputs))
      return Fail(Code::kInvalidArgument,
                  "{}: scales, zero points or bias do not fit {} output channels", kName, outputs);
    return VisitTypes<Bytes>(ctx.out(0).dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      Q* y = ctx.out(0).mut<Q>();
      return Convolve(kName, a, ctx.in(0), ctx.in(3), TRY(ZeroPoints(kName, ctx, 2)),
                      TRY(ZeroPoints(kName, ctx, 5)), [&](int64_t i, int64_t m, int32_t sum) {
                        const float scale = x_scale[0] * PerChannel(w_scale, m) / y_scale[0];
                        y[i] =
                            CodeOf<Q>(float(WrapAdd(sum, PerChannel(bias, m))) * scale, y_zero[0]);
                      });
    });
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerCodeConv(a, kInputs, {}, ctx);
  }
  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) {
    return CodeConvLayouts(a, kInputs, q);
  }
  static int64_t Macs(const Attrs& a, std::span<const Type> in, std::span<const Type> out) {
    return ConvMacs(a, in[0], in[3], out[0]);
  }
};

// dunlin.CodeConv; see code_ops.h.
struct CodeConv {
  static constexpr std::string_view kName = "dunlin.CodeConv";
  static constexpr ProductInputs kInputs = {.a = kX,
                                            .b = kW,
                                            .a_scale = kXScale,
                                            .b_scale = kWScale,
                                            .a_zero = kXZero,
                                            .b_zero = kWZero,
                                            .bias = kBias,
                                            .residual = kResidual,
                                            .table = kTable};
  using Attrs = CodeConvAttrs;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckStore(kName, a.store));
    return InferConv(kName, a, ctx, kW, StoredType(ctx, kInputs, a.store));
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    TRY(ResolveConv(a, ctx.in(kX).dims, ctx.in(kW).dims));
    const int64_t outputs = ctx.in(kW).dims[0];
    TRY(CheckEpilogue(kName, ctx, kInputs, outputs, 1));
    const EpilogueReference epilogue(ctx, kInputs, a.store, outputs, ctx.out(0).dtype);
    return Convolve(kName, a, ctx.in(kX), ctx.in(kW), TRY(ZeroPoints(kName, ctx, kXZero)),
                    TRY(ZeroPoints(kName, ctx, kWZero)),
                    [&](int64_t i, int64_t m, int32_t sum) { epilogue.Store(ctx, i, 0, m, sum); });
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerCodeConv(a, kInputs, a.store, ctx);
  }
  static LayoutPlan Layouts(const Attrs& a, const LayoutQuery& q) {
    return CodeConvLayouts(a, kInputs, q);
  }
  static int64_t Macs(const Attrs& a, std::span<const Type> in, std::span<const Type> out) {
    return ConvMacs(a, in[kX], in[kW], out[0]);
  }
};

}  // namespace

std::vector<OpDef> QuantConvOps() {
  return {Declare<ConvInteger>(ConvInteger::kName, {.min_inputs = 2, .max_inputs = 4}),
          Declare<QLinearConv>(QLinearConv::kName, {.min_inputs = 8, .max_inputs = 9}),
          Declare<CodeConv>(kCodeConvName,
                            {.domain = "dunlin", .min_inputs = 5, .max_inputs = kCodeOpInputs})};
}

}  // namespace dunlin
