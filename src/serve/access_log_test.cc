#include "serve/access_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

namespace dunlin::serve {
namespace {

namespace fs = std::filesystem;

class AccessLogTest : public testing::Test {
 protected:
  AccessLogTest() : folder_(fs::temp_directory_path() / fmt::format("dunlin-al-{}", ::getpid())) {
    fs::create_directories(folder_);
  }
  ~AccessLogTest() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name = "log") const { return (folder_ / name).string(); }
  std::string Content(const std::string& name = "log") const {
    std::stringstream text;
    text << std::ifstream(Path(name)).rdbuf();
    return text.str();
  }
  const fs::path folder_;
  const AccessRecord record_{.peer = "127.0.0.1:5",
                             .method = "POST",
                             .path = "/v2/models/a b\n/infer",
                             .status = 200,
                             .bytes_in = 10,
                             .bytes_out = 20,
                             .duration = std::chrono::microseconds(1500)};
};

TEST_F(AccessLogTest, OffByDefault) {
  AccessLog off;
  EXPECT_FALSE(off.enabled());
  off.Write(record_);
  EXPECT_TRUE(off.Reopen());
}

TEST_F(AccessLogTest, OneLineThatNobodyCanForge) {
  AccessRecord with_ids = record_;
  with_ids.request_id = "x=1";
  with_ids.trace_id = "0af7";
  {
    const auto log = AccessLog::Create(Path());
    ASSERT_TRUE(log) << log.error().message;
    (*log)->Write(record_);
    (*log)->Write(with_ids);
  }
  const std::string text = Content();
  const std::regex line(
      R"(time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z peer=127\.0\.0\.1:5 method=POST )"
      R"(path="/v2/models/a b\\n/infer" status=200 bytes_in=10 bytes_out=20 us=1500\.0)");
  std::istringstream lines(text);
  std::string first, second, third;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_TRUE(std::regex_match(first, line)) << first;
  EXPECT_TRUE(second.ends_with(" id=\"x=1\" trace=0af7")) << second;
  EXPECT_FALSE(std::getline(lines, third)) << third;
}

TEST_F(AccessLogTest, RotatesAndBoundsWhatAClientChooses) {
  const auto log = AccessLog::Create(Path());
  ASSERT_TRUE(log);
  AccessRecord huge = record_;
  const std::string id(1 << 20, 'x');
  huge.request_id = id;
  (*log)->Write(huge);
  while (Content().empty()) ::usleep(10'000);
  EXPECT_LT(Content().size(), 2000u);
  fs::rename(Path(), Path("old"));
  ASSERT_TRUE((*log)->Reopen());
  (*log)->Write(record_);
  while (Content().empty()) ::usleep(10'000);
  EXPECT_FALSE(AccessLog::Create(Path("none/log")));
}

TEST_F(AccessLogTest, WhatCannotBeWrittenIsCounted) {
  const auto log = AccessLog::Create("/dev/full");
  ASSERT_TRUE(log);
  (*log)->Write(record_);
  while ((*log)->dropped() == 0) ::usleep(10'000);
  EXPECT_EQ((*log)->dropped(), 1u);
}

}  // namespace
}  // namespace dunlin::serve
