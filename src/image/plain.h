// The formats of DecodeImage that need no library. Internal to this layer.
#pragma once

#include "image/decode.h"

namespace dunlin {

Result<Image> DecodeBmp(std::span<const std::byte> bytes);
Result<Image> DecodePnm(std::span<const std::byte> bytes);
Result<Image> DecodeTiff(std::span<const std::byte> bytes);

}  // namespace dunlin
