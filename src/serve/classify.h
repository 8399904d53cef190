// The classification extension: an output as its best classes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace dunlin::serve {

// The `count` largest values of each item as "value:index[:label]", largest first. Errors:
// kInvalidArgument for types without order and for tensors too large.
Result<Tensor> Classify(const Tensor& tensor, uint64_t count, bool batched,
                        const std::vector<std::string>& labels);

}  // namespace dunlin::serve
