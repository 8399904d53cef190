#include "ops/testing.h"

namespace dunlin {
namespace {

using testing::Near;
using testing::OpTest;

Tensor Strings(Dims dims, std::initializer_list<std::string> v) {
  return Tensor::Of<std::string>(dims, v);
}

TEST(StringNormalizer, DropsStopWordsAndChangesCase) {
  OpTest t("StringNormalizer");
  t.Attr("case_change_action", "UPPER").Attr("stopwords", std::vector<std::string>{"MONDAY"});
  t.Input(Strings({1, 3}, {"monday", "Straße é", "x"}));
  EXPECT_TRUE(Near((*t.Reference())[0], Strings({1, 2}, {"STRAßE É", "X"})));
}

TEST(StringNormalizer, LeavesOneEmptyStringWhenNothingIsLeft) {
  OpTest t("StringNormalizer");
  t.Attr("is_case_sensitive", 1)
      .Attr("stopwords", std::vector<std::string>{"a"})
      .Input(Strings({2}, {"a", "a"}));
  EXPECT_TRUE(Near((*t.Reference())[0], Strings({1}, {""})));
}

TEST(StringNormalizer, KeepsBytesThatAreNotUtf8) {
  OpTest t("StringNormalizer");
  t.Attr("case_change_action", "LOWER").Input(Strings({1}, {"A\xff\xc3"}));
  EXPECT_TRUE(Near((*t.Reference())[0], Strings({1}, {"a\xff\xc3"})));
}

TEST(StringConcat, Broadcasts) {
  OpTest t("StringConcat");
  t.Input(Strings({2, 1}, {"a", "b"})).Input(Strings({3}, {"1", "2", "3"}));
  EXPECT_TRUE(Near((*t.Reference())[0], Strings({2, 3}, {"a1", "a2", "a3", "b1", "b2", "b3"})));
  t.ExpectInferIsTotal();
}

TEST(StringSplit, FillsUpWithEmptyStringsAndCounts) {
  OpTest t("StringSplit");
  t.Attr("delimiter", ",")
      .Attr("maxsplit", 2)
      .Outputs(2)
      .Input(Strings({3}, {"a,b,c,d", "", "e,"}));
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], Strings({3, 3}, {"a", "b", "c,d", "", "", "", "e", "", ""})));
  EXPECT_TRUE(Near((*r)[1], Tensor::Of<int64_t>({3}, {3, 1, 2})));
}

TEST(StringSplit, WithoutDelimiterSplitsAtRunsOfSpace) {
  OpTest t("StringSplit");
  t.Outputs(2).Input(Strings({2}, {"  hello \t world ", "   "}));
  const auto r = t.Reference();
  EXPECT_TRUE(Near((*r)[0], Strings({2, 2}, {"hello", "world", "", ""})));
  EXPECT_TRUE(Near((*r)[1], Tensor::Of<int64_t>({2}, {2, 0})));
}

OpTest Bigrams(const char* mode) {
  OpTest t("TfIdfVectorizer");
  t.Attr("mode", mode)
      .Attr("min_gram_length", 1)
      .Attr("max_gram_length", 2)
      .Attr("max_skip_count", 1);
  t.Attr("ngram_counts", std::vector<int64_t>{0, 2})
      .Attr("ngram_indexes", std::vector<int64_t>{2, 0, 1});
  t.Attr("pool_int64s", std::vector<int64_t>{7, 8, /*bigram*/ 7, 8})
      .Attr("weights", std::vector<float>{2, 3, 5});
  t.Input(Tensor::Of<int32_t>({2, 4}, {7, 8, 8, 9, 9, 9, 9, 9}));
  return t;
}

TEST(TfIdf, CountsGramsWithSkipsAndWeighs) {
  // Row 0: 7 once, 8 twice, (7,8) adjacent and with one item between.
  EXPECT_TRUE(Near((*Bigrams("TF").Reference())[0], Tensor::Of<float>({2, 3}, {2, 2, 1, 0, 0, 0})));
  EXPECT_TRUE(
      Near((*Bigrams("IDF").Reference())[0], Tensor::Of<float>({2, 3}, {3, 5, 2, 0, 0, 0})));
  EXPECT_TRUE(
      Near((*Bigrams("TFIDF").Reference())[0], Tensor::Of<float>({2, 3}, {6, 10, 2, 0, 0, 0})));
}

TEST(TfIdf, RefusesAPoolThatDoesNotFit) {
  OpTest t = Bigrams("TF");
  t.Attr("ngram_counts", std::vector<int64_t>{0, 9});
  EXPECT_EQ(t.Infer().error().code, Code::kInvalidArgument);
  OpTest u = Bigrams("TF");
  u.Attr("ngram_indexes", std::vector<int64_t>{0, 1, -1});
  EXPECT_EQ(u.Infer().error().code, Code::kInvalidArgument);
}

TEST(RegexFullMatch, MatchesTheWholeStringOnly) {
  OpTest t("RegexFullMatch");
  t.Attr("pattern", R"((\w+)@(a|b)\.com)");
  t.Input(Strings({2, 2}, {"x@a.com", "x@b.com.", "é@a.com", ""}));
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<bool>({2, 2}, {true, false, false, false})));
  t.ExpectInferIsTotal();
}

TEST(RegexFullMatch, IsQuickWhereBacktrackingIsNot) {
  OpTest t("RegexFullMatch");
  t.Attr("pattern", "(a*)*b").Input(Strings({1}, {std::string(100000, 'a')}));
  EXPECT_FALSE((*t.Reference())[0].as<bool>()[0]);
}

TEST(RegexFullMatch, RefusesWhatIsNoPattern) {
  OpTest t("RegexFullMatch");
  t.Attr("pattern", "(a").Input(Strings({1}, {"a"}));
  EXPECT_EQ(t.Infer().error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin
