// The contents field of an input: elements in the one repeated field that fits the type.
#pragma once

#include <vector>

#include "base/result.h"
#include "grpc/wire_reader.h"
#include "serve/wire.h"
#include "tensor/tensor.h"

namespace dunlin::grpc {

// `contents` are the pieces of one InferTensorContents. Errors in the protocol's words; memory is
// taken only for a shape whose elements can be there.
Result<Tensor> TensorFromContents(const serve::InputPlace& place, DType dtype, const Dims& shape,
                                  const std::vector<WireReader>& contents);

}  // namespace dunlin::grpc
