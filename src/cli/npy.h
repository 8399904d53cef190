// NumPy's .npy files: read any plain array as a row-major Tensor, write any Tensor.
//   read:  format versions 1 to 3, either byte order, C and Fortran order (the latter is
//   transposed),
//          bool, ints, f2 f4 f8, 'S' (bytes up to the trailing NULs) and 'U' (becomes UTF-8).
//   write: version 1 (2 when the header is long); bf16 as f4, i4/u4 as i1/u1, both exact; strings
//   as 'U'.
// Not for object arrays, records or complex numbers: reading one is kInvalidArgument, as is every
// header that does not describe exactly the bytes that follow it.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace dunlin::cli {

Result<Tensor> ParseNpy(std::span<const std::byte> bytes);
Result<Tensor> ReadNpy(const std::string& path);

Result<std::vector<std::byte>> FormatNpy(const Tensor& tensor);
Status WriteNpy(const std::string& path, const Tensor& tensor);

}  // namespace dunlin::cli
