#include "tensor/narrow.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dunlin {
namespace {

// A float of few bits: sign, exponent, mantissa. Codes of magnitudes grow with the magnitude.
struct Format {
  int mantissa;      // bits
  int bias;          // of the exponent
  uint8_t sign;      // the sign's bit
  uint8_t largest;   // code of the largest finite magnitude
  int infinity;      // code, or -1
  int nan;           // code, or -1
  bool signed_zero;  // has -0, and the sign bit may go with NaN
};

constexpr Format FormatOf(DType t) {
  switch (t) {
    case DType::kF8E4M3FN:
      return {3, 7, 0x80, 0x7e, -1, 0x7f, true};
    case DType::kF8E4M3FNUZ:
      return {3, 8, 0x80, 0x7f, -1, 0x80, false};
    case DType::kF8E5M2:
      return {2, 15, 0x80, 0x7b, 0x7c, 0x7f, true};
    case DType::kF8E5M2FNUZ:
      return {2, 16, 0x80, 0x7f, -1, 0x80, false};
    default:  // f4e2m1
      return {1, 1, 0x8, 0x7, -1, -1, true};
  }
}

double Decode(const Format& f, uint8_t code) {
  const bool minus = (code & f.sign) != 0;
  const int magnitude = code & (f.sign - 1);
  if (!f.signed_zero && code == f.nan) return std::numeric_limits<double>::quiet_NaN();
  if (magnitude > f.largest) {
    const double special = magnitude == f.infinity ? std::numeric_limits<double>::infinity()
                                                   : std::numeric_limits<double>::quiet_NaN();
    return minus ? -special : special;
  }
  const int exponent = magnitude >> f.mantissa;
  const int fraction = magnitude & ((1 << f.mantissa) - 1);
  const int whole = exponent > 0 ? fraction + (1 << f.mantissa) : fraction;
  const double v = std::ldexp(whole, std::max(exponent, 1) - f.bias - f.mantissa);
  return minus ? -v : v;
}

uint8_t Encode(const Format& f, double v, Overflow overflow) {
  const uint8_t sign = std::signbit(v) ? f.sign : 0;
  if (std::isnan(v)) {
    if (f.nan < 0) return f.largest;
    return uint8_t(f.signed_zero ? f.nan | sign : f.nan);
  }
  double magnitude = std::fabs(v);
  int code = f.largest + 1;
  if (magnitude < std::ldexp(1, 30)) {
    const int least = 1 - f.bias;  // the exponent of subnormals, too
    const int exponent = magnitude > 0 ? std::max(std::ilogb(magnitude), least) : least;
    // In units of the last place, so an exact integer once rounded; a carry moves on to the next
    // exponent by itself.
    const double units = std::nearbyint(std::ldexp(magnitude, f.mantissa - exponent));
    code = int(units) + ((exponent - least) << f.mantissa);
  }
  if (code > f.largest) {
    if (overflow == Overflow::kSaturate || (f.infinity < 0 && f.nan < 0))
      code = f.largest;
    else if (f.infinity >= 0)
      code = f.infinity;
    else
      return uint8_t(f.signed_zero ? f.nan | sign : f.nan);
  }
  return code == 0 && !f.signed_zero ? 0 : uint8_t(code | sign);
}

constexpr uint8_t kE8M0Largest = 0xfe, kE8M0NaN = 0xff;
constexpr int kE8M0Bias = 127;

uint8_t EncodePower(double v, const NarrowRule& rule) {
  if (std::isnan(v)) return kE8M0NaN;
  const bool saturate = rule.overflow == Overflow::kSaturate;
  const double x = std::fabs(v);
  if (x < std::ldexp(1, -kE8M0Bias)) return saturate ? 0 : kE8M0NaN;
  if (!(x < std::ldexp(1, 128))) return saturate ? kE8M0Largest : kE8M0NaN;
  const int exponent = std::ilogb(x);
  const double fraction = std::ldexp(x, -exponent);  // in [1, 2)
  const bool up = (rule.round == RoundMode::kUp && fraction > 1) ||
                  (rule.round == RoundMode::kNearest && fraction >= 1.5);
  const int code = exponent + kE8M0Bias + (up ? 1 : 0);
  return code <= kE8M0Largest ? uint8_t(code) : saturate ? kE8M0Largest : kE8M0NaN;
}

}  // namespace

double DecodeNarrow(DType t, uint8_t code) {
  switch (t) {
    case DType::kU4:
    case DType::kU2:
      return code;
    case DType::kI4:
      return code < 8 ? code : code - 16;
    case DType::kI2:
      return code < 2 ? code : code - 4;
    case DType::kF8E8M0:
      return code == kE8M0NaN ? std::numeric_limits<double>::quiet_NaN()
                              : std::ldexp(1, code - kE8M0Bias);
    default:
      return Decode(FormatOf(t), code);
  }
}

uint8_t EncodeNarrow(DType t, double v, const NarrowRule& rule) {
  if (IsNarrowInt(t)) {
    const int64_t whole = v >= -0x1p63 && v < 0x1p63 ? int64_t(v) : 0;
    return uint8_t(whole & ((1 << DTypeBits(t)) - 1));
  }
  if (t == DType::kF8E8M0) return EncodePower(v, rule);
  return Encode(FormatOf(t), v, rule.overflow);
}

template <DType kType>
Float8<kType>::Float8(double v, Overflow overflow) : bits(Encode(FormatOf(kType), v, overflow)) {}
template <DType kType>
Float8<kType>::operator float() const {
  return float(Decode(FormatOf(kType), bits));
}
template struct Float8<DType::kF8E4M3FN>;
template struct Float8<DType::kF8E4M3FNUZ>;
template struct Float8<DType::kF8E5M2>;
template struct Float8<DType::kF8E5M2FNUZ>;

}  // namespace dunlin
