#include "base/json_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include <cmath>

namespace dunlin {
namespace {

TEST(JsonWriter, PutsCommasWhereTheyBelong) {
  JsonWriter json;
  json.BeginObject().Key("a").BeginArray().Int(1).BeginObject().End().BeginArray().End().End();
  json.Key("b").Bool(true).Key("c").Double(0.5).Key("d").String("x").End();
  EXPECT_EQ(json.text(), R"({"a":[1,{},[]],"b":true,"c":0.5,"d":"x"})");
}

TEST(JsonWriter, NumbersThatJsonLacksAreNull) {
  JsonWriter json;
  json.BeginArray().Double(NAN).Double(INFINITY).Double(1e300).End();
  EXPECT_EQ(json.text(), "[null,null,1e+300]");
}

TEST(JsonQuoted, EscapesControlCharactersAndQuotes) {
  EXPECT_EQ(JsonQuoted("a\"b\\c\n\x01"), R"("a\"b\\c\n\u0001")");
  EXPECT_EQ(JsonQuoted("ünï 鳥"), "\"ünï 鳥\"");
}

TEST(JsonQuoted, BytesThatAreNotUtf8AreReplaced) {
  EXPECT_EQ(JsonQuoted("a\xff"), "\"a\xef\xbf\xbd\"");
  EXPECT_EQ(JsonQuoted("\xe2\x82"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");  // cut short
  EXPECT_EQ(JsonQuoted("\xc0\xaf"), "\"\xef\xbf\xbd\xef\xbf\xbd\"");  // overlong
  EXPECT_EQ(JsonQuoted("\xed\xa0\x80").size(), 2 + 3 * 3u);           // a surrogate
}

TEST(JsonQuoted, EveryByteCountsWhereverItStands) {
  const auto inside = [](const std::string& text) {
    const std::string quoted = JsonQuoted(text);
    return quoted.substr(1, quoted.size() - 2);
  };
  for (size_t at = 0; at < 20; ++at) {
    for (int c = 0; c < 256; ++c) {
      const std::string before(at, 'a'), after(20 - at, 'z');
      EXPECT_EQ(inside(before + char(c) + after), before + inside(std::string(1, char(c))) + after);
    }
  }
}

TEST(JsonWriter, NumbersReadBackAsTheSameValue) {
  JsonWriter json;
  json.BeginArray().Number(1.0f).Number(0.1f).Number(0.1).Number(1e30).Number(uint64_t{1} << 63);
  json.Number(std::nanf("")).Number(-std::numeric_limits<double>::infinity()).Number(int8_t{-5});
  json.Number(16777216.0f).End();
  EXPECT_EQ(json.text(), "[1.0,0.1,0.1,1e+30,9223372036854775808,null,null,-5,16777216.0]");
}

}  // namespace
}  // namespace dunlin
