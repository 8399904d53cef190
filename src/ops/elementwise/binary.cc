#include "ops/elementwise/binary.h"

#include "ops/elementwise/elementwise.h"

namespace dunlin {

void PropagateShape(InferContext& ctx, ExtentFn extent) {
  // The entries of a small integer input; values of initialisers are exact, even negative.
  struct Entries {
    Dims v;
    bool exact = false;
  };
  const auto entries = [&](int i) -> std::optional<Entries> {
    if (const Tensor* t = ctx.value(i)) {
      if (t->rank() > 1 || !IsInteger(t->dtype())) return std::nullopt;
      const auto ints = ToInts(*t);
      if (!ints) return std::nullopt;
      return Entries{Dims(std::span<const int64_t>(*ints)), true};
    }
    auto s = ctx.shape_value(i);
    if (!s) return std::nullopt;
    return Entries{std::move(*s), false};
  };
  const auto a = entries(0), b = entries(1);
  if (!a || !b) return;
  if (!ctx.input(0).ranked || !ctx.input(1).ranked) return;
  if (ctx.input(0).dims.rank() > 1 || ctx.input(1).dims.rank() > 1) return;
  const size_t n = a->v.size() == 1 ? b->v.size() : a->v.size();
  if ((a->v.size() != n && a->v.size() != 1) || (b->v.size() != n && b->v.size() != 1)) return;
  // What an entry is at run time is only comparable when it is a number or a symbol.
  const auto usable = [](const Entries& e, int64_t v) { return e.exact || IsKnown(v); };
  Dims out;
  for (size_t i = 0; i < n; ++i) {
    const int64_t x = a->v[a->v.size() == 1 ? 0 : i], y = b->v[b->v.size() == 1 ? 0 : i];
    int64_t r = kUnknownDim;
    if (usable(*a, x) && usable(*b, y)) {
      const auto known = extent(x, y);
      if (known && *known >= 0) r = *known;
    } else if (usable(*b, y) && IsSymbol(x) && extent(7, y) == 7 && extent(11, y) == 11) {
      r = x;  // x + 0, x - 0, x * 1, x / 1
    } else if (usable(*a, x) && IsSymbol(y) && extent(x, 7) == 7 && extent(x, 11) == 11) {
      r = y;
    } else if (IsSymbol(x) && x == y && extent(7, 7) == extent(11, 11)) {
      r = *extent(7, 7);  // x - x, x / x
    }
    out.push_back(r);
  }
  ctx.SetShapeValue(0, std::move(out));
}

Result<KernelPtr> LowerCombine(LowerContext& ctx, BinaryOp op) {
  return MakeBroadcastKernel<2>(
      "binary.simd", ctx, kCheapGrain, [op](const Operands<2>& in, void* out, const Block<2>& b) {
        CombineF32(op, {static_cast<const float*>(in[0]) + b.offset[0], b.row[0], b.col[0]},
                   {static_cast<const float*>(in[1]) + b.offset[1], b.row[1], b.col[1]},
                   static_cast<float*>(out) + b.out, b.rows, b.cols);
      });
}

Result<KernelPtr> LowerCompare(LowerContext& ctx, CompareOp op) {
  return MakeBroadcastKernel<2>(
      "compare.simd", ctx, kCheapGrain, [op](const Operands<2>& in, void* out, const Block<2>& b) {
        CompareF32(op, {static_cast<const float*>(in[0]) + b.offset[0], b.row[0], b.col[0]},
                   {static_cast<const float*>(in[1]) + b.offset[1], b.row[1], b.col[1]},
                   static_cast<bool*>(out) + b.out, b.rows, b.cols);
      });
}

namespace {

struct AddFn {
  static constexpr std::string_view kName = "Add";
  static constexpr BinaryOp kFast = BinaryOp::kAdd;
  using Types = Numbers;
  using Attrs = NoAttrs;
  template <class C>
  C operator()(C a, C b) const {
    return WrapAdd(a, b);
  }
  static std::optional<int64_t> Extent(int64_t a, int64_t b) { return WrapAdd(a, b); }
};
struct SubFn {
  static constexpr std::string_view kName = "Sub";
  static constexpr BinaryOp kFast = BinaryOp::kSub;
  using Types = Numbers;
  using Attrs = NoAttrs;
  template <class C>
  C operator()(C a, C b) const {
    return WrapSub(a, b);
  }
  static std::optional<int64_t> Extent(int64_t a, int64_t b) { return WrapSub(a, b); }
};
struct MulFn {
  static constexpr std::string_view kName = "Mul";
  static constexpr BinaryOp kFast = BinaryOp::kMul;
  using Types = Numbers;
  using Attrs = NoAttrs;
  template <class C>
  C operator()(C a, C b) const {
    return WrapMul(a, b);
  }
  static std::optional<int64_t> Extent(int64_t a, int64_t b) { return WrapMul(a, b); }
};
struct DivFn {
  static constexpr std::string_view kName = "Div";
  static constexpr BinaryOp kFast = BinaryOp::kDiv;
  using Types = Numbers;
  using Attrs = NoAttrs;
  template <class C>
  C operator()(C a, C b) const {
    return SafeDiv(a, b);
  }
  static std::optional<int64_t> Extent(int64_t a, int64_t b) { return SafeDiv(a, b); }
};

// x for x >= 0, slope * x below; the slope broadcasts to x.
struct PReluFn {
  static constexpr std::string_view kName = "PRelu";
  static constexpr BinaryOp kFast = BinaryOp::kPRelu;
  using Types = Numbers;
  using Attrs = NoAttrs;
  template <class C>
  C operator()(C x, C slope) const {
    return x < C(0) ? WrapMul(x, slope) : x;
  }
};

// fmod = 0: the remainder has the divisor's sign (integers only); fmod = 1: the dividend's, as C's
// fmod.
struct ModFn {
  static constexpr std::string_view kName = "Mod";
  using Types = Numbers;
  struct Attrs {
    bool fmod = false;
    template <class V>
    void Visit(V& v) {
      v("fmod", fmod);
    }
  } a;
  static Status Check(const Attrs& attrs, DType t) {
    if (IsFloat(t) && !attrs.fmod)
      return Fail(Code::kInvalidArgument, "Mod: elements of type {} need fmod=1", DTypeName(t));
    return {};
  }
  template <class C>
  C operator()(C x, C y) const {
    if constexpr (std::is_integral_v<C>) {
      const C r = SafeRem(x, y);
      return !a.fmod && r != 0 && (r < 0) != (y < 0) ? WrapAdd(r, y) : r;
    } else {
      return std::fmod(x, y);
    }
  }
};

template <class Op>
struct Logical {
  using Types = Booleans;
  using Attrs = NoAttrs;
  bool operator()(bool a, bool b) const { return Op{}(a, b); }
};
struct AndFn : Logical<std::bit_and<>> {
  static constexpr std::string_view kName = "And";
};
struct OrFn : Logical<std::bit_or<>> {
  static constexpr std::string_view kName = "Or";
};
struct XorFn : Logical<std::bit_xor<>> {
  static constexpr std::string_view kName = "Xor";
};

template <class Op>
struct Bitwise {
  using Types = Integers;
  using Attrs = NoAttrs;
  template <class C>
  C operator()(C a, C b) const {
    return static_cast<C>(Op{}(a, b));
  }
};
struct BitwiseAndFn : Bitwise<std::bit_and<>> {
  static constexpr std::string_view kName = "BitwiseAnd";
};
struct BitwiseOrFn : Bitwise<std::bit_or<>> {
  static constexpr std::string_view kName = "BitwiseOr";
};
struct BitwiseXorFn : Bitwise<std::bit_xor<>> {
  static constexpr std::string_view kName = "BitwiseXor";
};

struct BitShiftFn {
  static constexpr std::string_view kName = "BitShift";
  using Types = UnsignedIntegers;
  struct Attrs {
    std::string direction;
    template <class V>
    void Visit(V& v) {
      v("direction", direction);
    }
  };
  explicit BitShiftFn(const Attrs& a) : left(a.direction == "LEFT") {}
  static Status Check(const Attrs& a, DType) {
    if (a.direction != "LEFT" && a.direction != "RIGHT")
      return Fail(Code::kInvalidArgument, "BitShift: direction is '{}', not LEFT or RIGHT",
                  a.direction);
    return {};
  }
  template <class C>
  C operator()(C x, C by) const {
    if (by >= C(8 * sizeof(C))) return 0;
    return static_cast<C>(left ? uint64_t(x) << by : uint64_t(x) >> by);
  }
  bool left;
};

template <class Op, class TypeSet>
struct Compare {
  using Types = TypeSet;
  using Attrs = NoAttrs;
  using Output = bool;
  template <class C>
  bool operator()(const C& a, const C& b) const {
    return Op{}(a, b);
  }
};
struct EqualFn : Compare<std::equal_to<>, AnyType> {
  static constexpr std::string_view kName = "Equal";
  static constexpr CompareOp kFast = CompareOp::kEqual;
};
struct LessFn : Compare<std::less<>, Numbers> {
  static constexpr std::string_view kName = "Less";
  static constexpr CompareOp kFast = CompareOp::kLess;
};
struct LessOrEqualFn : Compare<std::less_equal<>, Numbers> {
  static constexpr std::string_view kName = "LessOrEqual";
  static constexpr CompareOp kFast = CompareOp::kLessOrEqual;
};
struct GreaterFn : Compare<std::greater<>, Numbers> {
  static constexpr std::string_view kName = "Greater";
  static constexpr CompareOp kFast = CompareOp::kGreater;
};
struct GreaterOrEqualFn : Compare<std::greater_equal<>, Numbers> {
  static constexpr std::string_view kName = "GreaterOrEqual";
  static constexpr CompareOp kFast = CompareOp::kGreaterOrEqual;
};

// The exponent has a type of its own; the result has the base's.
struct Pow {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(CheckType<Numbers>(ctx.dtype(0), "Pow"));
    TRY(CheckType<Numbers>(ctx.dtype(1), "Pow"));
    return InferBroadcast(ctx, "Pow", ctx.dtype(0), 0, 2);
  }

  // Integer powers modulo 2^bits; negative powers truncate to zero but for the bases 1 and -1.
  template <class T>
  static T IntPow(T base, int64_t n) {
    if (n < 0) {
      if (base == T(1)) return base;
      if (std::is_signed_v<T> && base == static_cast<T>(-1)) return n % 2 == 0 ? T(1) : base;
      return 0;
    }
    T result = 1;
    for (; n > 0; n >>= 1) {
      if (n & 1) result = WrapMul(result, base);
      base = WrapMul(base, base);
    }
    return result;
  }

  template <class T>
  static T RealPow(T base, double exponent) {
    if constexpr (std::is_integral_v<T>) {
      const double p = std::pow(double(base), exponent);
      if (!(p > -0x1p63 && p < 0x1p63)) return std::numeric_limits<T>::min();
      return static_cast<T>(static_cast<int64_t>(p));
    } else {
      return Narrow<T>(std::pow(Widen(base), exponent));
    }
  }

  // Element i of an exponent, as the widest number of its kind.
  template <class W>
  using Load = W (*)(const void* data, int64_t i);
  template <class W, class Types>
  static Result<Load<W>> LoadFor(DType t) {
    Load<W> load = nullptr;
    TRY(VisitTypes<Types>(t, "Pow", [&]<class E>(TypeTag<E>) -> Status {
      load = [](const void* data, int64_t i) { return W(Widen(static_cast<const E*>(data)[i])); };
      return {};
    }));
    return load;
  }

  // y = power(a, load(b)).
  template <class T, class W>
  static BlockFn<2> PowerLoop(T (*power)(T, W), Load<W> load) {
    return [power, load](const Operands<2>& in, void* out, const Block<2>& at) {
      for (int64_t r = 0; r < at.rows; ++r) {
        const T* a = static_cast<const T*>(in[0]) + at.offset[0] + r * at.row[0];
        const int64_t b = at.offset[1] + r * at.row[1];
        T* y = static_cast<T*>(out) + at.out + r * at.cols;
        for (int64_t i = 0; i < at.cols; ++i)
          y[i] = power(a[i * at.col[0]], load(in[1], b + i * at.col[1]));
      }
    };
  }

  static Result<KernelPtr> Lower(const Attrs&, LowerContext& ctx);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery& query) {
    return ElementwiseLayouts(query);
  }

  static Result<BlockFn<2>> Loop(DType base, DType exponent) {
    if (IsInteger(base) && IsInteger(exponent)) {
      const auto load = TRY(LoadFor<int64_t, Integers>(exponent));
      return LoopFor<2, Integers>(
          base, "Pow", [&]<class T>(TypeTag<T>) { return PowerLoop<T>(&IntPow<T>, load); });
    }
    const auto load = TRY(LoadFor<double, Numbers>(exponent));
    return LoopFor<2, Numbers>(
        base, "Pow", [&]<class T>(TypeTag<T>) { return PowerLoop<T>(&RealPow<T>, load); });
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    return RunReference<2>(ctx, TRY(Loop(ctx.in(0).dtype, ctx.in(1).dtype)));
  }
};

// A constant scalar exponent may be a cheap operation; other powers are spread over the threads.
Result<KernelPtr> Pow::Lower(const Attrs&, LowerContext& ctx) {
  const Tensor* exponent = ctx.value(1);
  if (ctx.input(0).dtype == DType::kF32 && exponent != nullptr && exponent->count() == 1 &&
      ctx.output(0).dims == ctx.input(0).dims) {
    const double e = TRY(LoadFor<double, Numbers>(exponent->dtype()))(exponent->raw(), 0);
    const std::pair<double, UnaryOp> cheap[] = {{2, UnaryOp::kSquare},
                                                {3, UnaryOp::kCube},
                                                {0.5, UnaryOp::kSqrt},
                                                {-1, UnaryOp::kReciprocal},
                                                {-0.5, UnaryOp::kRsqrt}};
    for (const auto& [value, op] : cheap)
      if (e == value) return LowerMap(ctx, {op});
  }
  return MakeBroadcastKernel<2>("pow.plain", ctx, kCostlyGrain / 8,
                                TRY(Loop(ctx.input(0).dtype, ctx.input(1).dtype)));
}

template <class F>
OpDef Row(int in_place = -2) {
  return Declare<Binary<F>>(F::kName, {.min_inputs = 2, .max_inputs = 2, .in_place = in_place});
}

}  // namespace

std::vector<OpDef> BinaryOps() {
  return {Row<AddFn>(),
          Row<SubFn>(),
          Row<MulFn>(),
          Row<DivFn>(),
          Row<PReluFn>(),
          Row<ModFn>(),
          Row<AndFn>(),
          Row<OrFn>(),
          Row<XorFn>(),
          Row<BitwiseAndFn>(),
          Row<BitwiseOrFn>(),
          Row<BitwiseXorFn>(),
          Row<BitShiftFn>(),
          Row<EqualFn>(-1),
          Row<LessFn>(-1),
          Row<LessOrEqualFn>(-1),
          Row<GreaterFn>(-1),
          Row<GreaterOrEqualFn>(-1),
          Declare<Pow>("Pow", {.min_inputs = 2, .max_inputs = 2, .in_place = 0})};
}

}  // namespace dunlin
