#include "ops/elementwise/unary.h"

#include "ops/elementwise/elementwise.h"

namespace dunlin {

Result<KernelPtr> LowerMap(LowerContext& ctx, const UnaryParams& params) {
  return MakeBroadcastKernel<1>("unary.simd", ctx, IsCheap(params.op) ? kCheapGrain : kCostlyGrain,
                                [params](const Operands<1>& in, void* out, const Block<1>& b) {
                                  MapF32(params, static_cast<const float*>(in[0]) + b.offset[0],
                                         static_cast<float*>(out) + b.out, b.cols);
                                });
}

namespace {

// Operators without attributes over `TYPES`, as one expression of x.
// DUNLIN_FAST_UNARY: also UnaryOp::kNAME.
#define DUNLIN_UNARY_WITH(NAME, TYPES, EXPRESSION, MEMBERS) \
  struct NAME##Fn {                                         \
    static constexpr std::string_view kName = #NAME;        \
    using Types = TYPES;                                    \
    using Attrs = NoAttrs;                                  \
    template <class C>                                      \
    C operator()(C x) const {                               \
      return EXPRESSION;                                    \
    }                                                       \
    MEMBERS                                                 \
  }
#define DUNLIN_UNARY(NAME, TYPES, EXPRESSION) DUNLIN_UNARY_WITH(NAME, TYPES, EXPRESSION, )
#define DUNLIN_FAST_UNARY(NAME, TYPES, EXPRESSION) \
  DUNLIN_UNARY_WITH(                               \
      NAME, TYPES, EXPRESSION, UnaryParams Fast() const { return {UnaryOp::k##NAME}; })

DUNLIN_UNARY(Acos, Floats, std::acos(x));
DUNLIN_UNARY(Acosh, Floats, std::acosh(x));
DUNLIN_UNARY(Asin, Floats, std::asin(x));
DUNLIN_UNARY(Asinh, Floats, std::asinh(x));
DUNLIN_UNARY(Atan, Floats, std::atan(x));
DUNLIN_UNARY(Atanh, Floats, std::atanh(x));
DUNLIN_FAST_UNARY(Ceil, Floats, std::ceil(x));
DUNLIN_UNARY(Cos, Floats, std::cos(x));
DUNLIN_UNARY(Cosh, Floats, std::cosh(x));
DUNLIN_FAST_UNARY(Erf, Numbers, static_cast<C>(std::erf(x)));
DUNLIN_FAST_UNARY(Exp, Floats, std::exp(x));
DUNLIN_FAST_UNARY(Floor, Floats, std::floor(x));
DUNLIN_FAST_UNARY(Log, Floats, std::log(x));
DUNLIN_FAST_UNARY(Reciprocal, Floats, 1 / x);
DUNLIN_FAST_UNARY(Round, Floats, std::nearbyint(x));  // half to even: the default rounding mode
DUNLIN_FAST_UNARY(Sigmoid, Floats, 1 / (1 + std::exp(-x)));
DUNLIN_UNARY(Sin, Floats, std::sin(x));
DUNLIN_UNARY(Sinh, Floats, std::sinh(x));
// log(1 + e^x) without overflow.
DUNLIN_FAST_UNARY(Softplus, Floats, (x > 0 ? x : C(0)) + std::log1p(std::exp(-std::fabs(x))));
DUNLIN_FAST_UNARY(Softsign, Floats, x / (1 + std::fabs(x)));
DUNLIN_FAST_UNARY(Sqrt, Floats, std::sqrt(x));
DUNLIN_UNARY(Tan, Floats, std::tan(x));
DUNLIN_FAST_UNARY(Tanh, Floats, std::tanh(x));
DUNLIN_FAST_UNARY(HardSwish, Floats, x* std::fmax(0, std::fmin(1, x / 6 + 0.5)));
DUNLIN_FAST_UNARY(Mish, Floats,
                  x* std::tanh((x > 0 ? x : C(0)) + std::log1p(std::exp(-std::fabs(x)))));
DUNLIN_UNARY(Not, Booleans, !x);
DUNLIN_UNARY(BitwiseNot, Integers, static_cast<C>(~x));
DUNLIN_FAST_UNARY(Neg, Numbers, std::is_integral_v<C> ? WrapSub(C(0), x) : C(-x));
DUNLIN_FAST_UNARY(Abs, Numbers,
                  std::is_integral_v<C> ? (x < C(0) ? WrapSub(C(0), x) : x)
                                        : C(std::fabs(double(x))));
DUNLIN_FAST_UNARY(Sign, Numbers, x > C(0) ? C(1) : x < C(0) ? C(0) - C(1) : x);
DUNLIN_FAST_UNARY(Relu, Numbers, x < C(0) ? C(0) : x);
#undef DUNLIN_FAST_UNARY
#undef DUNLIN_UNARY
#undef DUNLIN_UNARY_WITH

struct IsNaNFn {
  static constexpr std::string_view kName = "IsNaN";
  static constexpr bool kTakesFloat8 = true;
  using Types = Floats;
  using Attrs = NoAttrs;
  using Output = bool;
  bool operator()(double x) const { return std::isnan(x); }
};

struct IsInfFn {
  static constexpr std::string_view kName = "IsInf";
  static constexpr bool kTakesFloat8 = true;
  using Types = Floats;
  using Output = bool;
  struct Attrs {
    bool negative = true, positive = true;
    template <class V>
    void Visit(V& v) {
      v("detect_negative", negative);
      v("detect_positive", positive);
    }
  } a;
  bool operator()(double x) const { return std::isinf(x) && (x > 0 ? a.positive : a.negative); }
};

// Activations with attributes.

struct AlphaAttrs {
  float alpha;
  template <class V>
  void Visit(V& v) {
    v("alpha", alpha);
  }
};

struct LeakyReluFn {
  static constexpr std::string_view kName = "LeakyRelu";
  using Types = Floats;
  struct Attrs : AlphaAttrs {
    Attrs() : AlphaAttrs{0.01f} {}
  } a;
  UnaryParams Fast() const { return {UnaryOp::kLeakyRelu, a.alpha}; }
  double operator()(double x) const { return x < 0 ? a.alpha * x : x; }
};

struct EluFn {
  static constexpr std::string_view kName = "Elu";
  using Types = Floats;
  struct Attrs : AlphaAttrs {
    Attrs() : AlphaAttrs{1} {}
  } a;
  UnaryParams Fast() const { return {UnaryOp::kElu, a.alpha, 1}; }
  double operator()(double x) const { return x < 0 ? a.alpha * std::expm1(x) : x; }
};

struct CeluFn {
  static constexpr std::string_view kName = "Celu";
  using Types = Floats;
  struct Attrs : AlphaAttrs {
    Attrs() : AlphaAttrs{1} {}
  } a;
  UnaryParams Fast() const { return {UnaryOp::kElu, a.alpha, 1 / a.alpha}; }
  double operator()(double x) const { return x < 0 ? a.alpha * std::expm1(x / a.alpha) : x; }
};

struct ThresholdedReluFn {
  static constexpr std::string_view kName = "ThresholdedRelu";
  using Types = Floats;
  struct Attrs : AlphaAttrs {
    Attrs() : AlphaAttrs{1} {}
  } a;
  UnaryParams Fast() const { return {UnaryOp::kThresholdedRelu, a.alpha}; }
  double operator()(double x) const { return x > a.alpha || std::isnan(x) ? x : 0; }
};

struct SwishFn {
  static constexpr std::string_view kName = "Swish";
  using Types = Floats;
  struct Attrs : AlphaAttrs {
    Attrs() : AlphaAttrs{1} {}
  } a;
  UnaryParams Fast() const { return {UnaryOp::kSwish, a.alpha}; }
  double operator()(double x) const { return x / (1 + std::exp(-a.alpha * x)); }
};

struct SeluFn {
  static constexpr std::string_view kName = "Selu";
  using Types = Floats;
  struct Attrs {
    float alpha = 1.67326319217681884765625f, gamma = 1.05070102214813232421875f;
    template <class V>
    void Visit(V& v) {
      v("alpha", alpha);
      v("gamma", gamma);
    }
  } a;
  UnaryParams Fast() const { return {UnaryOp::kSelu, a.alpha, a.gamma}; }
  double operator()(double x) const { return a.gamma * (x <= 0 ? a.alpha * std::expm1(x) : x); }
};

struct HardSigmoidFn {
  static constexpr std::string_view kName = "HardSigmoid";
  using Types = Floats;
  struct Attrs {
    float alpha = 0.2f, beta = 0.5f;
    template <class V>
    void Visit(V& v) {
      v("alpha", alpha);
      v("beta", beta);
    }
  } a;
  UnaryParams Fast() const { return {UnaryOp::kHardSigmoid, a.alpha, a.beta}; }
  double operator()(double x) const {
    const double y = a.alpha * x + a.beta;
    return y < 0 ? 0 : y > 1 ? 1 : y;
  }
};

struct GeluFn {
  static constexpr std::string_view kName = "Gelu";
  using Types = Floats;
  struct Attrs {
    std::string approximate = "none";
    template <class V>
    void Visit(V& v) {
      v("approximate", approximate);
    }
  };
  explicit GeluFn(const Attrs& a) : tanh(a.approximate == "tanh") {}
  UnaryParams Fast() const { return {tanh ? UnaryOp::kGeluTanh : UnaryOp::kGelu}; }
  double operator()(double x) const {
    constexpr double kSqrtHalf = 0.70710678118654752440, kSqrt2OverPi = 0.79788456080286535588;
    return 0.5 * x *
           (1 + (tanh ? std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x))
                      : std::erf(x * kSqrtHalf)));
  }
  bool tanh;
};

struct ShrinkFn {
  static constexpr std::string_view kName = "Shrink";
  using Types = Numbers;
  struct Attrs {
    float bias = 0, lambd = 0.5f;
    template <class V>
    void Visit(V& v) {
      v("bias", bias);
      v("lambd", lambd);
    }
  } a;
  template <class C>
  C operator()(C x) const {
    const double v = double(x);
    const double y = v < -a.lambd ? v + a.bias : v > a.lambd ? v - a.bias : 0;
    if constexpr (std::is_integral_v<C>) {
      // Integers wrap; beyond 2^63 there is nothing sensible to give.
      return y > -0x1p63 && y < 0x1p63 ? static_cast<C>(static_cast<int64_t>(y)) : x;
    } else {
      return y;
    }
  }
};

template <class F>
OpDef Row() {
  return Declare<Unary<F>>(F::kName, {.in_place = 0});
}

}  // namespace

std::vector<OpDef> UnaryOps() {
  return {Row<AbsFn>(),       Row<AcosFn>(),       Row<AcoshFn>(),
          Row<AsinFn>(),      Row<AsinhFn>(),      Row<AtanFn>(),
          Row<AtanhFn>(),     Row<BitwiseNotFn>(), Row<CeilFn>(),
          Row<CeluFn>(),      Row<CosFn>(),        Row<CoshFn>(),
          Row<EluFn>(),       Row<ErfFn>(),        Row<ExpFn>(),
          Row<FloorFn>(),     Row<GeluFn>(),       Row<HardSigmoidFn>(),
          Row<HardSwishFn>(), Row<IsInfFn>(),      Row<IsNaNFn>(),
          Row<LeakyReluFn>(), Row<LogFn>(),        Row<MishFn>(),
          Row<NegFn>(),       Row<NotFn>(),        Row<ReciprocalFn>(),
          Row<ReluFn>(),      Row<RoundFn>(),      Row<SeluFn>(),
          Row<ShrinkFn>(),    Row<SigmoidFn>(),    Row<SignFn>(),
          Row<SinFn>(),       Row<SinhFn>(),       Row<SoftplusFn>(),
          Row<SoftsignFn>(),  Row<SqrtFn>(),       Row<SwishFn>(),
          Row<TanFn>(),       Row<TanhFn>(),       Row<ThresholdedReluFn>()};
}

}  // namespace dunlin
