#include "kernels/transpose.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/transpose.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// One square block of 128-bit vectors: N = 16 / sizeof(T) rows of N lanes. Interleaving row i with
// row i + N/2, log2(N) times, transposes the square whatever the lane size.
template <class T>
HWY_INLINE void Square(const uint8_t* HWY_RESTRICT x, int64_t x_stride, uint8_t* HWY_RESTRICT y,
                       int64_t y_stride) {
  constexpr int kN = int(16 / sizeof(T));
  const hn::Simd<T, size_t(kN), 0> d;
  using V = hn::Vec<decltype(d)>;
  V a[kN], b[kN];
#pragma GCC unroll 16
  for (int i = 0; i < kN; ++i) a[i] = hn::LoadU(d, reinterpret_cast<const T*>(x + i * x_stride));
#pragma GCC unroll 4
  for (int n = 1; n < kN; n *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kN / 2; ++i) {
      b[2 * i] = hn::InterleaveLower(d, a[i], a[i + kN / 2]);
      b[2 * i + 1] = hn::InterleaveUpper(d, a[i], a[i + kN / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kN; ++i) a[i] = b[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kN; ++i) hn::StoreU(a[i], d, reinterpret_cast<T*>(y + i * y_stride));
}

template <class T>
HWY_INLINE void Scalars(const uint8_t* HWY_RESTRICT x, int64_t x_stride, uint8_t* HWY_RESTRICT y,
                        int64_t y_stride, int64_t rows, int64_t cols) {
  for (int64_t c = 0; c < cols; ++c)
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(y + c * y_stride + r * int64_t(sizeof(T)),
                  x + r * x_stride + c * int64_t(sizeof(T)), sizeof(T));
}

// Two or three rows against long columns (images, pairs): interleaving stores make whole vectors of
// y. Only for y without gaps.
template <class T, int kRows>
HWY_INLINE void FewRows(const uint8_t* HWY_RESTRICT x, int64_t x_stride, uint8_t* HWY_RESTRICT y,
                        int64_t cols) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = int64_t(hn::Lanes(d));
  const T* r0 = reinterpret_cast<const T*>(x);
  const T* r1 = reinterpret_cast<const T*>(x + x_stride);
  const T* r2 = reinterpret_cast<const T*>(x + (kRows - 1) * x_stride);
  T* out = reinterpret_cast<T*>(y);
  int64_t c = 0;
  for (; c + lanes <= cols; c += lanes) {
    if constexpr (kRows == 2)
      hn::StoreInterleaved2(hn::LoadU(d, r0 + c), hn::LoadU(d, r1 + c), d, out + c * 2);
    else
      hn::StoreInterleaved3(hn::LoadU(d, r0 + c), hn::LoadU(d, r1 + c), hn::LoadU(d, r2 + c), d,
                            out + c * 3);
  }
  Scalars<T>(x + c * int64_t(sizeof(T)), x_stride, y + c * kRows * int64_t(sizeof(T)),
             kRows * int64_t(sizeof(T)), kRows, cols - c);
}

template <class T>
void Plane(const uint8_t* HWY_RESTRICT x, int64_t x_stride, uint8_t* HWY_RESTRICT y,
           int64_t y_stride, int64_t rows, int64_t cols) {
  constexpr int64_t kT = int64_t(sizeof(T));
  constexpr int64_t kN = 16 / kT;
  if constexpr (kT < 8) {
    if (y_stride == rows * kT && rows == 2) return FewRows<T, 2>(x, x_stride, y, cols);
    if (y_stride == rows * kT && rows == 3) return FewRows<T, 3>(x, x_stride, y, cols);
  }
  // A panel reads one cache line of each row of x, and keeps as many rows of y open. Rows of y that
  // are multiples of a page apart share the sets of the first cache, which then holds fewer of
  // them.
  const int64_t panel = y_stride % 2048 == 0 ? std::max<int64_t>(kN, 16 / kT) : 64 / kT;
  // Rows are blocked so that a panel's pages stay in the TLB.
  constexpr int64_t kRowBlock = 256;
  for (int64_t rb = 0; rb < rows; rb += kRowBlock) {
    const int64_t re = std::min(rows, rb + kRowBlock);
    for (int64_t cb = 0; cb < cols; cb += panel) {
      const int64_t ce = std::min(cols, cb + panel);
      int64_t r = rb;
      for (; r + kN <= re; r += kN) {
        int64_t c = cb;
        for (; c + kN <= ce; c += kN)
          Square<T>(x + r * x_stride + c * kT, x_stride, y + c * y_stride + r * kT, y_stride);
        Scalars<T>(x + r * x_stride + c * kT, x_stride, y + c * y_stride + r * kT, y_stride, kN,
                   ce - c);
      }
      Scalars<T>(x + r * x_stride + cb * kT, x_stride, y + cb * y_stride + r * kT, y_stride, re - r,
                 ce - cb);
    }
  }
}

void AnyPlane(const void* x, int64_t x_stride, void* y, int64_t y_stride, int64_t rows,
              int64_t cols, int elem_bytes) {
  const auto* xb = static_cast<const uint8_t*>(x);
  auto* yb = static_cast<uint8_t*>(y);
  switch (elem_bytes) {
    case 1:
      return Plane<uint8_t>(xb, x_stride, yb, y_stride, rows, cols);
    case 2:
      return Plane<uint16_t>(xb, x_stride, yb, y_stride, rows, cols);
    case 4:
      return Plane<uint32_t>(xb, x_stride, yb, y_stride, rows, cols);
    default:
      return Plane<uint64_t>(xb, x_stride, yb, y_stride, rows, cols);
  }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
namespace {
HWY_EXPORT(AnyPlane);

// Calls f(image, first, last) for the parts of images that positions [begin, end) of N images of S
// cover.
template <class F>
void ForImages(int64_t S, int64_t begin, int64_t end, const F& f) {
  while (begin < end) {
    const int64_t n = begin / S, first = begin % S;
    const int64_t last = std::min(S, first + (end - begin));
    f(n, first, last);
    begin += last - first;
  }
}
}  // namespace

void Transpose2D(const void* x, int64_t x_stride_bytes, void* y, int64_t y_stride_bytes,
                 int64_t rows, int64_t cols, int elem_bytes) {
  HWY_DYNAMIC_DISPATCH(AnyPlane)(x, x_stride_bytes, y, y_stride_bytes, rows, cols, elem_bytes);
}

void ReorderToChannelsLast(const void* x, void* y, int elem_bytes, int64_t N, int64_t C, int64_t S,
                           int64_t begin, int64_t end) {
  if (N * C * S == 0) return;
  const auto* xb = static_cast<const uint8_t*>(x);
  auto* yb = static_cast<uint8_t*>(y);
  ForImages(S, begin, end, [&](int64_t n, int64_t first, int64_t last) {
    const uint8_t* from = xb + (n * C * S + first) * elem_bytes;
    uint8_t* to = yb + (n * S + first) * C * elem_bytes;
    if (C == 1)
      std::memcpy(to, from, size_t((last - first) * elem_bytes));
    else
      Transpose2D(from, S * elem_bytes, to, C * elem_bytes, C, last - first, elem_bytes);
  });
}

void ReorderToRowMajor(const void* x, void* y, int elem_bytes, int64_t N, int64_t C, int64_t S,
                       int64_t begin, int64_t end) {
  if (N * C * S == 0) return;
  const auto* xb = static_cast<const uint8_t*>(x);
  auto* yb = static_cast<uint8_t*>(y);
  ForImages(S, begin, end, [&](int64_t n, int64_t first, int64_t last) {
    const uint8_t* from = xb + (n * S + first) * C * elem_bytes;
    uint8_t* to = yb + (n * C * S + first) * elem_bytes;
    if (C == 1)
      std::memcpy(to, from, size_t((last - first) * elem_bytes));
    else
      Transpose2D(from, C * elem_bytes, to, S * elem_bytes, last - first, C, elem_bytes);
  });
}

}  // namespace dunlin
#endif
