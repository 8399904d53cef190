// ImageDecoder: the bytes of a picture file [n] u8 -> [H, W, C] u8.
#include <cstring>

#include "image/decode.h"
#include "ops/resize/resize.h"

namespace dunlin {
namespace {

enum class PixelFormat : uint8_t { kRgb, kBgr, kGrey };
Result<PixelFormat> ParseFormat(const std::string& s) {
  if (s == "RGB") return PixelFormat::kRgb;
  if (s == "BGR") return PixelFormat::kBgr;
  if (s == "Grayscale") return PixelFormat::kGrey;
  return Fail(Code::kInvalidArgument, "the pixel_format '{}' is none of RGB, BGR, Grayscale", s);
}

// 0.299 R + 0.587 G + 0.114 B in units of 2^-16, rounded.
uint8_t Grey(const uint8_t* rgb) {
  return uint8_t((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

}  // namespace

Status ImageDecoder::Infer(const Attrs& a, InferContext& ctx) {
  const PixelFormat format = TRY(ParseFormat(a.pixel_format));
  const Type& x = ctx.input(0);
  if ((x.dtype != DType::kU8 && x.dtype != DType::kUndefined) || (x.ranked && x.dims.rank() != 1))
    return Fail(Code::kInvalidArgument, "the input is {}, not the bytes of a file", ToString(x));
  ctx.Set(0,
          Type::Of(DType::kU8, {kUnknownDim, kUnknownDim, format == PixelFormat::kGrey ? 1 : 3}));
  return {};
}

Status ImageDecoder::Reference(const Attrs& a, RunContext& ctx) {
  const PixelFormat format = TRY(ParseFormat(a.pixel_format));
  const TensorView& x = ctx.in(0);
  const Image image = TRY(DecodeImage({static_cast<const std::byte*>(x.data), size_t(x.count())}));
  const int64_t channels = format == PixelFormat::kGrey ? 1 : 3;
  TensorView* y = TRY(ctx.Allocate(0, DType::kU8, {image.height, image.width, channels}));
  auto* to = y->mut<uint8_t>();
  for (size_t p = 0; p < image.rgb.size(); p += 3, to += channels) {
    const uint8_t* rgb = &image.rgb[p];
    if (format == PixelFormat::kRgb)
      std::memcpy(to, rgb, 3);
    else if (format == PixelFormat::kBgr)
      to[0] = rgb[2], to[1] = rgb[1], to[2] = rgb[0];
    else
      to[0] = Grey(rgb);
  }
  return {};
}

}  // namespace dunlin
