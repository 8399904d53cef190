#include "grpc/metadata.h"

#include <gtest/gtest.h>

namespace dunlin::grpc {
namespace {

using namespace std::chrono_literals;

TEST(Metadata, TimeoutsInAllUnits) {
  EXPECT_EQ(ParseTimeout("2H"), 2h);
  EXPECT_EQ(ParseTimeout("3M"), 3min);
  EXPECT_EQ(ParseTimeout("4S"), 4s);
  EXPECT_EQ(ParseTimeout("5m"), 5ms);
  EXPECT_EQ(ParseTimeout("6u"), 6us);
  EXPECT_EQ(ParseTimeout("99999999n"), 99999999ns);
  EXPECT_GT(*ParseTimeout("99999999H"), 100000h);
  EXPECT_EQ(ParseTimeout("0m"), 0ns);
  for (const char* text : {"", "5", "m", "-1m", "+1m", "1x", "1 m", "123456789m", "1mm", "0x1m"})
    EXPECT_EQ(ParseTimeout(text), std::nullopt) << text;
}

TEST(Metadata, ContentTypes) {
  for (const char* type : {"application/grpc", "application/grpc+proto", "application/grpc;x=y",
                           "application/grpc+proto; charset=utf-8"})
    EXPECT_TRUE(IsGrpcContentType(type)) << type;
  for (const char* type : {"", "application/json", "application/grpcx", "application/grpc-web",
                           "application/grpc+json", "application/grp"})
    EXPECT_FALSE(IsGrpcContentType(type)) << type;
}

TEST(Metadata, MessagesArePercentEncoded) {
  EXPECT_EQ(PercentEncode("plain 'text' ~"), "plain 'text' ~");
  EXPECT_EQ(PercentEncode("100%\nü\x7f"), "100%25%0A%C3%BC%7F");
}

TEST(Metadata, TheBestAcceptedEncoding) {
  EXPECT_EQ(ChooseEncoding("identity, deflate, gzip"), Encoding::kGzip);
  EXPECT_EQ(ChooseEncoding("identity,deflate"), Encoding::kDeflate);
  EXPECT_EQ(ChooseEncoding("identity"), Encoding::kIdentity);
  EXPECT_EQ(ChooseEncoding(""), Encoding::kIdentity);
  EXPECT_EQ(ChooseEncoding("zstd, , br,"), Encoding::kIdentity);
}

TEST(Metadata, HeadersOfACall) {
  CallHead head;
  head.Add(":method", "POST");
  head.Add(":path", "/s/M");
  head.Add("content-type", "application/grpc");
  head.Add("te", "trailers");
  head.Add("grpc-timeout", "nonsense");
  head.Add("grpc-encoding", "snappy");
  head.Add("x", "1");
  head.Add("x", "2");
  head.Add("empty", "");
  EXPECT_TRUE(head.is_post && head.is_grpc && head.bad_timeout);
  EXPECT_EQ(head.path, "/s/M");
  EXPECT_EQ(head.encoding, Encoding::kUnknown);
  EXPECT_EQ(head.metadata.Get("x"), "1");
  EXPECT_EQ(head.metadata.Get("te"), "");
  std::string all;
  head.metadata.ForEach([&](std::string_view name, std::string_view value) {
    all.append(name).append("=").append(value).append(";");
  });
  EXPECT_EQ(all, "x=1;x=2;empty=;");
}

}  // namespace
}  // namespace dunlin::grpc
