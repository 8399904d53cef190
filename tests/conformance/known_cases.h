// Test cases whose stored outputs cannot be demanded of an implementation, and why. For these only
// the kinds, element types and extents of the outputs are compared.
#pragma once

#include <string_view>

namespace dunlin::conformance {

struct KnownCase {
  std::string_view pattern;  // as for fnmatch, of the case's folder name
  std::string_view reason;
};

inline constexpr KnownCase kKnownCases[] = {
    {"test_bernoulli*", "random: stored values are one draw of numpy's generator"},
    {"test_training_dropout", "random mask: stored values are one draw of numpy's generator"},
    {"test_training_dropout_mask", "random mask: stored values are one draw of numpy's generator"},
    {"test_training_dropout_default",
     "random mask: stored values are one draw of numpy's generator"},
    {"test_training_dropout_default_mask",
     "random mask: stored values are one draw of numpy's generator"},
};

}  // namespace dunlin::conformance
