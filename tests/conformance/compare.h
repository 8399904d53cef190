// Compares what the engine answered with what ONNX's test data expects.
#pragma once

#include <string>

#include "dunlin/engine.h"

namespace dunlin::conformance {

struct Comparison {
  bool equal = true;
  std::string difference;    // one line, when not equal
  double max_abs_error = 0;  // over all finite floats compared
  double max_rel_error = 0;
};

// Kinds, element types and extents must match. Floats: |got - want| <= 1e-7 + 1e-3 |want| (the
// tolerance of ONNX's own backend tests), NaN equals NaN. Everything else: exactly equal.
Comparison Compare(const Value& got, const Value& want);

}  // namespace dunlin::conformance
