// Order statistics of repeated timings.
#pragma once

#include <vector>

namespace dunlin::cli {

struct LatencyStats {
  double min = 0, median = 0, mean = 0, p90 = 0, p99 = 0, max = 0;
  int runs = 0;
};

// In the unit of the samples. Percentiles by nearest rank: the smallest sample that at least that
// share of samples does not exceed; the median of an even count is the mean of the middle two. All
// 0 for none.
LatencyStats Summarise(std::vector<double> samples);

}  // namespace dunlin::cli
