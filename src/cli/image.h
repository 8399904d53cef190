// What turns a picture into a model's input: resize, crop, normalise, lay out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/decode.h"
#include "tensor/tensor.h"

namespace dunlin::cli {

// Bilinear; when shrinking, each output pixel averages all the pixels it covers (a triangle filter
// scaled with the ratio), so that no detail aliases. width, height >= 1.
Image Resize(const Image& image, int width, int height);
// The middle width x height of the picture. kInvalidArgument when it is smaller than that.
Result<Image> CropCenter(const Image& image, int width, int height);

enum class ChannelOrder : uint8_t { kRgb, kBgr };
enum class ImageLayout : uint8_t { kNchw, kNhwc };
struct ImageSize {
  int width = 0;
  int height = 0;
};

struct ImageOptions {
  std::optional<ImageSize> resize =
      {};  // else the crop's size, else the model's, else the picture's own
  std::optional<ImageSize> crop = {};  // after the resize
  std::vector<float> mean = {};        // per channel, or one for all; in the units after `scale`
  std::vector<float> std = {};
  std::optional<float> scale = {};  // default 1/255 for float inputs, 1 for integers
  std::optional<ImageLayout> layout =
      {};  // default: where the model's extents have 1, 3 or 4 channels
  ChannelOrder channels = ChannelOrder::kRgb;
};

// value = (sample * scale - mean) / std, sample 0…255. `dims` is what the model says, rank 3 or 4,
// unknown extents negative; 1 channel means grey (0.299 R + 0.587 G + 0.114 B), 4 channels an
// opaque alpha of 255. The result has the batch extent 1 where rank is 4. dtype: any float, u8 or
// i8 (rounded, clamped).
Result<Tensor> ImageToTensor(const Image& image, DType dtype, std::span<const int64_t> dims,
                             const ImageOptions& options);

}  // namespace dunlin::cli
