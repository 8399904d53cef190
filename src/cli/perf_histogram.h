// A histogram of durations in buckets whose width grows with their value, so that any percentile is
// known to within 1/128 of itself from a few kilobytes, however many values there are.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

namespace dunlin::cli {

class Histogram {
 public:
  using Duration = std::chrono::nanoseconds;
  // Every percentile is the true one or above it by at most this share.
  static constexpr double kErrorBound = 1.0 / 128;

  void Add(Duration value);  // negative counts as 0, more than 2^42 ns (73 minutes) as that
  void Add(const Histogram& other);

  uint64_t count() const { return count_; }
  Duration max() const { return max_; }  // exact, like min and mean
  Duration min() const { return count_ == 0 ? Duration{0} : min_; }
  Duration mean() const { return Duration(count_ == 0 ? 0 : int64_t(sum_ / double(count_))); }
  // The smallest recorded value that at least `percent` of the values do not exceed (nearest rank),
  // as its bucket's upper end; never above max(). 0 when there are none.
  Duration Percentile(double percent) const;
  // Calls with every bucket that is not empty: lower end, upper end, values in it.
  void ForEach(const std::function<void(Duration, Duration, uint64_t)>& bucket) const;

 private:
  std::vector<uint64_t> buckets_;  // as many as the largest value needs
  uint64_t count_ = 0;
  double sum_ = 0;
  Duration min_ = Duration::max(), max_{0};
};

}  // namespace dunlin::cli
