// Dropout: hands its input on, or in training mode drops elements at random.
#include <cstring>
#include <random>

#include "ops/elementwise/numeric.h"
#include "ops/random/random.h"

namespace dunlin {
namespace {

// One element in `ratio` becomes 0, the others grow so that the mean stays. With a seed the draws
// are those of NumPy's generator, which ONNX's own implementation of the operator uses.
struct Dropout {
  static constexpr std::string_view kName = "Dropout";
  struct Attrs {
    std::optional<int64_t> seed;
    template <class V>
    void Visit(V& v) {
      v("seed", seed);
    }
  };

  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(CheckType<Floats>(ctx.dtype(0), kName));
    if (ctx.has(1)) TRY(CheckType<Floats>(ctx.dtype(1), "Dropout (ratio)"));
    if (ctx.has(2)) TRY(CheckType<Booleans>(ctx.dtype(2), "Dropout (training_mode)"));
    Type t = ctx.input(0);
    ctx.Set(0, t);
    t.dtype = DType::kBool;
    ctx.Set(1, std::move(t));
    return {};
  }

  // 0 when nothing is dropped.
  static Result<double> RatioOf(RunContext& ctx) {
    if (!ctx.has(2) || ctx.in(2).count() == 0 || !*ctx.in(2).as<bool>()) return 0.0;
    double ratio = 0.5;
    if (ctx.has(1) && ctx.in(1).count() > 0)
      TRY(VisitTypes<Floats>(ctx.in(1).dtype, "Dropout (ratio)",
                             [&]<class T>(TypeTag<T>) -> Status {
                               ratio = Widen(*ctx.in(1).as<T>());
                               return {};
                             }));
    if (!(ratio >= 0 && ratio < 1))
      return Fail(Code::kInvalidArgument, "the ratio of a Dropout is {}, outside [0, 1)", ratio);
    return ratio;
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const double ratio = TRY(RatioOf(ctx));
    const TensorView& x = ctx.in(0);
    TensorView& y = ctx.out(0);
    bool* mask = ctx.wants(1) ? ctx.out(1).mut<bool>() : nullptr;
    if (ratio == 0) {
      if (x.data != y.data && x.bytes() > 0) std::memcpy(y.data, x.data, size_t(x.bytes()));
      if (mask != nullptr) std::fill_n(mask, x.count(), true);
      return {};
    }
    std::mt19937 bits(a.seed ? uint32_t(*a.seed) : std::random_device{}());
    // 53 bits of two draws, as NumPy puts them together.
    const auto uniform = [&] {
      const double high = double(bits() >> 5), low = double(bits() >> 6);
      return (high * 0x1p26 + low) * 0x1p-53;
    };
    return VisitTypes<Floats>(x.dtype, kName, [&]<class T>(TypeTag<T>) -> Status {
      const double scale = 1 / (1 - ratio);
      for (int64_t i = 0; i < x.count(); ++i) {
        const bool keep = uniform() >= ratio;
        y.mut<T>()[i] = keep ? Narrow<T>(Widen(x.as<T>()[i]) * scale) : T(0.0f);
        if (mask != nullptr) mask[i] = keep;
      }
      return {};
    });
  }
};

}  // namespace

OpDef DropoutOp() {
  return Declare<Dropout>("Dropout", {.min_inputs = 1,
                                      .max_inputs = 3,
                                      .max_outputs = 2,
                                      .nondeterministic = true,
                                      .in_place = 0});
}

}  // namespace dunlin
