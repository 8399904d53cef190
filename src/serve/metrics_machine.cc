#include "serve/metrics_machine.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

namespace dunlin::serve {
namespace {

// First number after `key` in a file such as /proc/meminfo.
double ReadKey(const char* path, std::string_view key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) == 0) return std::strtod(line.c_str() + key.size(), nullptr);
  }
  return 0;
}

}  // namespace

Machine::Memory Machine::ReadMemory() {
  const double total = ReadKey("/proc/meminfo", "MemTotal:") * 1024;
  return {total, total - ReadKey("/proc/meminfo", "MemAvailable:") * 1024};
}

double Machine::ResidentBytes() {
  long pages = 0, resident = 0;
  std::ifstream statm("/proc/self/statm");
  statm >> pages >> resident;
  return double(resident) * double(::sysconf(_SC_PAGESIZE));
}

double Machine::CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double Machine::StartSeconds() {
  static const double started = [] {
    std::ifstream in("/proc/self/stat");
    std::string line;
    std::getline(in, line);
    // The name in parentheses may hold anything; field 22 is 20 words after it.
    const size_t name_end = line.rfind(')');
    if (name_end == line.npos) return 0.0;
    std::istringstream fields(line.substr(name_end + 1));
    std::string word;
    for (int i = 0; i < 20; ++i) fields >> word;
    return ReadKey("/proc/stat", "btime") +
           std::strtod(word.c_str(), nullptr) / double(::sysconf(_SC_CLK_TCK));
  }();
  return started;
}

double Machine::OpenFiles() {
  DIR* const dir = ::opendir("/proc/self/fd");
  if (dir == nullptr) return 0;
  int n = -3;  // ".", ".." and this one
  while (::readdir(dir) != nullptr) ++n;
  ::closedir(dir);
  return n;
}

double Machine::CpuUtilization(std::chrono::milliseconds interval) {
  const auto now = std::chrono::steady_clock::now();
  const std::lock_guard lock(mutex_);
  if (measured_.time_since_epoch().count() != 0 && now - measured_ < interval) return value_;
  std::ifstream stat("/proc/stat");
  std::string line;
  std::getline(stat, line);
  std::istringstream fields(line);
  std::string cpu;
  fields >> cpu;
  double all = 0, idle = 0, value = 0;
  // user nice system idle iowait irq softirq steal
  for (int i = 0; i < 8 && fields >> value; ++i) {
    all += value;
    if (i == 3 || i == 4) idle += value;
  }
  if (all > total_) value_ = (all - idle - busy_) / (all - total_);
  busy_ = all - idle;
  total_ = all;
  measured_ = now;
  return value_;
}

}  // namespace dunlin::serve
