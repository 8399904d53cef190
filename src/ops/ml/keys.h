// KeyIndex: where a value stands in a list of keys. Integers of all widths are one kind of key,
// floats another, strings a third.
#pragma once

#include <cmath>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ops/op.h"

namespace dunlin::ml {

class KeyIndex {
 public:
  // A key that is repeated stands where it is last.
  template <class T>
  static KeyIndex Of(std::span<const T> keys) {
    KeyIndex index;
    for (size_t i = 0; i < keys.size(); ++i) index.Add(keys[i], int64_t(i));
    return index;
  }
  template <class T>
  static KeyIndex Of(const std::vector<T>& keys) {
    return Of(std::span<const T>(keys));
  }
  static Result<KeyIndex> Create(const Tensor& keys) {
    KeyIndex index;
    TRY(VisitDType(keys.dtype(), "keys", [&]<class T>(TypeTag<T>) -> Status {
      index = Of(keys.values<T>());
      return {};
    }));
    return index;
  }

  // The position of element i of x, -1 when it is no key. Values of another kind never are.
  Result<int64_t> Find(const TensorView& x, int64_t i) const {
    int64_t at = -1;
    TRY(VisitDType(x.dtype, "a key", [&]<class T>(TypeTag<T>) -> Status {
      at = Position(static_cast<const T*>(x.data)[i]);
      return {};
    }));
    return at;
  }
  // The same among integer keys for numbers of any type, which are cut to integers.
  Result<int64_t> FindTruncated(const TensorView& x, int64_t i) const {
    if (!IsFloat(x.dtype)) return Find(x, i);
    int64_t at = -1;
    TRY(VisitDType(x.dtype, "a key", [&]<class T>(TypeTag<T>) -> Status {
      if constexpr (kIsFloat<T>) {
        const double v = Double(static_cast<const T*>(x.data)[i]);
        if (std::fabs(v) < 0x1p63) at = Position(int64_t(v));
      }
      return {};
    }));
    return at;
  }

 private:
  template <class T>
  static double Double(T v) {
    if constexpr (kIsHalf<T>)
      return double(float(v));
    else
      return double(v);
  }
  template <class M, class K>
  static int64_t Lookup(const M& map, const K& key) {
    const auto it = map.find(key);
    return it == map.end() ? -1 : it->second;
  }
  template <class T>
  int64_t Position(const T& v) const {
    if constexpr (std::is_same_v<T, std::string>)
      return Lookup(strings_, v);
    else if constexpr (kIsFloat<T>)
      return std::isnan(Double(v)) ? nan_ : Lookup(floats_, Double(v));
    else
      return Lookup(ints_, int64_t(v));
  }
  template <class T>
  void Add(const T& key, int64_t at) {
    if constexpr (std::is_same_v<T, std::string>)
      strings_[key] = at;
    else if constexpr (!kIsFloat<T>)
      ints_[int64_t(key)] = at;
    else if (std::isnan(Double(key)))
      nan_ = at;
    else
      floats_[Double(key)] = at;
  }

  std::unordered_map<int64_t, int64_t> ints_;
  std::unordered_map<double, int64_t> floats_;
  std::unordered_map<std::string, int64_t> strings_;
  int64_t nan_ = -1;  // of the key NaN
};

}  // namespace dunlin::ml
