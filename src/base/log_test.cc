#include "base/log.h"
#include <algorithm>

#include <gtest/gtest.h>

namespace dunlin::log {
namespace {

std::string Logged(Format format, Level level, std::string_view event,
                   std::initializer_list<Field> fields) {
  Configure({.format = format, .info = true, .verbose = 0});
  testing::internal::CaptureStderr();
  Write(level, event, fields);
  return testing::internal::GetCapturedStderr();
}

TEST(Log, TextLineHasLevelEventAndFields) {
  const std::string line = Logged(Format::kText, Level::kInfo, "model ready",
                                  {{"model", "a b"}, {"version", 3}, {"ok", true}});
  EXPECT_NE(line.find("info    model ready model=\"a b\" version=3 ok=true\n"), std::string::npos)
      << line;
}

TEST(Log, JsonLineIsOneObject) {
  const std::string line =
      Logged(Format::kJson, Level::kError, "no", {{"why", "a \"quote\""}, {"seconds", 0.5}});
  EXPECT_EQ(line.find("{\"time\":\""), 0u) << line;
  EXPECT_NE(
      line.find(
          "\"level\":\"error\",\"event\":\"no\",\"why\":\"a \\\"quote\\\"\",\"seconds\":0.5}\n"),
      std::string::npos)
      << line;
}

TEST(Log, NewlinesInValuesCannotForgeALine) {
  for (const Format format : {Format::kText, Format::kJson}) {
    const std::string line =
        Logged(format, Level::kWarning, "bad\nname", {{"name", "x\nerror forged\r"}});
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1) << line;
    EXPECT_EQ(line.find('\r'), std::string::npos);
  }
}

TEST(Log, JsonLinesAreUtf8WhateverIsLogged) {
  const std::string line = Logged(Format::kJson, Level::kInfo, "x", {{"name", "a\xff\x01"}});
  EXPECT_NE(line.find("\"name\":\"a\xef\xbf\xbd\\u0001\""), std::string::npos) << line;
}

TEST(Log, LevelsCanBeTurnedOff) {
  EXPECT_EQ(Logged(Format::kText, Level::kVerbose, "quiet", {}), "");
  Configure({.format = Format::kText, .info = false, .verbose = 1});
  testing::internal::CaptureStderr();
  Info("dropped");
  Verbose("kept");
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_EQ(out.find("dropped"), std::string::npos);
  EXPECT_NE(out.find("kept"), std::string::npos);
}

}  // namespace
}  // namespace dunlin::log
