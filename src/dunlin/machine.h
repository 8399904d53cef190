// What this machine can do at best, measured: the roof that a profile is compared with.
#pragma once

#include <cstdint>
#include <vector>

namespace dunlin {

struct MachinePeak {
  double gflops = 0;  // fp32 multiply-adds in registers, two operations each, in 1e9 per second
  struct Level {
    int64_t bytes = 0;  // touched: source and destination together
    double gbps = 0;    // read and written, in 1e9 bytes per second
  };
  std::vector<Level> levels;  // of copying, by working set, the smallest first

  // The rate at which a step that touches this many bytes could read and write them.
  double BandwidthFor(int64_t bytes) const;
  // The share of the roof, 0 to about 1, that a step reached: the time its arithmetic and its bytes
  // need at best, whichever is longer, over the time it took. Above 1 where a step does less than
  // it is counted for (Winograd's method) or reads without writing.
  double RoofShare(int64_t macs, int64_t bytes, double microseconds) const;
};

// Takes about a quarter of a second, on as many threads of its own. Other work on the machine
// lowers the figures.
MachinePeak MeasureMachine(int threads);

}  // namespace dunlin
