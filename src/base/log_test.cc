#include "base/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

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
  const std::string line = Logged(Format::kIso8601, Level::kInfo, "model ready",
                                  {{"model", "a b"}, {"version", 3}, {"ok", true}});
  EXPECT_NE(line.find("info    model ready model=\"a b\" version=3 ok=true\n"), std::string::npos)
      << line;
}

TEST(Log, DefaultLineBeginsAsTritons) {
  const std::string line = Logged(Format::kDefault, Level::kWarning, "late", {{"ms", 5}});
  EXPECT_TRUE(std::regex_match(line, std::regex(R"(W\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ late ms=5\n)")))
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
  for (const Format format : {Format::kDefault, Format::kIso8601, Format::kJson}) {
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
  EXPECT_EQ(Logged(Format::kIso8601, Level::kVerbose, "quiet", {}), "");
  Configure({.format = Format::kIso8601, .info = false, .verbose = 1});
  testing::internal::CaptureStderr();
  Info("dropped");
  Verbose("kept");
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_EQ(out.find("dropped"), std::string::npos);
  EXPECT_NE(out.find("kept"), std::string::npos);
}

TEST(Log, EveryLevelCanBeTurnedOffByTheExtension) {
  Configure({});
  ASSERT_TRUE(Apply({.info = false, .warning = false, .error = false, .verbose_level = 1u}));
  testing::internal::CaptureStderr();
  Info("dropped");
  Warning("dropped");
  Error("dropped");
  Verbose("kept");
  const std::string out = testing::internal::GetCapturedStderr();
  EXPECT_EQ(out.find("dropped"), std::string::npos) << out;
  EXPECT_NE(out.find("kept"), std::string::npos);
  EXPECT_EQ(Current().verbose, 1);
  Configure({});
}

TEST(Log, ChangesAreAllOrNothing) {
  Configure({});
  const Status bad = Apply({.info = false, .format = "fancy"});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, Code::kInvalidArgument);
  EXPECT_TRUE(Current().info);
  const Status file = Apply({.info = false, .file = true});
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, Code::kUnimplemented);
  EXPECT_EQ(file.error().message, "log file location can not be updated through network protocol");
  EXPECT_TRUE(Current().info);
  EXPECT_TRUE(Apply({.format = "ISO8601"}));
  EXPECT_EQ(Current().format, Format::kIso8601);
  Configure({});
}

TEST(Log, AFileCanBeRotated) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::temp_directory_path() / fmt::format("dunlin-log-{}", ::getpid());
  fs::create_directories(folder);
  const std::string path = (folder / "log").string();
  const auto content = [](const std::string& file) {
    std::stringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
  };
  Configure({});
  ASSERT_TRUE(OpenFile(path));
  EXPECT_EQ(FilePath(), path);
  Info("first");
  fs::rename(path, path + ".1");
  Info("second");
  ASSERT_TRUE(ReopenFile());
  Info("third");
  ASSERT_TRUE(OpenFile(""));
  EXPECT_NE(content(path + ".1").find("second"), std::string::npos);
  EXPECT_EQ(content(path).find("second"), std::string::npos);
  EXPECT_NE(content(path).find("third"), std::string::npos);
  EXPECT_FALSE(OpenFile((folder / "none" / "log").string()));
  fs::remove_all(folder);
}

}  // namespace
}  // namespace dunlin::log
