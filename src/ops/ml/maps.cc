// Operators on maps (ai.onnx.ml): ZipMap, DictVectorizer, CastMap.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "ops/ml/keys.h"
#include "ops/ml/ml.h"

namespace dunlin {
namespace ml {
namespace {

// The map of input 0; what an optional holds shows only now.
Result<const SequenceValue*> MapInput(RunContext& ctx) {
  const SequenceValue* s = ctx.sequence(0);
  if (s != nullptr && s->is_map) return s;
  return Fail(Code::kInvalidArgument, "its input is not a map");
}
Status NeedMap(InferContext& ctx) {
  const Type& t = ctx.input(0);
  const bool unknown = t.dtype == DType::kUndefined && !t.ranked;
  if (t.kind == Type::Kind::kMap || t.kind == Type::Kind::kOptional || unknown) return {};
  return Fail(Code::kInvalidArgument, "its input is {}, not a map", ToString(t));
}

// Each row of scores as a map from class labels.
struct ZipMap {
  struct Attrs {
    Labels labels;
    template <class V>
    void Visit(V& v) {
      v("classlabels_int64s", labels.ints);
      v("classlabels_strings", labels.strings);
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(a.labels.Check());
    TRY(InferRows(ctx));
    ctx.Set(0, Type::SequenceOfMaps(a.labels.dtype(), ctx.dtype(0)));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const Rows rows = TRY(RowsOf(x.dims));
    if (rows.width != a.labels.size())
      return Fail(Code::kInvalidArgument, "it has {} class labels for {} scores", a.labels.size(),
                  rows.width);
    const Tensor keys = TRY(Keys(a.labels));
    SequenceValue s;
    s.dtype = x.dtype;
    s.key = keys.dtype();
    s.items.reserve(size_t(rows.count));
    s.keys.assign(size_t(rows.count), keys);
    const int64_t bytes = ByteSize(x.dtype, rows.width);
    for (int64_t r = 0; r < rows.count; ++r) {
      Tensor values = TRY(Tensor::Create(x.dtype, {rows.width}));
      if (bytes > 0)
        std::memcpy(values.raw(), static_cast<const std::byte*>(x.data) + r * bytes, size_t(bytes));
      s.items.push_back(std::move(values));
    }
    return ctx.SetSequence(0, std::move(s));
  }

 private:
  static Result<Tensor> Keys(const Labels& labels) {
    const auto distinct = [](auto v) {
      std::sort(v.begin(), v.end());
      return std::adjacent_find(v.begin(), v.end()) == v.end();
    };
    if (!distinct(labels.ints) || !distinct(labels.strings))
      return Fail(Code::kInvalidArgument, "a class label is repeated");
    Tensor t = TRY(Tensor::Create(labels.dtype(), {labels.size()}));
    TensorView view = t.view();
    for (int64_t i = 0; i < labels.size(); ++i) labels.Write(i, view, i);
    return t;
  }
};

// The map's values in the order of a vocabulary; 0 or "" where it has no such key.
struct DictVectorizer {
  struct Attrs {
    std::vector<int64_t> int64_vocabulary;
    std::vector<std::string> string_vocabulary;
    template <class V>
    void Visit(V& v) {
      v("int64_vocabulary", int64_vocabulary);
      v("string_vocabulary", string_vocabulary);
    }
    DType dtype() const { return string_vocabulary.empty() ? DType::kI64 : DType::kString; }
    int64_t size() const {
      return int64_t(std::max(int64_vocabulary.size(), string_vocabulary.size()));
    }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    if (a.int64_vocabulary.empty() == a.string_vocabulary.empty())
      return Fail(Code::kInvalidArgument,
                  "one of int64_vocabulary and string_vocabulary must be given");
    TRY(NeedMap(ctx));
    if (const DType key = ctx.input(0).key; key != DType::kUndefined && key != a.dtype())
      return Fail(Code::kInvalidArgument, "its vocabulary is {}, the map's keys are {}",
                  DTypeName(a.dtype()), DTypeName(key));
    ctx.Set(0, Type::Of(ctx.dtype(0), {1, a.size()}));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const SequenceValue& map = *TRY(MapInput(ctx));
    const KeyIndex index = a.dtype() == DType::kString
                               ? KeyIndex::Of<std::string>(a.string_vocabulary)
                               : KeyIndex::Of<int64_t>(a.int64_vocabulary);
    const TensorView keys = map.keys[0].view();
    TensorView& y = *TRY(ctx.Allocate(0, map.dtype, {1, a.size()}));
    return VisitDType(map.dtype, "DictVectorizer", [&]<class T>(TypeTag<T>) -> Status {
      std::fill_n(y.mut<T>(), y.count(), T());
      for (int64_t i = 0; i < keys.count(); ++i) {
        // A key outside the vocabulary has no place, as in ONNX Runtime.
        if (const int64_t at = TRY(index.Find(keys, i)); at >= 0)
          y.mut<T>()[at] = map.items[0].as<T>()[i];
      }
      return {};
    });
  }
};

// The map's values in ascending order of its keys; SPARSE: each at its key's place.
struct CastMap {
  struct Attrs {
    std::string cast_to = "TO_FLOAT", map_form = "DENSE";
    int64_t max_map = 1;
    template <class V>
    void Visit(V& v) {
      v("cast_to", cast_to);
      v("map_form", map_form);
      v("max_map", max_map);
    }
    bool sparse() const { return map_form == "SPARSE"; }
  };
  static Status Infer(const Attrs& a, InferContext& ctx) {
    const DType to = TRY(Target(a));
    if (!a.sparse() && a.map_form != "DENSE")
      return Fail(Code::kInvalidArgument, "map_form '{}' is none of DENSE, SPARSE", a.map_form);
    if (a.max_map < 0) return Fail(Code::kInvalidArgument, "max_map is {}", a.max_map);
    TRY(NeedMap(ctx));
    if (const DType key = ctx.input(0).key; key != DType::kUndefined && key != DType::kI64)
      return Fail(Code::kInvalidArgument, "the map's keys are {}, not i64", DTypeName(key));
    ctx.Set(0, Type::Of(to, {1, a.sparse() ? a.max_map : kUnknownDim}));
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const SequenceValue& map = *TRY(MapInput(ctx));
    if (map.key != DType::kI64)
      return Fail(Code::kInvalidArgument, "the map's keys are {}, not i64", DTypeName(map.key));
    const auto keys = map.keys[0].values<int64_t>();
    std::vector<size_t> order(keys.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return keys[i] < keys[j]; });
    if (a.sparse() && !keys.empty() && (keys[order[0]] < 0 || keys[order.back()] >= a.max_map))
      return Fail(Code::kInvalidArgument, "keys from {} to {} do not fit a max_map of {}",
                  keys[order[0]], keys[order.back()], a.max_map);
    const int64_t size = a.sparse() ? a.max_map : int64_t(keys.size());
    const DType to = TRY(Target(a));
    TensorView& y = *TRY(ctx.Allocate(0, to, {1, size}));
    return VisitDType(y.dtype, "CastMap", [&]<class To>(TypeTag<To>) -> Status {
      return VisitDType(map.dtype, "CastMap", [&]<class From>(TypeTag<From>) -> Status {
        if constexpr (kIsTarget<To> && (kIsTarget<From> || std::is_same_v<From, double>)) {
          if constexpr (std::is_same_v<To, std::string>)
            std::fill_n(y.mut<To>(), size, a.sparse() ? "0.f" : "");  // ONNX Runtime's padding
          else
            std::fill_n(y.mut<To>(), size, To());
          for (size_t i = 0; i < order.size(); ++i)
            y.mut<To>()[a.sparse() ? keys[order[i]] : int64_t(i)] =
                TRY(Cast<To>(map.items[0].as<From>()[order[i]]));
          return {};
        }
        return Fail(Code::kUnimplemented, "a map to {}", DTypeName(map.dtype));
      });
    });
  }

 private:
  template <class T>
  static constexpr bool kIsTarget =
      std::is_same_v<T, float> || std::is_same_v<T, int64_t> || std::is_same_v<T, std::string>;

  static Result<DType> Target(const Attrs& a) {
    if (a.cast_to == "TO_FLOAT") return DType::kF32;
    if (a.cast_to == "TO_INT64") return DType::kI64;
    if (a.cast_to == "TO_STRING") return DType::kString;
    return Fail(Code::kInvalidArgument, "cast_to '{}' is none of TO_FLOAT, TO_INT64, TO_STRING",
                a.cast_to);
  }
  template <class To, class From>
  static Result<To> Cast(const From& v) {
    if constexpr (std::is_same_v<From, To>) {
      return v;
    } else if constexpr (std::is_same_v<To, std::string>) {
      if constexpr (std::is_integral_v<From>)
        return std::to_string(v);
      else
        return fmt::format("{:f}", v);
    } else if constexpr (std::is_same_v<From, std::string>) {
      To to{};
      const auto [end, error] = std::from_chars(v.data(), v.data() + v.size(), to);
      if (error != std::errc{} || end != v.data() + v.size())
        return Fail(Code::kInvalidArgument, "'{}' is not a number of type {}", v,
                    DTypeName(kDTypeOf<To>));
      return to;
    } else if constexpr (std::is_same_v<To, int64_t> && kIsFloat<From>) {
      if (!(std::fabs(double(v)) < 0x1p63))
        return Fail(Code::kInvalidArgument, "{} is no 64-bit integer", v);
      return int64_t(v);
    } else {
      return To(v);
    }
  }
};

}  // namespace
}  // namespace ml

std::span<const OpDef> MapOps() {
  static const OpDef ops[] = {
      Declare<ml::ZipMap>("ZipMap", {.domain = ml::kDomain}),
      Declare<ml::DictVectorizer>("DictVectorizer", {.domain = ml::kDomain}),
      Declare<ml::CastMap>("CastMap", {.domain = ml::kDomain}),
  };
  return ops;
}

}  // namespace dunlin
