#include "kernels/copy.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/transpose.h"

namespace dunlin {
namespace {

// A contiguous copy is cut into pieces of this size for threads.
constexpr int64_t kBlockBytes = 64 << 10;
// About 10 microseconds of copying on one core: less is not worth waking another.
constexpr int64_t kChunkBytes = 64 << 10;
// A plane's unit: columns that fill a cache line, so that no line is read by two threads.
constexpr int64_t kPanelBytes = 64;

template <class T>
T Load(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof(T));
  return v;
}

template <class T>
void Elements(const uint8_t* x, uint8_t* y, int64_t rows, int64_t row_x, int64_t row_y, int64_t n,
              int64_t step_x, int64_t step_y) {
  constexpr auto kT = int64_t(sizeof(T));
  for (int64_t r = 0; r < rows; ++r, x += row_x, y += row_y) {
    if (step_y == kT && step_x == 2 * kT) {
      // A known step lets the compiler make vectors of it.
      for (int64_t i = 0; i < n; ++i) std::memcpy(y + i * kT, x + i * 2 * kT, sizeof(T));
    } else if (step_y == kT) {
      for (int64_t i = 0; i < n; ++i) std::memcpy(y + i * kT, x + i * step_x, sizeof(T));
    } else if (step_x == kT) {
      for (int64_t i = 0; i < n; ++i) std::memcpy(y + i * step_y, x + i * kT, sizeof(T));
    } else {
      for (int64_t i = 0; i < n; ++i) std::memcpy(y + i * step_y, x + i * step_x, sizeof(T));
    }
  }
}

template <class T>
void Fill(const uint8_t* x, uint8_t* y, int64_t rows, int64_t row_x, int64_t row_y, int64_t n) {
  for (int64_t r = 0; r < rows; ++r, x += row_x, y += row_y) {
    const T v = Load<T>(x);
    for (int64_t i = 0; i < n; ++i) std::memcpy(y + i * int64_t(sizeof(T)), &v, sizeof(T));
  }
}

// Calls to memcpy cost more than the copy for runs of a few vectors.
inline void CopyRun(uint8_t* y, const uint8_t* x, int64_t n) {
  if (n < 16 || n > 256) {
    std::memcpy(y, x, size_t(n));
    return;
  }
  for (int64_t i = 0; i + 16 < n; i += 16) std::memcpy(y + i, x + i, 16);
  std::memcpy(y + n - 16, x + n - 16, 16);
}

template <class F>
void VisitBytes(int elem_bytes, const F& f) {
  switch (elem_bytes) {
    case 1:
      return f(uint8_t{});
    case 2:
      return f(uint16_t{});
    case 4:
      return f(uint32_t{});
    default:
      return f(uint64_t{});
  }
}

}  // namespace

StridedCopy::StridedCopy(std::span<const int64_t> dims, std::span<const int64_t> x_strides,
                         std::span<const int64_t> y_strides, int elem_bytes)
    : elem_bytes_(elem_bytes) {
  bytes_ = elem_bytes;
  std::vector<Axis> axes;
  for (size_t i = 0; i < dims.size(); ++i) {
    bytes_ *= dims[i];
    if (dims[i] != 1)
      axes.push_back({dims[i], x_strides[i] * elem_bytes, y_strides[i] * elem_bytes});
  }
  if (bytes_ == 0) return;
  // In the order of y's memory, then neighbours that are one arithmetic progression in both merge.
  std::stable_sort(axes.begin(), axes.end(),
                   [](const Axis& a, const Axis& b) { return a.y > b.y; });
  std::vector<Axis> merged;
  for (const Axis& a : axes) {
    if (!merged.empty() && merged.back().x == a.x * a.n && merged.back().y == a.y * a.n)
      merged.back() = {merged.back().n * a.n, a.x, a.y};
    else
      merged.push_back(a);
  }
  // A short contiguous tail is an element of its own: pairs of f32 move as one u64.
  if (!merged.empty()) {
    const Axis& last = merged.back();
    const int64_t run = last.n * elem_bytes;
    if (last.x == elem_bytes && last.y == elem_bytes && (run == 2 || run == 4 || run == 8)) {
      elem_bytes_ = int(run);
      merged.pop_back();
    }
  }
  if (merged.empty()) {
    kind_ = Kind::kBlock;
    element_ = {1, elem_bytes_, elem_bytes_};
    units_ = 1;
    return;
  }
  element_ = merged.back();
  merged.pop_back();
  const auto plane =
      std::find_if(merged.begin(), merged.end(), [&](const Axis& a) { return a.x == elem_bytes_; });
  const bool dense_y = element_.y == elem_bytes_;
  if (dense_y && element_.x == elem_bytes_) {
    kind_ = merged.empty() ? Kind::kBlock : Kind::kRuns;
  } else if (dense_y && element_.x == 0) {
    kind_ = Kind::kFill;
  } else if (dense_y && plane != merged.end()) {
    kind_ = Kind::kPlane;
    std::rotate(plane, plane + 1, merged.end());
  } else {
    kind_ = Kind::kElements;
  }
  if (kind_ == Kind::kFill && merged.empty() && element_.n * elem_bytes_ > kBlockBytes) {
    // One long fill is cut into rows, all but the rest, so that threads can share it.
    const int64_t n = kBlockBytes / elem_bytes_;
    if (element_.n % n == 0) {
      merged.push_back({element_.n / n, 0, n * elem_bytes_});
      element_.n = n;
    }
  }
  if (!merged.empty()) {
    row_ = merged.back();
    merged.pop_back();
  }
  units_ = 1;
  for (const Axis& a : merged) {
    outer_n_.push_back(a.n);
    outer_x_.push_back(a.x);
    outer_y_.push_back(a.y);
    units_ *= a.n;
  }
  inner_units_ = kind_ == Kind::kBlock ? (element_.n * elem_bytes_ + kBlockBytes - 1) / kBlockBytes
                 : kind_ == Kind::kPlane ? (row_.n * elem_bytes_ + kPanelBytes - 1) / kPanelBytes
                                         : row_.n;
  units_ *= inner_units_;
}

int64_t StridedCopy::grain() const {
  const int64_t unit_bytes = std::max<int64_t>(1, bytes_ / std::max<int64_t>(1, units_));
  return std::max<int64_t>(1, kChunkBytes / unit_bytes);
}

void StridedCopy::Core(const uint8_t* x, uint8_t* y, int64_t first, int64_t count) const {
  switch (kind_) {
    case Kind::kBlock: {
      const int64_t total = element_.n * elem_bytes_;
      const int64_t from = first * kBlockBytes;
      std::memcpy(y + from, x + from,
                  size_t(std::min(total, (first + count) * kBlockBytes) - from));
      return;
    }
    case Kind::kPlane: {
      const int64_t panel = kPanelBytes / elem_bytes_;
      const int64_t from = first * panel, to = std::min(row_.n, (first + count) * panel);
      Transpose2D(x + from * row_.x, element_.x, y + from * row_.y, row_.y, element_.n, to - from,
                  elem_bytes_);
      return;
    }
    default:
      break;
  }
  x += first * row_.x;
  y += first * row_.y;
  if (kind_ == Kind::kRuns) {
    const int64_t run = element_.n * elem_bytes_;
    for (int64_t r = 0; r < count; ++r, x += row_.x, y += row_.y) CopyRun(y, x, run);
    return;
  }
  VisitBytes(elem_bytes_, [&]<class T>(T) {
    if (kind_ == Kind::kFill)
      Fill<T>(x, y, count, row_.x, row_.y, element_.n);
    else
      Elements<T>(x, y, count, row_.x, row_.y, element_.n, element_.x, element_.y);
  });
}

void StridedCopy::Run(const void* x, void* y, int64_t begin, int64_t end) const {
  if (begin >= end) return;
  const auto* xb = static_cast<const uint8_t*>(x);
  auto* yb = static_cast<uint8_t*>(y);
  if (outer_n_.empty()) return Core(xb, yb, begin, end - begin);
  // The odometer over the outer extents, started at the core that holds `begin`.
  int64_t small[8];
  std::vector<int64_t> large;
  const size_t rank = outer_n_.size();
  int64_t* at = small;
  if (rank > 8) {
    large.resize(rank);
    at = large.data();
  }
  int64_t core = begin / inner_units_, first = begin % inner_units_;
  for (size_t i = rank; i-- > 0;) {
    at[i] = core % outer_n_[i];
    core /= outer_n_[i];
    xb += at[i] * outer_x_[i];
    yb += at[i] * outer_y_[i];
  }
  for (int64_t left = end - begin;;) {
    const int64_t count = std::min(left, inner_units_ - first);
    Core(xb, yb, first, count);
    first = 0;
    left -= count;
    if (left == 0) return;
    for (size_t i = rank; i-- > 0;) {
      xb += outer_x_[i];
      yb += outer_y_[i];
      if (++at[i] < outer_n_[i]) break;
      xb -= outer_x_[i] * outer_n_[i];
      yb -= outer_y_[i] * outer_n_[i];
      at[i] = 0;
    }
  }
}

}  // namespace dunlin
