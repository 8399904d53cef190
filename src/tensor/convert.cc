// Conversions between all element types but strings.
#include <algorithm>
#include <limits>

#include "tensor/half-inl.h"
#include "tensor/tensor.h"

namespace dunlin {
namespace {

template <class To, class From>
To ConvertOne(From v) {
  if constexpr (std::is_same_v<From, Half>) {
    return ConvertOne<To>(FloatOfHalf(v.bits));
  } else if constexpr (kIsHalf<From>) {
    return ConvertOne<To>(float(v));
  } else if constexpr (std::is_same_v<To, bool>) {
    return v != From(0);
  } else if constexpr (kIsHalf<To>) {
    float f;
    if constexpr (std::is_same_v<From, float>)
      f = v;
    else
      f = RoundToOdd(double(v));
    To to(0.0f);
    if constexpr (std::is_same_v<To, Half>)
      to.bits = HalfOf(f);
    else
      to = To(f);
    return to;
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (v >= From(0x1p63) && v < From(0x1p64)) return static_cast<To>(static_cast<uint64_t>(v));
    if (!(v >= From(-0x1p63) && v < From(0x1p63)))
      return static_cast<To>(std::numeric_limits<int64_t>::min());
    return static_cast<To>(static_cast<int64_t>(v));
  } else {
    return static_cast<To>(v);
  }
}

Status NoStrings() { return Fail(Code::kUnimplemented, "strings are not converted here"); }

Status FromNarrow(DType from_type, const void* from, DType to_type, void* to, int64_t begin,
                  int64_t count) {
  return VisitDType(to_type, "Convert", [&]<class To>(TypeTag<To>) -> Status {
    if constexpr (std::is_same_v<To, std::string>) {
      return NoStrings();
    } else {
      To* y = static_cast<To*>(to);
      for (int64_t i = begin; i < begin + count; ++i)
        y[i] = ConvertOne<To>(LoadNarrow(from_type, from, i));
      return {};
    }
  });
}

Status ToNarrow(DType from_type, const void* from, DType to_type, void* to, int64_t begin,
                int64_t count, const NarrowRule& rule) {
  return VisitDType(from_type, "Convert", [&]<class From>(TypeTag<From>) -> Status {
    if constexpr (std::is_same_v<From, std::string>) {
      return NoStrings();
    } else {
      const From* x = static_cast<const From*>(from);
      // An integer keeps its low bits, also where double would round it.
      if (std::is_integral_v<From> && IsNarrowInt(to_type))
        for (int64_t i = begin; i < begin + count; ++i)
          SetNarrowCode(to_type, to, i, ConvertOne<uint8_t>(x[i]));
      else
        for (int64_t i = begin; i < begin + count; ++i)
          StoreNarrow(to_type, to, i, ConvertOne<double>(x[i]), rule);
      return {};
    }
  });
}

}  // namespace

Status ConvertElements(DType from_type, const void* from, DType to_type, void* to, int64_t begin,
                       int64_t count, const NarrowRule& rule) {
  if (IsNarrow(from_type) && IsNarrow(to_type)) {
    for (int64_t i = begin; i < begin + count; ++i)
      StoreNarrow(to_type, to, i, LoadNarrow(from_type, from, i), rule);
    return {};
  }
  if (IsNarrow(from_type)) return FromNarrow(from_type, from, to_type, to, begin, count);
  if (IsNarrow(to_type)) return ToNarrow(from_type, from, to_type, to, begin, count, rule);
  return VisitDType(from_type, "Convert", [&]<class From>(TypeTag<From>) -> Status {
    return VisitDType(to_type, "Convert", [&]<class To>(TypeTag<To>) -> Status {
      if constexpr (std::is_same_v<From, std::string> || std::is_same_v<To, std::string>) {
        return NoStrings();
      } else {
        const From* x = static_cast<const From*>(from);
        To* y = static_cast<To*>(to);
        for (int64_t i = begin; i < begin + count; ++i) y[i] = ConvertOne<To>(x[i]);
        return {};
      }
    });
  });
}

Result<Tensor> Convert(const Tensor& t, DType to) {
  // Zeros where the last byte has bits that belong to no element.
  Tensor out = IsPacked(to) ? TRY(Tensor::Zeros(to, t.dims())) : TRY(Tensor::Create(to, t.dims()));
  const Status s = ConvertElements(t.dtype(), t.raw(), to, out.raw(), 0, t.count());
  if (!s) return Fail(s.error());
  return out;
}

Tensor Widened(const Tensor& t) {
  return Tensor::Over(DType::kF32, t.dims(),
                      Buffer::Widened(t.buffer(), t.offset(), t.dtype(), size_t(t.count())));
}

std::optional<Tensor> NarrowOf(const Tensor& t) {
  const auto from = t.buffer() == nullptr ? std::nullopt : t.buffer()->narrow();
  if (!from) return std::nullopt;
  return Tensor::Over(from->type, t.dims(), from->buffer, from->offset + t.offset() / 2);
}

Result<std::vector<int64_t>> ToInts(const Tensor& t) {
  if (!IsInteger(t.dtype()) && !IsNarrowInt(t.dtype()) && t.dtype() != DType::kBool)
    return Fail(Code::kInvalidArgument, "an integer list has element type {}",
                DTypeName(t.dtype()));
  std::vector<int64_t> out(static_cast<size_t>(t.count()));
  TRY(ConvertElements(t.dtype(), t.raw(), DType::kI64, out.data(), 0, t.count()));
  return out;
}

}  // namespace dunlin
