#include "cli/outputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "cli/files.h"
#include "cli/npy.h"
#include "cli/stats.h"
#include "cli/text.h"

namespace dunlin::cli {
namespace {

using testing::HasSubstr;

TEST(SaveOutputs, NamesFilesByOutputAndSequenceIndex) {
  const std::string dir = testing::TempDir() + "saved/deep";
  std::filesystem::remove_all(dir);
  Value sequence;
  sequence.kind = Value::Kind::kSequence;
  sequence.sequence = {Tensor::Scalar(1.0f), Tensor::Scalar(2.0f)};
  const NamedValue outputs[] = {{"a/b:0", Tensor::Scalar(7.0f)},
                                {"a_b:0", Tensor::Scalar(8.0f)},
                                {"s", sequence},
                                {"gone", Value{}}};
  const auto paths = SaveOutputs(dir, outputs);
  ASSERT_TRUE(paths) << paths.error().message;
  EXPECT_THAT(*paths, testing::ElementsAre(dir + "/a_b:0.npy", dir + "/a_b:0_.npy",
                                           dir + "/s.0.npy", dir + "/s.1.npy"));
  EXPECT_EQ(ReadNpy(dir + "/s.1.npy")->as<float>()[0], 2.0f);
}

TEST(SaveOutputs, AFolderThatCannotBeMadeIsAnError) {
  const NamedValue outputs[] = {{"a", Tensor::Scalar(7.0f)}};
  EXPECT_FALSE(SaveOutputs("/dev/null/x", outputs));
}

TEST(FileNameFor, NeverLeavesTheFolder) {
  EXPECT_EQ(FileNameFor("../../etc/passwd"), ".._.._etc_passwd");
  EXPECT_EQ(FileNameFor(".."), "_");
  EXPECT_EQ(FileNameFor(""), "_");
  EXPECT_EQ(FileNameFor(std::string("a\0b", 3)), "a_b");
  EXPECT_LE(FileNameFor(std::string(10000, 'x')).size(), 230u);
}

TEST(Summary, CountsWhatIsNotFinite) {
  const NamedValue outputs[] = {{"y", Tensor::Of<float>({4}, {1, NAN, INFINITY, 3})}};
  const std::string text = Summary(outputs);
  EXPECT_THAT(text, HasSubstr("y: f32 [4]  min 1  mean 2  max 3  NaN 1  infinite 1"));
}

TEST(TopK, IsStableAndSkipsNaN) {
  const double scores[] = {1, NAN, 5, 5, -2};
  const auto best = TopK(scores, 3);
  ASSERT_EQ(best.size(), 3u);
  EXPECT_EQ(best[0].index, 2);
  EXPECT_EQ(best[1].index, 3);
  EXPECT_EQ(best[2].index, 0);
  EXPECT_EQ(TopK(scores, 100).size(), 4u);
  EXPECT_TRUE(TopK({}, 3).empty());
}

TEST(TopKText, RanksEveryRowAndUsesLabels) {
  const NamedValue outputs[] = {{"p", Tensor::Of<float>({2, 2, 1, 1}, {0.1f, 0.9f, 0.8f, 0.2f})}};
  const std::string labels[] = {"cat", "dog"};
  const std::string text = TopKText(outputs, 1, labels);
  EXPECT_THAT(text, HasSubstr("p[0]:\n    0.900000       1  dog"));
  EXPECT_THAT(text, HasSubstr("p[1]:\n    0.800000       0  cat"));
}

TEST(Summarise, UsesNearestRank) {
  std::vector<double> hundred;
  for (int i = 100; i >= 1; --i) hundred.push_back(i);
  const LatencyStats s = Summarise(hundred);
  EXPECT_EQ(s.min, 1);
  EXPECT_EQ(s.median, 50.5);
  EXPECT_EQ(s.p90, 90);
  EXPECT_EQ(s.p99, 99);
  EXPECT_EQ(s.max, 100);
  EXPECT_EQ(s.runs, 100);
  EXPECT_EQ(Summarise({3}).p99, 3);
  EXPECT_EQ(Summarise({}).runs, 0);
}

TEST(Text, HumanNumbersKeepTheirUnit) {
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanCount(300'800'000), "300.8 M");
  EXPECT_EQ(HumanMillis(0.0931), "0.0931 ms");
  EXPECT_EQ(HumanMillis(12.34), "12.3 ms");
  EXPECT_EQ(HumanMillis(1234.5), "1234 ms");
}

TEST(Table, AlignsNumbersRightAndTextLeft) {
  Table t({"name", "n"});
  t.Add({"a", "5"});
  t.Add({"long", "123"});
  EXPECT_EQ(t.Text(), "name    n\na       5\nlong  123\n");
}

}  // namespace
}  // namespace dunlin::cli
