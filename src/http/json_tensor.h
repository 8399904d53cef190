// The data of tensors, and the values of parameters, as JSON.
#pragma once

#include <span>
#include <string_view>

#include "base/json_writer.h"
#include "http/json_read.h"
#include "serve/infer.h"
#include "tensor/tensor.h"

namespace dunlin::http {

// Nested or flat, row-major either way. `json_bytes`: of the whole text, which bounds the elements
// it can hold.
Result<Tensor> TensorFromJson(DType dtype, const Dims& dims, JsonElement data,
                              std::string_view name, size_t json_bytes);
// The same from several values, each a number, a string, or an array of such, one after the other.
Result<Tensor> TensorFromValues(DType dtype, const Dims& dims, std::span<const JsonElement> values,
                                std::string_view name, size_t json_bytes);
// A flat array.
Status WriteData(JsonWriter& json, std::string_view name, const Tensor& tensor);
// The part of the tensor that begins at element `begin`, extents from `axis` on, as nested arrays;
// a plain value when no extents are left.
Status WriteNested(JsonWriter& json, std::string_view name, const Tensor& tensor, int axis,
                   int64_t begin);

// A parameter of a request that only the model knows.
Status ParseParameter(std::string_view key, JsonElement value, serve::InferRequest& request);

}  // namespace dunlin::http
