#include "http/base64.h"

#include <gtest/gtest.h>

namespace dunlin::http {
namespace {

TEST(Base64, Decodes) {
  EXPECT_EQ(Base64Decode("").value(), "");
  EXPECT_EQ(Base64Decode("Zg==").value(), "f");
  EXPECT_EQ(Base64Decode("Zm8=").value(), "fo");
  EXPECT_EQ(Base64Decode("Zm9v").value(), "foo");
  EXPECT_EQ(Base64Decode("Zm9v\nYmFy").value(), "foobar");
  EXPECT_EQ(Base64Decode("Zm8").value(), "fo");
  EXPECT_EQ(Base64Decode("+/8A").value(), std::string("\xfb\xff\0", 3));
}

TEST(Base64, RefusesWhatIsNot) {
  for (const char* text : {"Z", "Zg=", "Zg===", "Zg==Zg==", "Z g=", "Zm9v!", "\xff\xff\xff\xff"})
    EXPECT_FALSE(Base64Decode(text)) << text;
}

}  // namespace
}  // namespace dunlin::http
