// Element types as the configuration (TYPE_FP32) and the protocol (FP32) name them.
#pragma once

#include <string_view>

#include "serve/model_config.pb.h"
#include "tensor/dtype.h"

namespace dunlin::serve {

// kUndefined for TYPE_INVALID and names nobody knows.
DType FromConfigType(inference::DataType type);
// TYPE_INVALID for types the protocol cannot carry (4-bit, 8-bit floats).
inference::DataType ToConfigType(DType type);
DType FromProtocolName(std::string_view name);  // "FP32", "BYTES"
std::string_view ProtocolName(DType type);      // "" when the protocol has none

}  // namespace dunlin::serve
