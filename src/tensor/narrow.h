// Numbers of less than 16 bits that are stored but not computed with: f8, f4, i4, u4, i2, u2 and
// the powers of two of f8e8m0. Elements are read and written one by one, as double, which holds all
// of them exactly; what computes on many should widen them once (Convert).
#pragma once

#include "tensor/dtype.h"

namespace dunlin {

// How f8e8m0, which has no mantissa, rounds. kNearest rounds halves up.
enum class RoundMode : uint8_t { kUp, kDown, kNearest };

struct NarrowRule {
  Overflow overflow = Overflow::kSaturate;  // for f8 and f8e8m0; f4 always saturates
  RoundMode round = RoundMode::kUp;         // for f8e8m0
};

// The value of a code of DTypeBits(t) bits.
double DecodeNarrow(DType t, uint8_t code);
// The code of a value. Integers are truncated towards zero and keep their low bits (of NaN and of
// what no int64 holds: 0). Floats round to nearest even. f4 has no NaN: it becomes 6, as
// Cast's specification says. f8e8m0 takes a negative number for its magnitude.
uint8_t EncodeNarrow(DType t, double v, const NarrowRule& rule = {});

// Element i of an array of type t, as its code. Writing to a packed type leaves its neighbours in
// the byte as they are, so threads must not share a byte.
inline uint8_t NarrowCode(DType t, const void* data, int64_t i) {
  const int bits = DTypeBits(t), per_byte = 8 / bits;
  const uint8_t byte = static_cast<const uint8_t*>(data)[i / per_byte];
  return uint8_t(byte >> (i % per_byte * bits) & ((1 << bits) - 1));
}
inline void SetNarrowCode(DType t, void* data, int64_t i, uint8_t code) {
  const int bits = DTypeBits(t), per_byte = 8 / bits, shift = int(i % per_byte) * bits;
  const int mask = ((1 << bits) - 1) << shift;
  uint8_t& byte = static_cast<uint8_t*>(data)[i / per_byte];
  byte = uint8_t((byte & ~mask) | ((code << shift) & mask));
}
inline double LoadNarrow(DType t, const void* data, int64_t i) {
  return DecodeNarrow(t, NarrowCode(t, data, i));
}
inline void StoreNarrow(DType t, void* data, int64_t i, double v, const NarrowRule& rule = {}) {
  SetNarrowCode(t, data, i, EncodeNarrow(t, v, rule));
}

// i4, u4, i2, u2. Their codes are the low bits of the integer.
inline bool IsNarrowInt(DType t) {
  return t == DType::kI4 || t == DType::kU4 || t == DType::kI2 || t == DType::kU2;
}

}  // namespace dunlin
