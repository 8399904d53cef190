// An Einsum equation over known ranks. Internal to this folder.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "ops/resize/resize.h"

namespace dunlin {

struct EinsumPlan {
  using Label = int;          // a letter, or an axis that an ellipsis stands for
  std::vector<Label> labels;  // the output's first
  Dims extents;               // of the labels
  size_t output_rank = 0;
  std::vector<std::vector<Label>> inputs;
  // Of every input by label, when all extents are known. 0: the input does not have the label, or
  // is repeated along it. An input that has a label twice walks its diagonal.
  std::vector<Dims> strides;

  int Find(Label l) const {
    const auto it = std::find(labels.begin(), labels.end(), l);
    return it == labels.end() ? -1 : int(it - labels.begin());
  }
};

Result<EinsumPlan> PlanEinsum(const std::string& equation, const std::vector<Dims>& dims);

}  // namespace dunlin
