// Cast, CastLike, and the operator that hands its input on: Identity.
#include <charconv>
#include <cstring>

#include "ops/elementwise/elementwise.h"
#include "ops/elementwise/lower.h"

namespace dunlin {
namespace {

// Floats truncate towards zero; what no int64 holds becomes its minimum and wraps into narrower
// types, as x86's conversion does (ONNX leaves it undefined).
template <class To, class From>
To CastNumber(From v) {
  if constexpr (kIsHalf<From>) {
    return CastNumber<To>(float(v));
  } else if constexpr (std::is_same_v<To, bool>) {
    return v != From(0);
  } else if constexpr (kIsHalf<To>) {
    return To(float(v));
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (v >= From(0x1p63) && v < From(0x1p64)) return static_cast<To>(static_cast<uint64_t>(v));
    if (!(v >= From(-0x1p63) && v < From(0x1p63)))
      return static_cast<To>(std::numeric_limits<int64_t>::min());
    return static_cast<To>(static_cast<int64_t>(v));
  } else {
    return static_cast<To>(v);
  }
}

Result<BlockFn<1>> CastLoop(DType from, DType to) {
  std::optional<BlockFn<1>> loop;
  TRY(VisitTypes<NumbersAndBooleans>(from, "Cast", [&]<class From>(TypeTag<From>) -> Status {
    return VisitTypes<NumbersAndBooleans>(to, "Cast", [&]<class To>(TypeTag<To>) -> Status {
      loop = [](const Operands<1>& in, void* out, const Block<1>& b) {
        const From* x = static_cast<const From*>(in[0]) + b.offset[0];
        To* y = static_cast<To*>(out) + b.out;
        for (int64_t i = 0; i < b.cols; ++i) y[i] = CastNumber<To>(x[i]);
      };
      return {};
    });
  }));
  return *loop;
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
  if (r.ec == std::errc() && r.ptr == text.data() + text.size()) return CastNumber<To>(v);
  if constexpr (kIsFloat<To>) {
    const bool minus = !text.empty() && text[0] == '-';
    if (r.ec ==
        std::errc::result_out_of_range) {  // the sign is kept, the magnitude is 0 or infinity
      double wide = 0;
      std::from_chars(text.data(), text.data() + text.size(), wide);
      return CastNumber<To>(wide);
    }
    if (EqualsIgnoringCase(text.substr(minus), "inf") ||
        EqualsIgnoringCase(text.substr(minus), "infinity"))
      return CastNumber<To>(minus ? -HUGE_VALF : HUGE_VALF);
    if (EqualsIgnoringCase(text, "nan"))
      return CastNumber<To>(std::numeric_limits<float>::quiet_NaN());
  } else {
    double wide = 0;  // "3.7" casts as the number would
    const auto w = std::from_chars(text.data(), text.data() + text.size(), wide);
    if (w.ec == std::errc() && w.ptr == text.data() + text.size()) return CastNumber<To>(wide);
  }
  return Fail(Code::kInvalidArgument, "Cast: '{}' is not a number", s.substr(0, 40));
}

Status CastElements(RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const int64_t n = x.count();
  if (x.dtype != DType::kString && y.dtype != DType::kString)
    return RunReference<1>(ctx, TRY(CastLoop(x.dtype, y.dtype)));
  if (x.dtype == y.dtype) {
    std::copy_n(x.as<std::string>(), n, y.mut<std::string>());
    return {};
  }
  if (y.dtype == DType::kString)
    return VisitTypes<NumbersAndBooleans>(x.dtype, "Cast",
                                          [&]<class From>(TypeTag<From>) -> Status {
                                            for (int64_t i = 0; i < n; ++i)
                                              y.mut<std::string>()[i] = ToText(x.as<From>()[i]);
                                            return {};
                                          });
  return VisitTypes<NumbersAndBooleans>(y.dtype, "Cast", [&]<class To>(TypeTag<To>) -> Status {
    for (int64_t i = 0; i < n; ++i) y.mut<To>()[i] = TRY(FromText<To>(x.as<std::string>()[i]));
    return {};
  });
}

// Numbers and booleans on all threads; nullptr for the other types.
Result<KernelPtr> LowerCast(LowerContext& ctx) {
  const DType from = ctx.input(0).dtype, to = ctx.output(0).dtype;
  if (from == DType::kString || to == DType::kString || to > DType::kString ||
      from > DType::kString)
    return nullptr;
  return MakeBroadcastKernel<1>("cast", ctx, kCheapGrain, TRY(CastLoop(from, to)));
}

LayoutPlan CastLayouts(const LayoutQuery& q) {
  const DType from = q.inputs[0].dtype, to = q.outputs[0].dtype;
  const bool lowered = from < DType::kString && to < DType::kString && to != DType::kUndefined;
  return lowered ? ElementwiseLayouts(q) : RowMajorLayouts(q);
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

struct Cast {
  struct Attrs {
    DType to = DType::kUndefined;
    bool saturate = true;  // for the 8-bit floats
    template <class V>
    void Visit(V& v) {
      v("to", to);
      v("saturate", saturate);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.to == DType::kUndefined)
      return Fail(Code::kInvalidArgument, "Cast: attribute 'to' names no element type");
    return InferCast(ctx, a.to);
  }
  static Status Reference(const Attrs&, RunContext& ctx) { return CastElements(ctx); }
  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) { return LowerCast(ctx); }
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) { return CastLayouts(query); }
};

struct CastLike {
  struct Attrs {
    bool saturate = true;
    template <class V>
    void Visit(V& v) {
      v("saturate", saturate);
    }
  };
  static Status Infer(const Attrs&, InferContext& ctx) { return InferCast(ctx, ctx.dtype(1)); }
  static Status Reference(const Attrs&, RunContext& ctx) { return CastElements(ctx); }
  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx) { return LowerCast(ctx); }
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
