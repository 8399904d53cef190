// IEEE half to float and back, without branches so that loops over them become vector code.
#pragma once

#include <bit>
#include <cstdint>

namespace dunlin {

inline float FloatOfHalf(uint16_t h) {
  const uint32_t magnitude = h & 0x7fffu;
  const uint32_t normal = (magnitude << 13) + 0x38000000u;
  const uint32_t special = (magnitude << 13) | 0x7f800000u;  // infinity and NaN
  const auto subnormal = std::bit_cast<uint32_t>(float(int32_t(magnitude)) * 0x1p-24f);
  const uint32_t bits = magnitude >= 0x7c00u ? special : magnitude >= 0x400u ? normal : subnormal;
  return std::bit_cast<float>(bits | uint32_t(h & 0x8000u) << 16);
}

inline uint16_t HalfOf(float v) {
  const auto u = std::bit_cast<uint32_t>(v);
  const uint32_t magnitude = u & 0x7fffffffu;
  const uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
  // Adding 0.5 leaves the rounded value in the low mantissa bits.
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t finite = magnitude >= 0x38800000u ? normal : subnormal;
  const uint32_t bits = magnitude > 0x7f800000u    ? nan
                        : magnitude >= 0x477ff000u ? 0x7c00u  // rounds to 65536 or above
                                                   : finite;
  return uint16_t(bits | ((u >> 16) & 0x8000u));
}

}  // namespace dunlin
