// RandomNormal, RandomUniform, their …Like forms, Bernoulli and Multinomial (ONNX opset 15). With a
// seed the numbers depend on the seed alone; without one every run draws others. No two engines
// draw equal numbers: ONNX leaves the generator open.
#include <cmath>
#include <numbers>
#include <random>

#include "ops/random/random.h"

namespace dunlin {
namespace {

class Generator {
 public:
  explicit Generator(std::optional<float> seed)
      : bits_(seed ? std::bit_cast<uint32_t>(*seed) : Entropy()) {}
  double Uniform() { return double(bits_() >> 11) * 0x1p-53; }  // [0, 1)
  double Normal() {  // Box and Muller; 1 - u avoids log(0)
    const double radius = std::sqrt(-2 * std::log(1 - Uniform()));
    return radius * std::cos(2 * std::numbers::pi * Uniform());
  }

 private:
  static uint64_t Entropy() {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }
  std::mt19937_64 bits_;  // specified by the standard to the bit, unlike its distributions
};

template <class T>
T FromDouble(double v) {
  if constexpr (kIsHalf<T>)
    return T(float(v));
  else
    return T(v);
}

template <class T>
double AsDouble(T v) {
  if constexpr (kIsHalf<T>)
    return float(v);
  else
    return double(v);
}

Status NeedFloat(DType t, std::string_view what) {
  if (t == DType::kUndefined || IsFloat(t)) return {};
  return Fail(Code::kInvalidArgument, "{} is {}, not a float type", what, DTypeName(t));
}

template <class Draw>
Status FillFloats(TensorView& out, Draw&& draw) {
  return VisitDType(out.dtype, "random numbers", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (kIsFloat<T>) {
      for (int64_t i = 0, n = out.count(); i < n; ++i) out.mut<T>()[i] = FromDouble<T>(draw());
      return {};
    } else {
      return Fail(Code::kInvalidArgument, "random numbers of type {}", DTypeName(out.dtype));
    }
  });
}

struct NormalAttrs {
  float mean = 0, scale = 1;
  template <class V>
  void Visit(V& v) {
    v("mean", mean);
    v("scale", scale);
  }
  double Draw(Generator& g) const { return mean + scale * g.Normal(); }
};

struct UniformAttrs {
  float low = 0, high = 1;
  template <class V>
  void Visit(V& v) {
    v("low", low);
    v("high", high);
  }
  double Draw(Generator& g) const { return low + (double(high) - low) * g.Uniform(); }
};

// Extents from an attribute.
template <class Distribution>
struct OfShape {
  struct Attrs {
    Distribution distribution;
    DType dtype = DType::kF32;
    std::optional<float> seed;
    std::vector<int64_t> shape;
    template <class V>
    void Visit(V& v) {
      distribution.Visit(v);
      v("dtype", dtype);
      v("seed", seed);
      v("shape", shape);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(NeedFloat(a.dtype, "dtype"));
    if (!AllKnown(a.shape))
      return Fail(Code::kInvalidArgument, "shape {} has a negative extent", ToString(a.shape));
    ctx.Set(0, Type::Of(a.dtype, Dims(std::span<const int64_t>(a.shape))));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    Generator g(a.seed);
    return FillFloats(ctx.out(0), [&] { return a.distribution.Draw(g); });
  }
};

// Extents, and the element type unless dtype says otherwise, from the input.
template <class Distribution>
struct Like {
  struct Attrs {
    Distribution distribution;
    DType dtype = DType::kUndefined;
    std::optional<float> seed;
    template <class V>
    void Visit(V& v) {
      distribution.Visit(v);
      v("dtype", dtype);
      v("seed", seed);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    Type t = ctx.input(0);
    if (a.dtype != DType::kUndefined) t.dtype = a.dtype;
    TRY(NeedFloat(t.dtype, "dtype"));
    ctx.Set(0, t);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    Generator g(a.seed);
    return FillFloats(ctx.out(0), [&] { return a.distribution.Draw(g); });
  }
};

// 1 with the probability given by the input's element, else 0.
struct Bernoulli {
  struct Attrs {
    DType dtype = DType::kUndefined;
    std::optional<float> seed;
    template <class V>
    void Visit(V& v) {
      v("dtype", dtype);
      v("seed", seed);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(NeedFloat(ctx.dtype(0), "the input"));
    Type t = ctx.input(0);
    if (a.dtype != DType::kUndefined) t.dtype = a.dtype;
    ctx.Set(0, t);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    Generator g(a.seed);
    const TensorView& in = ctx.in(0);
    TensorView& out = ctx.out(0);
    return VisitDType(in.dtype, "Bernoulli", [&]<class P>(TypeTag<P>) -> Status {
      return VisitDType(out.dtype, "Bernoulli", [&]<class T>(TypeTag<T>) -> Status {
        if constexpr (kIsFloat<P> && !std::is_same_v<T, std::string>) {
          for (int64_t i = 0, n = out.count(); i < n; ++i)
            out.mut<T>()[i] = FromDouble<T>(g.Uniform() < AsDouble(in.as<P>()[i]) ? 1 : 0);
          return {};
        } else {
          return Fail(Code::kInvalidArgument, "Bernoulli from {} to {}", DTypeName(in.dtype),
                      DTypeName(out.dtype));
        }
      });
    });
  }
};

// Draws sample_size classes per row from unnormalised log-probabilities [B, classes].
struct Multinomial {
  struct Attrs {
    DType dtype = DType::kI32;
    int64_t sample_size = 1;
    std::optional<float> seed;
    template <class V>
    void Visit(V& v) {
      v("dtype", dtype);
      v("sample_size", sample_size);
      v("seed", seed);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.dtype != DType::kI32 && a.dtype != DType::kI64)
      return Fail(Code::kInvalidArgument, "dtype is {}, not i32 or i64", DTypeName(a.dtype));
    if (a.sample_size < 0) return Fail(Code::kInvalidArgument, "sample_size is {}", a.sample_size);
    TRY(NeedFloat(ctx.dtype(0), "the input"));
    const Type& in = ctx.input(0);
    if (in.ranked && in.dims.rank() != 2)
      return Fail(Code::kInvalidArgument, "the input has rank {}, not 2", in.dims.rank());
    ctx.Set(0, Type::Of(a.dtype, {in.ranked ? in.dims[0] : kUnknownDim, a.sample_size}));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    Generator g(a.seed);
    const TensorView& in = ctx.in(0);
    TensorView& out = ctx.out(0);
    const int64_t classes = in.dims[1];
    if (classes == 0 && out.count() > 0)
      return Fail(Code::kInvalidArgument, "no class to draw from");
    return VisitDType(in.dtype, "Multinomial", [&]<class P>(TypeTag<P>) -> Status {
      if constexpr (!kIsFloat<P>) {
        return Fail(Code::kInvalidArgument, "Multinomial from {}", DTypeName(in.dtype));
      } else {
        for (int64_t i = 0; i < out.count(); ++i) {
          const int64_t pick = Draw(in.as<P>() + i / a.sample_size * classes, classes, g.Uniform());
          if (a.dtype == DType::kI32)
            out.mut<int32_t>()[i] = int32_t(pick);
          else
            out.mut<int64_t>()[i] = pick;
        }
        return {};
      }
    });
  }
  template <class P>
  static int64_t Draw(const P* logits, int64_t classes, double uniform) {
    double highest = -std::numeric_limits<double>::infinity(), total = 0;
    for (int64_t c = 0; c < classes; ++c) highest = std::max(highest, AsDouble(logits[c]));
    for (int64_t c = 0; c < classes; ++c) total += std::exp(AsDouble(logits[c]) - highest);
    double rest = uniform * total;
    for (int64_t c = 0; c + 1 < classes; ++c) {
      rest -= std::exp(AsDouble(logits[c]) - highest);
      if (rest < 0) return c;
    }
    return classes - 1;
  }
};

}  // namespace

std::span<const OpDef> RandomOps() {
  constexpr OpTraits kNoInput = {.min_inputs = 0, .max_inputs = 0, .nondeterministic = true};
  constexpr OpTraits kOneInput = {.nondeterministic = true};
  static const OpDef ops[] = {
      Declare<OfShape<NormalAttrs>>("RandomNormal", kNoInput),
      Declare<OfShape<UniformAttrs>>("RandomUniform", kNoInput),
      Declare<Like<NormalAttrs>>("RandomNormalLike", kOneInput),
      Declare<Like<UniformAttrs>>("RandomUniformLike", kOneInput),
      Declare<Bernoulli>("Bernoulli", kOneInput),
      Declare<Multinomial>("Multinomial", kOneInput),
      DropoutOp(),
  };
  return ops;
}

}  // namespace dunlin
