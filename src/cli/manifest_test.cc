#include "cli/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace dunlin::cli {
namespace {

using testing::HasSubstr;

const std::string kSha(64, 'a');

// A manifest of one model with these fields in place of the sound ones.
std::string With(const std::string& name, const std::string& package, const std::string& from,
                 const std::string& to, const std::string& sha256) {
  return fmt::format(
      R"({{"models": [{{"name": "{}", "package": "{}", "license": "MIT", "about": "", "input": "",
      "files": [{{"from": "{}", "to": "{}", "sha256": "{}", "bytes": 1}}]}}]}})",
      name, package, from, to, sha256);
}
std::string Message(const std::string& json) {
  const auto manifest = ParseManifest(json);
  return manifest ? "(accepted)" : manifest.error().message;
}

TEST(Manifest, TheBuiltInOneIsSound) {
  const auto manifest = ParseManifest(BuiltInManifest());
  ASSERT_TRUE(manifest) << manifest.error().message;
  EXPECT_GE(manifest->models.size(), 20u);
  EXPECT_TRUE(manifest->Find("ppocr_det").has_value());
  std::set<std::string> defaults;
  for (const SampleModel& m : manifest->models) {
    EXPECT_TRUE(manifest->package_bytes.contains(m.package)) << m.package;
    EXPECT_EQ(m.files.back().to, "1/model.onnx");
    EXPECT_FALSE(m.license.empty());
    if (m.is_default) defaults.insert(m.name);
  }
  EXPECT_EQ(defaults, (std::set<std::string>{"blazeface_front", "ppocr_cls", "ppocr_det",
                                             "ppocr_rec", "silero_vad_v5"}));
}

TEST(Manifest, AcceptsPinnedPackagesOfBothForms) {
  EXPECT_EQ(Message(With("m", "pack@1.0.0", "a/b", "1/model.onnx", kSha)), "(accepted)");
  EXPECT_EQ(Message(With("m", "@scope/pack@0.0.31", "a", "b", kSha)), "(accepted)");
}

TEST(Manifest, AFileMayComeInParts) {
  std::string json = With("m", "p@1", "PARTS", "1/model.onnx", kSha);
  const auto parts = [&](const std::string& list) {
    std::string text = json;
    return text.replace(text.find("\"PARTS\""), 7, list);
  };
  const auto manifest = ParseManifest(parts(R"(["a", "b/c"])"));
  ASSERT_TRUE(manifest) << manifest.error().message;
  EXPECT_EQ(manifest->models[0].files[0].from, (std::vector<std::string>{"a", "b/c"}));
  EXPECT_THAT(Message(parts("[]")), HasSubstr("list of texts"));
  EXPECT_THAT(Message(parts(R"(["a", 1])")), HasSubstr("list of texts"));
  EXPECT_THAT(Message(parts(R"(["a", "../b"])")), HasSubstr("relative path"));
}

TEST(Manifest, NothingLeavesTheRepository) {
  for (const char* path : {"../x", "a/../b", "/etc/passwd", "a//b", "", ".hidden", "-rf", "a/-b"}) {
    EXPECT_THAT(Message(With("m", "p@1", "a", path, kSha)), HasSubstr("relative path")) << path;
    EXPECT_THAT(Message(With("m", "p@1", path, "a", kSha)), HasSubstr("relative path")) << path;
  }
  for (const char* name : {"..", "a/b", "", ".x"})
    EXPECT_THAT(Message(With(name, "p@1", "a", "b", kSha)), HasSubstr("cannot name a folder"))
        << name;
}

TEST(Manifest, APackageIsNeverAnOptionOrAnUnpinnedSource) {
  for (const char* package : {"p", "p@", "p@latest", "--registry=x@1", "git+ssh://x@1", "file:..@1",
                              "@a/b/../c@1", "p@1;x"})
    EXPECT_THAT(Message(With("m", package, "a", "b", kSha)),
                HasSubstr("not a package with a version"))
        << package;
}

TEST(Manifest, ChecksumsAreWholeAndLowerCase) {
  EXPECT_THAT(Message(With("m", "p@1", "a", "b", "abc")), HasSubstr("64 lower-case"));
  EXPECT_THAT(Message(With("m", "p@1", "a", "b", std::string(64, 'A'))),
              HasSubstr("64 lower-case"));
}

TEST(Manifest, BrokenJsonIsAnError) {
  EXPECT_THAT(Message(""), HasSubstr("manifest: "));
  EXPECT_THAT(Message("[]"), HasSubstr("no array 'models'"));
  EXPECT_THAT(Message(R"({"models": [3]})"), HasSubstr("no text 'name'"));
  EXPECT_THAT(
      Message(
          R"({"models": [{"name": "m", "package": "p@1", "license": "", "about": "", "input": "", "files": []}]})"),
      HasSubstr("no files"));
}

TEST(Manifest, AnUnknownModelIsToldTheKnownOnes) {
  const auto manifest = ParseManifest(With("only", "p@1", "a", "b", kSha));
  ASSERT_TRUE(manifest);
  EXPECT_THAT(manifest->Find("other").error().message, HasSubstr("there are only"));
}

}  // namespace
}  // namespace dunlin::cli
