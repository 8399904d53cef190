#include "serve/cache.h"

#include <gtest/gtest.h>

#include "serve/metrics.h"

namespace dunlin::serve {
namespace {

ResponseCache::Outputs Floats(std::vector<float> values) {
  return {{"y", Tensor::Of(Dims{int64_t(values.size())}, std::span<const float>(values))}};
}
ResponseCache::Key KeyNumber(uint8_t n) {
  ResponseCache::Key key{};
  key[0] = n;
  return key;
}
InferRequest RequestOf(std::vector<NamedTensor> inputs, std::vector<std::string> outputs = {}) {
  InferRequest request;
  request.inputs = std::move(inputs);
  request.outputs = std::move(outputs);
  return request;
}

TEST(ResponseCache, ForgetsWhatWasUsedLongestAgo) {
  const auto outputs = Floats(std::vector<float>(1000));
  ResponseCache cache(3 * 5000);
  for (uint8_t n = 0; n < 3; ++n) cache.Insert(KeyNumber(n), 1, outputs);
  EXPECT_TRUE(cache.Find(KeyNumber(0)));
  cache.Insert(KeyNumber(3), 1, outputs);
  EXPECT_TRUE(cache.Find(KeyNumber(0)));
  EXPECT_FALSE(cache.Find(KeyNumber(1))) << "0 was used after it";
  EXPECT_TRUE(cache.Find(KeyNumber(3)));
  EXPECT_LE(cache.bytes(), size_t(3 * 5000));
}

TEST(ResponseCache, KeepsCopiesWithinItsBytes) {
  ResponseCache cache(10000);
  cache.Insert(KeyNumber(0), 1, Floats(std::vector<float>(10000)));
  EXPECT_FALSE(cache.Find(KeyNumber(0))) << "larger than the cache";
  EXPECT_EQ(cache.bytes(), 0u);
  cache.Insert(KeyNumber(1), 1,
               {{"y", Tensor::Of<std::string>({2}, {std::string(20000, 'a'), "b"})}});
  EXPECT_FALSE(cache.Find(KeyNumber(1)));
  auto outputs = Floats({1, 2});
  cache.Insert(KeyNumber(2), 1, outputs);
  outputs[0].tensor.mut<float>()[0] = 7;
  EXPECT_EQ(cache.Find(KeyNumber(2))->at(0).tensor.as<float>()[0], 1);
}

TEST(ResponseCache, ForgetsALoad) {
  ResponseCache cache(10000);
  cache.Insert(KeyNumber(0), 1, Floats({1}));
  cache.Insert(KeyNumber(1), 2, Floats({2}));
  cache.Forget(1);
  EXPECT_FALSE(cache.Find(KeyNumber(0)));
  EXPECT_TRUE(cache.Find(KeyNumber(1)));
  cache.Forget(2);
  EXPECT_EQ(cache.bytes(), 0u);
}

TEST(VersionCache, KeysTellRequestsApart) {
  auto shared = std::make_shared<ResponseCache>(10000);
  const VersionCache cache(shared), other(shared);
  const Tensor a = Tensor::Of<float>({2}, {1, 2}), b = Tensor::Of<float>({2}, {1, 3});
  const std::vector<InferRequest> requests = {
      RequestOf({{"x", a}, {"z", b}}),
      RequestOf({{"x", b}, {"z", a}}),
      RequestOf({{"x", a}}),
      RequestOf({{"x", a.Reshaped({1, 2})}}),
      RequestOf({{"x", Tensor::Of<int32_t>({2}, {0x3f800000, 0x40000000})}}),  // the bytes of a
      RequestOf({{"x", a}}, {"y"}),
      RequestOf({{"x", a}}, {"w"}),
      RequestOf({{"x", a}}, {"y", "w"}),
      RequestOf({{"x", Tensor::Of<std::string>({2}, {"a", "bc"})}}),
      RequestOf({{"x", Tensor::Of<std::string>({2}, {"ab", "c"})}}),
  };
  std::map<ResponseCache::Key, size_t> keys;
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_TRUE(keys.emplace(cache.KeyOf(requests[i]), i).second) << i;
    EXPECT_TRUE(keys.emplace(other.KeyOf(requests[i]), i).second) << "another load";
  }
  InferRequest same = RequestOf({{"z", b}, {"x", a}});
  same.id = "17";
  EXPECT_EQ(cache.KeyOf(same), cache.KeyOf(requests[0])) << "the order and the id say nothing";
}

TEST(VersionCache, AnswersTheSecondTimeAndNeverKeepsErrors) {
  Metrics metrics;
  const auto of_model = metrics.ForModel("m", 3, {});
  StatsRecorder stats(*of_model);
  auto shared = std::make_shared<ResponseCache>(10000);
  ModelSpec model;
  model.name = "m";
  model.version = 3;
  InferRequest request = RequestOf({{"x", Tensor::Of<float>({1}, {5})}});
  request.id = "first";
  {
    const VersionCache cache(shared);
    std::vector<Result<InferResponse>> answers;
    const auto ask = [&](const Result<InferResponse>& computed) {
      InferCallback done = [&](Result<InferResponse> r) { answers.push_back(std::move(r)); };
      if (cache.Answer(model, request, done, stats)) return true;
      done(computed);
      return false;
    };
    EXPECT_FALSE(ask(Fail(Code::kInternal, "broken")));
    EXPECT_FALSE(
        ask(InferResponse{.model = "m", .version = 3, .id = "first", .outputs = Floats({8})}));
    request.id = "second";
    EXPECT_TRUE(ask(Fail(Code::kInternal, "not to be computed")));
    ASSERT_EQ(answers.size(), 3u);
    EXPECT_FALSE(answers[0]);
    EXPECT_EQ(answers[2]->id, "second");
    EXPECT_EQ(answers[2]->version, 3);
    EXPECT_EQ(answers[2]->outputs[0].tensor.as<float>()[0], 8);
    EXPECT_EQ(stats.Snapshot().cache_hit.count, 1u);
    EXPECT_EQ(stats.Snapshot().cache_miss.count, 1u);
    EXPECT_EQ(stats.Snapshot().success.count, 1u) << "the computed ones are counted elsewhere";
    EXPECT_GT(shared->bytes(), 0u);
  }
  EXPECT_EQ(shared->bytes(), 0u) << "the answers go with the version";
}

TEST(ResponseCache, IsMadeFromItsFlag) {
  EXPECT_EQ(*CreateCache({}), nullptr);
  EXPECT_NE(*CreateCache({"local,size=1048576"}), nullptr);
  for (const char* bad : {"redis,host=a", "local", "local,size=", "local,size=0", "local,size=1k",
                          "local,size=-1", "size=1"})
    EXPECT_FALSE(CreateCache({bad})) << bad;
}

}  // namespace
}  // namespace dunlin::serve
