#include "cli/perf_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace dunlin::cli {
namespace {

// A value of up to kBits bits has a bucket of its own. Of a larger one the first kBits bits choose
// the bucket: between 2^(kBits-1) and 2^kBits - 1 times a power of two, which is the bucket's
// width.
constexpr int kBits = 8;
constexpr uint64_t kHalf = uint64_t{1} << (kBits - 1);
constexpr uint64_t kMost = uint64_t{1} << 42;

size_t IndexOf(uint64_t value) {
  const int shift = std::max(0, int(std::bit_width(value)) - kBits);
  return size_t(uint64_t(shift) * kHalf + (value >> shift));
}

uint64_t LowerEnd(size_t index) {
  if (index < 2 * kHalf) return index;
  const uint64_t shift = index / kHalf - 1;
  return (index - shift * kHalf) << shift;
}

uint64_t UpperEnd(size_t index) { return LowerEnd(index + 1) - 1; }

}  // namespace

void Histogram::Add(Duration value) {
  const Duration kept(std::clamp<int64_t>(value.count(), 0, int64_t(kMost)));
  const size_t index = IndexOf(uint64_t(kept.count()));
  if (index >= buckets_.size()) buckets_.resize(index + kHalf);
  ++buckets_[index];
  ++count_;
  sum_ += double(kept.count());
  min_ = std::min(min_, kept);
  max_ = std::max(max_, kept);
}

void Histogram::Add(const Histogram& other) {
  if (other.buckets_.size() > buckets_.size()) buckets_.resize(other.buckets_.size());
  for (size_t i = 0; i < other.buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

Histogram::Duration Histogram::Percentile(double percent) const {
  const auto rank = uint64_t(std::ceil(percent / 100 * double(count_)));
  uint64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen > 0 && seen >= rank) return std::min(max_, Duration(int64_t(UpperEnd(i))));
  }
  return max_;
}

void Histogram::ForEach(const std::function<void(Duration, Duration, uint64_t)>& bucket) const {
  for (size_t i = 0; i < buckets_.size(); ++i) {
    if (buckets_[i] > 0)
      bucket(Duration(int64_t(LowerEnd(i))), Duration(int64_t(UpperEnd(i))), buckets_[i]);
  }
}

}  // namespace dunlin::cli
