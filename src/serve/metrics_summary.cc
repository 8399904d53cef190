#include "serve/metrics_summary.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace dunlin::serve {
namespace {
int64_t EpochOf(std::chrono::steady_clock::time_point t, int64_t seconds) {
  return std::chrono::duration_cast<std::chrono::seconds>(t.time_since_epoch()).count() / seconds;
}
}  // namespace

// Below 2^kSubBits one bin per nanosecond, then 2^kSubBits bins per power of two.
size_t Summary::BinOf(uint64_t ns) {
  const int shift = std::max(0, int(std::bit_width(ns)) - kSubBits - 1);
  const size_t bin = (size_t(shift) << kSubBits) + size_t(ns >> shift);
  return std::min(bin, kBins - 1);
}

double Summary::MiddleOf(size_t bin) {
  constexpr size_t kSub = size_t{1} << kSubBits;
  if (bin < 2 * kSub) return double(bin);
  const size_t shift = bin / kSub - 1;
  const double low = std::ldexp(double(bin - (shift << kSubBits)), int(shift));
  return low + std::ldexp(0.5, int(shift));
}

void Summary::Observe(std::chrono::nanoseconds duration,
                      std::chrono::steady_clock::time_point now) {
  const int64_t epoch = EpochOf(now, kPartSeconds);
  Part& part = parts_[size_t(epoch % kParts)];
  int64_t seen = part.epoch.load(std::memory_order_relaxed);
  // The first of a new part clears the old one's counts; what others count meanwhile may be lost.
  if (seen < epoch && part.epoch.compare_exchange_strong(seen, epoch, std::memory_order_relaxed))
    for (auto& bin : part.bins) bin.store(0, std::memory_order_relaxed);
  part.bins[BinOf(uint64_t(std::max<int64_t>(duration.count(), 0)))].fetch_add(
      1, std::memory_order_relaxed);
}

double Summary::Quantile(double q, std::chrono::steady_clock::time_point now) const {
  const int64_t epoch = EpochOf(now, kPartSeconds);
  std::array<uint64_t, kBins> sum{};
  uint64_t total = 0;
  for (const Part& part : parts_) {
    if (part.epoch.load(std::memory_order_relaxed) <= epoch - kParts) continue;
    for (size_t i = 0; i < kBins; ++i) {
      const uint32_t n = part.bins[i].load(std::memory_order_relaxed);
      sum[i] += n;
      total += n;
    }
  }
  if (total == 0) return std::numeric_limits<double>::quiet_NaN();
  const auto rank = uint64_t(std::ceil(q * double(total)));
  uint64_t below = 0;
  size_t bin = 0;
  for (; bin + 1 < kBins; ++bin)
    if ((below += sum[bin]) >= std::max<uint64_t>(rank, 1)) break;
  return MiddleOf(bin) / 1e3;
}

}  // namespace dunlin::serve
