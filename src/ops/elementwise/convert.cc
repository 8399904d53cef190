// Cast, CastLike, and the operator that hands its input on: Identity.
#include <algorithm>
#include <charconv>
#include <cstring>

#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/lower.h"

namespace dunlin {
namespace {

// Numbers and booleans; blocks of one row, as an operator of one input has them.
BlockFn<1> CastLoop(DType from, DType to, const NarrowRule& rule) {
  return [from, to, rule](const Operands<1>& in, void* out, const Block<1>& b) {
    const Status s = ConvertElements(from, in[0], to, out, b.out, b.cols, rule);
    DUNLIN_CHECK(s.has_value(), "element types that CastLoop cannot convert");
  };
}

// The shortest text that reads back as the same number.
template <class From>
std::string ToText(From v) {
  if constexpr (std::is_same_v<From, bool>) {
    return v ? "1" : "0";
  } else if constexpr (kIsHalf<From>) {
    return ToText(float(v));
  } else {
    if constexpr (std::is_floating_point_v<From>) {
      if (std::isnan(v)) return "NaN";
      if (std::isinf(v)) return v > 0 ? "INF" : "-INF";
    }
    char text[64];
    const auto r = std::to_chars(text, text + sizeof text, v);
    return std::string(text, r.ptr);
  }
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) ==
                  std::tolower(static_cast<unsigned char>(y));
         });
}

template <class To, class From>
To ToNumber(From v) {
  To to{};
  const Status s = ConvertElements(kDTypeOf<From>, &v, kDTypeOf<To>, &to, 0, 1);
  DUNLIN_CHECK(s.has_value(), "numbers that cannot be converted");
  return to;
}

template <class To>
Result<To> FromText(const std::string& s) {
  std::string_view text = s;
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  if (text.size() > 1 && text[0] == '+' && text[1] != '-' && text[1] != '+') text.remove_prefix(1);
  using Parsed =
      std::conditional_t<kIsFloat<To>,
                         std::conditional_t<std::is_same_v<To, double>, double, float>,
                         std::conditional_t<std::is_same_v<To, uint64_t>, uint64_t, int64_t>>;
  Parsed v{};
  const auto r = std::from_chars(text.data(), text.data() + text.size(), v);
  if (r.ec == std::errc() && r.ptr == text.data() + text.size()) return ToNumber<To>(v);
  if constexpr (kIsFloat<To>) {
    const bool minus = !text.empty() && text[0] == '-';
    if (r.ec ==
        std::errc::result_out_of_range) {  // the sign is kept, the magnitude is 0 or infinity
      double wide = 0;
      std::from_chars(text.data(), text.data() + text.size(), wide);
      return ToNumber<To>(wide);
    }
    if (EqualsIgnoringCase(text.substr(minus), "inf") ||
        EqualsIgnoringCase(text.substr(minus), "infinity"))
      return ToNumber<To>(minus ? -HUGE_VALF : HUGE_VALF);
    if (EqualsIgnoringCase(text, "nan"))
      return ToNumber<To>(std::numeric_limits<float>::quiet_NaN());
  } else {
    double wide = 0;  // "3.7" casts as the number would
    const auto w = std::from_chars(text.data(), text.data() + text.size(), wide);
    if (w.ec == std::errc() && w.ptr == text.data() + text.size()) return ToNumber<To>(wide);
  }
  return Fail(Code::kInvalidArgument, "Cast: '{}' is not a number", s.substr(0, 40));
}

Status ToStrings(const TensorView& x, std::string* y) {
  const int64_t n = x.count();
  if (IsNarrow(x.dtype)) {  // all narrow numbers are exact in f32, and their texts short
    std::vector<float> wide(static_cast<size_t>(n));
    TRY(ConvertElements(x.dtype, x.data, DType::kF32, wide.data(), 0, n));
    std::transform(wide.begin(), wide.end(), y, ToText<float>);
    return {};
  }
  return VisitTypes<NumbersAndBooleans>(x.dtype, "Cast", [&]<class From>(TypeTag<From>) -> Status {
    std::transform(x.as<From>(), x.as<From>() + n, y, ToText<From>);
    return {};
  });
}

Status FromStrings(const std::string* x, TensorView& y, const NarrowRule& rule) {
  const int64_t n = y.count();
  if (IsNarrow(y.dtype)) {
    for (int64_t i = 0; i < n; ++i)
      StoreNarrow(y.dtype, y.data, i, TRY(FromText<double>(x[i])), rule);
    return {};
  }
  return VisitTypes<NumbersAndBooleans>(y.dtype, "Cast", [&]<class To>(TypeTag<To>) -> Status {
    for (int64_t i = 0; i < n; ++i) y.mut<To>()[i] = TRY(FromText<To>(x[i]));
    return {};
  });
}

Status CastElements(RunContext& ctx, const NarrowRule& rule) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  if (x.dtype != DType::kString && y.dtype != DType::kString)
    return RunReference<1>(ctx, CastLoop(x.dtype, y.dtype, rule));
  if (x.dtype == y.dtype) {
    std::copy_n(x.as<std::string>(), x.count(), y.mut<std::string>());
    return {};
  }
  return y.dtype == DType::kString ? ToStrings(x, y.mut<std::string>())
                                   : FromStrings(x.as<std::string>(), y, rule);
}

// Numbers and booleans on all threads; nullptr for strings.
Result<KernelPtr> LowerCast(LowerContext& ctx, const NarrowRule& rule) {
  const DType from = ctx.input(0).dtype, to = ctx.output(0).dtype;
  if (from == DType::kString || to == DType::kString) return nullptr;
  return MakeBroadcastKernel<1>("cast", ctx, kCheapGrain, CastLoop(from, to, rule));
}

LayoutPlan CastLayouts(const LayoutQuery& q) {
  const DType from = q.inputs[0].dtype, to = q.outputs[0].dtype;
  const auto lowered = [](DType t) {
    return t != DType::kString && t != DType::kUndefined && !IsPacked(t);
  };
  return lowered(from) && lowered(to) ? ElementwiseLayouts(q) : RowMajorLayouts(q);
}

// A shape survives the trip through another integer type, and through f32 or f64 only as a value,
// which constant folding sees.
void PropagateInts(InferContext& ctx, DType to) {
  if (to != DType::kI64 && to != DType::kI32) return;
  if (auto s = ctx.shape_value(0)) ctx.SetShapeValue(0, std::move(*s));
}

Status InferCast(InferContext& ctx, DType to) {
  Type t = ctx.input(0);
  t.dtype = to;
  ctx.Set(0, std::move(t));
  PropagateInts(ctx, to);
  return {};
}

// Where numbers go that a small float has no place for.
struct CastRule {
  bool saturate = true;
  std::string round_mode = "up";  // for f8e8m0
  template <class V>
  void Visit(V& v) {
    v("saturate", saturate);
    v("round_mode", round_mode);
  }
  Status Check() const {
    if (round_mode == "up" || round_mode == "down" || round_mode == "nearest") return {};
    return Fail(Code::kInvalidArgument, "Cast: round_mode is '{}', not up, down or nearest",
                round_mode);
  }
  NarrowRule Narrow() const {
    return {saturate ? Overflow::kSaturate : Overflow::kSpecial, round_mode == "up" ? RoundMode::kUp
                                                                 : round_mode == "down"
                                                                     ? RoundMode::kDown
                                                                     : RoundMode::kNearest};
  }
};

struct Cast {
  struct Attrs {
    DType to = DType::kUndefined;
    CastRule rule;
    template <class V>
    void Visit(V& v) {
      v("to", to);
      rule.Visit(v);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(a.rule.Check());
    if (a.to == DType::kUndefined)
      return Fail(Code::kInvalidArgument, "Cast: attribute 'to' names no element type");
    return InferCast(ctx, a.to);
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    return CastElements(ctx, a.rule.Narrow());
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerCast(ctx, a.rule.Narrow());
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) { return CastLayouts(query); }
};

struct CastLike {
  using Attrs = CastRule;
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(a.Check());
    return InferCast(ctx, ctx.dtype(1));
  }
  static Status Reference(const Attrs& a, RunContext& ctx) { return CastElements(ctx, a.Narrow()); }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return LowerCast(ctx, a.Narrow());
  }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) { return CastLayouts(query); }
};

void CopyElements(const TensorView& x, TensorView& y) {
  if (x.data == y.data) return;
  if (x.dtype == DType::kString)
    std::copy_n(x.as<std::string>(), x.count(), y.mut<std::string>());
  else if (x.bytes() > 0)
    std::memcpy(y.data, x.data, size_t(x.bytes()));
}

struct Identity {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    ctx.Set(0, ctx.input(0));
    if (auto s = ctx.shape_value(0)) ctx.SetShapeValue(0, std::move(*s));
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    if (const SequenceValue* s = ctx.sequence(0)) return ctx.SetSequence(0, *s);
    CopyElements(ctx.in(0), ctx.out(0));
    return {};
  }
};

}  // namespace

std::vector<OpDef> ConvertOps() {
  return {Declare<Cast>("Cast", {}),
          Declare<CastLike>("CastLike", {.min_inputs = 2, .max_inputs = 2}),
          Declare<Identity>("Identity", {.is_view = true})};
}

}  // namespace dunlin
