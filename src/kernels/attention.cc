#include "kernels/attention.h"

#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gemm_partial-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace {
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr D d;

int64_t VectorLanes() { return int64_t(hn::Lanes(d)); }

// A NaN may be lost here: its exponential is NaN whatever the largest is.
HWY_INLINE V Largest(const float* x, size_t n, V lowest) {
  const size_t lanes = hn::Lanes(d);
  V a = lowest, b = lowest;
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    a = hn::Max(a, hn::LoadU(d, x + i));
    b = hn::Max(b, hn::LoadU(d, x + i + lanes));
  }
  for (; i + lanes <= n; i += lanes) a = hn::Max(a, hn::LoadU(d, x + i));
  if (i < n) b = hn::Max(b, hn::IfThenElse(hn::FirstN(d, n - i), hn::LoadU(d, x + i), lowest));
  return hn::MaxOfLanes(d, hn::Max(a, b));
}

void ExponentialRows(float* x, int64_t stride, int64_t rows, int64_t count, float* factors) {
  const auto n = static_cast<size_t>(count);
  const size_t lanes = hn::Lanes(d);
  const V lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  // All rows' largest first: one row's is a chain of joined lanes that the next need not wait for.
  for (int64_t r = 0; r < rows; ++r) factors[r] = hn::GetLane(Largest(x + r * stride, n, lowest));
  for (int64_t r = 0; r < rows; ++r) {
    float* const row = x + r * stride;
    const V largest = hn::Set(d, factors[r]);
    V a = hn::Zero(d), b = a;
    const auto exponential = [&](size_t i) HWY_ATTR {
      return ExpNotPositive(d, hn::Sub(hn::LoadU(d, row + i), largest));
    };
    size_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      const V e0 = exponential(i), e1 = exponential(i + lanes);
      hn::StoreU(e0, d, row + i);
      hn::StoreU(e1, d, row + i + lanes);
      a = hn::Add(a, e0);
      b = hn::Add(b, e1);
    }
    for (; i < n; i += lanes) {
      const V e = hn::IfThenElseZero(hn::FirstN(d, n - i), exponential(i));
      hn::StoreU(e, d, row + i);
      a = hn::Add(a, e);
    }
    factors[r] = 1.0f / hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  }
}

void ScaleRows(float* y, int64_t stride, int64_t rows, int64_t count, const float* factors) {
  const auto n = static_cast<size_t>(count);
  const size_t lanes = hn::Lanes(d);
  for (int64_t r = 0; r < rows; ++r, y += stride) {
    const V factor = hn::Set(d, factors[r]);
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, y + i), factor), d, y + i);
    if (i < n) StorePartial(d, hn::Mul(LoadPartial(d, y + i, n - i), factor), y + i, n - i);
  }
}

}  // namespace
}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(VectorLanes);
HWY_EXPORT(ExponentialRows);
HWY_EXPORT(ScaleRows);

int64_t ScoreLanes() { return HWY_DYNAMIC_DISPATCH(VectorLanes)(); }
void ExponentialRowsF32(float* x, int64_t stride, int64_t rows, int64_t n, float* factors) {
  HWY_DYNAMIC_DISPATCH(ExponentialRows)(x, stride, rows, n, factors);
}
void ScaleRowsF32(float* y, int64_t stride, int64_t rows, int64_t n, const float* factors) {
  HWY_DYNAMIC_DISPATCH(ScaleRows)(y, stride, rows, n, factors);
}

}  // namespace dunlin
#endif  // HWY_ONCE
