#include "kernels/code_resize.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/code_resize.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using I32 = hn::ScalableTag<int32_t>;
using F32 = hn::ScalableTag<float>;

// Half of a first-level cache of 32 KiB, beside what is read and written.
constexpr int64_t kPiece = 4096;
constexpr int64_t kChannels = 512;  // of a piece, so that it has some pixels

// Calls vector(i) for every vector of n elements, the last one overlapping the one before it; or
// single(i) for each of less than a vector.
template <class Vector, class Single>
HWY_INLINE void ForEach(int64_t n, const Vector& vector, const Single& single) {
  const int64_t lanes = int64_t(hn::Lanes(I32()));
  int64_t i = 0;
  if (n < lanes) {
    for (; i < n; ++i) single(i);
    return;
  }
  for (; i + lanes <= n; i += lanes) vector(i);
  if (i < n) vector(n - lanes);
}

// n elements of the rows from `first` on.
template <class Q, int kTaps>
void BlendRows(const CodeResizeRow& r, int64_t first, int64_t n, float* v) {
  const I32 d;
  const F32 df;
  const hn::Rebind<Q, I32> dq;
  const Q* x[2] = {reinterpret_cast<const Q*>(r.rows[0]) + first,
                   kTaps == 2 ? reinterpret_cast<const Q*>(r.rows[1]) + first : nullptr};
  const auto zero = hn::Set(d, r.x_zero);
  const auto w0 = hn::Set(df, r.row_weights[0]), w1 = hn::Set(df, r.row_weights[1]);
  const auto value = [&](const Q* from) HWY_ATTR {
    return hn::ConvertTo(df, hn::PromoteTo(d, hn::LoadU(dq, from)) - zero);
  };
  ForEach(
      n,
      [&](int64_t i) HWY_ATTR {
        auto sum = value(x[0] + i) * w0;
        if constexpr (kTaps == 2) sum = sum + value(x[1] + i) * w1;
        hn::StoreU(sum, df, v + i);
      },
      [&](int64_t i) {
        v[i] = float(x[0][i] - r.x_zero) * r.row_weights[0];
        if constexpr (kTaps == 2) v[i] = v[i] + float(x[1][i] - r.x_zero) * r.row_weights[1];
      });
}

// n channels of a pixel.
template <class Q, int kTaps>
HWY_INLINE void BlendColumns(const CodeRange& range, const float* const* v, const float* weights,
                             int64_t n, Q* y) {
  const I32 d;
  const F32 df;
  const hn::Rebind<Q, I32> dq;
  const auto low = hn::Set(df, range.low), high = hn::Set(df, range.high);
  const auto zero = hn::Set(d, range.zero);
  const auto w0 = hn::Set(df, weights[0]), w1 = hn::Set(df, weights[kTaps - 1]);
  ForEach(
      n,
      [&](int64_t i) HWY_ATTR {
        auto sum = hn::LoadU(df, v[0] + i) * w0;
        if constexpr (kTaps == 2) sum = sum + hn::LoadU(df, v[1] + i) * w1;
        hn::StoreU(hn::DemoteTo(dq, hn::NearestInt(hn::Min(hn::Max(sum, low), high)) + zero), dq,
                   y + i);
      },
      [&](int64_t i) {
        float sum = v[0][i] * weights[0];
        if constexpr (kTaps == 2) sum = sum + v[1][i] * weights[1];
        sum = std::min(std::max(sum, range.low), range.high);
        y[i] = Q(int32_t(std::nearbyint(sum)) + range.zero);
      });
}

template <class Q, int kRows, int kColumns>
void Resize(const CodeResizeRow& r, Q* y) {
  alignas(64) float v[kPiece];
  for (int64_t c = 0; c < r.channels; c += kChannels) {
    const int64_t n = std::min(kChannels, r.channels - c), most = kPiece / n;
    for (int64_t p = 0; p < r.columns;) {
      const int64_t first = r.index[p * kColumns];
      int64_t end = p + 1;
      while (end < r.columns && r.index[(end + 1) * kColumns - 1] - first < most) ++end;
      const int64_t pixels = r.index[end * kColumns - 1] - first + 1;
      if (n == r.channels)
        BlendRows<Q, kRows>(r, first * n, pixels * n, v);
      else
        for (int64_t i = 0; i < pixels; ++i)
          BlendRows<Q, kRows>(r, (first + i) * r.channels + c, n, v + i * n);
      for (; p < end; ++p) {
        const float* at[kColumns];
        for (int k = 0; k < kColumns; ++k) at[k] = v + (r.index[p * kColumns + k] - first) * n;
        BlendColumns<Q, kColumns>(r.range, at, r.weights + p * kColumns, n, y + p * r.channels + c);
      }
    }
  }
}

template <class Q>
void OfType(const CodeResizeRow& r, Q* y) {
  if (r.row_taps == 1) return r.column_taps == 1 ? Resize<Q, 1, 1>(r, y) : Resize<Q, 1, 2>(r, y);
  r.column_taps == 1 ? Resize<Q, 2, 1>(r, y) : Resize<Q, 2, 2>(r, y);
}
void ResizeAny(const CodeResizeRow& r, uint8_t* y) {
  r.type == DType::kU8 ? OfType(r, y) : OfType(r, reinterpret_cast<int8_t*>(y));
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(ResizeAny);

void ResizeCodes(const CodeResizeRow& row, uint8_t* y) { HWY_DYNAMIC_DISPATCH(ResizeAny)(row, y); }

uint8_t ResizedCode(const CodeResizeRow& r, int64_t p, int64_t c) {
  const auto value = [&](int64_t row, int64_t column) {
    const uint8_t code = r.rows[row][column * r.channels + c];
    const int32_t wide = r.type == DType::kU8 ? int32_t(code) : int32_t(int8_t(code));
    return float(wide - r.x_zero) * r.row_weights[row];
  };
  float sum = 0;
  for (int64_t k = 0; k < r.column_taps; ++k) {
    const int64_t column = r.index[p * r.column_taps + k];
    float v = value(0, column);
    if (r.row_taps == 2) v = v + value(1, column);
    v = v * r.weights[p * r.column_taps + k];
    sum = k == 0 ? v : sum + v;
  }
  sum = std::min(std::max(sum, r.range.low), r.range.high);
  return uint8_t(int32_t(std::nearbyint(sum)) + r.range.zero);
}

}  // namespace dunlin
#endif  // HWY_ONCE
