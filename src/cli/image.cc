#include "cli/image.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace dunlin::cli {
namespace {

// The source pixels one output pixel averages along one axis, and their weights (sum 1).
struct Taps {
  int first = 0;
  std::vector<float> weights;
};

std::vector<Taps> TapsFor(int from, int to) {
  std::vector<Taps> all(static_cast<size_t>(to));
  const double ratio = double(from) / to;
  const double support = std::max(ratio, 1.0);  // half the width of the triangle
  for (int i = 0; i < to; ++i) {
    const double center = (i + 0.5) * ratio;
    const int first = std::max(0, int(std::floor(center - support + 0.5)));
    const int last = std::min(from, int(std::floor(center + support + 0.5)));
    Taps& taps = all[size_t(i)];
    taps.first = first;
    double sum = 0;
    for (int x = first; x < last; ++x) {
      const double w = std::max(0.0, 1.0 - std::abs((x + 0.5 - center) / support));
      taps.weights.push_back(float(w));
      sum += w;
    }
    for (float& w : taps.weights) w = float(w / sum);
  }
  return all;
}

struct Channels {
  size_t axis = 1;  // of the channel extent in the model's dims
  size_t height_axis = 2;
  size_t width_axis = 3;
  int64_t count = 3;
};

bool IsChannelCount(int64_t d) { return d == 1 || d == 3 || d == 4; }

Result<Channels> FindChannels(std::span<const int64_t> dims, const ImageOptions& options) {
  if (dims.size() != 3 && dims.size() != 4)
    return Fail(Code::kInvalidArgument,
                "an image needs an input of rank 3 or 4, this one is {}; give the input as .npy",
                ToString(dims));
  const size_t batch = dims.size() - 3;
  if (batch == 1 && IsKnown(dims[0]) && dims[0] != 1)
    return Fail(Code::kInvalidArgument,
                "one image does not fill a batch of {}; give the input as .npy", dims[0]);
  ImageLayout layout = ImageLayout::kNchw;
  if (options.layout)
    layout = *options.layout;
  else if (!IsChannelCount(dims[batch]) && IsChannelCount(dims[batch + 2]))
    layout = ImageLayout::kNhwc;
  Channels c = layout == ImageLayout::kNchw ? Channels{batch, batch + 1, batch + 2, 3}
                                            : Channels{batch + 2, batch, batch + 1, 3};
  if (IsKnown(dims[c.axis])) c.count = dims[c.axis];
  if (!IsChannelCount(c.count))
    return Fail(Code::kInvalidArgument,
                "{} has {} channels where an image has 1, 3 or 4; see --layout", ToString(dims),
                c.count);
  return c;
}

// One value for all channels, one for each, or the default.
Result<std::array<float, 4>> PerChannel(const std::vector<float>& given, float otherwise,
                                        int64_t channels, const char* flag) {
  std::array<float, 4> values;
  values.fill(given.size() == 1 ? given[0] : otherwise);
  if (given.size() > 1) {
    if (int64_t(given.size()) != channels)
      return Fail(Code::kInvalidArgument, "{} has {} values for {} channels", flag, given.size(),
                  channels);
    std::copy(given.begin(), given.end(), values.begin());
  }
  return values;
}

Result<Image> Shaped(const Image& image, std::span<const int64_t> dims, const Channels& c,
                     const ImageOptions& options) {
  const int64_t model_h = dims[c.height_axis], model_w = dims[c.width_axis];
  // Extents beyond any picture are a mistake in the model or the flags, and must not be allocated.
  if (std::max(model_h, int64_t{1}) > kMaxImagePixels / std::max(model_w, int64_t{1}))
    return Fail(Code::kInvalidArgument, "{} has more pixels than the limit of {}", ToString(dims),
                kMaxImagePixels);
  ImageSize size{image.width, image.height};
  if (options.resize) {
    size = *options.resize;
  } else if (!options.crop) {
    if (IsKnown(model_w)) size.width = int(model_w);
    if (IsKnown(model_h)) size.height = int(model_h);
  }
  // The second product is that of the half-way picture, resized across but not yet down.
  if (size.width < 1 || size.height < 1 || int64_t{size.width} * size.height > kMaxImagePixels ||
      int64_t{size.width} * image.height > kMaxImagePixels)
    return Fail(Code::kInvalidArgument, "cannot resize to {}x{}", size.width, size.height);
  Image out = Resize(image, size.width, size.height);
  if (options.crop) out = TRY(CropCenter(out, options.crop->width, options.crop->height));
  if ((IsKnown(model_w) && out.width != model_w) || (IsKnown(model_h) && out.height != model_h))
    return Fail(Code::kInvalidArgument,
                "the picture is {}x{} after --resize and --crop, the model wants {}x{}", out.width,
                out.height, IsKnown(model_w) ? fmt::format("{}", model_w) : "any",
                IsKnown(model_h) ? fmt::format("{}", model_h) : "any");
  return out;
}

template <class T>
T FromFloat(float v) {
  if constexpr (kIsFloat<T>)
    return T(v);
  else
    return T(std::clamp(std::nearbyint(v), float(std::numeric_limits<T>::min()),
                        float(std::numeric_limits<T>::max())));
}

}  // namespace

Image Resize(const Image& image, int width, int height) {
  if (width == image.width && height == image.height) return image;
  const std::vector<Taps> columns = TapsFor(image.width, width),
                          rows = TapsFor(image.height, height);
  // Across first, kept in float so that only one rounding happens.
  std::vector<float> wide(size_t(image.height) * size_t(width) * 3);
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* in = image.rgb.data() + size_t(y) * size_t(image.width) * 3;
    float* out = wide.data() + size_t(y) * size_t(width) * 3;
    for (int x = 0; x < width; ++x) {
      const Taps& taps = columns[size_t(x)];
      for (int c = 0; c < 3; ++c) {
        float sum = 0;
        for (size_t k = 0; k < taps.weights.size(); ++k)
          sum += taps.weights[k] * float(in[(size_t(taps.first) + k) * 3 + size_t(c)]);
        out[x * 3 + c] = sum;
      }
    }
  }
  Image result{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  const size_t row = size_t(width) * 3;
  for (int y = 0; y < height; ++y) {
    const Taps& taps = rows[size_t(y)];
    for (size_t x = 0; x < row; ++x) {
      float sum = 0;
      for (size_t k = 0; k < taps.weights.size(); ++k)
        sum += taps.weights[k] * wide[(size_t(taps.first) + k) * row + x];
      result.rgb[size_t(y) * row + x] = uint8_t(std::clamp(sum + 0.5f, 0.0f, 255.0f));
    }
  }
  return result;
}

Result<Image> CropCenter(const Image& image, int width, int height) {
  if (width < 1 || height < 1 || width > image.width || height > image.height)
    return Fail(Code::kInvalidArgument, "cannot crop {}x{} out of a picture of {}x{}", width,
                height, image.width, image.height);
  const int left = (image.width - width) / 2, top = (image.height - height) / 2;
  Image out{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  for (int y = 0; y < height; ++y)
    std::copy_n(image.rgb.data() + (size_t(top + y) * size_t(image.width) + size_t(left)) * 3,
                size_t(width) * 3, out.rgb.data() + size_t(y) * size_t(width) * 3);
  return out;
}

Result<Tensor> ImageToTensor(const Image& image, DType dtype, std::span<const int64_t> dims,
                             const ImageOptions& options) {
  if (!IsFloat(dtype) && dtype != DType::kU8 && dtype != DType::kI8)
    return Fail(Code::kInvalidArgument, "an image cannot become an input of type {}",
                DTypeName(dtype));
  const Channels c = TRY(FindChannels(dims, options));
  const auto mean = TRY(PerChannel(options.mean, 0, c.count, "--mean"));
  const auto std = TRY(PerChannel(options.std, 1, c.count, "--std"));
  const float scale = options.scale.value_or(IsFloat(dtype) ? 1.0f / 255 : 1.0f);
  for (const float s : std)
    if (s == 0) return Fail(Code::kInvalidArgument, "--std has a 0, which divides");
  const Image shaped = TRY(Shaped(image, dims, c, options));

  Dims extents(dims);
  if (dims.size() == 4) extents[0] = 1;
  extents[c.axis] = c.count;
  extents[c.height_axis] = shaped.height;
  extents[c.width_axis] = shaped.width;
  Tensor out = TRY(Tensor::Create(dtype, extents));
  const int64_t pixels = int64_t{shaped.width} * shaped.height;
  const bool planar = c.axis < c.height_axis;
  TRY(VisitDType(dtype, "image", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (kIsNumber<T>) {
      T* y = out.mut<T>();
      for (int64_t p = 0; p < pixels; ++p) {
        const uint8_t* rgb = shaped.rgb.data() + p * 3;
        for (int64_t k = 0; k < c.count; ++k) {
          float sample = 255;  // the alpha of an opaque picture
          if (c.count == 1)
            sample = 0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2];
          else if (k < 3)
            sample = rgb[options.channels == ChannelOrder::kBgr ? 2 - k : k];
          const float value = (sample * scale - mean[size_t(k)]) / std[size_t(k)];
          y[planar ? k * pixels + p : p * c.count + k] = FromFloat<T>(value);
        }
      }
    }
    return {};
  }));
  return out;
}

}  // namespace dunlin::cli
