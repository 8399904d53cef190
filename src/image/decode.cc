// PNG, JPEG and WebP, by their libraries. libjpeg reports errors by longjmp: no object with a
// destructor may live in a frame it leaves, which is why ReadJpeg works on plain memory given by
// its caller.
#include <algorithm>
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE and does not say so
#include <cstring>

#include <jpeglib.h>

#include <jerror.h>
#include <png.h>
#include <webp/decode.h>

#include <string_view>

#include "image/decode.h"
#include "image/plain.h"

namespace dunlin {
namespace {

constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";
constexpr std::string_view kJpegSignature = "\xff\xd8\xff";

bool StartsWith(std::span<const std::byte> bytes, std::string_view signature) {
  return bytes.size() >= signature.size() &&
         std::memcmp(bytes.data(), signature.data(), signature.size()) == 0;
}

Result<Image> DecodePng(std::span<const std::byte> bytes) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  struct Freed {
    png_image* png;
    ~Freed() { png_image_free(png); }
  } freed{&png};
  if (png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()) == 0)
    return Fail(Code::kInvalidArgument, "damaged PNG: {}", png.message);
  TRY(CheckImageSize(png.width, png.height));
  // With alpha in the target format libpng does not blend onto a background; it is dropped below.
  png.format = PNG_FORMAT_RGBA;
  std::vector<uint8_t> rgba(PNG_IMAGE_SIZE(png));
  if (png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr) == 0)
    return Fail(Code::kInvalidArgument, "damaged PNG: {}", png.message);
  Image image{int(png.width), int(png.height), std::vector<uint8_t>(rgba.size() / 4 * 3)};
  for (size_t p = 0; p < rgba.size() / 4; ++p) std::memcpy(&image.rgb[p * 3], &rgba[p * 4], 3);
  return image;
}

Result<Image> DecodeWebp(std::span<const std::byte> bytes) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  Image image;
  if (WebPGetInfo(data, bytes.size(), &image.width, &image.height) == 0)
    return Fail(Code::kInvalidArgument, "damaged WebP: its header makes no sense");
  TRY(CheckImageSize(image.width, image.height));
  image.rgb.resize(size_t(image.width) * size_t(image.height) * 3);
  if (WebPDecodeRGBInto(data, bytes.size(), image.rgb.data(), image.rgb.size(), image.width * 3) ==
      nullptr)
    return Fail(Code::kInvalidArgument, "damaged WebP: the picture cannot be decoded");
  return image;
}

// What libjpeg calls back with; the manager comes first so that one pointer is both.
struct JpegContext {
  jpeg_error_mgr manager;
  jpeg_progress_mgr progress;
  std::jmp_buf escape;
  char message[JMSG_LENGTH_MAX];
};

void JpegFailed(j_common_ptr info) {
  auto* context = reinterpret_cast<JpegContext*>(info->err);
  info->err->format_message(info, context->message);
  std::longjmp(context->escape, 1);
}

// libjpeg fills what a cut-short file lacks with grey and only warns; we do not guess pixels.
void JpegWarned(j_common_ptr info, int level) {
  if (level >= 0) return;
  const int code = info->err->msg_code;
  if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER) JpegFailed(info);
}

// A progressive file may order any number of passes over the picture; real ones have about ten.
void JpegProgress(j_common_ptr info) {
  constexpr int kMaxScans = 100;
  if (!info->is_decompressor ||
      reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans)
    return;
  auto* context = reinterpret_cast<JpegContext*>(info->err);
  std::strcpy(context->message, "more than 100 scans");
  std::longjmp(context->escape, 1);
}

// Opens the file's header, or with `rgb` given decodes into it; false leaves the reason in context.
bool ReadJpeg(std::span<const std::byte> bytes, jpeg_decompress_struct& info, JpegContext& context,
              uint8_t* rgb) {
  if (setjmp(context.escape) != 0) return false;
  if (rgb == nullptr) {
    jpeg_create_decompress(&info);
    info.progress = &context.progress;
    jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    jpeg_read_header(&info, TRUE);
    return true;
  }
  info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = rgb + size_t(info.output_scanline) * info.output_width * 3;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  return true;
}

Result<Image> DecodeJpeg(std::span<const std::byte> bytes) {
  JpegContext context{};
  jpeg_decompress_struct info{};
  info.err = jpeg_std_error(&context.manager);
  context.manager.error_exit = JpegFailed;
  context.manager.emit_message = JpegWarned;
  context.progress.progress_monitor = JpegProgress;
  struct Destroyed {
    jpeg_decompress_struct* info;
    ~Destroyed() { jpeg_destroy_decompress(info); }
  } destroyed{&info};
  if (!ReadJpeg(bytes, info, context, nullptr))
    return Fail(Code::kInvalidArgument, "damaged JPEG: {}", context.message);
  TRY(CheckImageSize(info.image_width, info.image_height));
  Image image{int(info.image_width), int(info.image_height),
              std::vector<uint8_t>(size_t(info.image_width) * info.image_height * 3)};
  if (!ReadJpeg(bytes, info, context, image.rgb.data()))
    return Fail(Code::kInvalidArgument, "damaged JPEG: {}", context.message);
  return image;
}

}  // namespace

Status CheckImageSize(int64_t width, int64_t height) {
  if (width > 0 && height > 0 && height <= kMaxImagePixels / width) return {};
  return Fail(Code::kInvalidArgument, "a picture of {}x{} is over the limit of {} pixels", width,
              height, kMaxImagePixels);
}

bool LooksLikeImage(std::span<const std::byte> bytes) {
  return StartsWith(bytes, kPngSignature) || StartsWith(bytes, kJpegSignature);
}

Result<Image> DecodeImage(std::span<const std::byte> bytes) {
  using namespace std::string_view_literals;
  if (StartsWith(bytes, kPngSignature)) return DecodePng(bytes);
  if (StartsWith(bytes, kJpegSignature)) return DecodeJpeg(bytes);
  if (StartsWith(bytes, "BM")) return DecodeBmp(bytes);
  if (bytes.size() > 2 && StartsWith(bytes, "P") && bytes[1] >= std::byte{'1'} &&
      bytes[1] <= std::byte{'6'})
    return DecodePnm(bytes);
  if (StartsWith(bytes, "II*\0"sv) || StartsWith(bytes, "MM\0*"sv)) return DecodeTiff(bytes);
  if (StartsWith(bytes, "RIFF") &&
      StartsWith(bytes.subspan(std::min<size_t>(8, bytes.size())), "WEBP"))
    return DecodeWebp(bytes);
  constexpr std::pair<std::string_view, std::string_view> kKnown[] = {
      {"GIF8"sv, "GIF"}, {"\0\0\0\x0cjP"sv, "JPEG 2000"}, {"\xffO\xffQ"sv, "JPEG 2000"}};
  for (const auto& [signature, name] : kKnown)
    if (StartsWith(bytes, signature))
      return Fail(Code::kUnimplemented,
                  "{} pictures are not supported: PNG, JPEG, WebP, TIFF, BMP and PNM are", name);
  return Fail(Code::kInvalidArgument, "it is no PNG, JPEG, WebP, TIFF, BMP or PNM file");
}

}  // namespace dunlin
