// Operators on columns of features (ai.onnx.ml): Scaler, Normalizer, Imputer, Binarizer,
// ArrayFeatureExtractor, FeatureVectorizer, OneHotEncoder.
#include <algorithm>
#include <cmath>

#include "ops/ml/keys.h"
#include "ops/ml/ml.h"

namespace dunlin {
namespace ml {
namespace {

// An entry for each feature (the last extent), or one for all; empty: `fallback`.
template <class T>
class PerFeature {
 public:
  static Result<PerFeature> Create(std::string_view name, std::span<const T> list,
                                   const TensorView& x, T fallback) {
    PerFeature p;
    const int64_t width = x.dims.empty() ? 1 : x.dims.back();
    if (list.size() > 1 && int64_t(list.size()) != width)
      return Fail(Code::kInvalidArgument, "{} has {} entries for {} features", name, list.size(),
                  width);
    p.list_ = list;
    p.fallback_ = fallback;
    p.width_ = std::max<int64_t>(1, width);
    return p;
  }
  T At(int64_t element) const {
    if (list_.empty()) return fallback_;
    return list_.size() == 1 ? list_[0] : list_[size_t(element % width_)];
  }

 private:
  std::span<const T> list_;
  T fallback_{};
  int64_t width_ = 1;
};

// Calls f with the element type of x, which inference allowed only to be a number.
template <class F>
Status VisitNumbers(const TensorView& x, F&& f) {
  return VisitDType(x.dtype, "features", [&]<class T>(TypeTag<T> tag) -> Status {
    if constexpr (kIsNumber<T>)
      return f(tag);
    else
      return Fail(Code::kInvalidArgument, "features of {}", DTypeName(x.dtype));
  });
}

template <class T>
double ToDouble(T v) {
  if constexpr (kIsHalf<T>)
    return double(float(v));
  else
    return double(v);
}

// The type of input 0 with another element type.
Status SameDims(InferContext& ctx, DType dtype) {
  TRY(NeedNumbers(ctx, 0));
  Type t = ctx.input(0);
  t.dtype = dtype;
  t.kind = Type::Kind::kTensor;
  ctx.Set(0, t);
  return {};
}

// y = (x - offset) * scale
struct Scaler {
  struct Attrs {
    std::vector<float> offset, scale;
    template <class V>
    void Visit(V& v) {
      v("offset", offset);
      v("scale", scale);
    }
  };
  static Status Infer(const Attrs&, InferContext& ctx) { return SameDims(ctx, DType::kF32); }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const auto offset = TRY(PerFeature<float>::Create("offset", a.offset, x, 0));
    const auto scale = TRY(PerFeature<float>::Create("scale", a.scale, x, 1));
    TensorView& y = *TRY(ctx.Allocate(0, DType::kF32, x.dims));
    return VisitNumbers(x, [&]<class T>(TypeTag<T>) -> Status {
      const T* from = x.as<T>();
      for (int64_t i = 0; i < x.count(); ++i)
        y.mut<float>()[i] = float((ToDouble(from[i]) - double(offset.At(i))) * double(scale.At(i)));
      return {};
    });
  }
};

// Every row divided by its largest value, the sum of absolute values, or the root of the sum of
// squares. A row whose divisor is zero stays as it is.
struct Normalizer {
  struct Attrs {
    std::string norm = "MAX";
    template <class V>
    void Visit(V& v) {
      v("norm", norm);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.norm != "MAX" && a.norm != "L1" && a.norm != "L2")
      return Fail(Code::kInvalidArgument, "norm '{}' is none of MAX, L1, L2", a.norm);
    TRY(InferRows(ctx));
    return SameDims(ctx, DType::kF32);
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const auto x = TRY(RowReader<double>::Create(ctx.in(0)));
    TensorView& y = *TRY(ctx.Allocate(0, DType::kF32, ctx.in(0).dims));
    std::vector<double> buffer;
    for (int64_t r = 0; r < x.rows().count; ++r) {
      const double* row = x.Row(r, buffer);
      double divisor = a.norm == "MAX" && x.rows().width > 0 ? row[0] : 0;
      for (int64_t k = 0; k < x.rows().width; ++k) {
        if (a.norm == "MAX")
          divisor = std::max(divisor, row[k]);
        else
          divisor += a.norm == "L1" ? std::fabs(row[k]) : row[k] * row[k];
      }
      if (a.norm == "L2") divisor = std::sqrt(divisor);
      if (divisor == 0) divisor = 1;
      float* to = y.mut<float>() + r * x.rows().width;
      for (int64_t k = 0; k < x.rows().width; ++k) to[k] = float(row[k] / divisor);
    }
    return {};
  }
};

// Elements equal to one value (NaN equals NaN) become another.
struct Imputer {
  struct Attrs {
    std::vector<float> imputed_value_floats;
    std::vector<int64_t> imputed_value_int64s;
    float replaced_value_float = 0;
    int64_t replaced_value_int64 = 0;
    template <class V>
    void Visit(V& v) {
      v("imputed_value_floats", imputed_value_floats);
      v("imputed_value_int64s", imputed_value_int64s);
      v("replaced_value_float", replaced_value_float);
      v("replaced_value_int64", replaced_value_int64);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.imputed_value_floats.empty() == a.imputed_value_int64s.empty())
      return Fail(Code::kInvalidArgument,
                  "one of imputed_value_floats and imputed_value_int64s must be given");
    return SameDims(ctx, ctx.dtype(0));
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    TensorView& y = *TRY(ctx.Allocate(0, x.dtype, x.dims));
    return VisitNumbers(x, [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (kIsFloat<T>)
        return Replace<T>(a.imputed_value_floats, a.replaced_value_float, x, y);
      else
        return Replace<T>(a.imputed_value_int64s, a.replaced_value_int64, x, y);
    });
  }

 private:
  template <class T, class V>
  static Status Replace(const std::vector<V>& imputed, V replaced, const TensorView& x,
                        TensorView& y) {
    if (imputed.empty())
      return Fail(Code::kInvalidArgument, "its imputed values are not of the type of its input, {}",
                  DTypeName(x.dtype));
    const auto to = TRY(PerFeature<V>::Create("imputed_value", imputed, x, V{}));
    const double nothing = ToDouble(replaced);
    const T* from = x.as<T>();
    for (int64_t i = 0; i < x.count(); ++i) {
      bool missing;
      if constexpr (kIsFloat<T>) {
        const double v = ToDouble(from[i]);
        missing = v == nothing || (std::isnan(v) && std::isnan(nothing));
      } else {
        missing = std::in_range<T>(replaced) && from[i] == T(replaced);
      }
      y.mut<T>()[i] = missing ? T(to.At(i)) : from[i];
    }
    return {};
  }
};

struct Binarizer {
  struct Attrs {
    float threshold = 0;
    template <class V>
    void Visit(V& v) {
      v("threshold", threshold);
    }
  };
  static Status Infer(const Attrs&, InferContext& ctx) { return SameDims(ctx, ctx.dtype(0)); }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    TensorView& y = *TRY(ctx.Allocate(0, x.dtype, x.dims));
    return VisitNumbers(x, [&]<class T>(TypeTag<T>) -> Status {
      for (int64_t i = 0; i < x.count(); ++i)
        y.mut<T>()[i] = T(ToDouble(x.as<T>()[i]) > double(a.threshold) ? 1 : 0);
      return {};
    });
  }
};

// Columns Y (any extents, in order) of X [..., N]: [..., count of Y]; of a vector [1, count].
struct ArrayFeatureExtractor {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    Type t = ctx.input(0);
    const Type& columns = ctx.input(1);
    if (columns.dtype != DType::kUndefined && columns.dtype != DType::kI64)
      return Fail(Code::kInvalidArgument, "its indices are {}, not i64", DTypeName(columns.dtype));
    if (t.ranked) {
      const auto count =
          columns.ranked && AllKnown(columns.dims) ? ElementCount(columns.dims) : std::nullopt;
      t.dims = OutDims(t.dims, count.value_or(kUnknownDim));
    }
    ctx.Set(0, t);
    return {};
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const TensorView& columns = ctx.in(1);
    const int64_t n = columns.count(), width = x.dims.empty() ? 1 : x.dims.back();
    for (int64_t k = 0; k < n; ++k)
      if (const int64_t c = columns.as<int64_t>()[k]; c < 0 || c >= width)
        return Fail(Code::kInvalidArgument, "column {} of {}", c, width);
    TensorView& y = *TRY(ctx.Allocate(0, x.dtype, OutDims(x.dims, n)));
    const int64_t rows = n == 0 ? 0 : y.count() / n;
    return VisitDType(x.dtype, "ArrayFeatureExtractor", [&]<class T>(TypeTag<T>) -> Status {
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < n; ++k)
          y.mut<T>()[r * n + k] = x.as<T>()[r * width + columns.as<int64_t>()[k]];
      return {};
    });
  }

 private:
  static Dims OutDims(Dims dims, int64_t columns) {
    if (dims.size() < 2) return {1, columns};
    dims.back() = columns;
    return dims;
  }
};

// Inputs side by side. An entry of inputdimensions is the width that an input takes; missing
// columns are 0, further ones are left out.
struct FeatureVectorizer {
  struct Attrs {
    std::vector<int64_t> inputdimensions;
    template <class V>
    void Visit(V& v) {
      v("inputdimensions", inputdimensions);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    int64_t rows = kUnknownDim, total = 0;
    for (int i = 0; i < ctx.input_count(); ++i) {
      if (!ctx.has(i)) return Fail(Code::kInvalidArgument, "input {} is absent", i);
      TRY(NeedNumbers(ctx, i));
      const Type& t = ctx.input(i);
      const Rows r = t.ranked ? TRY(Flat(t.dims)) : Rows{kUnknownDim, kUnknownDim};
      if (!IsKnown(rows)) rows = r.count;
      const int64_t width = TRY(Width(a, i, ctx.input_count(), r.width));
      total = IsKnown(total) && IsKnown(width) && !__builtin_add_overflow(total, width, &total)
                  ? total
                  : kUnknownDim;
    }
    ctx.Set(0, Type::Of(DType::kF32, {rows, total}));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const int inputs = ctx.input_count();
    const int64_t rows = TRY(Flat(ctx.in(0).dims)).count;
    std::vector<int64_t> widths;
    int64_t total = 0;
    for (int i = 0; i < inputs; ++i) {
      const Rows r = TRY(Flat(ctx.in(i).dims));
      if (r.count != rows)
        return Fail(Code::kInvalidArgument, "inputs of {} and {} rows", rows, r.count);
      widths.push_back(TRY(Width(a, i, inputs, r.width)));
      if (__builtin_add_overflow(total, widths.back(), &total))
        return Fail(Code::kInvalidArgument, "inputdimensions add up to more than a row can have");
    }
    TensorView& y = *TRY(ctx.Allocate(0, DType::kF32, {rows, total}));
    std::fill_n(y.mut<float>(), y.count(), 0.0f);
    int64_t at = 0;
    for (int i = 0; i < inputs; at += widths[size_t(i)], ++i) {
      const TensorView& x = ctx.in(i);
      const int64_t width = TRY(Flat(x.dims)).width, copied = std::min(width, widths[size_t(i)]);
      TRY(VisitNumbers(x, [&]<class T>(TypeTag<T>) -> Status {
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t k = 0; k < copied; ++k)
            y.mut<float>()[r * total + at + k] = float(x.as<T>()[r * width + k]);
        return {};
      }));
    }
    return {};
  }

 private:
  // [N, …] as rows, a vector as one.
  static Result<Rows> Flat(std::span<const int64_t> dims) {
    if (dims.size() <= 2) return RowsOf(dims);
    Rows r{dims[0], 1};
    for (const int64_t d : dims.subspan(1))
      if (!IsKnown(d) || !IsKnown(r.width) || __builtin_mul_overflow(r.width, d, &r.width))
        r.width = kUnknownDim;
    return r;
  }
  static Result<int64_t> Width(const Attrs& a, int i, int inputs, int64_t own) {
    if (a.inputdimensions.empty()) return own;
    if (a.inputdimensions.size() != size_t(inputs))
      return Fail(Code::kInvalidArgument, "inputdimensions has {} entries for {} inputs",
                  a.inputdimensions.size(), inputs);
    const int64_t w = a.inputdimensions[size_t(i)];
    if (w < 0) return Fail(Code::kInvalidArgument, "inputdimensions has an entry of {}", w);
    return w;
  }
};

// x[…] becomes a row of zeros with a one at its category.
struct OneHotEncoder {
  struct Attrs {
    std::vector<int64_t> cats_int64s;
    std::vector<std::string> cats_strings;
    int64_t zeros = 1;
    template <class V>
    void Visit(V& v) {
      v("cats_int64s", cats_int64s);
      v("cats_strings", cats_strings);
      v("zeros", zeros);
    }
    int64_t categories() const {
      return int64_t(std::max(cats_int64s.size(), cats_strings.size()));
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.cats_int64s.empty() == a.cats_strings.empty())
      return Fail(Code::kInvalidArgument, "one of cats_int64s and cats_strings must be given");
    Type t = ctx.input(0);
    if (t.dtype != DType::kUndefined && (t.dtype == DType::kString) == a.cats_strings.empty())
      return Fail(Code::kInvalidArgument, "categories of {} for an input of {}",
                  a.cats_strings.empty() ? "i64" : "string", DTypeName(t.dtype));
    if (t.dtype != DType::kString) TRY(NeedNumbers(ctx, 0));
    t.dtype = DType::kF32;
    if (t.ranked) t.dims.push_back(a.categories());
    ctx.Set(0, t);
    return {};
  }
  static constexpr std::string_view kKernel = "encoder.index";
  static Result<OneHotEncoder> Prepare(const Attrs& a, DType x) {
    const bool text = !a.cats_strings.empty();
    if (text != (x == DType::kString))
      return Fail(Code::kInvalidArgument, "categories of another type than the input, {}",
                  DTypeName(x));
    OneHotEncoder m;
    m.index_ =
        text ? KeyIndex::Of<std::string>(a.cats_strings) : KeyIndex::Of<int64_t>(a.cats_int64s);
    m.categories_ = a.categories();
    m.zeros_ = a.zeros != 0;
    return m;
  }
  Status Run(RunContext& ctx, const Results& results) const {
    const TensorView& x = ctx.in(0);
    Dims dims = x.dims;
    dims.push_back(categories_);
    TensorView& y = *TRY(results.Get(0, DType::kF32, dims));
    std::fill_n(y.mut<float>(), y.count(), 0.0f);
    for (int64_t i = 0; i < x.count(); ++i) {
      const int64_t at = TRY(index_.FindTruncated(x, i));
      if (at >= 0)
        y.mut<float>()[i * categories_ + at] = 1;
      else if (!zeros_)
        return Fail(Code::kInvalidArgument, "element {} has an unknown category (zeros is 0)", i);
    }
    return {};
  }

 private:
  KeyIndex index_;
  int64_t categories_ = 0;
  bool zeros_ = true;
};

}  // namespace
}  // namespace ml

std::span<const OpDef> FeatureOps() {
  static const OpDef ops[] = {
      Declare<ml::Scaler>("Scaler", {.domain = ml::kDomain}),
      Declare<ml::Normalizer>("Normalizer", {.domain = ml::kDomain}),
      Declare<ml::Imputer>("Imputer", {.domain = ml::kDomain}),
      Declare<ml::Binarizer>("Binarizer", {.domain = ml::kDomain}),
      Declare<ml::ArrayFeatureExtractor>("ArrayFeatureExtractor",
                                         {.domain = ml::kDomain, .min_inputs = 2, .max_inputs = 2}),
      Declare<ml::FeatureVectorizer>("FeatureVectorizer",
                                     {.domain = ml::kDomain, .max_inputs = -1}),
      Declare<ml::ModelOp<ml::OneHotEncoder>>("OneHotEncoder", {.domain = ml::kDomain}),
  };
  return ops;
}

}  // namespace dunlin
