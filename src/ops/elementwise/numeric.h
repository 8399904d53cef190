// What elementwise operators share about numbers: which types they take, and arithmetic that is
// defined for every value (integers wrap, division by zero gives zero).
#pragma once

#include <cmath>
#include <limits>
#include <string_view>
#include <type_traits>

#include "tensor/dtype.h"
#include "tensor/saturate.h"

namespace dunlin {

// Sets of element types, to be named by operators as `Types`.
struct Floats {
  template <class T>
  static constexpr bool kHas = kIsFloat<T>;
};
struct Integers {
  template <class T>
  static constexpr bool kHas = kIsNumber<T> && !kIsFloat<T>;
};
struct UnsignedIntegers {
  template <class T>
  static constexpr bool kHas = Integers::kHas<T>&& std::is_unsigned_v<T>;
};
struct Numbers {
  template <class T>
  static constexpr bool kHas = kIsNumber<T>;
};
struct Booleans {
  template <class T>
  static constexpr bool kHas = std::is_same_v<T, bool>;
};
struct NumbersAndBooleans {
  template <class T>
  static constexpr bool kHas = !std::is_same_v<T, std::string>;
};
struct AnyType {
  template <class T>
  static constexpr bool kHas = true;
};

// The type a reference computes in.
template <class T>
using ComputeOf = std::conditional_t<kIsFloat<T>, double, T>;

// Floats are widened to double and back; halves go through float.
template <class T>
ComputeOf<T> Widen(const T& v) {
  if constexpr (kIsHalf<T>)
    return double(float(v));
  else
    return ComputeOf<T>(v);
}
template <class T, class C>
T Narrow(C v) {
  if constexpr (std::is_same_v<T, C>)
    return v;
  else if constexpr (kIsHalf<T>)
    return T(RoundToOdd(double(v)));
  else if constexpr (std::is_integral_v<T> && std::is_floating_point_v<C>)
    return SaturateCast<T>(v);
  else
    return static_cast<T>(v);
}

// Calls f(TypeTag<T>{}) when T is in the set, else fails naming the operator and the type.
template <class Types, class F>
Status VisitTypes(DType t, std::string_view name, F&& f) {
  return VisitDType(t, name, [&]<class T>(TypeTag<T> tag) -> Status {
    if constexpr (Types::template kHas<T>)
      return f(tag);
    else
      return Fail(Code::kInvalidArgument, "{}: does not take elements of type {}", name,
                  DTypeName(t));
  });
}
// The same check without work; an unknown type passes.
template <class Types>
Status CheckType(DType t, std::string_view name) {
  if (t == DType::kUndefined) return {};
  return VisitTypes<Types>(t, name, [](auto) -> Status { return {}; });
}

// Integer arithmetic modulo 2^bits, without the undefined behaviour of signed overflow.
template <class C, class Op>
C Wrapping(C a, C b, Op op) {
  if constexpr (std::is_integral_v<C>) {
    using U = std::make_unsigned_t<C>;
    return static_cast<C>(static_cast<U>(op(uint64_t(a), uint64_t(b))));
  } else {
    return op(a, b);
  }
}
template <class C>
C WrapAdd(C a, C b) {
  return Wrapping(a, b, [](auto x, auto y) { return x + y; });
}
template <class C>
C WrapSub(C a, C b) {
  return Wrapping(a, b, [](auto x, auto y) { return x - y; });
}
template <class C>
C WrapMul(C a, C b) {
  return Wrapping(a, b, [](auto x, auto y) { return x * y; });
}

// Truncates towards zero; x / 0 = 0, and the one quotient that overflows wraps.
template <class C>
C SafeDiv(C a, C b) {
  if constexpr (std::is_integral_v<C>) {
    if (b == 0) return 0;
    if constexpr (std::is_signed_v<C>)
      if (b == C(-1)) return WrapSub(C(0), a);
    return static_cast<C>(a / b);
  } else {
    return a / b;
  }
}
// The remainder of the truncated quotient, with the dividend's sign; x % 0 = 0.
template <class C>
C SafeRem(C a, C b) {
  if (b == 0) return 0;
  if constexpr (std::is_signed_v<C>)
    if (b == C(-1)) return 0;
  return static_cast<C>(a % b);
}

}  // namespace dunlin
