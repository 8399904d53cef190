#include "dunlin/machine.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/thread_pool.h"
#include "kernels/gemm.h"

namespace dunlin {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Seconds of the fastest of several calls: the slower ones were disturbed.
template <class F>
double Fastest(int times, const F& work) {
  double best = 1e30;
  for (int i = 0; i < times; ++i) {
    const double begin = Now();
    work();
    best = std::min(best, Now() - begin);
  }
  return best;
}

}  // namespace

double MachinePeak::BandwidthFor(int64_t bytes) const {
  for (const Level& level : levels)
    if (bytes <= level.bytes) return level.gbps;
  return levels.empty() ? 0 : levels.back().gbps;
}

double MachinePeak::RoofShare(int64_t macs, int64_t bytes, double microseconds) const {
  const double bandwidth = BandwidthFor(bytes);
  if (microseconds <= 0 || gflops <= 0 || bandwidth <= 0) return 0;
  return std::max(2e-3 * double(macs) / gflops, 1e-3 * double(bytes) / bandwidth) / microseconds;
}

MachinePeak MeasureMachine(int threads) {
  ThreadPool pool(threads);
  MachinePeak peak;
  constexpr int64_t kRounds = 20000;  // about a millisecond
  int64_t done = 0;
  const double seconds = Fastest(60, [&] {
    pool.ParallelFor(threads, 1, [&](int64_t begin, int64_t) {
      const int64_t work = RunPureFma(kRounds);
      if (begin == 0) done = work;
    });
  });
  peak.gflops = 2e-9 * double(done) * threads / seconds;

  // Half a second-level cache, a share of the third level, memory; per thread.
  for (const int64_t bytes : {int64_t{512} << 10, int64_t{8} << 20, int64_t{128} << 20}) {
    const auto half = size_t(bytes / 2);
    std::vector<std::vector<char>> from(size_t(threads), std::vector<char>(half, 1)), to = from;
    // Small sets are copied often enough for the clock and the start of threads not to count.
    const int repeats = int(std::max<int64_t>(1, (int64_t{4} << 20) / bytes));
    const double copy = Fastest(bytes > (int64_t{64} << 20) ? 4 : 20, [&] {
      pool.ParallelFor(threads, 1, [&](int64_t begin, int64_t) {
        for (int r = 0; r < repeats; ++r)
          std::memcpy(to[size_t(begin)].data(), from[size_t(begin)].data(), half);
      });
    });
    peak.levels.push_back({bytes * threads, 1e-9 * double(bytes) * repeats * threads / copy});
  }
  return peak;
}

}  // namespace dunlin
