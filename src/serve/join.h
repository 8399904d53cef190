// Requests of equal shape become one batch, and its outputs become theirs again.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "serve/infer.h"
#include "serve/spec.h"

namespace dunlin::serve {

// Equal for requests that may run as one batch: same inputs, same extents but for the batch
// dimension, and for all extents of inputs that allow ragged batches if `ragged`. After
// CheckRequest, which puts inputs into the model's order.
uint64_t ShapeKey(const ModelSpec& model, const InferRequest& request, bool ragged);

// Whether the inputs of all requests have the same extents apart from the batch dimension.
bool SameShapes(std::span<const std::span<const NamedTensor>> requests);

// The inputs of all requests, one behind the other along the batch dimension: one copy, none for a
// single request. All have the same inputs in the same order.
Result<std::vector<NamedTensor>> JoinInputs(std::span<const std::span<const NamedTensor>> requests);

// The part of an output that belongs to items [first, first + count) of `total`: a view. Undefined
// when the output has no batch dimension of that size.
Tensor Part(const Tensor& output, int64_t first, int64_t count, int64_t total);

}  // namespace dunlin::serve
