#include "serve/trace_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace dunlin::serve {
namespace {

namespace fs = std::filesystem;

class TraceFileTest : public testing::Test {
 protected:
  TraceFileTest()
      : folder_(fs::temp_directory_path() / fmt::format("dunlin-trace-{}", ::getpid())) {
    fs::create_directories(folder_);
  }
  ~TraceFileTest() override { fs::remove_all(folder_); }
  std::string Path() const { return (folder_ / "t.json").string(); }
  std::string Content(const std::string& suffix = "") const {
    std::stringstream text;
    text << std::ifstream(Path() + suffix).rdbuf();
    return text.str();
  }
  static TraceRecord Record(uint64_t id, uint32_t log_frequency = 0, uint64_t group = 1) {
    TraceRecord r;
    r.id = id;
    r.model = "m";
    r.version = 2;
    r.log_frequency = log_frequency;
    r.group = group;
    return r;
  }
  const fs::path folder_;
};

TEST_F(TraceFileTest, WritesTritonsForm) {
  const auto file = MakeTraceFile(Path());
  TraceRecord r = Record(7);
  r.request_id = "a\"b";
  r.parent_id = 3;
  r.ns[size_t(TracePoint::kRequestStart)] = 100;
  r.ns[size_t(TracePoint::kHttpRecvStart)] = 90;
  r.tensors = R"({"id":7,"activity":"X"},)";
  file->Write({r});
  EXPECT_EQ(Content(),
            R"([{"id":7,"model_name":"m","model_version":2,"request_id":"a\"b","parent_id":3},)"
            R"({"id":7,"timestamps":[{"name":"HTTP_RECV_START","ns":90}]},)"
            R"({"id":7,"timestamps":[{"name":"REQUEST_START","ns":100}]},)"
            R"({"id":7,"activity":"X"}])");
}

TEST_F(TraceFileTest, IsWholeAfterEveryWrite) {
  const auto file = MakeTraceFile(Path());
  const std::string one = R"({"id":1,"model_name":"m","model_version":2})";
  file->Write({Record(1)});
  EXPECT_EQ(Content(), "[" + one + "]");
  file->Write({Record(1), Record(1)});
  EXPECT_EQ(Content(), "[" + one + "," + one + "," + one + "]");
  EXPECT_EQ(file->dropped(), 0u);
}

TEST_F(TraceFileTest, LogFrequencyNumbersTheFiles) {
  const auto file = MakeTraceFile(Path());
  file->Write({Record(1, 2), Record(2, 2), Record(3, 2)});
  file->Write({Record(9, 1, 2), Record(4, 2), Record(5, 2)});
  EXPECT_FALSE(fs::exists(Path()));
  const auto ids = [&](const std::string& suffix) {
    std::string found;
    const std::string text = Content(suffix);
    for (size_t at = 0; (at = text.find("\"id\":", at)) != text.npos; ++at) found += text[at + 5];
    return found;
  };
  EXPECT_EQ(ids(".0"), "12");
  EXPECT_EQ(ids(".1"), "34");
  EXPECT_EQ(ids(".2"), "9");
  EXPECT_EQ(ids(".3"), "5");
}

TEST_F(TraceFileTest, StopsAtItsLimitAndCounts) {
  const auto file = MakeTraceFile(Path(), 200);
  for (int i = 0; i < 10; ++i) file->Write({Record(1)});
  EXPECT_LE(Content().size(), 202u);
  EXPECT_EQ(Content().back(), ']');
  EXPECT_GT(file->dropped(), 0u);
  const auto nowhere = MakeTraceFile((folder_ / "none" / "t").string());
  nowhere->Write({Record(1), Record(2)});
  EXPECT_EQ(nowhere->dropped(), 2u);
}

}  // namespace
}  // namespace dunlin::serve
