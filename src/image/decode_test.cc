#include "image/decode.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

namespace dunlin {
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

std::vector<std::byte> Bytes(std::string_view s) {
  const auto* p = reinterpret_cast<const std::byte*>(s.data());
  return {p, p + s.size()};
}

// A BMP as its description says: 14 bytes of file header, 40 of picture header, rows bottom up,
// each padded to four bytes.
std::string Bmp(int width, int height, int bits, const std::string& palette,
                const std::string& rows) {
  std::string s = "BM";
  const auto put = [&](int64_t v, int bytes) {
    for (int i = 0; i < bytes; ++i) s += char(v >> (8 * i));
  };
  const auto at = int64_t(54 + palette.size());
  put(at + int64_t(rows.size()), 4), put(0, 4), put(at, 4);
  put(40, 4), put(width, 4), put(height, 4), put(1, 2), put(bits, 2);
  put(0, 4), put(0, 4), put(0, 4), put(0, 4), put(int64_t(palette.size()) / 4, 4), put(0, 4);
  return s + palette + rows;
}

TEST(DecodeImage, BmpRowsGoUpAndSamplesAreBlueFirst) {
  const std::string rows =
      std::string("\3\2\1\6\5\4\0\0", 8) + std::string("\x9\x8\7\xc\xb\xa\0\0", 8);
  const auto image = DecodeImage(Bytes(Bmp(2, 2, 24, "", rows)));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->rgb, (std::vector<uint8_t>{7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6}));
}

TEST(DecodeImage, BmpPalettesAreLookedUp) {
  const std::string palette("\0\0\0\0\3\2\1\0", 8);
  const auto image = DecodeImage(Bytes(Bmp(3, 1, 1, palette, std::string("\xa0\0\0\0", 4))));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->rgb, (std::vector<uint8_t>{1, 2, 3, 0, 0, 0, 1, 2, 3}));
}

TEST(DecodeImage, PnmOfAllKinds) {
  const std::vector<uint8_t> colour = {1, 2, 3, 4, 5, 6}, grey = {7, 7, 7, 9, 9, 9},
                             bits = {0, 0, 0, 255, 255, 255};
  EXPECT_EQ(DecodeImage(Bytes("P3\n# made by hand\n2 1 255\n1 2 3 4 5 6\n"))->rgb, colour);
  EXPECT_EQ(DecodeImage(Bytes("P6 2 1 255\n\1\2\3\4\5\6"))->rgb, colour);
  EXPECT_EQ(DecodeImage(Bytes("P2 2 1 255 7 9"))->rgb, grey);
  EXPECT_EQ(DecodeImage(Bytes("P5 2 1 255\n\7\x9"))->rgb, grey);
  EXPECT_EQ(DecodeImage(Bytes("P1 2 1 10"))->rgb, bits);
  EXPECT_EQ(DecodeImage(Bytes("P4 2 1\n\x80"))->rgb, bits);
  // Sixteen bits, most significant first, of at most 1000: 500 is half.
  EXPECT_EQ(DecodeImage(Bytes("P5 1 1 1000\n\1\xf4"))->rgb, (std::vector<uint8_t>{128, 128, 128}));
}

TEST(DecodeImage, CutOrImpossiblePlainFilesAreErrors) {
  const std::string whole = Bmp(2, 2, 24, "", std::string(16, '\1'));
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_FALSE(DecodeImage(Bytes(whole.substr(0, n)))) << n;
  for (const char* bad :
       {"P6 2 1 255\n\1", "P3 2 1 255 1 2", "P5 99999 99999 255 ", "P2 2 1 0 1 1", "P6"})
    EXPECT_FALSE(DecodeImage(Bytes(bad))) << bad;
}

// One directory of eight entries, then the picture: two strips of one row.
std::string Tiff(bool big, int photometric, int samples, const std::string& pixels) {
  std::string s = big ? "MM" : "II";
  const auto put = [&](int64_t v, int bytes) {
    for (int i = 0; i < bytes; ++i) s += char(v >> (8 * (big ? bytes - 1 - i : i)));
  };
  const auto entry = [&](int tag, int value) {
    put(tag, 2), put(3, 2), put(1, 4), put(value, 2), put(0, 2);
  };
  const int at = 8 + 2 + 8 * 12 + 8;  // header, directory, the two offsets
  put(42, 2), put(8, 4), put(8, 2);
  entry(256, 2), entry(257, 2), entry(258, 8), entry(259, 1), entry(262, photometric);
  put(273, 2), put(4, 2), put(2, 4), put(at - 8, 4);
  entry(277, samples), entry(278, 1);
  put(at + 2 * samples, 4), put(at, 4);  // the second row comes first
  return s + pixels;
}

TEST(DecodeImage, TiffInEitherOrderOfBytes) {
  for (const bool big : {false, true}) {
    const auto rgb = DecodeImage(Bytes(Tiff(big, 2, 3, "\7\x8\x9\xa\xb\xc\1\2\3\4\5\6")));
    ASSERT_TRUE(rgb) << rgb.error().message;
    EXPECT_EQ(rgb->rgb, (std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
    const auto grey = DecodeImage(Bytes(Tiff(big, 0, 1, std::string("\3\4\0\xff", 4))));
    ASSERT_TRUE(grey) << grey.error().message;
    EXPECT_EQ(grey->rgb,
              (std::vector<uint8_t>{255, 255, 255, 0, 0, 0, 252, 252, 252, 251, 251, 251}));
  }
  const std::string whole = Tiff(false, 1, 1, "abcd");
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_FALSE(DecodeImage(Bytes(whole.substr(0, n)))) << n;
  EXPECT_THAT(DecodeImage(Bytes(Tiff(false, 6, 3, std::string(12, 'x')))).error().message,
              HasSubstr("interpretation 6"));
}

TEST(DecodeImage, WebpWithoutLossIsExact) {
  const std::vector<uint8_t> rgb = Ramp(3 * 2 * 3);
  uint8_t* data = nullptr;
  const size_t bytes = WebPEncodeLosslessRGB(rgb.data(), 3, 2, 9, &data);
  const std::string file(reinterpret_cast<const char*>(data), bytes);
  WebPFree(data);
  const auto image = DecodeImage(Bytes(file));
  ASSERT_TRUE(image) << image.error().message;
  EXPECT_EQ(image->width, 3);
  EXPECT_EQ(image->rgb, rgb);
  for (size_t n = 0; n < file.size() / 2; ++n)
    EXPECT_FALSE(DecodeImage(Bytes(file.substr(0, n)))) << n;
}

TEST(DecodeImage, NamesFormatsItDoesNotRead) {
  EXPECT_THAT(DecodeImage(Bytes("GIF89a")).error().message, HasSubstr("GIF pictures"));
}

}  // namespace
}  // namespace dunlin
