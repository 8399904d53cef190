// MatMulInteger, QLinearMatMul and QGemm: products of codes, accumulated exactly modulo 2^32.
#include "ops/elementwise/broadcast.h"
#include "ops/quant/quant.h"
#include "ops/quant/sums.h"

namespace dunlin {

Result<CodeMatMulShape> ResolveCodeMatMul(std::string_view name, const Dims& a, const Dims& b) {
  if (a.empty() || b.empty()) return Fail(Code::kInvalidArgument, "{}: a factor is a scalar", name);
  CodeMatMulShape p;
  const bool row = a.rank() == 1, column = b.rank() == 1;
  p.m = row ? 1 : a[a.size() - 2];
  p.k = a.back();
  p.n = column ? 1 : b.back();
  const int64_t k = column ? b[0] : b[b.size() - 2];
  const auto batch = Broadcast(OuterDims(a), OuterDims(b));
  if ((IsKnown(k) && IsKnown(p.k) && k != p.k) || !batch)
    return Fail(Code::kInvalidArgument, "{}: extents {} and {} do not multiply", name, ToString(a),
                ToString(b));
  p.y = p.batch = *batch;
  if (!row) p.y.push_back(p.m);
  if (!column) p.y.push_back(p.n);
  return p;
}

namespace {

// Of codes, or where that is allowed of 8-bit floats.
enum class Eight : uint8_t { kCodes, kCodesAndFloats };
Status InferProduct(std::string_view name, InferContext& ctx, int b, DType out, Eight types) {
  for (const int i : {0, b})
    if (types == Eight::kCodes || !IsFloat8(ctx.dtype(i)))
      TRY(CheckType<Bytes>(ctx.dtype(i), name));
  if (!ctx.input(0).ranked || !ctx.input(b).ranked) {
    ctx.Set(0, Type::Unranked(out));
    return {};
  }
  ctx.Set(0, Type::Of(out, TRY(ResolveCodeMatMul(name, ctx.input(0).dims, ctx.input(b).dims)).y));
  return {};
}

// A parameter of one factor: one value for all, or one per row of a (column of b), possibly per
// matrix.
struct Parameter {
  int64_t count, extent;
  int64_t At(int64_t matrix, int64_t i) const {
    if (count == 1) return 0;
    return count == extent ? i : matrix * extent + i;
  }
};
Result<Parameter> ResolveParameter(std::string_view name, size_t count, int64_t extent,
                                   int64_t matrices) {
  const auto n = int64_t(count);
  if (n != 1 && n != extent && n != extent * matrices)
    return Fail(Code::kInvalidArgument, "{}: {} scales or zero points for {} rows or columns", name,
                n, extent);
  return Parameter{n, extent};
}

// Calls store(index of y, sum, index of a's parameter, index of b's) for every element of the
// product.
template <class Elements, class Store>
Status MultiplyOf(std::string_view name, const TensorView& a, const TensorView& b,
                  const std::vector<int32_t>& a_zero, const std::vector<int32_t>& b_zero,
                  const Elements& elements, const Store& store) {
  const CodeMatMulShape p = TRY(ResolveCodeMatMul(name, a.dims, b.dims));
  const int64_t a_matrices = p.m * p.k == 0 ? 1 : a.count() / (p.m * p.k);
  const int64_t b_matrices = p.n * p.k == 0 ? 1 : b.count() / (p.n * p.k);
  const Parameter az = TRY(ResolveParameter(name, a_zero.size(), p.m, a_matrices));
  const Parameter bz = TRY(ResolveParameter(name, b_zero.size(), p.n, b_matrices));
  const auto plan = PlanBroadcast<2>(p.batch, {OuterDims(a.dims), OuterDims(b.dims)});
  if (CountOf(p.y) == 0) return {};
  return elements([&](const auto& a_at, const auto& b_at) -> Status {
    ForEachRow(plan, 0, plan.rows(), [&](int64_t out, const std::array<int64_t, 2>& in) {
      for (int64_t i = 0; i < plan.cols(); ++i) {
        const int64_t ma = in[0] + i * plan.strides[0].back(),
                      mb = in[1] + i * plan.strides[1].back();
        for (int64_t r = 0; r < p.m; ++r)
          for (int64_t c = 0; c < p.n; ++c) {
            const int32_t za = a_zero[size_t(az.At(ma, r))], zb = b_zero[size_t(bz.At(mb, c))];
            decltype(a_at(0) * b_at(0)) sum = 0;
            for (int64_t k = 0; k < p.k; ++k)
              sum += (a_at((ma * p.m + r) * p.k + k) - za) * (b_at((mb * p.k + k) * p.n + c) - zb);
            store(((out + i) * p.m + r) * p.n + c, sum, ma, r, mb, c);
          }
      }
    });
    return {};
  });
}

// Of codes: exact modulo 2^32.
template <class Store>
Status Multiply(std::string_view name, const TensorView& a, const TensorView& b,
                const std::vector<int32_t>& a_zero, const std::vector<int32_t>& b_zero,
                const Store& store) {
  const auto elements = [&](const auto& with) {
    return VisitTypes<Bytes>(a.dtype, name, [&]<class A>(TypeTag<A>) -> Status {
      return VisitTypes<Bytes>(b.dtype, name, [&]<class B>(TypeTag<B>) -> Status {
        return with([pa = a.as<A>()](int64_t i) { return int64_t(pa[i]); },
                    [pb = b.as<B>()](int64_t i) { return int64_t(pb[i]); });
      });
    });
  };
  return MultiplyOf(name, a, b, a_zero, b_zero, elements,
                    [&](int64_t i, int64_t sum, int64_t ma, int64_t r, int64_t mb, int64_t c) {
                      store(i, int32_t(sum), ma, r, mb, c);
                    });
}
// Of 8-bit floats.
template <class Store>
Status MultiplyFloats(std::string_view name, const TensorView& a, const TensorView& b,
                      const std::vector<int32_t>& a_zero, const std::vector<int32_t>& b_zero,
                      const Store& store) {
  const auto elements = [&](const auto& with) -> Status {
    return with([&](int64_t i) { return LoadNarrow(a.dtype, a.data, i); },
                [&](int64_t i) { return LoadNarrow(b.dtype, b.data, i); });
  };
  return MultiplyOf(name, a, b, a_zero, b_zero, elements, store);
}

struct MatMulInteger {
  static constexpr std::string_view kName = "MatMulInteger";
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    return InferProduct(kName, ctx, 1, DType::kI32, Eight::kCodes);
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    int32_t* y = ctx.out(0).mut<int32_t>();
    return Multiply(
        kName, ctx.in(0), ctx.in(1), TRY(ZeroPoints(kName, ctx, 2)), TRY(ZeroPoints(kName, ctx, 3)),
        [&](int64_t i, int32_t sum, int64_t, int64_t, int64_t, int64_t) { y[i] = sum; });
  }
  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) {
    return LowerCodeMatMul({.a = 0, .b = 1, .a_zero = 2, .b_zero = 3}, {}, ctx);
  }
};

// Inputs a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point.
struct QLinearMatMul {
  static constexpr std::string_view kName = "QLinearMatMul";
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    return InferProduct(kName, ctx, 3, ctx.dtype(7), Eight::kCodesAndFloats);
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    const auto a_scale = TRY(Scales(kName, ctx.in(1))), b_scale = TRY(Scales(kName, ctx.in(4)));
    const auto y_scale = TRY(Scales(kName, ctx.in(6)));
    const auto y_zero = TRY(ZeroPoints(kName, ctx, 7));
    if (y_scale.size() != 1 || y_zero.size() != 1)
      return Fail(Code::kUnimplemented, "{}: one scale and zero point of the result, not {}", kName,
                  y_scale.size());
    const CodeMatMulShape p = TRY(ResolveCodeMatMul(kName, ctx.in(0).dims, ctx.in(3).dims));
    const Parameter as = TRY(ResolveParameter(
        kName, a_scale.size(), p.m, CountOf(ctx.in(0).dims) / std::max<int64_t>(1, p.m * p.k)));
    const Parameter bs = TRY(ResolveParameter(
        kName, b_scale.size(), p.n, CountOf(ctx.in(3).dims) / std::max<int64_t>(1, p.n * p.k)));
    TensorView& out = ctx.out(0);
    if (IsFloat8(out.dtype)) {
      if (!IsFloat8(ctx.in(0).dtype) || !IsFloat8(ctx.in(3).dtype))
        return Fail(Code::kInvalidArgument, "{}: codes do not give 8-bit floats", kName);
      return MultiplyFloats(
          kName, ctx.in(0), ctx.in(3), TRY(ZeroPoints(kName, ctx, 2)),
          TRY(ZeroPoints(kName, ctx, 5)),
          [&](int64_t i, double sum, int64_t ma, int64_t r, int64_t mb, int64_t c) {
            const float scale =
                a_scale[size_t(as.At(ma, r))] * b_scale[size_t(bs.At(mb, c))] / y_scale[0];
            StoreNarrow(out.dtype, out.data, i, sum * double(scale) + y_zero[0]);
          });
    }
    return VisitTypes<Bytes>(out.dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      Q* y = out.mut<Q>();
      return Multiply(kName, ctx.in(0), ctx.in(3), TRY(ZeroPoints(kName, ctx, 2)),
                      TRY(ZeroPoints(kName, ctx, 5)),
                      [&](int64_t i, int32_t sum, int64_t ma, int64_t r, int64_t mb, int64_t c) {
                        const float scale = a_scale[size_t(as.At(ma, r))] *
                                            b_scale[size_t(bs.At(mb, c))] / y_scale[0];
                        y[i] = CodeOf<Q>(float(sum) * scale, y_zero[0]);
                      });
    });
  }
  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) {
    return LowerCodeMatMul({.a = 0,
                            .b = 3,
                            .a_scale = 1,
                            .b_scale = 4,
                            .y_scale = 6,
                            .a_zero = 2,
                            .b_zero = 5,
                            .y_zero = 7},
                           {}, ctx);
  }
};

Dims Turned(Dims d, bool trans) {
  if (trans && d.rank() >= 2) std::swap(d[d.size() - 2], d[d.size() - 1]);
  return d;
}
// Reads matrices as if they were not transposed.
TensorView Plain(const TensorView& x, bool trans, std::vector<int8_t>& copy) {
  if (!trans || x.dims.rank() < 2) return x;
  copy.resize(size_t(x.count()));
  const auto* from = static_cast<const int8_t*>(x.data);
  const int64_t rows = x.dims[x.dims.size() - 2], cols = x.dims.back();
  for (int64_t m = 0; m < x.count(); m += rows * cols)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) copy[size_t(m + c * rows + r)] = from[m + r * cols + c];
  TensorView y = x;
  y.dims = Turned(x.dims, true);
  y.data = copy.data();
  return y;
}

// com.microsoft QGemm: y = alpha * a_scale * b_scale * (a b + c) as f32, or as codes where y's
// scale is given. Inputs a, a_scale, a_zero_point, b, b_scale, b_zero_point, c (i32, in units of
// the sums; optional), y_scale, y_zero_point (optional).
struct QGemm {
  static constexpr std::string_view kName = "QGemm";
  struct Attrs {
    float alpha = 1;
    int64_t transA = 0, transB = 0;  // NOLINT: ONNX's names
    template <class V>
    void Visit(V& v) {
      v("alpha", alpha);
      v("transA", transA);
      v("transB", transB);
    }
  };
  static Result<CodeMatMulShape> Resolve(const Attrs& a, const Dims& x, const Dims& w) {
    if (x.rank() != 2 || w.rank() != 2)
      return Fail(Code::kInvalidArgument, "{}: multiplies matrices, not {} and {}", kName,
                  ToString(x), ToString(w));
    return ResolveCodeMatMul(kName, Turned(x, a.transA != 0), Turned(w, a.transB != 0));
  }
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckType<Bytes>(ctx.dtype(0), kName));
    TRY(CheckType<Bytes>(ctx.dtype(3), kName));
    const DType out = ctx.has(8) ? ctx.dtype(8) : DType::kF32;
    Dims y(2, kUnknownDim);
    if (ctx.input(0).ranked && ctx.input(3).ranked)
      y = TRY(Resolve(a, ctx.input(0).dims, ctx.input(3).dims)).y;
    if (ctx.has(6) && ctx.input(6).ranked) {
      const auto wide = Broadcast(ctx.input(6).dims, y);
      if (!wide || wide->rank() != 2 || !(*wide == y || !AllKnown(y)))
        return Fail(Code::kInvalidArgument, "{}: c of {} does not fit {}", kName,
                    ToString(ctx.input(6).dims), ToString(y));
    }
    ctx.Set(0, Type::Of(out, y));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const CodeMatMulShape p = TRY(Resolve(a, ctx.in(0).dims, ctx.in(3).dims));
    const auto a_scale = TRY(Scales(kName, ctx.in(1))), b_scale = TRY(Scales(kName, ctx.in(4)));
    const bool codes = ctx.has(8);
    const auto y_scale = ctx.has(7) ? TRY(Scales(kName, ctx.in(7))) : std::vector<float>{1};
    const auto y_zero = TRY(ZeroPoints(kName, ctx, 8));
    const auto bias = TRY(ZeroPoints(kName, ctx, 6));
    if (a_scale.size() != 1 || y_scale.size() != 1 || y_zero.size() != 1 || codes != ctx.has(7) ||
        (b_scale.size() != 1 && int64_t(b_scale.size()) != p.n))
      return Fail(Code::kInvalidArgument, "{}: the scales do not fit {} columns", kName, p.n);
    const Dims c_dims = ctx.has(6) ? ctx.in(6).dims : Dims();
    if (Broadcast(c_dims, p.y) != p.y)
      return Fail(Code::kInvalidArgument, "{}: c of {} does not fit {}", kName, ToString(c_dims),
                  ToString(p.y));
    const auto plan = PlanBroadcast<1>(p.y, {c_dims});
    std::vector<int32_t> wide(size_t(p.m * p.n));  // c of every element
    if (!wide.empty())
      ForEachRow(plan, 0, plan.rows(), [&](int64_t out, const std::array<int64_t, 1>& in) {
        for (int64_t i = 0; i < plan.cols(); ++i)
          wide[size_t(out + i)] = bias[size_t(in[0] + i * plan.strides[0].back())];
      });
    std::vector<int8_t> a_copy, b_copy;
    const auto each = [&](const auto& store) -> Status {
      return Multiply(
          kName, Plain(ctx.in(0), a.transA != 0, a_copy), Plain(ctx.in(3), a.transB != 0, b_copy),
          TRY(ZeroPoints(kName, ctx, 2)), TRY(ZeroPoints(kName, ctx, 5)),
          [&](int64_t i, int32_t sum, int64_t, int64_t, int64_t, int64_t c) {
            const float scale = a.alpha * a_scale[0] * PerChannel(b_scale, c) / y_scale[0];
            store(i, float(WrapAdd(sum, wide[size_t(i)])) * scale);
          });
    };
    if (!codes) {
      float* y = ctx.out(0).mut<float>();
      return each([&](int64_t i, float v) { y[i] = v; });
    }
    return VisitTypes<Bytes>(ctx.out(0).dtype, kName, [&]<class Q>(TypeTag<Q>) -> Status {
      Q* y = ctx.out(0).mut<Q>();
      return each([&](int64_t i, float v) { y[i] = CodeOf<Q>(v, y_zero[0]); });
    });
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerCodeMatMul({.a = 0,
                            .b = 3,
                            .a_scale = 1,
                            .b_scale = 4,
                            .y_scale = 7,
                            .a_zero = 2,
                            .b_zero = 5,
                            .y_zero = 8,
                            .bias = 6,
                            .trans_a = a.transA != 0,
                            .trans_b = a.transB != 0,
                            .alpha = a.alpha},
                           {}, ctx);
  }
};

// dunlin.CodeMatMul; see code_ops.h.
struct CodeMatMul {
  static constexpr std::string_view kName = "dunlin.CodeMatMul";
  using Attrs = CodeMatMulAttrs;
  static ProductInputs Inputs(const Attrs& a) {
    return {.a = kX,
            .b = kW,
            .a_scale = kXScale,
            .b_scale = kWScale,
            .a_zero = kXZero,
            .b_zero = kWZero,
            .bias = kBias,
            .residual = kResidual,
            .table = kTable,
            .trans_a = a.trans_a,
            .trans_b = a.trans_b,
            .alpha = a.alpha};
  }
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CheckStore(kName, a.store));
    for (const int i : {kX, kW}) TRY(CheckType<Bytes>(ctx.dtype(i), kName));
    const DType to = StoredType(ctx, Inputs(a), a.store);
    if (!ctx.input(kX).ranked || !ctx.input(kW).ranked) {
      ctx.Set(0, Type::Unranked(to));
      return {};
    }
    ctx.Set(0, Type::Of(to, TRY(ResolveCodeMatMul(kName, Turned(ctx.input(kX).dims, a.trans_a),
                                                  Turned(ctx.input(kW).dims, a.trans_b)))
                                .y));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    std::vector<int8_t> x_copy, w_copy;
    const TensorView x = Plain(ctx.in(kX), a.trans_a, x_copy),
                     w = Plain(ctx.in(kW), a.trans_b, w_copy);
    const CodeMatMulShape p = TRY(ResolveCodeMatMul(kName, x.dims, w.dims));
    const int64_t rows = p.k == 0 ? 1 : CountOf(x.dims) / p.k;
    TRY(CheckEpilogue(kName, ctx, Inputs(a), p.n, rows));
    const EpilogueReference epilogue(ctx, Inputs(a), a.store, p.n, ctx.out(0).dtype);
    return Multiply(kName, x, w, TRY(ZeroPoints(kName, ctx, kXZero)),
                    TRY(ZeroPoints(kName, ctx, kWZero)),
                    [&](int64_t i, int32_t sum, int64_t ma, int64_t r, int64_t, int64_t c) {
                      epilogue.Store(ctx, i, ma * p.m + r, c, sum);
                    });
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerCodeMatMul(Inputs(a), a.store, ctx);
  }
  static int64_t Macs(const Attrs& a, std::span<const Type> in, std::span<const Type> out) {
    const Dims x = Turned(in[kX].dims, a.trans_a);
    return CountOf(out[0].dims) * x.back();
  }
};

}  // namespace

std::vector<OpDef> QuantMatMulOps() {
  return {
      Declare<MatMulInteger>(MatMulInteger::kName, {.min_inputs = 2, .max_inputs = 4}),
      Declare<QLinearMatMul>(QLinearMatMul::kName, {.min_inputs = 8, .max_inputs = 8}),
      Declare<QGemm>(QGemm::kName, {.domain = "com.microsoft", .min_inputs = 6, .max_inputs = 9}),
      Declare<CodeMatMul>(kCodeMatMulName,
                          {.domain = "dunlin", .min_inputs = 5, .max_inputs = kCodeOpInputs})};
}

}  // namespace dunlin
