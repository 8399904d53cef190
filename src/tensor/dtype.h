// Element types: sizes, names, the C++ type behind each, and the 16-bit and 8-bit floats.
// What has no C++ type (less than a byte, powers of two) is read and written by narrow.h.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dunlin {

enum class DType : uint8_t {
  kUndefined,
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kI16,
  kI32,
  kI64,
  kU8,
  kU16,
  kU32,
  kU64,
  kBool,
  kString,
  kI4,
  kU4,  // packed two to a byte, low nibble first
  kF8E4M3FN,
  kF8E4M3FNUZ,
  kF8E5M2,
  kF8E5M2FNUZ,
  kF8E8M0,  // 2^(code - 127), no sign
  kF4E2M1,  // packed as i4
  kI2,
  kU2,  // packed four to a byte, lowest bits first
};
inline constexpr int kDTypeCount = int(DType::kU2) + 1;

std::string_view DTypeName(DType t);  // "f32", "i64", …
Result<DType> ParseDType(std::string_view name);
int DTypeBits(DType t);  // 32, 4, …; kString: bits of std::string
inline bool IsFloat(DType t) {
  return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16 || t == DType::kF64;
}
inline bool IsFloat8(DType t) { return t >= DType::kF8E4M3FN && t <= DType::kF8E5M2FNUZ; }
// What VisitDType does not know: see narrow.h.
inline bool IsNarrow(DType t) { return t >= DType::kI4; }
// Several elements to a byte.
inline bool IsPacked(DType t) { return IsNarrow(t) && DTypeBits(t) < 8; }
inline bool IsSignedInt(DType t) { return t >= DType::kI8 && t <= DType::kI64; }
inline bool IsUnsignedInt(DType t) { return t >= DType::kU8 && t <= DType::kU64; }
inline bool IsInteger(DType t) { return IsSignedInt(t) || IsUnsignedInt(t); }
// Bytes of `count` elements, packed types rounded up to whole bytes.
inline int64_t ByteSize(DType t, int64_t count) { return (count * DTypeBits(t) + 7) / 8; }

// v as a float on its way to a narrower one: what does not fit ends in an odd bit instead of being
// rounded, so that rounding once more gives the number nearest to v.
inline float RoundToOdd(double v) {
  const float f = float(v);
  if (double(f) == v || v != v) return f;
  uint32_t u = std::bit_cast<uint32_t>(f);
  if ((f > v) == (v > 0)) --u;  // towards zero
  return std::bit_cast<float>(u | 1);
}

// IEEE half. Conversions round to nearest even.
struct Half {
  uint16_t bits = 0;
  Half() = default;
  explicit Half(float v);
  explicit operator float() const;
  bool operator==(const Half& o) const { return float(*this) == float(o); }
};

// The upper half of an f32. Conversions round to nearest even; NaN stays NaN.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float v) {
    const uint32_t u = std::bit_cast<uint32_t>(v);
    bits = (u & 0x7fffffffu) > 0x7f800000u ? uint16_t((u >> 16) | 0x40)
                                           : uint16_t((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
  bool operator==(const BFloat16& o) const { return float(*this) == float(o); }
};

// What becomes of a number too large for an 8-bit float.
enum class Overflow : uint8_t {
  kSaturate,  // the largest finite number
  kSpecial,   // infinity where the type has one, else NaN
};

// Signed 8-bit floats. E4M3FN has no infinity, the FNUZ types have neither infinity nor -0.
// Conversions round to nearest even; NaN stays NaN.
template <DType kType>
struct Float8 {
  uint8_t bits = 0;
  Float8() = default;
  explicit Float8(double v, Overflow overflow = Overflow::kSaturate);
  explicit operator float() const;
  bool operator==(const Float8& o) const { return float(*this) == float(o); }
};
using F8E4M3FN = Float8<DType::kF8E4M3FN>;
using F8E4M3FNUZ = Float8<DType::kF8E4M3FNUZ>;
using F8E5M2 = Float8<DType::kF8E5M2>;
using F8E5M2FNUZ = Float8<DType::kF8E5M2FNUZ>;

template <class T>
struct DTypeOf;
template <DType kType>
struct DTypeOf<Float8<kType>> {
  static constexpr DType value = kType;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::kF32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::kF64;
};
template <>
struct DTypeOf<Half> {
  static constexpr DType value = DType::kF16;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::kBF16;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::kI8;
};
template <>
struct DTypeOf<int16_t> {
  static constexpr DType value = DType::kI16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::kI32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::kI64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::kU8;
};
template <>
struct DTypeOf<uint16_t> {
  static constexpr DType value = DType::kU16;
};
template <>
struct DTypeOf<uint32_t> {
  static constexpr DType value = DType::kU32;
};
template <>
struct DTypeOf<uint64_t> {
  static constexpr DType value = DType::kU64;
};
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::kBool;
};
template <>
struct DTypeOf<std::string> {
  static constexpr DType value = DType::kString;
};
template <class T>
inline constexpr DType kDTypeOf = DTypeOf<T>::value;

template <class T>
struct TypeTag {
  using type = T;
};

// Calls f(TypeTag<T>{}) with the C++ type of t; for types that have none (sub-byte, f8) returns an
// error with `what` in it. f returns Status.
template <class F>
Status VisitDType(DType t, std::string_view what, F&& f) {
  switch (t) {
    case DType::kF32:
      return f(TypeTag<float>{});
    case DType::kF64:
      return f(TypeTag<double>{});
    case DType::kF16:
      return f(TypeTag<Half>{});
    case DType::kBF16:
      return f(TypeTag<BFloat16>{});
    case DType::kI8:
      return f(TypeTag<int8_t>{});
    case DType::kI16:
      return f(TypeTag<int16_t>{});
    case DType::kI32:
      return f(TypeTag<int32_t>{});
    case DType::kI64:
      return f(TypeTag<int64_t>{});
    case DType::kU8:
      return f(TypeTag<uint8_t>{});
    case DType::kU16:
      return f(TypeTag<uint16_t>{});
    case DType::kU32:
      return f(TypeTag<uint32_t>{});
    case DType::kU64:
      return f(TypeTag<uint64_t>{});
    case DType::kBool:
      return f(TypeTag<bool>{});
    case DType::kString:
      return f(TypeTag<std::string>{});
    default:
      return Fail(Code::kUnimplemented, "{}: element type {} is not supported", what, DTypeName(t));
  }
}

// The same for the 8-bit floats, which VisitDType leaves out: few operators take them.
template <class F>
Status VisitFloat8(DType t, std::string_view what, F&& f) {
  switch (t) {
    case DType::kF8E4M3FN:
      return f(TypeTag<F8E4M3FN>{});
    case DType::kF8E4M3FNUZ:
      return f(TypeTag<F8E4M3FNUZ>{});
    case DType::kF8E5M2:
      return f(TypeTag<F8E5M2>{});
    case DType::kF8E5M2FNUZ:
      return f(TypeTag<F8E5M2FNUZ>{});
    default:
      return Fail(Code::kUnimplemented, "{}: element type {} is not supported", what, DTypeName(t));
  }
}

template <class T>
inline constexpr bool kIsHalf = std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>;
template <class T>
inline constexpr bool kIsFloat = std::is_floating_point_v<T> || kIsHalf<T>;
// Any number but bool and string.
template <class T>
inline constexpr bool kIsNumber = kIsFloat<T> ||
                                  (std::is_integral_v<T> && !std::is_same_v<T, bool>);

}  // namespace dunlin
