#include "cli/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dunlin::cli {
namespace {

using testing::HasSubstr;

std::vector<uint8_t> Ramp(size_t n) {
  std::vector<uint8_t> v(n);
  for (size_t i = 0; i < n; ++i) v[i] = uint8_t(i * 5);
  return v;
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
