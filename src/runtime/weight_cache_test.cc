#include "runtime/weight_cache.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

namespace dunlin {
namespace {

Tensor Numbers(int64_t count) {
  std::vector<float> v(size_t(count), 0.0f);
  std::iota(v.begin(), v.end(), 1.0f);
  return Tensor::Of<float>({count}, std::span<const float>(v));
}

Result<Tensor> Copy(const Tensor& t) { return t.Clone(); }

TEST(WeightCache, PacksOnceForEachWeightAndRecipe) {
  const auto cache = MakeWeightCache();
  const Tensor a = Numbers(10), b = Numbers(10);
  int packed = 0;
  const auto pack = [&](const Tensor& t) {
    ++packed;
    return Copy(t);
  };
  const auto first = cache->Get(a, "panels 1", pack), again = cache->Get(a, "panels 1", pack);
  ASSERT_TRUE(first.has_value() && again.has_value());
  EXPECT_EQ(first->raw(), again->raw());
  EXPECT_EQ(packed, 1);
  EXPECT_NE(cache->Get(a, "panels 2", pack)->raw(), first->raw());
  EXPECT_NE(cache->Get(b, "panels 1", pack)->raw(), first->raw());
  EXPECT_NE(cache->Get(a.Reshaped({2, 5}), "panels 1", pack)->raw(), first->raw());
  EXPECT_EQ(packed, 4);
}

TEST(WeightCache, AFailureIsNotKept) {
  const auto cache = MakeWeightCache();
  const Tensor a = Numbers(4);
  const auto fail = [](const Tensor&) -> Result<Tensor> {
    return Fail(Code::kResourceExhausted, "no memory");
  };
  EXPECT_FALSE(cache->Get(a, "r", fail).has_value());
  EXPECT_TRUE(cache->Get(a, "r", Copy).has_value());
}

TEST(WeightCache, SessionsThatAskAtOnceGetTheSameTensor) {
  ThreadPool pool(2);
  const auto cache = MakeWeightCache(&pool);
  const Tensor a = Numbers(100000);
  std::atomic<int> packed{0};
  std::vector<const void*> found(4);
  std::vector<std::thread> sessions;
  for (auto& f : found)
    sessions.emplace_back([&] {
      const auto pack = [&](const Tensor& t) -> Result<Tensor> {
        ++packed;
        Tensor y = TRY(Tensor::Create(DType::kF32, t.dims()));
        cache->ParallelFor(t.count(), 1000, [&](int64_t begin, int64_t end) {
          std::copy(t.as<float>() + begin, t.as<float>() + end, y.mut<float>() + begin);
        });
        return y;
      };
      f = cache->Get(a, "r", pack)->raw();
    });
  for (auto& s : sessions) s.join();
  EXPECT_EQ(packed, 1);
  for (const void* f : found) EXPECT_EQ(f, found[0]);
}

TEST(WeightCache, ForgetsWhatNobodyHolds) {
  const auto cache = MakeWeightCache();
  const Tensor a = Numbers(4);
  int packed = 0;
  const auto pack = [&](const Tensor& t) {
    ++packed;
    return Copy(t);
  };
  EXPECT_TRUE(cache->Get(a, "r", pack).has_value());
  cache->ForgetUnused();
  const auto held = cache->Get(a, "r", pack);
  EXPECT_EQ(packed, 2);
  cache->ForgetUnused();
  EXPECT_TRUE(cache->Get(a, "r", pack).has_value());
  EXPECT_EQ(packed, 2);
}

// Three megabytes from an odd address: more parts than threads, the last one short.
TEST(WeightCache, PacksFromAnyAddressWhateverTheNumberOfThreads) {
  const Tensor a = Numbers(800001);
  const auto bytes = size_t(a.bytes());
  ThreadPool two(2);
  for (ThreadPool* const pool : {static_cast<ThreadPool*>(nullptr), &two}) {
    const auto file = *Buffer::Allocate(bytes + 1);
    std::memcpy(file->data() + 1, a.raw(), bytes);
    const Tensor odd = Tensor::Over(DType::kF32, a.dims(), Buffer::Unaligned(file, 1, bytes));
    const auto cache = MakeWeightCache(pool);
    const auto packed = cache->Get(odd, "r", Copy);
    ASSERT_TRUE(packed.has_value());
    EXPECT_EQ(std::memcmp(packed->raw(), a.raw(), bytes), 0);
    EXPECT_TRUE(odd.buffer()->unaligned());  // no lasting copy of its own
    cache->Trim();
  }
}

TEST(WeightCache, PacksHalvesWithoutALastingWideCopy) {
  const Tensor a = Numbers(300001);
  const Tensor half = *Convert(a, DType::kBF16);
  const Tensor wide = Widened(half);
  ThreadPool two(2);
  const auto cache = MakeWeightCache(&two);
  const auto packed = cache->Get(wide, "r", Copy);
  ASSERT_TRUE(packed.has_value());
  for (const int64_t i : {0, 1, 65535, 65536, 300000})
    EXPECT_EQ(packed->as<float>()[i], float(half.as<BFloat16>()[i])) << i;
  EXPECT_TRUE(wide.buffer()->unaligned());
  // The same bytes as another type are another weight.
  EXPECT_EQ(cache->Get(half, "r", Copy)->dtype(), DType::kBF16);
}

}  // namespace
}  // namespace dunlin
