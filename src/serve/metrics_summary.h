// Quantiles of durations over the last minute. Counts in bins of 3 % width, in parts of 12 s that
// are forgotten one by one; relaxed atomics, no locks. About 22 KiB each, so for what was asked
// for.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace dunlin::serve {

class Summary {
 public:
  void Observe(std::chrono::nanoseconds duration,
               std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());
  // In microseconds; NaN when nothing was observed within the minute.
  double Quantile(
      double q, std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now()) const;

 private:
  static constexpr int kSubBits = 5;                                // 32 bins per power of two
  static constexpr size_t kBins = (40 - kSubBits + 1) << kSubBits;  // up to 2^40 ns, 18 minutes
  static constexpr int64_t kPartSeconds = 12;
  static constexpr int64_t kParts = 5;
  struct Part {
    std::atomic<int64_t> epoch{-1};
    std::array<std::atomic<uint32_t>, kBins> bins{};
  };
  static size_t BinOf(uint64_t ns);
  static double MiddleOf(size_t bin);

  std::array<Part, kParts> parts_;
};

}  // namespace dunlin::serve
