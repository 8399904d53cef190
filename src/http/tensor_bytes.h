// Tensors as the binary extension carries them: little-endian, row-major; BYTES elements behind a
// 4-byte length.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tensor/tensor.h"

namespace dunlin::http {

// A tensor from its bytes; `place` starts the messages. The sizes are compared before memory is
// taken.
Result<Tensor> TensorFromBytes(DType dtype, const Dims& dims, std::string_view bytes,
                               std::string_view place);

// The bytes of a string tensor.
std::string StringBytes(const Tensor& t);

}  // namespace dunlin::http
