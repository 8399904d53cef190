#include "cli/stats.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dunlin::cli {

LatencyStats Summarise(std::vector<double> samples) {
  LatencyStats s;
  if (samples.empty()) return s;
  std::sort(samples.begin(), samples.end());
  const size_t n = samples.size();
  const auto rank = [&](double share) { return samples[size_t(std::ceil(share * double(n))) - 1]; };
  s.runs = int(n);
  s.min = samples.front();
  s.max = samples.back();
  s.median = (samples[(n - 1) / 2] + samples[n / 2]) / 2;
  s.mean = std::accumulate(samples.begin(), samples.end(), 0.0) / double(n);
  s.p90 = rank(0.90);
  s.p99 = rank(0.99);
  return s;
}

}  // namespace dunlin::cli
