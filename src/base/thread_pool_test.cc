#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

namespace dunlin {
namespace {

TEST(ThreadPool, CoversEveryItemOnceWhateverTheGrain) {
  ThreadPool pool(3);
  for (const int64_t grain : {1, 7, 64, 1000}) {
    std::vector<std::atomic<int>> seen(500);
    pool.ParallelFor(500, grain, [&](int64_t b, int64_t e) {
      EXPECT_LE(e - b, grain);
      for (int64_t i = b; i < e; ++i) ++seen[size_t(i)];
    });
    for (const auto& s : seen) ASSERT_EQ(s, 1);
  }
}

TEST(ThreadPool, GivesEachThreadAsManyChunksOfMuchTheSameSize) {
  ThreadPool pool(2);
  std::mutex mutex;
  std::vector<int64_t> sizes;
  pool.ParallelFor(30, 10, [&](int64_t b, int64_t e) {
    std::lock_guard lock(mutex);
    sizes.push_back(e - b);
  });
  std::ranges::sort(sizes);
  EXPECT_EQ(sizes, (std::vector<int64_t>{6, 8, 8, 8}));
}

TEST(ThreadPool, NothingToDoCallsNothing) {
  ThreadPool pool(2);
  pool.ParallelFor(0, 1, [](int64_t, int64_t) { FAIL(); });
}

TEST(ThreadPool, ANestedCallRunsInPlace) {
  ThreadPool pool(2);
  std::atomic<int> total{0};
  pool.ParallelFor(4, 1, [&](int64_t, int64_t) {
    pool.ParallelFor(10, 3, [&](int64_t b, int64_t e) { total += int(e - b); });
  });
  EXPECT_EQ(total, 40);
}

TEST(ThreadPool, AfterALateHelperTheCallerWorksAloneForAWhile) {
  using Clock = std::chrono::steady_clock;
  using std::chrono::milliseconds;
  ThreadPool pool(2);
  const std::thread::id caller = std::this_thread::get_id();
  // Whether the other thread took part, which it does for `delay`; and how long the caller's own
  // part took, on a machine that may be busy.
  Clock::duration own{};
  const auto helped = [&](milliseconds delay) {
    std::atomic<bool> other{false};
    pool.ParallelFor(2, 1, [&](int64_t, int64_t) {
      const auto start = Clock::now();
      if (std::this_thread::get_id() != caller) {
        other = true;
        std::this_thread::sleep_for(delay);
        return;
      }
      for (int i = 0; i < 200 && !other; ++i) std::this_thread::yield();  // its part is not ours
      own = Clock::now() - start;
    });
    return other.load();
  };
  int judged = 0;
  const auto end = Clock::now() + std::chrono::seconds(10);
  while (Clock::now() < end && judged < 10) {
    if (!helped(milliseconds(20)) || own > milliseconds(5)) continue;
    const auto late = Clock::now();
    for (int j = 0; j < 10; ++j) {
      const bool again = helped(milliseconds(0));
      if (Clock::now() - late > milliseconds(4)) break;
      EXPECT_FALSE(again);
      ++judged;
    }
  }
  if (judged == 0) GTEST_SKIP() << "others want the cores all the time: nothing could be judged";
  bool again = false;
  for (int i = 0; i < 1000 && !again; ++i) {
    std::this_thread::sleep_for(milliseconds(1));
    again = helped(milliseconds(0));
  }
  EXPECT_TRUE(again);
}

TEST(ThreadPool, AfterOneLateHelperTheOthersStillHelp) {
  using Clock = std::chrono::steady_clock;
  using std::chrono::milliseconds;
  ThreadPool pool(3);
  // How many threads took part; the first helper to come stays for `delay`.
  const auto took_part = [&](milliseconds delay) {
    std::mutex mutex;
    std::set<std::thread::id> seen;
    bool held = false;
    const std::thread::id caller = std::this_thread::get_id();
    pool.ParallelFor(3, 1, [&](int64_t, int64_t) {
      bool late = false;
      {
        std::lock_guard lock(mutex);
        seen.insert(std::this_thread::get_id());
        late = !held && std::this_thread::get_id() != caller;
        held = held || late;
      }
      std::this_thread::sleep_for(late ? std::chrono::microseconds(delay)
                                       : std::chrono::microseconds(100));
    });
    return int(seen.size());
  };
  int most = 0;
  const auto end = Clock::now() + std::chrono::seconds(10);
  while (Clock::now() < end && most < 2) {
    if (took_part(milliseconds(20)) < 3) continue;
    const auto late = Clock::now();
    for (int j = 0; j < 10; ++j) {
      const int threads = took_part(milliseconds(0));
      if (Clock::now() - late > milliseconds(4)) break;
      most = std::max(most, threads);
    }
  }
  EXPECT_EQ(most, 2);
}

TEST(ThreadPool, ManyCallersShareOnePool) {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<int64_t> total{0};
  for (int c = 0; c < 6; ++c)
    callers.emplace_back([&] {
      for (int round = 0; round < 300; ++round)
        pool.ParallelFor(64, 1 + round % 5, [&](int64_t b, int64_t e) { total += e - b; });
    });
  for (auto& t : callers) t.join();
  EXPECT_EQ(total, int64_t{6} * 300 * 64);
}

TEST(ThreadPool, RespectsTheLimitOfOneCall) {
  ThreadPool pool(4);
  std::atomic<int> inside{0}, most{0};
  pool.ParallelFor(
      64, 1,
      [&](int64_t, int64_t) {
        const int now = ++inside;
        int m = most;
        while (now > m && !most.compare_exchange_weak(m, now)) {
        }
        std::this_thread::yield();
        --inside;
      },
      2);
  EXPECT_LE(most, 2);
}

TEST(UsableCpus, IsAtLeastOneAndNoMoreThanTheMachineHas) {
  EXPECT_GE(UsableCpus(), 1);
  EXPECT_LE(UsableCpus(), int(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace dunlin
