#include "http/compress.h"

#include <gtest/gtest.h>

#include <random>

namespace dunlin::http {
namespace {

TEST(Compress, RoundTripsBothFormats) {
  std::string text;
  for (int i = 0; i < 100000; ++i) text += char(i * 7 % 251);
  for (const Encoding e : {Encoding::kGzip, Encoding::kDeflate}) {
    const auto packed = Compress(text, e);
    ASSERT_TRUE(packed);
    EXPECT_LT(packed->size(), text.size());
    const auto back = Decompress(*packed, e, 100000);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(*back, text);
    EXPECT_EQ(Decompress("", e, 10).error().code, Code::kInvalidArgument);
    EXPECT_EQ(*Decompress(*Compress("", e), e, 0), "");
  }
}

TEST(Compress, ABombIsStoppedAtTheLimit) {
  const auto bomb = Compress(std::string(16 << 20, '\0'), Encoding::kGzip);
  ASSERT_TRUE(bomb);
  EXPECT_LT(bomb->size(), 100000u);
  const auto r = Decompress(*bomb, Encoding::kGzip, 1 << 20);
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message.find("exceeds the maximum allowed input size of 1048576 bytes"),
            std::string::npos);
}

TEST(Compress, DamageIsAnError) {
  const std::string packed = *Compress(std::string(5000, 'x') + "tail", Encoding::kDeflate);
  EXPECT_FALSE(Decompress(packed.substr(0, packed.size() - 3), Encoding::kDeflate, 1 << 20));
  EXPECT_FALSE(Decompress(packed + "more", Encoding::kDeflate, 1 << 20));
  EXPECT_FALSE(Decompress(packed, Encoding::kGzip, 1 << 20));
  std::mt19937 random(3);
  for (int i = 0; i < 1000; ++i) {
    std::string damaged = packed;
    damaged[random() % damaged.size()] = char(random());
    (void)Decompress(damaged, Encoding::kDeflate, 1 << 20).has_value();
  }
}

TEST(ContentEncoding, NamesWhatIsUnderstood) {
  EXPECT_EQ(*ParseContentEncoding(""), Encoding::kIdentity);
  EXPECT_EQ(*ParseContentEncoding(" GZip "), Encoding::kGzip);
  EXPECT_EQ(*ParseContentEncoding("deflate"), Encoding::kDeflate);
  EXPECT_EQ(ParseContentEncoding("br").error().code, Code::kUnimplemented);
  EXPECT_EQ(ParseContentEncoding("br").error().message, "Unsupported compression type");
}

TEST(AcceptEncoding, TakesTheBestOfWhatWeHave) {
  EXPECT_EQ(ChooseEncoding(""), Encoding::kIdentity);
  EXPECT_EQ(ChooseEncoding("br, *"), Encoding::kIdentity);
  EXPECT_EQ(ChooseEncoding("gzip"), Encoding::kGzip);
  EXPECT_EQ(ChooseEncoding("deflate, gzip"), Encoding::kDeflate);
  EXPECT_EQ(ChooseEncoding("gzip;q=0.5, deflate;q=0.8"), Encoding::kDeflate);
  EXPECT_EQ(ChooseEncoding("gzip;q=0, identity"), Encoding::kIdentity);
}

}  // namespace
}  // namespace dunlin::http
