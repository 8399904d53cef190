// How far one tensor is from another that it should equal: error, signal to noise, classes.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "tensor/tensor.h"

namespace dunlin::cli {

// Sums over any number of pairs of tensors, `a` being the truth and b the other. Elements that are
// NaN or infinite in either are not in the sums: where they differ they are counted.
class Difference {
 public:
  // kInvalidArgument when the extents differ or a type is none of numbers.
  Status Add(const Tensor& a, const Tensor& b);

  int64_t elements() const { return elements_; }
  int64_t non_finite() const { return non_finite_; }  // NaN or infinite in one, not so in the other
  bool equal() const { return non_finite_ == 0 && max_error_ == 0; }
  double max_error() const { return max_error_; }
  double mean_error() const { return Ratio(sum_error_, double(elements_)); }
  // Against the greatest and the mean magnitude of a.
  double max_relative() const { return Ratio(max_error_, max_a_); }
  double mean_relative() const { return Ratio(sum_error_, sum_a_); }
  // Signal to quantisation noise, 10 log10(sum a^2 / sum (a - b)^2); infinite when they are equal.
  double sqnr_db() const;
  double cosine() const;  // of the angle between a and b as vectors; 1 when both are 0

  // Rows of the last axis, where that has more than one element. The best element of a row of b
  // counts as agreed when no element of the row of a is greater than a's of the same index.
  int64_t rows() const { return rows_; }
  int64_t agreed() const { return agreed_; }
  // The best element of a is among the five best of b; only rows of more than five.
  int64_t rows_of_five() const { return rows_of_five_; }
  int64_t in_five() const { return in_five_; }
  double agreement() const { return rows_ == 0 ? 1 : double(agreed_) / double(rows_); }

 private:
  static double Ratio(double part, double whole) { return part == 0 ? 0 : part / whole; }
  void AddRow(const double* a, const double* b, int64_t n);

  int64_t elements_ = 0, non_finite_ = 0, rows_ = 0, agreed_ = 0, rows_of_five_ = 0, in_five_ = 0;
  double max_error_ = 0, sum_error_ = 0, max_a_ = 0, sum_a_ = 0;
  double squares_a_ = 0, squares_b_ = 0, products_ = 0, noise_ = 0;
};

// "41.2 dB", "equal".
std::string SqnrText(const Difference& d);

}  // namespace dunlin::cli
