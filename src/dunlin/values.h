// The values inside a model, between its inputs and its outputs: for tools that look at layers.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/dims.h"

namespace dunlin {

// A tensor of real numbers, or of codes that stand for some, that depends on the model's inputs.
struct InnerValue {
  std::string name;  // as the file has it
  std::string node;  // that makes it; "" when it has no name
  std::string op;    // of that node
  int output = 0;    // which of the node's outputs it is
  // Of what a layer passes on, its operator ("Conv", for QLinearConv as well): a value behind the
  // activation and the quantising that nobody else reads the layer through. "" of other values.
  std::string layer = {};
  Dims dims = {};  // with `ranked`; extents that are not known are negative
  bool ranked = false;
};

// Those that LoadOptions::extra_outputs may name, in the order in which they are computed. Outputs
// of the model and what is inside sub-graphs are none of them. Errors: those of Model::Load.
Result<std::vector<InnerValue>> InnerValues(const std::string& path);

}  // namespace dunlin
