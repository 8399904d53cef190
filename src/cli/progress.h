// One line that tells how far a long job is; only on a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace dunlin::cli {

class Progress {
 public:
  // `total` in bytes.
  Progress(std::FILE* to, int64_t total);
  ~Progress() { Clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Add(int64_t bytes) { done_ += bytes; }
  void Show(const std::string& what);
  // Takes the line away, so that other text can be written.
  void Clear();

 private:
  std::FILE* to_;
  bool terminal_;
  bool shown_ = false;
  int64_t total_;
  int64_t done_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// "[#####.....]  50 %  7.1 of 14.2 MiB  3 s  what", cut to the width of the terminal.
std::string ProgressLine(int64_t done, int64_t total, int seconds, const std::string& what,
                         size_t width);

}  // namespace dunlin::cli
