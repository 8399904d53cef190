// Dims: the extents of a tensor, any rank, no allocation up to rank 8.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dunlin {

// An extent: >= 0 is known; kUnknownDim says nothing; below that it is a symbol of the graph (-2 is
// symbol 0, -3 symbol 1, …), so equal negative extents under kUnknownDim are equal at run time too.
inline constexpr int64_t kUnknownDim = -1;
inline bool IsKnown(int64_t d) { return d >= 0; }
inline bool IsSymbol(int64_t d) { return d < kUnknownDim; }
inline int64_t SymbolDim(int index) { return -2 - int64_t{index}; }
inline int SymbolIndex(int64_t d) { return int(-2 - d); }

class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<int64_t> v) { Assign(v.begin(), v.size()); }
  explicit Dims(std::span<const int64_t> v) { Assign(v.data(), v.size()); }
  Dims(size_t rank, int64_t value) { resize(rank, value); }

  size_t size() const { return rank_; }
  int rank() const { return int(rank_); }
  bool empty() const { return rank_ == 0; }
  int64_t* data() { return rank_ <= kInline ? inline_ : heap_.data(); }
  const int64_t* data() const { return rank_ <= kInline ? inline_ : heap_.data(); }
  int64_t& operator[](size_t i) { return data()[i]; }
  int64_t operator[](size_t i) const { return data()[i]; }
  int64_t* begin() { return data(); }
  int64_t* end() { return data() + rank_; }
  const int64_t* begin() const { return data(); }
  const int64_t* end() const { return data() + rank_; }
  int64_t back() const { return data()[rank_ - 1]; }
  int64_t& back() { return data()[rank_ - 1]; }
  operator std::span<const int64_t>() const { return {data(), rank_}; }  // NOLINT

  void push_back(int64_t v) { resize(rank_ + 1, v); }
  void resize(size_t n, int64_t fill = 0) {
    if (n > kInline && rank_ <= kInline) heap_.assign(inline_, inline_ + rank_);
    if (n <= kInline && rank_ > kInline) std::copy_n(heap_.begin(), n, inline_);
    if (n > kInline) {
      heap_.resize(n, fill);
    } else {
      for (size_t i = std::min(rank_, n); i < n; ++i) inline_[i] = fill;
      heap_.clear();
    }
    rank_ = n;
  }
  void insert(size_t at, int64_t v) {
    push_back(v);
    std::rotate(begin() + at, end() - 1, end());
  }
  void erase(size_t at) {
    std::copy(begin() + at + 1, end(), begin() + at);
    resize(rank_ - 1);
  }
  bool operator==(const Dims& o) const { return std::equal(begin(), end(), o.begin(), o.end()); }

 private:
  void Assign(const int64_t* v, size_t n) {
    resize(n);
    std::copy_n(v, n, data());
  }
  static constexpr size_t kInline = 8;  // covers every operator but exotic Transposes
  size_t rank_ = 0;
  int64_t inline_[kInline] = {};
  std::vector<int64_t> heap_;
};

inline bool AllKnown(std::span<const int64_t> d) {
  return std::all_of(d.begin(), d.end(), IsKnown);
}

// Product of all extents (1 for a scalar); nullopt when one is unknown, negative or the product
// overflows 2^62, so that byte sizes computed from it cannot wrap.
std::optional<int64_t> ElementCount(std::span<const int64_t> d);

// Same, for extents already known to be sound (a live tensor's).
inline int64_t CountOf(std::span<const int64_t> d) {
  int64_t n = 1;
  for (const int64_t x : d) n *= x;
  return n;
}

std::string ToString(std::span<const int64_t> d);  // "[1,3,?,s0]"

// Numpy broadcasting of extents; nullopt when they cannot match. Unknown against 1 stays unknown;
// unknown against n > 1 is n.
std::optional<Dims> Broadcast(std::span<const int64_t> a, std::span<const int64_t> b);

}  // namespace dunlin
