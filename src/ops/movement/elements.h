// Elements as things to be moved: one case per size, not per type.
#pragma once

#include <cstring>
#include <string>

#include "tensor/tensor.h"

namespace dunlin {

// Get and Set of element i, for elements of sizeof(T) bytes whatever their type.
template <class T>
struct Storage {
  using Value = T;
  static T Get(const void* p, int64_t i) {
    T v;
    std::memcpy(&v, static_cast<const char*>(p) + i * int64_t(sizeof(T)), sizeof(T));
    return v;
  }
  static void Set(void* p, int64_t i, T v) {
    std::memcpy(static_cast<char*>(p) + i * int64_t(sizeof(T)), &v, sizeof(T));
  }
  static T Zero() { return 0; }
};

template <>
struct Storage<std::string> {
  using Value = std::string;
  static const std::string& Get(const void* p, int64_t i) {
    return static_cast<const std::string*>(p)[i];
  }
  static void Set(void* p, int64_t i, const std::string& v) { static_cast<std::string*>(p)[i] = v; }
  static std::string Zero() { return {}; }
};

// Several elements of kBits to a byte, the lowest bits first.
template <int kBits>
struct Packed {};
template <int kBits>
struct Storage<Packed<kBits>> {
  using Value = uint8_t;
  static constexpr int kPerByte = 8 / kBits, kMask = (1 << kBits) - 1;
  static uint8_t Get(const void* p, int64_t i) {
    return uint8_t(static_cast<const uint8_t*>(p)[i / kPerByte] >> (i % kPerByte * kBits) & kMask);
  }
  static void Set(void* p, int64_t i, uint8_t v) {
    const int shift = int(i % kPerByte) * kBits;
    uint8_t& b = static_cast<uint8_t*>(p)[i / kPerByte];
    b = uint8_t((b & ~(kMask << shift)) | (v << shift));
  }
  static uint8_t Zero() { return 0; }
};

// Calls f(Storage<…>{}) for elements of type t. f returns Status.
template <class F>
Status VisitStorage(DType t, F&& f) {
  if (t == DType::kString) return f(Storage<std::string>{});
  switch (DTypeBits(t)) {
    case 2:
      return f(Storage<Packed<2>>{});
    case 4:
      return f(Storage<Packed<4>>{});
    case 8:
      return f(Storage<uint8_t>{});
    case 16:
      return f(Storage<uint16_t>{});
    case 32:
      return f(Storage<uint32_t>{});
    case 64:
      return f(Storage<uint64_t>{});
    default:
      return Fail(Code::kUnimplemented, "element type {} cannot be moved", DTypeName(t));
  }
}

// Whole tensors of one type and count: what a view does when it must be a copy.
Status CopyAll(const TensorView& x, TensorView& y);

}  // namespace dunlin
