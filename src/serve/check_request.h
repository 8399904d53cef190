// Does a request fit a model? In the words that clients of the protocol know.
#pragma once

#include <string>

#include "base/result.h"
#include "serve/infer.h"
#include "serve/spec.h"

namespace dunlin::serve {

// "[request id: 7] ", which starts every message about a request's content.
std::string RequestPrefix(const InferRequest& request);

// Checks names, types and extents; gives tensors the extents the engine sees (reshape) and drops
// repeated outputs. Returns the batch size, 1 for models without batching.
Result<int64_t> CheckRequest(const ModelSpec& model, InferRequest& request);

// What the engine returned, under the extents clients see and in the order asked for.
Result<std::vector<NamedTensor>> ArrangeOutputs(const ModelSpec& model,
                                                const std::vector<std::string>& requested,
                                                std::vector<NamedTensor> outputs);

}  // namespace dunlin::serve
