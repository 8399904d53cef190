// What HTTP and gRPC say and read the same way: names, versions, parameters, the bytes of tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tensor/tensor.h"

namespace dunlin::serve {

inline constexpr std::string_view kServerName = "dunlin";
// The protocol's extensions that are there, in the order clients know.
std::span<const std::string_view> ServerExtensions();

// 0 for "": the version the server chooses.
Result<int64_t> ParseVersion(std::string_view text);

// Whether a request may have a parameter of this name: some are reserved.
Status CheckParameterName(std::string_view name);

// Whose bytes a message speaks of.
struct InputPlace {
  std::string_view request_id, input, model;
};
// Tensors as the binary extension carries them: little-endian, row-major; BYTES elements behind a
// 4-byte length. Sizes are compared before memory is taken. With `owner`, which keeps the bytes and
// does not let them change, the tensor is a view where the type and the alignment allow it.
Result<Tensor> InputFromBytes(const InputPlace& place, DType dtype, const Dims& dims,
                              std::string_view bytes, std::shared_ptr<const void> owner = nullptr);
// The same; the message says only what is wrong, not where.
Result<Tensor> TensorFromBytes(DType dtype, const Dims& dims, std::string_view bytes,
                               std::shared_ptr<const void> owner = nullptr);
// The bytes of a string tensor.
std::string StringBytes(const Tensor& t);

// The bytes of a file in a load request, as JSON carries them.
Result<std::string> DecodeBase64(std::string_view text);

}  // namespace dunlin::serve
