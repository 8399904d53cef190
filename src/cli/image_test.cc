#include "cli/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include <jpeglib.h>
#include <png.h>

namespace dunlin::cli {
namespace {

using testing::HasSubstr;

std::vector<std::byte> Png(int width, int height, int format, const std::vector<uint8_t>& samples) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = png_uint_32(width);
  png.height = png_uint_32(height);
  png.format = png_uint_32(format);
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::vector<std::byte> out(bytes);
  EXPECT_NE(png_image_write_to_memory(&png, out.data(), &bytes, 0, samples.data(), 0, nullptr), 0);
  out.resize(bytes);
  return out;
}

std::vector<std::byte> Jpeg(int width, int height, const std::vector<uint8_t>& rgb) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* data = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&info, &data, &bytes);
  info.image_width = JDIMENSION(width);
  info.image_height = JDIMENSION(height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 95, TRUE);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<JSAMPROW>(rgb.data()) + size_t(info.next_scanline) * size_t(width) * 3;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::vector<std::byte> out(bytes);
  std::memcpy(out.data(), data, bytes);
  std::free(data);
  return out;
}

std::vector<uint8_t> Ramp(size_t n) {
  std::vector<uint8_t> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = uint8_t(i * 5);
  return v;
}

TEST(DecodeImage, PngIsExact) {
  const auto rgb = Ramp(2 * 3 * 3);
  const auto image = DecodeImage(Png(2, 3, PNG_FORMAT_RGB, rgb));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->width, 2);
  EXPECT_EQ(image->height, 3);
  EXPECT_EQ(image->rgb, rgb);
}

TEST(DecodeImage, PngAlphaIsDroppedNotBlended) {
  const auto image = DecodeImage(Png(1, 1, PNG_FORMAT_RGBA, {10, 20, 30, 128}));
  ASSERT_TRUE(image);
  EXPECT_EQ(image->rgb, (std::vector<uint8_t>{10, 20, 30}));
}

TEST(DecodeImage, GreyBecomesThreeEqualChannels) {
  const auto image = DecodeImage(Png(1, 1, PNG_FORMAT_GRAY, {77}));
  ASSERT_TRUE(image);
  EXPECT_EQ(image->rgb, (std::vector<uint8_t>{77, 77, 77}));
}

TEST(DecodeImage, JpegIsCloseAndInRgbOrder) {
  std::vector<uint8_t> rgb(16 * 8 * 3);
  for (size_t i = 0; i < rgb.size(); i += 3) rgb[i] = 200, rgb[i + 1] = 100, rgb[i + 2] = 50;
  const auto image = DecodeImage(Jpeg(16, 8, rgb));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->width, 16);
  EXPECT_EQ(image->height, 8);
  EXPECT_NEAR(image->rgb[0], 200, 4);
  EXPECT_NEAR(image->rgb[1], 100, 4);
  EXPECT_NEAR(image->rgb[2], 50, 4);
}

TEST(DecodeImage, CutFilesAreErrors) {
  const auto png = Png(8, 8, PNG_FORMAT_RGB, Ramp(8 * 8 * 3));
  for (size_t n = 0; n < png.size() - 12; ++n)
    EXPECT_FALSE(DecodeImage(std::span(png).first(n))) << n;
  const auto jpeg = Jpeg(32, 32, Ramp(32 * 32 * 3));
  for (size_t n = 0; n < jpeg.size() - 2; n += 3)
    EXPECT_FALSE(DecodeImage(std::span(jpeg).first(n))) << n;
}

TEST(DecodeImage, ClaimedSizesAreCheckedBeforeMemoryIsTaken) {
  auto png = Png(2, 2, PNG_FORMAT_RGB, Ramp(12));
  // IHDR with 60000 x 60000 and its CRC.
  const unsigned char header[] = {0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60};
  std::memcpy(png.data() + 16, header, 8);
  uint32_t crc = 0xffffffffu;
  for (size_t i = 12; i < 29; ++i) {
    crc ^= uint32_t(png[i]);
    for (int b = 0; b < 8; ++b) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
  }
  for (size_t i = 0; i < 4; ++i) png[29 + i] = std::byte(~crc >> (24 - 8 * i));
  const auto image = DecodeImage(png);
  ASSERT_FALSE(image);
  EXPECT_THAT(image.error().message, HasSubstr("over the limit"));
}

TEST(DecodeImage, OtherBytesAreAnError) {
  const char gif[] = "GIF89a";
  EXPECT_FALSE(DecodeImage(std::as_bytes(std::span(gif))));
  EXPECT_FALSE(DecodeImage({}));
}

TEST(Resize, TheSameSizeIsTheSamePicture) {
  const Image image{2, 2, Ramp(12)};
  EXPECT_EQ(Resize(image, 2, 2).rgb, image.rgb);
}

TEST(Resize, ShrinkingAveragesEveryPixel) {
  // Black and white columns alternate: any filter that skips pixels shows only one of them.
  Image image{64, 1, {}};
  for (int x = 0; x < 64; ++x) image.rgb.insert(image.rgb.end(), 3, x % 2 ? 255 : 0);
  const Image small = Resize(image, 4, 1);
  for (const uint8_t v : small.rgb) EXPECT_NEAR(v, 127.5, 9);
}

TEST(Resize, GrowingInterpolatesBetweenCentres) {
  const Image image{2, 1, {0, 0, 0, 100, 100, 100}};
  const Image wide = Resize(image, 4, 1);
  EXPECT_EQ(wide.rgb[0], 0);
  EXPECT_EQ(wide.rgb[3], 25);
  EXPECT_EQ(wide.rgb[6], 75);
  EXPECT_EQ(wide.rgb[9], 100);
}

TEST(CropCenter, TakesTheMiddle) {
  const Image image{
      3, 3, {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8}};
  EXPECT_EQ(CropCenter(image, 1, 1)->rgb, (std::vector<uint8_t>{4, 4, 4}));
  EXPECT_FALSE(CropCenter(image, 4, 1));
  EXPECT_FALSE(CropCenter(image, 0, 1));
}

const Image kPixels{2, 1, {255, 0, 51, 102, 153, 204}};

TEST(ImageToTensor, PlanarByDefaultAndScaledToOne) {
  const auto t = ImageToTensor(kPixels, DType::kF32, Dims{-1, 3, 1, 2}, {});
  ASSERT_TRUE(t) << t.error().message;
  EXPECT_EQ(t->dims(), (Dims{1, 3, 1, 2}));
  const float want[] = {1.0f, 0.4f, 0.0f, 0.6f, 0.2f, 0.8f};
  for (int i = 0; i < 6; ++i) EXPECT_FLOAT_EQ(t->as<float>()[i], want[i]);
}

TEST(ImageToTensor, InterleavedWhenTheModelSaysSo) {
  const auto t =
      ImageToTensor(kPixels, DType::kU8, Dims{1, 1, 2, 3}, {.layout = ImageLayout::kNhwc});
  ASSERT_TRUE(t) << t.error().message;
  for (int i = 0; i < 6; ++i) EXPECT_EQ(t->as<uint8_t>()[i], kPixels.rgb[size_t(i)]);
  const Image square{8, 8, Ramp(192)};
  EXPECT_EQ(ImageToTensor(square, DType::kF32, Dims{1, 8, 8, 3}, {})->dims(), (Dims{1, 8, 8, 3}));
}

TEST(ImageToTensor, BgrSwapsAndMeanAndStdFollowTheModelsChannels) {
  const auto t = ImageToTensor(
      kPixels, DType::kF32, Dims{1, 3, 1, 2},
      {.mean = {51, 0, 255}, .std = {1, 2, 4}, .scale = 1.0f, .channels = ChannelOrder::kBgr});
  ASSERT_TRUE(t) << t.error().message;
  const float want[] = {0, 153, 0, 76.5f, 0, -38.25f};
  for (int i = 0; i < 6; ++i) EXPECT_FLOAT_EQ(t->as<float>()[i], want[i]);
}

TEST(ImageToTensor, OneChannelIsGreyAndFourAddAnOpaqueAlpha) {
  const auto grey = ImageToTensor(kPixels, DType::kF32, Dims{1, 1, 1, 2}, {.scale = 1.0f});
  ASSERT_TRUE(grey) << grey.error().message;
  EXPECT_NEAR(grey->as<float>()[0], 0.299 * 255 + 0.114 * 51, 1e-3);
  const auto four =
      ImageToTensor(kPixels, DType::kU8, Dims{1, 1, 2, 4}, {.layout = ImageLayout::kNhwc});
  ASSERT_TRUE(four) << four.error().message;
  EXPECT_EQ(four->as<uint8_t>()[3], 255);
}

TEST(ImageToTensor, OpenExtentsTakeThePicturesOwnSize) {
  EXPECT_EQ(ImageToTensor(kPixels, DType::kF32, Dims{-2, 3, -3, -4}, {})->dims(),
            (Dims{1, 3, 1, 2}));
  EXPECT_EQ(
      ImageToTensor(kPixels, DType::kF32, Dims{-2, 3, -3, -4}, {.resize = ImageSize{5, 4}})->dims(),
      (Dims{1, 3, 4, 5}));
  EXPECT_EQ(ImageToTensor(kPixels, DType::kF32, Dims{3, 7, 9}, {})->dims(), (Dims{3, 7, 9}));
}

TEST(ImageToTensor, WhatDoesNotFitSaysWhy) {
  const auto message = [](DType dtype, const Dims& dims, const ImageOptions& options) {
    const auto t = ImageToTensor(kPixels, dtype, dims, options);
    return t ? "(accepted)" : t.error().message;
  };
  EXPECT_THAT(message(DType::kI64, {1, 3, 2, 2}, {}), HasSubstr("type i64"));
  EXPECT_THAT(message(DType::kF32, {1, 10}, {}), HasSubstr("rank 3 or 4"));
  EXPECT_THAT(message(DType::kF32, {2, 3, 2, 2}, {}), HasSubstr("batch of 2"));
  EXPECT_THAT(message(DType::kF32, {1, 5, 7, 7}, {}), HasSubstr("5 channels"));
  EXPECT_THAT(message(DType::kF32, {1, 3, 2, 2}, {.mean = {1, 2}}),
              HasSubstr("2 values for 3 channels"));
  EXPECT_THAT(message(DType::kF32, {1, 3, 2, 2}, {.std = {0}}), HasSubstr("divides"));
  EXPECT_THAT(message(DType::kF32, {1, 3, 2, 2}, {.resize = ImageSize{3, 2}}),
              HasSubstr("the model wants 2x2"));
  EXPECT_THAT(message(DType::kF32, {1, 3, 100000, 100000}, {}), HasSubstr("limit"));
  EXPECT_THAT(message(DType::kF32, {1, 3, -1, -1}, {.resize = ImageSize{100000, 100000}}),
              HasSubstr("cannot resize"));
}

}  // namespace
}  // namespace dunlin::cli
