// Text for people: aligned tables and numbers with units.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace dunlin::cli {

std::string HumanBytes(int64_t bytes);   // "1.5 MiB"
std::string HumanCount(double count);    // "300.8 M", for parameters and multiply-accumulates
std::string HumanMillis(double millis);  // three significant digits: "0.0931 ms", "12.3 ms"

// Columns as wide as their widest cell; a column whose cells all begin with a digit is set right.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.size() == 1; }
  std::string Text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace dunlin::cli
