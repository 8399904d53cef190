#include "cli/accuracy.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dunlin::cli {

Status Difference::Add(const Tensor& a, const Tensor& b) {
  if (!(a.dims() == b.dims()))
    return Fail(Code::kInvalidArgument, "the extents are {} and {}", ToString(a.dims()),
                ToString(b.dims()));
  if (a.dtype() == DType::kString || b.dtype() == DType::kString)
    return Fail(Code::kInvalidArgument, "it holds strings");
  const Tensor wide_a = TRY(Convert(a, DType::kF64)), wide_b = TRY(Convert(b, DType::kF64));
  const double *x = wide_a.as<double>(), *y = wide_b.as<double>();
  for (int64_t i = 0; i < a.count(); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) {
      non_finite_ += !(x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i])));
      continue;
    }
    const double error = std::fabs(x[i] - y[i]);
    ++elements_;
    max_error_ = std::max(max_error_, error);
    sum_error_ += error;
    max_a_ = std::max(max_a_, std::fabs(x[i]));
    sum_a_ += std::fabs(x[i]);
    squares_a_ += x[i] * x[i];
    squares_b_ += y[i] * y[i];
    products_ += x[i] * y[i];
    noise_ += error * error;
  }
  const int64_t n = a.rank() == 0 ? 1 : a.dims().back();
  if (n > 1)
    for (int64_t first = 0; first < a.count(); first += n) AddRow(x + first, y + first, n);
  return {};
}

void Difference::AddRow(const double* a, const double* b, int64_t n) {
  // NaN is never the best.
  const auto below = [](double p, double q) { return !std::isnan(q) && (std::isnan(p) || p < q); };
  const double* const best_a = std::max_element(a, a + n, below);
  const double* const best_b = std::max_element(b, b + n, below);
  ++rows_;
  agreed_ += !below(a[best_b - b], *best_a);
  if (n <= 5) return;
  ++rows_of_five_;
  const double value = b[best_a - a];
  in_five_ += std::count_if(b, b + n, [&](double v) { return below(value, v); }) < 5;
}

double Difference::sqnr_db() const {
  if (noise_ == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(squares_a_ / noise_);
}

double Difference::cosine() const {
  if (squares_a_ == 0 && squares_b_ == 0) return 1;
  if (squares_a_ == 0 || squares_b_ == 0) return 0;
  return products_ / std::sqrt(squares_a_) / std::sqrt(squares_b_);
}

std::string SqnrText(const Difference& d) {
  return d.equal() ? "equal" : fmt::format("{:.1f} dB", d.sqnr_db());
}

}  // namespace dunlin::cli
