// What the metrics page says of the machine and the process, read from /proc.
#pragma once

#include <chrono>
#include <mutex>

namespace dunlin::serve {

class Machine {
 public:
  struct Memory {
    double total_bytes = 0, used_bytes = 0;
  };
  static Memory ReadMemory();
  static double ResidentBytes();  // of this process
  static double CpuSeconds();     // of this process
  static double StartSeconds();   // since the epoch
  static double OpenFiles();

  // Of all CPUs, 0 to 1, since the measurement before; the same value again within `interval`.
  double CpuUtilization(std::chrono::milliseconds interval);

 private:
  std::mutex mutex_;
  double busy_ = 0, total_ = 0, value_ = 0;
  std::chrono::steady_clock::time_point measured_{};
};

}  // namespace dunlin::serve
