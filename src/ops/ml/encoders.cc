// Operators that replace values by others (ai.onnx.ml): LabelEncoder of all versions,
// CategoryMapper.
#include <numeric>

#include "ops/ml/keys.h"
#include "ops/ml/ml.h"

namespace dunlin {
namespace ml {
namespace {

// y[i] = values[position of x[i] among keys], or `otherwise`.
struct Mapping {
  Tensor keys, values, otherwise;
};

Tensor Vector(const std::vector<int64_t>& v) { return Tensor::Ints(v); }
template <class T>
Tensor Vector(const std::vector<T>& v) {
  return Tensor::Of<T>(Dims{int64_t(v.size())}, std::span<const T>(v));
}

std::vector<int64_t> Numbered(size_t n) {
  std::vector<int64_t> v(n);
  std::iota(v.begin(), v.end(), int64_t{0});
  return v;
}

Status InferMapped(InferContext& ctx, DType values) {
  Type t = ctx.input(0);
  t.dtype = values;
  ctx.Set(0, t);
  return {};
}

// Strings to integers or back, told by the input; what is not known of it is not said.
Status InferTwoWay(InferContext& ctx) {
  const DType x = ctx.dtype(0);
  if (x != DType::kUndefined && x != DType::kString && !IsInteger(x))
    return Fail(Code::kInvalidArgument, "its input is {}, neither strings nor integers",
                DTypeName(x));
  return InferMapped(ctx, x == DType::kUndefined ? x
                          : x == DType::kString  ? DType::kI64
                                                 : DType::kString);
}
Mapping TwoWay(DType x, Tensor strings, Tensor ints, const std::string& default_string,
               int64_t default_int64) {
  if (x == DType::kString)
    return {std::move(strings), std::move(ints), Tensor::Scalar<int64_t>(default_int64)};
  return {std::move(ints), std::move(strings), Tensor::Of<std::string>(Dims{}, {default_string})};
}

// A mapping whose keys are indexed.
class Encoder {
 public:
  static constexpr std::string_view kKernel = "encoder.index";
  Status Run(RunContext& ctx, const Results& results) const {
    const TensorView& x = ctx.in(0);
    TensorView& y = *TRY(results.Get(0, map_.values.dtype(), x.dims));
    return VisitDType(y.dtype, "values", [&]<class T>(TypeTag<T>) -> Status {
      for (int64_t i = 0; i < x.count(); ++i) {
        const int64_t at = TRY(index_.Find(x, i));
        y.mut<T>()[i] = at < 0 ? map_.otherwise.as<T>()[0] : map_.values.as<T>()[at];
      }
      return {};
    });
  }

 protected:
  Status Set(Mapping map) {
    map_ = std::move(map);
    index_ = TRY(KeyIndex::Create(map_.keys));
    return {};
  }

 private:
  Mapping map_;
  KeyIndex index_;
};

struct LabelEncoder : Encoder {
  struct Attrs {
    std::vector<std::string> classes_strings;  // version 1: labels, numbered from 0
    std::vector<std::string> keys_strings, values_strings;
    std::vector<int64_t> keys_int64s, values_int64s;
    std::vector<float> keys_floats, values_floats;
    Tensor keys_tensor, values_tensor, default_tensor;
    std::string default_string = "_Unused";
    int64_t default_int64 = -1;
    float default_float = -0.0f;
    template <class V>
    void Visit(V& v) {
      v("classes_strings", classes_strings);
      v("keys_strings", keys_strings);
      v("values_strings", values_strings);
      v("keys_int64s", keys_int64s);
      v("values_int64s", values_int64s);
      v("keys_floats", keys_floats);
      v("values_floats", values_floats);
      v("keys_tensor", keys_tensor);
      v("values_tensor", values_tensor);
      v("default_tensor", default_tensor);
      v("default_string", default_string);
      v("default_int64", default_int64);
      v("default_float", default_float);
    }
  };

  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (!a.classes_strings.empty()) return InferTwoWay(ctx);
    const Mapping m = TRY(Read(a));
    if (const DType x = ctx.dtype(0); x != DType::kUndefined && x != m.keys.dtype())
      return Fail(Code::kInvalidArgument, "its keys are {}, its input {}",
                  DTypeName(m.keys.dtype()), DTypeName(x));
    return InferMapped(ctx, m.values.dtype());
  }
  static Result<LabelEncoder> Prepare(const Attrs& a, DType x) {
    LabelEncoder m;
    if (a.classes_strings.empty()) {
      const Mapping map = TRY(Read(a));
      TRY(m.Set(map));
    } else {
      TRY(m.Set(TwoWay(x, Vector(a.classes_strings), Vector(Numbered(a.classes_strings.size())),
                       a.default_string, a.default_int64)));
    }
    return m;
  }

 private:
  // The one list that is given of several.
  static Result<Tensor> OneOf(std::string_view what, const Tensor& tensor,
                              const std::vector<std::string>& strings,
                              const std::vector<int64_t>& ints, const std::vector<float>& floats) {
    const int given =
        int(tensor.defined()) + int(!strings.empty()) + int(!ints.empty()) + int(!floats.empty());
    if (given != 1)
      return Fail(Code::kInvalidArgument, "it has {} lists of {}; one must be given", given, what);
    if (tensor.defined()) return tensor;
    if (!strings.empty()) return Vector(strings);
    return ints.empty() ? Vector(floats) : Vector(ints);
  }

  static Result<Mapping> Read(const Attrs& a) {
    Mapping m;
    m.keys = TRY(OneOf("keys", a.keys_tensor, a.keys_strings, a.keys_int64s, a.keys_floats));
    m.values =
        TRY(OneOf("values", a.values_tensor, a.values_strings, a.values_int64s, a.values_floats));
    if (m.keys.count() != m.values.count())
      return Fail(Code::kInvalidArgument, "it has {} keys and {} values", m.keys.count(),
                  m.values.count());
    m.otherwise = TRY(Default(a, m.values.dtype()));
    return m;
  }

  static Result<Tensor> Default(const Attrs& a, DType dtype) {
    if (a.default_tensor.defined()) {
      if (a.default_tensor.dtype() != dtype || a.default_tensor.count() != 1)
        return Fail(Code::kInvalidArgument, "default_tensor is {}{}, one {} is needed",
                    DTypeName(a.default_tensor.dtype()), ToString(a.default_tensor.dims()),
                    DTypeName(dtype));
      return a.default_tensor;
    }
    if (dtype == DType::kString) return Tensor::Of<std::string>(Dims{}, {a.default_string});
    if (IsFloat(dtype)) return Convert(Tensor::Scalar<float>(a.default_float), dtype);
    return Convert(Tensor::Scalar<int64_t>(a.default_int64), dtype);
  }
};

struct CategoryMapper : Encoder {
  struct Attrs {
    std::vector<int64_t> cats_int64s;
    std::vector<std::string> cats_strings;
    std::string default_string = "_Unused";
    int64_t default_int64 = -1;
    template <class V>
    void Visit(V& v) {
      v("cats_int64s", cats_int64s);
      v("cats_strings", cats_strings);
      v("default_string", default_string);
      v("default_int64", default_int64);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.cats_int64s.size() != a.cats_strings.size())
      return Fail(Code::kInvalidArgument, "it has {} integers and {} strings as categories",
                  a.cats_int64s.size(), a.cats_strings.size());
    return InferTwoWay(ctx);
  }
  static Result<CategoryMapper> Prepare(const Attrs& a, DType x) {
    CategoryMapper m;
    TRY(m.Set(TwoWay(x, Vector(a.cats_strings), Vector(a.cats_int64s), a.default_string,
                     a.default_int64)));
    return m;
  }
};

}  // namespace
}  // namespace ml

std::span<const OpDef> EncoderOps() {
  static const OpDef ops[] = {
      Declare<ml::ModelOp<ml::LabelEncoder>>("LabelEncoder", {.domain = ml::kDomain}),
      Declare<ml::ModelOp<ml::CategoryMapper>>("CategoryMapper", {.domain = ml::kDomain}),
  };
  return ops;
}

}  // namespace dunlin
