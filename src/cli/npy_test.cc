#include "cli/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

namespace dunlin::cli {
namespace {

std::vector<std::byte> Bytes(std::string_view s) {
  std::vector<std::byte> out(s.size());
  std::memcpy(out.data(), s.data(), s.size());
  return out;
}

// A file of version `version` with this dict as it stands and this data.
std::vector<std::byte> File(std::string dict, std::string_view data, int version = 1) {
  dict += '\n';
  std::string out = "\x93NUMPY";
  out += char(version);
  out += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) out += char(dict.size() >> (8 * i) & 0xff);
  return Bytes(out + dict + std::string(data));
}
std::vector<std::byte> File(const char* descr, const char* order, const char* shape,
                            std::string_view data) {
  return File(
      fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}", descr, order, shape),
      data);
}

std::string Message(const std::vector<std::byte>& file) {
  const auto t = ParseNpy(file);
  return t ? "(accepted)" : t.error().message;
}

TEST(Npy, WritesWhatNumPyWrites) {
  const auto file = FormatNpy(Tensor::Of<float>({2, 1}, {1.0f, -2.0f}));
  ASSERT_TRUE(file);
  std::string want("\x93NUMPY\x01\x00\x76\x00", 10);
  want += "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }";
  want.append(127 - want.size(), ' ');
  want += '\n';
  want += std::string("\0\0\x80\x3f\0\0\0\xc0", 8);
  EXPECT_EQ(*file, Bytes(want));
}

TEST(Npy, EveryTypeSurvivesTheRoundTrip) {
  const auto same = [](const Tensor& t) {
    const auto file = FormatNpy(t);
    ASSERT_TRUE(file);
    const auto back = ParseNpy(*file);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(back->dtype(), t.dtype());
    EXPECT_EQ(back->dims(), t.dims());
    EXPECT_EQ(std::memcmp(back->raw(), t.raw(), size_t(t.bytes())), 0);
  };
  same(Tensor::Of<float>({2, 2}, {1.5f, -0.0f, INFINITY, 1e-40f}));
  same(Tensor::Of<double>({1}, {0.1}));
  same(Tensor::Of<Half>({2}, {Half(0.5f), Half(-65504.0f)}));
  same(Tensor::Of<int8_t>({3}, {-128, 0, 127}));
  same(Tensor::Of<int16_t>({}, {-300}));
  same(Tensor::Of<int32_t>({0, 4}, {}));
  same(Tensor::Of<int64_t>({1, 1, 2}, {INT64_MIN, INT64_MAX}));
  same(Tensor::Of<uint8_t>({1}, {255}));
  same(Tensor::Of<uint16_t>({1}, {65535}));
  same(Tensor::Of<uint32_t>({1}, {4000000000u}));
  same(Tensor::Of<uint64_t>({1}, {~uint64_t{0}}));
  const bool flags[] = {true, false};
  same(Tensor::Of<bool>({2}, flags));
}

TEST(Npy, StringsSurviveTheRoundTrip) {
  const std::string words[] = {"", "naïve", "鳥 🐦", "plain"};
  const auto file = FormatNpy(Tensor::Of<std::string>({2, 2}, words));
  ASSERT_TRUE(file);
  const auto back = ParseNpy(*file);
  ASSERT_TRUE(back) << back.error().message;
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(back->values<std::string>()[i], words[i]);
}

TEST(Npy, TypesNumPyLacksAreWidenedExactly) {
  const auto bf16 = ParseNpy(*FormatNpy(Tensor::Of<BFloat16>({1}, {BFloat16(1.25f)})));
  EXPECT_EQ(bf16->as<float>()[0], 1.25f);
  const Tensor i4 = *Tensor::Zeros(DType::kI4, {3});
  i4.raw()[0] = std::byte{0x7f};  // low nibble first: -1, 7
  i4.raw()[1] = std::byte{0x08};  // -8
  const auto i8 = ParseNpy(*FormatNpy(i4));
  ASSERT_EQ(i8->dtype(), DType::kI8);
  EXPECT_EQ(i8->as<int8_t>()[0], -1);
  EXPECT_EQ(i8->as<int8_t>()[1], 7);
  EXPECT_EQ(i8->as<int8_t>()[2], -8);
  const Tensor f8 = *Tensor::Zeros(DType::kF8E4M3FN, {1});
  f8.raw()[0] = std::byte{0x7e};  // 448
  const auto wide = ParseNpy(*FormatNpy(f8));
  ASSERT_EQ(wide->dtype(), DType::kF32);
  EXPECT_EQ(wide->as<float>()[0], 448);
}

TEST(Npy, FortranOrderIsTransposed) {
  // [[1, 2, 3], [4, 5, 6]] column by column.
  const auto t = ParseNpy(File("|u1", "True", "(2, 3)", "\1\4\2\5\3\6"));
  ASSERT_TRUE(t) << t.error().message;
  for (int i = 0; i < 6; ++i) EXPECT_EQ(t->as<uint8_t>()[i], i + 1);
}

TEST(Npy, BigEndianIsSwapped) {
  const auto t = ParseNpy(File(">i4", "False", "(1,)", std::string_view("\0\0\1\2", 4)));
  ASSERT_TRUE(t) << t.error().message;
  EXPECT_EQ(t->as<int32_t>()[0], 258);
}

TEST(Npy, AnyNonZeroByteIsTrue) {
  const auto t = ParseNpy(File("|b1", "False", "(2,)", std::string_view("\x02\0", 2)));
  ASSERT_TRUE(t);
  EXPECT_EQ(uint8_t(t->raw()[0]), 1);
  EXPECT_EQ(uint8_t(t->raw()[1]), 0);
}

TEST(Npy, BytesLoseTheirTrailingNulsOnly) {
  const auto t = ParseNpy(File("|S3", "False", "(2,)", std::string_view("a\0b\xff\0\0", 6)));
  ASSERT_TRUE(t) << t.error().message;
  EXPECT_EQ(t->as<std::string>()[0], std::string("a\0b", 3));
  EXPECT_EQ(t->as<std::string>()[1], "\xff");
}

TEST(Npy, AllThreeFormatVersionsAreRead) {
  for (int version = 1; version <= 3; ++version) {
    const auto t =
        ParseNpy(File("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", "\7", version));
    ASSERT_TRUE(t) << version << t.error().message;
    EXPECT_EQ(t->as<uint8_t>()[0], 7);
  }
}

TEST(Npy, HostileHeadersAreErrors) {
  EXPECT_EQ(Message(Bytes("hello")), "it is not a .npy file");
  EXPECT_EQ(Message({}), "it is not a .npy file");
  EXPECT_THAT(Message(File("{}", "", 4)), testing::HasSubstr("version 4"));
  EXPECT_THAT(Message(Bytes(std::string("\x93NUMPY\x01\x00\xff\xff", 10))),
              testing::HasSubstr("cut short"));
  EXPECT_THAT(Message(Bytes(std::string("\x93NUMPY\x02\x00\xff\xff\xff\xff", 12))),
              testing::HasSubstr("claims"));
  EXPECT_THAT(Message(File("{'descr': '<f4'", "")), testing::HasSubstr("should have '}'"));
  EXPECT_THAT(Message(File("{'descr': '<f4'}", "")), testing::HasSubstr("lacks"));
  EXPECT_THAT(Message(File("{'evil': 1}", "")), testing::HasSubstr("unknown key"));
  EXPECT_THAT(Message(File("{'descr': [('a', '<f4')]}", "")), testing::HasSubstr("records"));
  EXPECT_THAT(Message(File("|O", "False", "(1,)", "\1")), testing::HasSubstr("'|O'"));
  EXPECT_THAT(Message(File("<c8", "False", "(1,)", "\1")), testing::HasSubstr("'<c8'"));
  EXPECT_THAT(Message(File("<U9999999999", "False", "(1,)", "\1")),
              testing::HasSubstr("cannot be read"));
  EXPECT_THAT(Message(File("|u1", "Maybe", "(1,)", "\1")),
              testing::HasSubstr("neither True nor False"));
  EXPECT_THAT(Message(File("|u1", "False", "(-1,)", "\1")),
              testing::HasSubstr("should have an extent"));
  EXPECT_THAT(Message(File("|u1", "False", "(99999999999999999999,)", "\1")),
              testing::HasSubstr("too large"));
  EXPECT_THAT(Message(File("<f8", "False", "(4611686018427387904, 8)", "\1")),
              testing::HasSubstr("does not match"));
  EXPECT_THAT(Message(File("|u1", "False", "(2,)", "\1")), testing::HasSubstr("does not match"));
  EXPECT_THAT(Message(File("|u1", "False", "(1,)", "\1\2")), testing::HasSubstr("does not match"));
  EXPECT_THAT(Message(File("|S0", "False", "(1000000000,)", "")), testing::HasSubstr("no bytes"));
  std::string deep = "(";
  for (int i = 0; i < 100; ++i) deep += "1, ";
  EXPECT_THAT(Message(File("|u1", "False", (deep + ")").c_str(), "\1")),
              testing::HasSubstr("dimensions"));
}

// Every prefix of a sound file is an error, and no single changed byte of the header crashes.
TEST(Npy, CutAndFlippedFilesNeverCrash) {
  const auto file = *FormatNpy(Tensor::Of<int16_t>({2, 3}, {1, 2, 3, 4, 5, 6}));
  for (size_t n = 0; n < file.size(); ++n) EXPECT_FALSE(ParseNpy(std::span(file).first(n)));
  for (size_t at = 0; at < 128; ++at) {
    for (int value = 0; value < 256; ++value) {
      auto changed = file;
      changed[at] = std::byte(value);
      const auto t = ParseNpy(changed);
      if (t) {
        EXPECT_LE(t->count(), 12);
      }
    }
  }
}

}  // namespace
}  // namespace dunlin::cli
