// Which operators take something other than tensors.
#pragma once

#include <span>

#include "ir/op_def.h"

namespace dunlin {

// Before a step runs whose inputs are not all tensors: kInvalidArgument naming the first input that
// the operator can do nothing with. kOptional stands for nothing at all. Operators beside ai.onnx's
// check for themselves.
Status CheckKinds(const OpDef& op, std::span<const Type> inputs);

}  // namespace dunlin
