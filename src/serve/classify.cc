#include "serve/classify.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "serve/datatype.h"

namespace dunlin::serve {
namespace {

constexpr int64_t kMaxClassifiedElements = 1000000;

template <class T>
void BestOfRow(const T* row, int64_t n, int64_t k, const std::vector<std::string>& labels,
               std::string* out) {
  std::vector<int64_t> order(size_t(n), 0);
  std::iota(order.begin(), order.end(), 0);
  // NaN compares with nothing, which would break the sort: it goes last.
  const auto before = [row](int64_t a, int64_t b) {
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(row[a]) || std::isnan(row[b])) {
        if (std::isnan(row[a]) != std::isnan(row[b])) return std::isnan(row[b]);
        return a < b;
      }
    }
    return row[a] != row[b] ? row[a] > row[b] : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
  for (int64_t i = 0; i < k; ++i) {
    const int64_t index = order[size_t(i)];
    out[i] = std::to_string(row[index]) + ":" + std::to_string(index);
    if (size_t(index) < labels.size()) out[i] += ":" + labels[size_t(index)];
  }
}

}  // namespace

Result<Tensor> Classify(const Tensor& t, uint64_t count, bool batched,
                        const std::vector<std::string>& labels) {
  if (t.count() > kMaxClassifiedElements)
    return Fail(Code::kInvalidArgument, "classification output tensor too large");
  const int64_t rows = batched && t.rank() > 0 ? t.dims()[0] : 1;
  const int64_t n = rows > 0 ? t.count() / rows : 0;
  const auto k = int64_t(std::min<uint64_t>(count, uint64_t(n)));
  Tensor out = TRY(Tensor::Create(DType::kString, batched ? Dims{rows, k} : Dims{k}));
  TRY(VisitDType(t.dtype(), "classification", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      for (int64_t r = 0; r < rows; ++r)
        BestOfRow(t.as<T>() + r * n, n, k, labels, out.mut<std::string>() + r * k);
      return {};
    } else {
      return Fail(Code::kInvalidArgument,
                  "class result not available for output due to unsupported type '{}'",
                  ProtocolName(t.dtype()));
    }
  }));
  return out;
}

}  // namespace dunlin::serve
