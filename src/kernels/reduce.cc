#include "kernels/reduce.h"

#include <cmath>
#include <cstddef>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/reduce.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "kernels/gemm_partial-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace {
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr D d;

// The first n lanes from memory, the others `fill`.
HWY_INLINE V LoadOr(const float* p, size_t n, float fill) {
  return hn::IfThenElse(hn::FirstN(d, n), LoadPartial(d, p, n), hn::Set(d, fill));
}

// NaN in either operand gives NaN.
HWY_INLINE V MaxOrNaN(V a, V b) { return hn::IfThenElse(hn::Eq(a, a), hn::Max(a, b), a); }
HWY_INLINE V MinOrNaN(V a, V b) { return hn::IfThenElse(hn::Eq(a, a), hn::Min(a, b), a); }

// How each reduction starts, takes in a vector, joins two accumulators, and ends.
struct Summing {
  static constexpr float kStart = 0;
  static HWY_INLINE V Take(V acc, V v) { return hn::Add(acc, v); }
  static HWY_INLINE V Join(V a, V b) { return hn::Add(a, b); }
};
struct Magnitudes : Summing {
  static HWY_INLINE V Take(V acc, V v) { return hn::Add(acc, hn::Abs(v)); }
};
struct Squares : Summing {
  static HWY_INLINE V Take(V acc, V v) { return hn::MulAdd(v, v, acc); }
};
struct Multiplying {
  static constexpr float kStart = 1;
  static HWY_INLINE V Take(V acc, V v) { return hn::Mul(acc, v); }
  static HWY_INLINE V Join(V a, V b) { return hn::Mul(a, b); }
};
struct Maximum {
  static constexpr float kStart = -std::numeric_limits<float>::infinity();
  static HWY_INLINE V Take(V acc, V v) { return MaxOrNaN(acc, v); }
  static HWY_INLINE V Join(V a, V b) { return MaxOrNaN(a, b); }
};
struct Minimum {
  static constexpr float kStart = std::numeric_limits<float>::infinity();
  static HWY_INLINE V Take(V acc, V v) { return MinOrNaN(acc, v); }
  static HWY_INLINE V Join(V a, V b) { return MinOrNaN(a, b); }
};

// Joins the lanes of a vector by halving, in an order that depends on the vector's width only.
template <class R>
HWY_INLINE float Lanes(V v) {
  HWY_ALIGN float lane[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, lane);
  for (size_t half = hn::Lanes(d) / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i)
      lane[i] = hn::GetLane(R::Join(hn::Set(d, lane[i]), hn::Set(d, lane[i + half])));
  return lane[0];
}
template <>
HWY_INLINE float Lanes<Summing>(V v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

template <>
HWY_INLINE float Lanes<Maximum>(V v) {
  return hn::AllTrue(d, hn::Eq(v, v)) ? hn::GetLane(hn::MaxOfLanes(d, v))
                                      : std::numeric_limits<float>::quiet_NaN();
}
template <>
HWY_INLINE float Lanes<Minimum>(V v) {
  return hn::AllTrue(d, hn::Eq(v, v)) ? hn::GetLane(hn::MinOfLanes(d, v))
                                      : std::numeric_limits<float>::quiet_NaN();
}

template <class R>
HWY_INLINE float ReduceRow(const float* x, size_t n) {
  const size_t lanes = hn::Lanes(d);
  const V start = hn::Set(d, R::kStart);
  V a0 = start, a1 = start, a2 = start, a3 = start;
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a0 = R::Take(a0, hn::LoadU(d, x + i));
    a1 = R::Take(a1, hn::LoadU(d, x + i + lanes));
    a2 = R::Take(a2, hn::LoadU(d, x + i + 2 * lanes));
    a3 = R::Take(a3, hn::LoadU(d, x + i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) a0 = R::Take(a0, hn::LoadU(d, x + i));
  if (i < n) a1 = R::Take(a1, LoadOr(x + i, n - i, R::kStart));
  return Lanes<R>(R::Join(R::Join(a0, a1), R::Join(a2, a3)));
}

// f.template operator()<R>() with R of the operator; `finish` turns an accumulated vector into the
// result.
template <class F>
HWY_INLINE void VisitReduction(ReduceOp op, const F& f) {
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kMean:
      return f.template operator()<Summing>();
    case ReduceOp::kMax:
      return f.template operator()<Maximum>();
    case ReduceOp::kMin:
      return f.template operator()<Minimum>();
    case ReduceOp::kProd:
      return f.template operator()<Multiplying>();
    case ReduceOp::kL1:
      return f.template operator()<Magnitudes>();
    case ReduceOp::kL2:
    case ReduceOp::kSumSquare:
      return f.template operator()<Squares>();
  }
}
HWY_INLINE V Finish(ReduceOp op, V v, V count) {
  if (op == ReduceOp::kMean) return hn::Div(v, count);
  if (op == ReduceOp::kL2) return hn::Sqrt(v);
  return v;
}

void ReduceRowsImpl(ReduceOp op, const float* x, int64_t stride, int64_t rows, int64_t n,
                    float* y) {
  const V count = hn::Set(d, static_cast<float>(n));
  VisitReduction(op, [&]<class R>() HWY_ATTR {
    for (int64_t r = 0; r < rows; ++r) {
      const float sum = ReduceRow<R>(x + r * stride, static_cast<size_t>(n));
      y[r] = hn::GetLane(Finish(op, hn::Set(d, sum), count));
    }
  });
}

void ReduceColumnsImpl(ReduceOp op, const float* x, int64_t stride, int64_t n, int64_t cols,
                       float* y) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const V count = hn::Set(d, static_cast<float>(n));
  VisitReduction(op, [&]<class R>() HWY_ATTR {
    const V start = hn::Set(d, R::kStart);
    int64_t c = 0;
    for (; c + 4 * lanes <= cols; c += 4 * lanes) {
      V a0 = start, a1 = start, a2 = start, a3 = start;
      const float* p = x + c;
      for (int64_t i = 0; i < n; ++i, p += stride) {
        a0 = R::Take(a0, hn::LoadU(d, p));
        a1 = R::Take(a1, hn::LoadU(d, p + lanes));
        a2 = R::Take(a2, hn::LoadU(d, p + 2 * lanes));
        a3 = R::Take(a3, hn::LoadU(d, p + 3 * lanes));
      }
      hn::StoreU(Finish(op, a0, count), d, y + c);
      hn::StoreU(Finish(op, a1, count), d, y + c + lanes);
      hn::StoreU(Finish(op, a2, count), d, y + c + 2 * lanes);
      hn::StoreU(Finish(op, a3, count), d, y + c + 3 * lanes);
    }
    for (; c < cols; c += lanes) {
      const auto part = static_cast<size_t>(cols - c < lanes ? cols - c : lanes);
      V a = start;
      const float* p = x + c;
      for (int64_t i = 0; i < n; ++i, p += stride)
        a = R::Take(a, part == size_t(lanes) ? hn::LoadU(d, p) : LoadOr(p, part, R::kStart));
      StorePartial(d, Finish(op, a, count), y + c, part);
    }
  });
}

void SoftmaxRowsImpl(bool log, const float* x, float* y, int64_t rows, int64_t count) {
  const auto n = static_cast<size_t>(count);
  const size_t lanes = hn::Lanes(d);
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    const float largest = ReduceRow<Maximum>(x, n);
    const V m = hn::Set(d, largest);
    V sum0 = hn::Zero(d), sum1 = sum0;
    size_t i = 0;
    // The exponentials are stored on the way, unless the logarithm wants the input again.
    const auto exponential = [&](size_t at) HWY_ATTR {
      const V e = Exp(d, hn::Sub(hn::LoadU(d, x + at), m));
      if (!log) hn::StoreU(e, d, y + at);
      return e;
    };
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      sum0 = hn::Add(sum0, exponential(i));
      sum1 = hn::Add(sum1, exponential(i + lanes));
    }
    for (; i + lanes <= n; i += lanes) sum0 = hn::Add(sum0, exponential(i));
    if (i < n) {
      const V e = Exp(d, hn::Sub(LoadOr(x + i, n - i, kLowest), m));
      sum1 = hn::Add(sum1, hn::IfThenElseZero(hn::FirstN(d, n - i), e));
      if (!log) StorePartial(d, e, y + i, n - i);
    }
    const float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
    const V factor = hn::Set(d, 1.0f / sum), log_sum = log ? Log(d, hn::Set(d, sum)) : factor;
    const auto finish = [&](V of_x, V of_y) HWY_ATTR {
      return log ? hn::Sub(hn::Sub(of_x, m), log_sum) : hn::Mul(of_y, factor);
    };
    const float* from = log ? x : y;
    for (i = 0; i + lanes <= n; i += lanes) {
      const V v = hn::LoadU(d, from + i);
      hn::StoreU(finish(v, v), d, y + i);
    }
    if (i < n) {
      const V v = LoadPartial(d, from + i, n - i);
      StorePartial(d, finish(v, v), y + i, n - i);
    }
  }
}

void SoftmaxColumnsImpl(bool log, const float* x, float* y, int64_t stride, int64_t n, int64_t cols,
                        float* scratch) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  float *largest = scratch, *sums = scratch + cols;
  ReduceColumnsImpl(ReduceOp::kMax, x, stride, n, cols, largest);
  for (int64_t c = 0; c < cols; ++c) sums[c] = 0;
  // Vectors of columns, then what is left of them.
  const auto each = [&](const float* p, float* q, const auto& f) HWY_ATTR {
    int64_t c = 0;
    for (; c + lanes <= cols; c += lanes)
      hn::StoreU(f(hn::LoadU(d, p + c), c, size_t(lanes)), d, q + c);
    if (c < cols)
      StorePartial(d, f(LoadPartial(d, p + c, size_t(cols - c)), c, size_t(cols - c)), q + c,
                   size_t(cols - c));
  };
  const auto load = [&](const float* p, size_t part) HWY_ATTR {
    return part == size_t(lanes) ? hn::LoadU(d, p) : LoadPartial(d, p, part);
  };
  for (int64_t i = 0; i < n; ++i) {
    const float* in = x + i * stride;
    if (log) {
      each(in, sums, [&](V v, int64_t c, size_t part) HWY_ATTR {
        return hn::Add(load(sums + c, part), Exp(d, hn::Sub(v, load(largest + c, part))));
      });
    } else {
      float* out = y + i * stride;
      each(in, out, [&](V v, int64_t c, size_t part) HWY_ATTR {
        return Exp(d, hn::Sub(v, load(largest + c, part)));
      });
      each(out, sums,
           [&](V v, int64_t c, size_t part) HWY_ATTR { return hn::Add(load(sums + c, part), v); });
    }
  }
  if (log) {
    each(sums, sums, [&](V v, int64_t, size_t) HWY_ATTR { return Log(d, v); });
    for (int64_t i = 0; i < n; ++i)
      each(x + i * stride, y + i * stride, [&](V v, int64_t c, size_t part) HWY_ATTR {
        return hn::Sub(hn::Sub(v, load(largest + c, part)), load(sums + c, part));
      });
  } else {
    each(sums, sums, [&](V v, int64_t, size_t) HWY_ATTR { return hn::Div(hn::Set(d, 1.0f), v); });
    for (int64_t i = 0; i < n; ++i)
      each(y + i * stride, y + i * stride,
           [&](V v, int64_t c, size_t part) HWY_ATTR { return hn::Mul(v, load(sums + c, part)); });
  }
}

int64_t IndexOfFirst(const float* x, int64_t n, float value) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const V v = hn::Set(d, value);
  // NaN is what does not equal itself (Ne is an ordered comparison on some targets).
  const bool nan = value != value;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V u = hn::LoadU(d, x + i);
    const intptr_t at = hn::FindFirstTrue(d, nan ? hn::Not(hn::Eq(u, u)) : hn::Eq(u, v));
    if (at >= 0) return i + at;
  }
  while (i < n && (nan ? x[i] == x[i] : x[i] != value)) ++i;
  return i;
}

void ArgRowsImpl(ReduceOp op, const float* x, int64_t rows, int64_t n, int64_t* y) {
  for (int64_t r = 0; r < rows; ++r, x += n) {
    const float best = op == ReduceOp::kMax ? ReduceRow<Maximum>(x, static_cast<size_t>(n))
                                            : ReduceRow<Minimum>(x, static_cast<size_t>(n));
    y[r] = IndexOfFirst(x, n, best);
  }
}

RowMoments MomentsImpl(const float* x, int64_t count, float epsilon, bool centred) {
  const auto n = static_cast<size_t>(count);
  const size_t lanes = hn::Lanes(d);
  const float mean = centred ? ReduceRow<Summing>(x, n) / static_cast<float>(n) : 0;
  const V m = hn::Set(d, mean);
  V a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  const auto take = [&](V acc, V v) HWY_ATTR {
    const V diff = hn::Sub(v, m);
    return hn::MulAdd(diff, diff, acc);
  };
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a0 = take(a0, hn::LoadU(d, x + i));
    a1 = take(a1, hn::LoadU(d, x + i + lanes));
    a2 = take(a2, hn::LoadU(d, x + i + 2 * lanes));
    a3 = take(a3, hn::LoadU(d, x + i + 3 * lanes));
  }
  for (; i + lanes <= n; i += lanes) a0 = take(a0, hn::LoadU(d, x + i));
  if (i < n) a1 = take(a1, LoadOr(x + i, n - i, mean));
  const float squares = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a0, a1), hn::Add(a2, a3))));
  return {mean, 1.0f / std::sqrt(squares / static_cast<float>(n) + epsilon)};
}

void CentreAndScaleImpl(const float* x, float mean, float factor, float shift, float* y,
                        int64_t count) {
  const auto n = static_cast<size_t>(count);
  const size_t lanes = hn::Lanes(d);
  const V m = hn::Set(d, mean), f = hn::Set(d, factor), s = hn::Set(d, shift);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::MulAdd(hn::Sub(hn::LoadU(d, x + i), m), f, s), d, y + i);
  if (i < n)
    StorePartial(d, hn::MulAdd(hn::Sub(LoadPartial(d, x + i, n - i), m), f, s), y + i, n - i);
}

void NormalizeRowsImpl(const float* x, const float* scale, const float* bias, float* y,
                       int64_t rows, int64_t count, float epsilon, bool centred, float* mean_out,
                       float* inverse_out) {
  const auto n = static_cast<size_t>(count);
  const size_t lanes = hn::Lanes(d);
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    const RowMoments moments = MomentsImpl(x, count, epsilon, centred);
    if (mean_out) mean_out[r] = moments.mean;
    if (inverse_out) inverse_out[r] = moments.inverse;
    const V mean = hn::Set(d, moments.mean), inverse = hn::Set(d, moments.inverse),
            zero = hn::Zero(d);
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const V v = hn::Mul(hn::Sub(hn::LoadU(d, x + i), mean), inverse);
      hn::StoreU(hn::MulAdd(v, hn::LoadU(d, scale + i), bias ? hn::LoadU(d, bias + i) : zero), d,
                 y + i);
    }
    if (i < n) {
      const V v = hn::Mul(hn::Sub(LoadPartial(d, x + i, n - i), mean), inverse);
      StorePartial(d,
                   hn::MulAdd(v, LoadPartial(d, scale + i, n - i),
                              bias ? LoadPartial(d, bias + i, n - i) : zero),
                   y + i, n - i);
    }
  }
}

}  // namespace
}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {

HWY_EXPORT(ReduceRowsImpl);
HWY_EXPORT(ReduceColumnsImpl);
HWY_EXPORT(SoftmaxRowsImpl);
HWY_EXPORT(SoftmaxColumnsImpl);
HWY_EXPORT(ArgRowsImpl);
HWY_EXPORT(MomentsImpl);
HWY_EXPORT(CentreAndScaleImpl);
HWY_EXPORT(NormalizeRowsImpl);

void ReduceRowsF32(ReduceOp op, const float* x, int64_t stride, int64_t rows, int64_t n, float* y) {
  HWY_DYNAMIC_DISPATCH(ReduceRowsImpl)(op, x, stride, rows, n, y);
}
void ReduceColumnsF32(ReduceOp op, const float* x, int64_t stride, int64_t n, int64_t cols,
                      float* y) {
  HWY_DYNAMIC_DISPATCH(ReduceColumnsImpl)(op, x, stride, n, cols, y);
}
void SoftmaxRowsF32(bool log, const float* x, float* y, int64_t rows, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SoftmaxRowsImpl)(log, x, y, rows, n);
}
void SoftmaxColumnsF32(bool log, const float* x, float* y, int64_t stride, int64_t n, int64_t cols,
                       float* scratch) {
  HWY_DYNAMIC_DISPATCH(SoftmaxColumnsImpl)(log, x, y, stride, n, cols, scratch);
}
void ArgRowsF32(ReduceOp op, const float* x, int64_t rows, int64_t n, int64_t* y) {
  HWY_DYNAMIC_DISPATCH(ArgRowsImpl)(op, x, rows, n, y);
}
RowMoments MomentsF32(const float* x, int64_t n, float epsilon, bool centred) {
  return HWY_DYNAMIC_DISPATCH(MomentsImpl)(x, n, epsilon, centred);
}
void CentreAndScaleF32(const float* x, float mean, float factor, float shift, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(CentreAndScaleImpl)(x, mean, factor, shift, y, n);
}
void NormalizeRowsF32(const float* x, const float* scale, const float* bias, float* y, int64_t rows,
                      int64_t n, float epsilon, bool centred, float* mean_out, float* inverse_out) {
  HWY_DYNAMIC_DISPATCH(NormalizeRowsImpl)
  (x, scale, bias, y, rows, n, epsilon, centred, mean_out, inverse_out);
}

}  // namespace dunlin
#endif  // HWY_ONCE
