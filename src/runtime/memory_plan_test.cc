#include "runtime/memory_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace dunlin {
namespace {

bool Disjoint(const std::vector<Lifetime>& b, const MemoryPlan& p) {
  for (size_t i = 0; i < b.size(); ++i)
    for (size_t j = i + 1; j < b.size(); ++j) {
      const bool meet = b[i].first <= b[j].last && b[j].first <= b[i].last;
      const bool overlap =
          p.offsets[i] < p.offsets[j] + b[j].bytes && p.offsets[j] < p.offsets[i] + b[i].bytes;
      if (meet && overlap) return false;
    }
  return true;
}

TEST(MemoryPlan, ReusesBufferAfterLastUse) {
  const std::vector<Lifetime> b = {{1000, 0, 1}, {1000, 2, 3}};
  const MemoryPlan p = PlanMemory(b);
  EXPECT_EQ(p.offsets[0], p.offsets[1]);
  EXPECT_EQ(p.arena_bytes, 1024);
  EXPECT_EQ(p.total_bytes, 2048);
}

TEST(MemoryPlan, KeepsApartWhatIsReadAndWrittenByOneStep) {
  const std::vector<Lifetime> b = {{64, 0, 1}, {64, 1, 2}};
  EXPECT_EQ(PlanMemory(b).arena_bytes, 128);
}

TEST(MemoryPlan, NothingNeedsNothing) {
  const MemoryPlan p = PlanMemory({});
  EXPECT_EQ(p.arena_bytes, 0);
  EXPECT_EQ(p.max_live_bytes, 0);
}

TEST(MemoryPlan, MeetsTheBoundWhereLargestFirstDoesNot) {
  // Largest first puts the last buffer at 320, on top of the third. The second is alive with it and
  // with the first, so it comes to lie at 448.
  const std::vector<Lifetime> b = {{320, 4, 4}, {128, 2, 4}, {320, 0, 1}, {128, 0, 3}};
  const MemoryPlan p = PlanMemory(b);
  EXPECT_TRUE(Disjoint(b, p));
  EXPECT_EQ(p.max_live_bytes, 448);
  EXPECT_EQ(p.arena_bytes, 448);
}

TEST(MemoryPlan, OfNetworksIsCloseToTheBound) {
  // Mostly read by the next steps, some much later, like skip connections. Largest first alone is
  // 3.9 % above the bound on average, the search 0.6 %.
  double over = 0;
  for (uint32_t seed = 0; seed < 100; ++seed) {
    std::mt19937 rng(seed);
    std::vector<Lifetime> b(60 + rng() % 200);
    for (Lifetime& x : b) {
      x.first = int(rng() % 100);
      x.last = x.first + int(rng() % 8 != 0 ? 1 + rng() % 3 : rng() % 40);
      x.bytes = 64 * int64_t(1 + rng() % 5000);
    }
    const MemoryPlan p = PlanMemory(b);
    ASSERT_TRUE(Disjoint(b, p)) << "seed " << seed;
    over += double(p.arena_bytes) / double(p.max_live_bytes) - 1;
  }
  EXPECT_LT(over / 100, 0.02);
}

TEST(MemoryPlan, RandomLifetimesNeverOverlapAndStayBetweenTheBounds) {
  const auto seed = std::random_device{}();
  std::mt19937 rng(seed);
  for (int round = 0; round < 300; ++round) {
    std::vector<Lifetime> b(rng() % 60);
    for (Lifetime& x : b) {
      x.first = int(rng() % 50);
      x.last = x.first + int(rng() % 20);
      x.bytes = int64_t(rng() % 5000);
    }
    const MemoryPlan p = PlanMemory(b);
    ASSERT_TRUE(Disjoint(b, p)) << "seed " << seed;
    ASSERT_GE(p.arena_bytes, p.max_live_bytes) << "seed " << seed;
    ASSERT_LE(p.arena_bytes, p.total_bytes) << "seed " << seed;
    for (const int64_t o : p.offsets) ASSERT_EQ(o % kArenaAlignment, 0);
  }
}

}  // namespace
}  // namespace dunlin
