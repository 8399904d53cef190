// Expected values are worked out by hand from the operators' definitions.
#include <cmath>
#include <limits>

#include "ops/testing.h"

namespace dunlin {
namespace {

using testing::Near;
using testing::OpTest;
using Strings = std::vector<std::string>;
using Ints = std::vector<int64_t>;
using Floats = std::vector<float>;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

OpTest Ml(const std::string& name) { return OpTest(name, "ai.onnx.ml"); }
Tensor F32(const Dims& dims, std::initializer_list<float> v) { return Tensor::Of<float>(dims, v); }
Tensor I64(const Dims& dims, std::initializer_list<int64_t> v) {
  return Tensor::Of<int64_t>(dims, v);
}
Tensor Text(const Dims& dims, std::initializer_list<std::string> v) {
  return Tensor::Of<std::string>(dims, v);
}

void ExpectResult(const OpTest& t, const Tensor& expected, testing::Tolerance tol = {}) {
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], expected, tol));
  t.ExpectInferIsTotal();
}

TEST(Scaler, SubtractsThenMultipliesForEachFeature) {
  OpTest t = Ml("Scaler");
  t.Attr("offset", Floats{1, 2}).Attr("scale", Floats{2, 0.5f});
  t.Input(Tensor::Of<double>({2, 2}, {1, 2, 3, 4}));
  ExpectResult(t, F32({2, 2}, {0, 0, 4, 1}));
}

TEST(Scaler, OneEntryIsForAllFeaturesAndAWrongNumberIsAnError) {
  OpTest one = Ml("Scaler");
  one.Attr("offset", Floats{1}).Attr("scale", Floats{3}).Input(I64({3}, {1, 2, 3}));
  ExpectResult(one, F32({3}, {0, 3, 6}));
  OpTest wrong = Ml("Scaler");
  wrong.Attr("offset", Floats{1, 2}).Input(I64({3}, {1, 2, 3}));
  EXPECT_FALSE(wrong.Reference());
}

TEST(Normalizer, DividesEachRowAndLeavesZerosAlone) {
  const Tensor x = F32({3, 2}, {3, -4, 0, 0, 2, 1});
  const auto with = [&](const char* norm) {
    OpTest t = Ml("Normalizer");
    t.Attr("norm", norm).Input(x);
    return t;
  };
  ExpectResult(with("L2"),
               F32({3, 2}, {0.6f, -0.8f, 0, 0, 2 / std::sqrt(5.0f), 1 / std::sqrt(5.0f)}),
               {.rel = 1e-6});
  ExpectResult(with("L1"), F32({3, 2}, {3 / 7.0f, -4 / 7.0f, 0, 0, 2 / 3.0f, 1 / 3.0f}),
               {.rel = 1e-6});
  ExpectResult(with("MAX"), F32({3, 2}, {1, -4 / 3.0f, 0, 0, 1, 0.5f}), {.rel = 1e-6});
  EXPECT_FALSE(with("L3").Reference());
}

TEST(Imputer, ReplacesNaNByTheFeaturesOwnValue) {
  OpTest t = Ml("Imputer");
  t.Attr("imputed_value_floats", Floats{7, 8}).Attr("replaced_value_float", double(kNaN));
  t.Input(F32({2, 2}, {kNaN, 1, 2, kNaN}));
  ExpectResult(t, F32({2, 2}, {7, 1, 2, 8}));
}

TEST(Imputer, IntegersHaveValuesOfTheirOwn) {
  OpTest t = Ml("Imputer");
  t.Attr("imputed_value_int64s", Ints{5}).Attr("replaced_value_int64", -1);
  t.Input(I64({3}, {-1, 0, 3}));
  ExpectResult(t, I64({3}, {5, 0, 3}));
  OpTest other = Ml("Imputer");
  other.Attr("imputed_value_floats", Floats{5}).Input(I64({1}, {0}));
  EXPECT_FALSE(other.Reference());
}

TEST(Binarizer, IsOneAboveTheThreshold) {
  OpTest t = Ml("Binarizer");
  t.Attr("threshold", 1.0).Input(F32({4}, {0.5f, 1, 1.5f, kNaN}));
  ExpectResult(t, F32({4}, {0, 0, 1, 0}));
}

TEST(ArrayFeatureExtractor, TakesColumns) {
  OpTest t = Ml("ArrayFeatureExtractor");
  t.Input(Text({2, 3}, {"a", "b", "c", "d", "e", "f"})).Input(I64({2}, {2, 0}));
  ExpectResult(t, Text({2, 2}, {"c", "a", "f", "d"}));
  OpTest vector = Ml("ArrayFeatureExtractor");
  vector.Input(F32({3}, {1, 2, 3})).Input(I64({1, 2}, {2, 0}));
  ExpectResult(vector, F32({1, 2}, {3, 1}));
  OpTest outside = Ml("ArrayFeatureExtractor");
  outside.Input(F32({1, 3}, {1, 2, 3})).Input(I64({1}, {3}));
  EXPECT_FALSE(outside.Reference());
}

TEST(FeatureVectorizer, PadsAndCutsToTheGivenWidths) {
  OpTest t = Ml("FeatureVectorizer");
  t.Attr("inputdimensions", Ints{3, 1});
  t.Input(F32({2, 2}, {1, 2, 3, 4})).Input(I64({2, 2}, {5, 6, 7, 8}));
  ExpectResult(t, F32({2, 4}, {1, 2, 0, 5, 3, 4, 0, 7}));
}

TEST(OneHotEncoder, PutsAOneAtTheCategory) {
  OpTest t = Ml("OneHotEncoder");
  t.Attr("cats_int64s", Ints{1, 2, 4}).Input(F32({2, 2}, {1.7f, 4, 3, kNaN}));
  ExpectResult(t, F32({2, 2, 3}, {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}));
  t.ExpectKernelMatches();
  OpTest strict = Ml("OneHotEncoder");
  strict.Attr("cats_strings", Strings{"x", "y"}).Attr("zeros", 0).Input(Text({2}, {"y", "z"}));
  EXPECT_FALSE(strict.Reference());
}

TEST(LabelEncoder, MapsKeysAndGivesOthersTheDefault) {
  OpTest t = Ml("LabelEncoder");
  t.Attr("keys_strings", Strings{"Amy", "Sally"}).Attr("values_int64s", Ints{5, 6});
  t.Input(Text({2, 2}, {"Dori", "Amy", "Amy", "Sally"}));
  ExpectResult(t, I64({2, 2}, {-1, 5, 5, 6}));
  t.ExpectKernelMatches();
}

TEST(LabelEncoder, NaNIsAKeyAndTheLastOfEqualKeysCounts) {
  OpTest t = Ml("LabelEncoder");
  t.Attr("keys_floats", Floats{kNaN, 1, 1}).Attr("values_strings", Strings{"nan", "a", "b"});
  t.Attr("default_string", "?").Input(F32({3}, {1, -kNaN, 2}));
  ExpectResult(t, Text({3}, {"b", "nan", "?"}));
}

TEST(LabelEncoder, TensorsHaveNarrowTypes) {
  OpTest t = Ml("LabelEncoder");
  t.Attr("keys_tensor", Text({2}, {"a", "b"}));
  t.Attr("values_tensor", Tensor::Of<int16_t>({2}, {3, 4}));
  t.Attr("default_tensor", Tensor::Of<int16_t>({1}, {42}));
  t.Input(Text({3}, {"b", "c", "a"}));
  ExpectResult(t, Tensor::Of<int16_t>({3}, {4, 42, 3}));
}

TEST(LabelEncoder, KeysAndValuesMustBelongTogether) {
  OpTest t = Ml("LabelEncoder");
  t.Attr("keys_strings", Strings{"a"}).Attr("values_int64s", Ints{1, 2}).Input(Text({1}, {"a"}));
  EXPECT_FALSE(t.Infer());
  OpTest two = Ml("LabelEncoder");
  two.Attr("keys_strings", Strings{"a"})
      .Attr("keys_int64s", Ints{1})
      .Attr("values_int64s", Ints{1});
  two.Input(Text({1}, {"a"}));
  EXPECT_FALSE(two.Infer());
}

TEST(LabelEncoder, VersionOneNumbersItsClasses) {
  OpTest there = Ml("LabelEncoder");
  there.Attr("classes_strings", Strings{"a", "b"}).Input(Text({2}, {"b", "c"}));
  ExpectResult(there, I64({2}, {1, -1}));
  OpTest back = Ml("LabelEncoder");
  back.Attr("classes_strings", Strings{"a", "b"}).Input(I64({2}, {0, 2}));
  ExpectResult(back, Text({2}, {"a", "_Unused"}));
}

TEST(CategoryMapper, MapsBothWays) {
  const auto mapper = [] {
    OpTest t = Ml("CategoryMapper");
    t.Attr("cats_int64s", Ints{10, 20}).Attr("cats_strings", Strings{"x", "y"});
    return t;
  };
  OpTest there = mapper();
  there.Input(Text({2}, {"y", "z"}));
  ExpectResult(there, I64({2}, {20, -1}));
  OpTest back = mapper();
  back.Input(I64({2}, {10, 11}));
  ExpectResult(back, Text({2}, {"x", "_Unused"}));
}

TEST(ZipMap, MakesAMapOfEveryRow) {
  OpTest t = Ml("ZipMap");
  t.Attr("classlabels_strings", Strings{"cat", "dog"}).Input(F32({2, 2}, {0.1f, 0.9f, 0.8f, 0.2f}));
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  const SequenceValue& s = r->sequences[0];
  EXPECT_EQ(s.type(), Type::SequenceOfMaps(DType::kString, DType::kF32));
  ASSERT_EQ(s.items.size(), 2u);
  EXPECT_TRUE(Near(s.keys[1], Text({2}, {"cat", "dog"})));
  EXPECT_TRUE(Near(s.items[1], F32({2}, {0.8f, 0.2f})));
  OpTest wide = Ml("ZipMap");
  wide.Attr("classlabels_int64s", Ints{1, 2, 3}).Input(F32({1, 2}, {0, 0}));
  EXPECT_FALSE(wide.Reference());
}

TEST(DictVectorizer, PutsValuesInTheVocabularysOrder) {
  OpTest t = Ml("DictVectorizer");
  t.Attr("string_vocabulary", Strings{"a", "c", "b", "z"});
  t.Sequence(SequenceValue::Map(Text({2}, {"a", "c"}), I64({2}, {4, 8})));
  ExpectResult(t, I64({1, 4}, {4, 8, 0, 0}));
  OpTest other = Ml("DictVectorizer");
  other.Attr("int64_vocabulary", Ints{1});
  other.Sequence(SequenceValue::Map(Text({1}, {"a"}), I64({1}, {4})));
  EXPECT_FALSE(other.Infer());
}

TEST(CastMap, OrdersValuesByTheirKeys) {
  const SequenceValue map = SequenceValue::Map(I64({2}, {3, 1}), Text({2}, {"3.5", "1"}));
  OpTest dense = Ml("CastMap");
  dense.Sequence(map);
  ExpectResult(dense, F32({1, 2}, {1, 3.5f}));
  OpTest sparse = Ml("CastMap");
  sparse.Attr("map_form", "SPARSE").Attr("max_map", 5).Sequence(map);
  ExpectResult(sparse, F32({1, 5}, {0, 1, 0, 3.5f, 0}));
  OpTest narrow = Ml("CastMap");
  narrow.Attr("map_form", "SPARSE").Attr("max_map", 3).Sequence(map);
  EXPECT_FALSE(narrow.Reference());
  OpTest whole = Ml("CastMap");
  whole.Attr("cast_to", "TO_INT64").Sequence(map);
  EXPECT_FALSE(whole.Reference());  // "3.5" is no integer
}

TEST(Maps, AreNoSequencesOfTensors) {
  OpTest t("SequenceLength");
  t.Sequence(SequenceValue::Map(I64({1}, {1}), F32({1}, {2})));
  EXPECT_FALSE(t.Infer());
}

TEST(LinearRegressor, AddsTheInterceptAndTransformsSeveralScores) {
  OpTest t = Ml("LinearRegressor");
  t.Attr("coefficients", Floats{1, 2, -1, 0})
      .Attr("intercepts", Floats{0.5f, 1})
      .Attr("targets", 2);
  t.Input(F32({2, 2}, {1, 2, 0, 1}));
  ExpectResult(t, F32({2, 2}, {5.5f, 0, 2.5f, 1}));
  t.ExpectKernelMatches();
  t.Attr("post_transform", "LOGISTIC");
  ExpectResult(t, F32({2, 2}, {0.995929862f, 0.5f, 0.924141820f, 0.731058579f}), {.rel = 1e-6});
}

TEST(LinearClassifier, OneScoreIsTheSecondClassOfTwo) {
  OpTest t = Ml("LinearClassifier");
  t.Attr("coefficients", Floats{1, -1}).Attr("intercepts", Floats{0.25f});
  t.Attr("classlabels_strings", Strings{"no", "yes"}).Outputs(2);
  t.Input(F32({2, 2}, {1, 0.5f, 0, 1}));
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], Text({2}, {"yes", "no"})));
  EXPECT_TRUE(Near((*r)[1], F32({2, 2}, {0.25f, 0.75f, 1.75f, -0.75f})));
  t.ExpectInferIsTotal();
}

TEST(LinearClassifier, TheLargestScoreWinsAndFewerLabelsThanScoresAreRefused) {
  const auto classifier = [](const Ints& labels) {
    OpTest t = Ml("LinearClassifier");
    t.Attr("coefficients", Floats{1, 0, 0, 1, 1, 1}).Attr("post_transform", "SOFTMAX");
    t.Attr("classlabels_ints", labels).Outputs(2).Input(I64({1, 2}, {1, -1}));
    return t;
  };
  // Scores 1, -1, 0.
  const double sum = std::exp(1.0) + std::exp(-1.0) + 1;
  const auto r = classifier({5, 6, 7}).Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], I64({1}, {5})));
  EXPECT_TRUE(
      Near((*r)[1],
           F32({1, 3}, {float(std::exp(1.0) / sum), float(std::exp(-1.0) / sum), float(1 / sum)}),
           {.rel = 1e-6}));
  EXPECT_FALSE(classifier({5, 6}).Reference());
}

OpTest SvmOf(const std::string& op, const char* kernel) {
  OpTest t = Ml(op);
  t.Attr("kernel_type", kernel).Attr("kernel_params", Floats{0.5f, 1, 2});
  t.Attr("support_vectors", Floats{0, 0, 1, 1}).Attr("rho", Floats{0.1f});
  t.Input(F32({1, 2}, {1, 0}));
  return t;
}

TEST(SvmRegressor, SumsKernels) {
  // Dots 0 and 1, squared distances 1 and 1.
  const std::pair<const char*, double> kernels[] = {
      {"LINEAR", 0.1 + 3 * 1},
      {"POLY", 0.1 + 2 * 1 + 3 * 1.5 * 1.5},
      {"RBF", 0.1 + 5 * std::exp(-0.5)},
      {"SIGMOID", 0.1 + 2 * std::tanh(1.0) + 3 * std::tanh(1.5)},
  };
  for (const auto& [name, expected] : kernels) {
    SCOPED_TRACE(name);
    OpTest t = SvmOf("SVMRegressor", name);
    t.Attr("coefficients", Floats{2, 3}).Attr("n_supports", 2);
    ExpectResult(t, F32({1, 1}, {float(expected)}), {.rel = 1e-6});
    t.ExpectKernelMatches();
  }
  OpTest one = SvmOf("SVMRegressor", "RBF");
  one.Attr("coefficients", Floats{-2, -3}).Attr("n_supports", 2).Attr("one_class", 1);
  ExpectResult(one, F32({1, 1}, {-1}));
}

TEST(SvmRegressor, ListsThatDoNotFitAreRefused) {
  OpTest t = SvmOf("SVMRegressor", "RBF");
  t.Attr("coefficients", Floats{2, 3, 4}).Attr("n_supports", 3);
  EXPECT_FALSE(t.Reference());
  OpTest unknown = SvmOf("SVMRegressor", "COSINE");
  unknown.Attr("coefficients", Floats{2, 3}).Attr("n_supports", 2);
  EXPECT_FALSE(unknown.Infer());
}

TEST(SvmClassifier, TwoClassesHaveOneMargin) {
  OpTest t = SvmOf("SVMClassifier", "LINEAR");
  t.Attr("coefficients", Floats{2, -3}).Attr("vectors_per_class", Ints{1, 1});
  t.Attr("classlabels_ints", Ints{4, 9}).Outputs(2);
  // 2 * 0 - 3 * 1 + 0.1
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], I64({1}, {9})));
  EXPECT_TRUE(Near((*r)[1], F32({1, 2}, {2.9f, -2.9f}), {.rel = 1e-6}));
  t.ExpectInferIsTotal();
}

TEST(SvmClassifier, ProbabilitiesOfTwoClassesAreASigmoid) {
  OpTest t = SvmOf("SVMClassifier", "LINEAR");
  t.Attr("coefficients", Floats{2, -3}).Attr("vectors_per_class", Ints{1, 1});
  t.Attr("classlabels_ints", Ints{4, 9}).Outputs(2);
  t.Attr("prob_a", Floats{-1}).Attr("prob_b", Floats{0.5f});
  // P(first) = 1 / (1 + exp(a * margin + b)), margin -2.9; coupling stops within 0.005 / 2.
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  const double p = 1 / (1 + std::exp(2.9 + 0.5));
  EXPECT_TRUE(Near((*r)[1], F32({1, 2}, {float(p), float(1 - p)}), {.abs = 2.5e-3}));
}

TEST(SvmClassifier, PairsOfThreeClassesVote) {
  // One vector a class; row j of the coefficients holds what class i's vector says in the pair
  // (i, j + 1) or (j, i).
  OpTest t = Ml("SVMClassifier");
  t.Attr("kernel_type", "LINEAR").Attr("support_vectors", Floats{1, 2, 3});
  t.Attr("coefficients", Floats{1, -1, 0, 0, 1, -1}).Attr("rho", Floats{0.5f, 0, 0});
  t.Attr("vectors_per_class", Ints{1, 1, 1}).Attr("classlabels_strings", Strings{"a", "b", "c"});
  t.Outputs(2).Input(F32({1, 1}, {1}));
  // Kernels 1, 2, 3. (a,b): 1*1 - 1*2 + .5 = -.5 → b; (a,c): 0*1 + 0*3 = 0 → c;
  // (b,c): 1*2 - 1*3 = -1 → c.
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], Text({1}, {"c"})));
  EXPECT_TRUE(Near((*r)[1], F32({1, 3}, {-0.5f, 0, -1})));
}

}  // namespace
}  // namespace dunlin
