// Pictures from files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace dunlin {

// 8 bits a sample, red green blue, rows top down without padding. Alpha is dropped, grey repeated.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;
};

// Above this many pixels a file is refused: 64 million are 192 MB decoded, whatever the file's
// size.
inline constexpr int64_t kMaxImagePixels = 64'000'000;

Status CheckImageSize(int64_t width, int64_t height);

// By signature: PNG or JPEG. Others have no signature that a file of numbers could not begin with.
bool LooksLikeImage(std::span<const std::byte> bytes);
// PNG, JPEG, WebP, BMP and TIFF (uncompressed), PNM (P1 to P6). kInvalidArgument for a damaged, cut
// short, oversized or unknown file, kUnimplemented for a format that is known by name only.
Result<Image> DecodeImage(std::span<const std::byte> bytes);

}  // namespace dunlin
