#include "dunlin/tune_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace dunlin {
namespace {

class TuneFile : public testing::Test {
 protected:
  TuneFile() {
    std::string name = testing::TempDir() + "tune.XXXXXX";
    folder_ = ::mkdtemp(name.data());
    path_ = folder_ + "/deep/er/tune.json";
  }
  ~TuneFile() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& text) {
    std::filesystem::create_directories(folder_ + "/deep/er");
    std::ofstream(path_) << text;
  }
  std::string Text() {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string folder_, path_;
};

TuneTable One(const std::string& key) {
  return {{key, {"indirect", {{"winograd_4x4", 12.5}, {"indirect", 10}}}}};
}

TEST_F(TuneFile, ReadsBackWhatWasMergedOverTime) {
  ASSERT_TRUE(ReadTuneFile(path_).has_value());
  EXPECT_TRUE(ReadTuneFile(path_)->empty());
  ASSERT_TRUE(MergeIntoTuneFile(path_, One("a \"quoted\" key")).has_value());
  ASSERT_TRUE(MergeIntoTuneFile(path_, One("b")).has_value());
  const auto table = ReadTuneFile(path_);
  ASSERT_TRUE(table.has_value()) << table.error().message;
  ASSERT_EQ(table->size(), 2u);
  const Measured& m = table->at("a \"quoted\" key");
  EXPECT_EQ(m.way, "indirect");
  ASSERT_EQ(m.times.size(), 2u);
  EXPECT_EQ(m.times[0].way, "winograd_4x4");
  EXPECT_DOUBLE_EQ(m.times[0].microseconds, 12.5);
}

TEST_F(TuneFile, WhatIsDamagedOrForeignIsNamedAndLeftAlone) {
  ASSERT_TRUE(MergeIntoTuneFile(path_, One("a")).has_value());
  const std::string good = Text();
  std::string other_cpu = good;
  other_cpu.replace(other_cpu.find("\"cpu\":\"") + 7, 1, "?");
  for (const std::string& bad :
       {std::string("{"), std::string("\x08\x01\x12\x04onnx"), std::string("[]"),
        std::string("{\"format\":\"other\"}"), good.substr(0, good.size() / 2), other_cpu,
        std::string("{\"format\":\"dunlin-tune-1\",\"cpu\":7}")}) {
    Write(bad);
    const auto read = ReadTuneFile(path_);
    ASSERT_FALSE(read.has_value()) << bad;
    EXPECT_EQ(read.error().code, Code::kInvalidArgument);
    EXPECT_NE(read.error().message.find(path_), std::string::npos) << read.error().message;
    EXPECT_FALSE(MergeIntoTuneFile(path_, One("b")).has_value());
    EXPECT_EQ(Text(), bad);
  }
}

TEST_F(TuneFile, WritersAtTheSameTimeLoseNothing) {
  std::vector<std::thread> writers;
  for (int t = 0; t < 4; ++t)
    writers.emplace_back([this, t] {
      for (int i = 0; i < 20; ++i)
        EXPECT_TRUE(MergeIntoTuneFile(path_, One(fmt::format("{} {}", t, i))).has_value());
    });
  for (auto& w : writers) w.join();
  const auto table = ReadTuneFile(path_);
  ASSERT_TRUE(table.has_value()) << table.error().message;
  EXPECT_EQ(table->size(), 80u);
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/deep/er"))
    files += entry.exists() ? 1 : 0;
  EXPECT_EQ(files, 1u);
}

}  // namespace
}  // namespace dunlin
