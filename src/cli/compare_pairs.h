// Which value of one model corresponds to which of another.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dunlin/values.h"

namespace dunlin::cli {

// A value's name without what quantising tools put behind it ("_DequantizeLinear_Output"), and how
// good a stand-in for the value it is: 0 as it is passed on to the next layer, larger for what
// comes before that.
struct BaseName {
  std::string_view name;
  int rank = 0;
};
BaseName BaseNameOf(std::string_view value);

struct ValuePair {
  InnerValue a, b;
};
struct Pairing {
  std::vector<ValuePair> pairs;  // in the order of a
  bool by_name = true;           // else by structure
};
// Values of the same name or base name, the best stand-in where there are several; of those left,
// the same outputs of nodes of the same name. Names that a tool numbers agree by accident: where
// more than a tenth of the pairs differ in extents, or there are none, what layers pass on is
// paired: the longest common sequence of operators and extents.
Pairing PairValues(std::span<const InnerValue> a, std::span<const InnerValue> b);

}  // namespace dunlin::cli
