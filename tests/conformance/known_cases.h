// Test cases whose stored data cannot be demanded of an implementation, and why.
#pragma once

#include <cstdint>
#include <string_view>

namespace dunlin::conformance {

enum class Demand : uint8_t {
  kTypes,    // only kinds, element types and extents of the outputs are compared
  kNothing,  // the case is not run
};

struct KnownCase {
  std::string_view pattern;  // as for fnmatch, of the case's folder name
  Demand demand;
  std::string_view reason;
};

inline constexpr KnownCase kKnownCases[] = {
    {"test_bernoulli*", Demand::kTypes, "random: stored values are one draw of numpy's generator"},
    {"test_cast_FLOAT_to_BFLOAT16", Demand::kTypes,
     "stored values are truncated; the specification rounds to nearest, ties to even"},
    {"test_castlike_*BFLOAT16*", Demand::kNothing,
     "the model declares 'like' as [3,4], the stored input is [1]: refusing it is right"},
};

}  // namespace dunlin::conformance
