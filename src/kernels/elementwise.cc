#include "kernels/elementwise.h"

#include <cstddef>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise.cc"
#include <hwy/foreach_target.h>  // must come before highway.h
#include <hwy/highway.h>

#include "kernels/activation-inl.h"
#include "kernels/gemm_partial-inl.h"
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace {
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr D d;

template <class F>
HWY_INLINE void MapLoop(const float* x, float* y, size_t n, const F& f) {
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const V v0 = f(hn::LoadU(d, x + i)), v1 = f(hn::LoadU(d, x + i + lanes)),
            v2 = f(hn::LoadU(d, x + i + 2 * lanes)), v3 = f(hn::LoadU(d, x + i + 3 * lanes));
    hn::StoreU(v0, d, y + i);
    hn::StoreU(v1, d, y + i + lanes);
    hn::StoreU(v2, d, y + i + 2 * lanes);
    hn::StoreU(v3, d, y + i + 3 * lanes);
  }
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(hn::LoadU(d, x + i)), d, y + i);
  if (i < n) StorePartial(d, f(LoadPartial(d, x + i, n - i)), y + i, n - i);
}

// log(1 + e) for e in [0, 1], relatively exact for small e: the rounding of 1 + e is divided out.
HWY_INLINE V Log1pOfExp(V e) {
  const V one = hn::Set(d, 1.0f), u = hn::Add(one, e), rounded = hn::Sub(u, one);
  const V scaled = hn::Mul(Log(d, u), hn::Div(e, rounded));
  return hn::IfThenElse(hn::Eq(rounded, hn::Zero(d)), e, scaled);
}

// The operators with parameters.
void MapParametric(const UnaryParams& p, const float* x, float* y, size_t n) {
  const V zero = hn::Zero(d), one = hn::Set(d, 1.0f), a = hn::Set(d, p.a), b = hn::Set(d, p.b);
  const auto map = [&](const auto& f) HWY_ATTR { MapLoop(x, y, n, f); };
  switch (p.op) {
    case UnaryOp::kLeakyRelu:
      return map([&](V v) HWY_ATTR { return hn::IfThenElse(hn::Lt(v, zero), hn::Mul(v, a), v); });
    case UnaryOp::kElu:
      return map([&](V v) HWY_ATTR {
        const V e = hn::Mul(a, hn::Sub(Exp(d, hn::Mul(v, b)), one));
        return hn::IfThenElse(hn::Lt(v, zero), e, v);
      });
    case UnaryOp::kSelu:
      return map([&](V v) HWY_ATTR {
        const V e = hn::Mul(a, hn::Sub(Exp(d, v), one));
        return hn::Mul(b, hn::IfThenElse(hn::Lt(v, zero), e, v));
      });
    case UnaryOp::kThresholdedRelu:
      return map([&](V v) HWY_ATTR { return hn::IfThenZeroElse(hn::Le(v, a), v); });
    case UnaryOp::kHardSigmoid:
      return map([&](V v) HWY_ATTR { return Limit(hn::MulAdd(v, a, b), zero, one); });
    case UnaryOp::kSwish:
      return map([&](V v) HWY_ATTR { return hn::Div(v, OnePlusExp(d, v, -p.a)); });
    case UnaryOp::kClip:
      return map([&](V v) HWY_ATTR { return Limit(v, a, b); });
    default:
      return;
  }
}

void MapImpl(const UnaryParams& p, const float* x, float* y, int64_t count) {
  const auto n = static_cast<size_t>(count);
  const V zero = hn::Zero(d), one = hn::Set(d, 1.0f);
  const auto map = [&](const auto& f) HWY_ATTR { MapLoop(x, y, n, f); };
  switch (p.op) {
    case UnaryOp::kAbs:
      return map([](V v) HWY_ATTR { return hn::Abs(v); });
    case UnaryOp::kCeil:
      return map([](V v) HWY_ATTR { return hn::Ceil(v); });
    case UnaryOp::kFloor:
      return map([](V v) HWY_ATTR { return hn::Floor(v); });
    case UnaryOp::kRound:
      return map([](V v) HWY_ATTR { return hn::Round(v); });
    case UnaryOp::kNeg:
      return map([](V v) HWY_ATTR { return hn::Neg(v); });
    case UnaryOp::kReciprocal:
      return map([&](V v) HWY_ATTR { return hn::Div(one, v); });
    case UnaryOp::kSqrt:
      return map([](V v) HWY_ATTR { return hn::Sqrt(v); });
    case UnaryOp::kRsqrt:
      return map([&](V v) HWY_ATTR { return hn::Div(one, hn::Sqrt(v)); });
    case UnaryOp::kSquare:
      return map([](V v) HWY_ATTR { return hn::Mul(v, v); });
    case UnaryOp::kCube:
      return map([](V v) HWY_ATTR { return hn::Mul(hn::Mul(v, v), v); });
    case UnaryOp::kSign:
      return map([&](V v) HWY_ATTR {  // NaN and the zeros stay
        return hn::IfThenElse(hn::Ne(v, zero),
                              hn::IfThenElse(hn::Eq(v, v), hn::CopySign(one, v), v), v);
      });
    case UnaryOp::kExp:
      return map([](V v) HWY_ATTR { return Exp(d, v); });
    case UnaryOp::kLog:
      return map([](V v) HWY_ATTR { return Log(d, v); });
    case UnaryOp::kErf:
      return map([](V v) HWY_ATTR { return Erf(d, v); });
    case UnaryOp::kSigmoid:
      return map([](V v) HWY_ATTR { return Sigmoid(d, v); });
    case UnaryOp::kTanh:
      return map([](V v) HWY_ATTR { return Tanh(d, v); });
    case UnaryOp::kSoftplus:
      return map([&](V v) HWY_ATTR {
        return hn::Add(hn::Max(zero, v), Log1pOfExp(Exp(d, hn::Neg(hn::Abs(v)))));
      });
    case UnaryOp::kSoftsign:
      return map([&](V v) HWY_ATTR { return hn::Div(v, hn::Add(one, hn::Abs(v))); });
    case UnaryOp::kMish:
      return map([&](V v) HWY_ATTR {
        // tanh(log(1 + w)) = (w^2 + 2w) / (w^2 + 2w + 2); from x = 20 on it rounds to 1.
        const V w = Exp(d, hn::Min(v, hn::Set(d, 20.0f)));
        const V t = hn::Mul(w, hn::Add(w, hn::Set(d, 2.0f)));
        return hn::Mul(v, hn::Div(t, hn::Add(t, hn::Set(d, 2.0f))));
      });
    case UnaryOp::kGelu:
      return map([](V v) HWY_ATTR { return Activate<Activation::kGelu>(d, v, 0, 0); });
    case UnaryOp::kGeluTanh:
      return map([](V v) HWY_ATTR { return Activate<Activation::kGeluTanh>(d, v, 0, 0); });
    case UnaryOp::kHardSwish:
      return map([](V v) HWY_ATTR { return Activate<Activation::kHardSwish>(d, v, 0, 0); });
    case UnaryOp::kRelu:
      return map([&](V v) HWY_ATTR { return hn::Max(zero, v); });
    default:
      return MapParametric(p, x, y, n);
  }
}

// Rows of two operands, each either walking along the row or constant in it.
//   f(V, V) -> whatever store(offset, value) and store_part(offset, value, n) take.
template <bool kWalkA, bool kWalkB, class F, class S>
HWY_INLINE void RowLoop(const float* pa, const float* pb, size_t cols, const F& f, const S& store) {
  const size_t lanes = hn::Lanes(d);
  const V fixed_a = hn::Set(d, *pa), fixed_b = hn::Set(d, *pb);
  size_t i = 0;
  for (; i + 2 * lanes <= cols; i += 2 * lanes) {
    const V a0 = kWalkA ? hn::LoadU(d, pa + i) : fixed_a,
            a1 = kWalkA ? hn::LoadU(d, pa + i + lanes) : fixed_a;
    const V b0 = kWalkB ? hn::LoadU(d, pb + i) : fixed_b,
            b1 = kWalkB ? hn::LoadU(d, pb + i + lanes) : fixed_b;
    const auto r0 = f(a0, b0), r1 = f(a1, b1);
    store(i, r0, lanes);
    store(i + lanes, r1, lanes);
  }
  for (; i + lanes <= cols; i += lanes)
    store(i, f(kWalkA ? hn::LoadU(d, pa + i) : fixed_a, kWalkB ? hn::LoadU(d, pb + i) : fixed_b),
          lanes);
  if (i < cols)
    store(i,
          f(kWalkA ? LoadPartial(d, pa + i, cols - i) : fixed_a,
            kWalkB ? LoadPartial(d, pb + i, cols - i) : fixed_b),
          cols - i);
}

template <class F, class MakeStore>
HWY_INLINE void ForRows(Strided a, Strided b, int64_t rows, int64_t cols, const F& f,
                        const MakeStore& make_store) {
  const auto n = static_cast<size_t>(cols);
  for (int64_t r = 0; r < rows; ++r) {
    const float *pa = a.data + r * a.row, *pb = b.data + r * b.row;
    const auto store = make_store(r);
    if (a.col && b.col)
      RowLoop<true, true>(pa, pb, n, f, store);
    else if (a.col)
      RowLoop<true, false>(pa, pb, n, f, store);
    else
      RowLoop<false, true>(pa, pb, n, f, store);  // both constant: a single column
  }
}

void CombineImpl(BinaryOp op, Strided a, Strided b, float* y, int64_t rows, int64_t cols) {
  const V zero = hn::Zero(d);
  const auto run = [&](const auto& f) HWY_ATTR {
    ForRows(a, b, rows, cols, f, [&](int64_t r) HWY_ATTR {
      return [out = y + r * cols](size_t i, V v, size_t n) HWY_ATTR {
        if (n == hn::Lanes(d))
          hn::StoreU(v, d, out + i);
        else
          StorePartial(d, v, out + i, n);
      };
    });
  };
  switch (op) {
    case BinaryOp::kAdd:
      return run([](V p, V q) HWY_ATTR { return hn::Add(p, q); });
    case BinaryOp::kSub:
      return run([](V p, V q) HWY_ATTR { return hn::Sub(p, q); });
    case BinaryOp::kMul:
      return run([](V p, V q) HWY_ATTR { return hn::Mul(p, q); });
    case BinaryOp::kDiv:
      return run([](V p, V q) HWY_ATTR { return hn::Div(p, q); });
    case BinaryOp::kMax:
      return run([](V p, V q) HWY_ATTR { return hn::IfThenElse(hn::Eq(p, p), hn::Max(p, q), p); });
    case BinaryOp::kMin:
      return run([](V p, V q) HWY_ATTR { return hn::IfThenElse(hn::Eq(p, p), hn::Min(p, q), p); });
    case BinaryOp::kPRelu:
      return run([&](V p, V q)
                     HWY_ATTR { return hn::IfThenElse(hn::Lt(p, zero), hn::Mul(p, q), p); });
  }
}

void CompareImpl(CompareOp op, Strided a, Strided b, bool* y, int64_t rows, int64_t cols) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint8_t, D> du8;
  const auto run = [&](const auto& f) HWY_ATTR {
    const auto ones = [&](V p, V q) HWY_ATTR {
      return hn::DemoteTo(du8, hn::IfThenElseZero(hn::RebindMask(di, f(p, q)), hn::Set(di, 1)));
    };
    ForRows(a, b, rows, cols, ones, [&](int64_t r) HWY_ATTR {
      return [du8, out = reinterpret_cast<uint8_t*>(y) + r * cols](size_t i, auto v, size_t n)
                 HWY_ATTR {
                   if (n == hn::Lanes(d)) return hn::StoreU(v, du8, out + i);
                   HWY_ALIGN uint8_t part[HWY_MAX_BYTES];
                   hn::Store(v, du8, part);
                   for (size_t k = 0; k < n; ++k) out[i + k] = part[k];
                 };
    });
  };
  switch (op) {
    case CompareOp::kEqual:
      return run([](V p, V q) HWY_ATTR { return hn::Eq(p, q); });
    case CompareOp::kLess:
      return run([](V p, V q) HWY_ATTR { return hn::Lt(p, q); });
    case CompareOp::kLessOrEqual:
      return run([](V p, V q) HWY_ATTR { return hn::Le(p, q); });
    case CompareOp::kGreater:
      return run([](V p, V q) HWY_ATTR { return hn::Gt(p, q); });
    case CompareOp::kGreaterOrEqual:
      return run([](V p, V q) HWY_ATTR { return hn::Ge(p, q); });
  }
}

void SelectImpl(StridedBools c, Strided a, Strided b, float* y, int64_t rows, int64_t cols) {
  const size_t lanes = hn::Lanes(d);
  const hn::Rebind<uint8_t, D> du8;
  const hn::RebindToSigned<D> di;
  const auto n = static_cast<size_t>(cols);
  for (int64_t r = 0; r < rows; ++r) {
    const auto* pc = reinterpret_cast<const uint8_t*>(c.data + r * c.row);
    const float *pa = a.data + r * a.row, *pb = b.data + r * b.row;
    float* out = y + r * cols;
    size_t i = 0;
    if (c.col) {
      const V fixed_a = hn::Set(d, *pa), fixed_b = hn::Set(d, *pb);
      for (; i + lanes <= n; i += lanes) {
        const auto mask =
            hn::RebindMask(d, hn::Ne(hn::PromoteTo(di, hn::LoadU(du8, pc + i)), hn::Zero(di)));
        hn::StoreU(hn::IfThenElse(mask, a.col ? hn::LoadU(d, pa + i) : fixed_a,
                                  b.col ? hn::LoadU(d, pb + i) : fixed_b),
                   d, out + i);
      }
    }
    for (; i < n; ++i)
      out[i] = pc[i * size_t(c.col)] ? pa[i * size_t(a.col)] : pb[i * size_t(b.col)];
  }
}

void AffineRowsImpl(const float* x, const float* scale, const float* shift, int64_t channels,
                    int64_t first_row, float least, float* y, int64_t rows, int64_t cols) {
  const V lowest = hn::Set(d, least);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t c = (first_row + r) % channels;
    const V s = hn::Set(d, scale[c]), t = hn::Set(d, shift[c]);
    MapLoop(x + r * cols, y + r * cols, static_cast<size_t>(cols),
            [&](V v) HWY_ATTR { return hn::Max(lowest, hn::MulAdd(v, s, t)); });
  }
}

// The first operand of Max is what is left out for NaN.
void AffineColumnsImpl(const float* x, int64_t x_stride, const float* scale, const float* shift,
                       float least, float* y, int64_t rows, int64_t cols) {
  const size_t lanes = hn::Lanes(d);
  const auto n = static_cast<size_t>(cols);
  const V lowest = hn::Set(d, least);
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * x_stride;
    float* out = y + r * cols;
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const V v =
          hn::MulAdd(hn::LoadU(d, in + i), hn::LoadU(d, scale + i), hn::LoadU(d, shift + i));
      hn::StoreU(hn::Max(lowest, v), d, out + i);
    }
    if (i == n) continue;
    const V v = hn::MulAdd(LoadPartial(d, in + i, n - i), LoadPartial(d, scale + i, n - i),
                           LoadPartial(d, shift + i, n - i));
    StorePartial(d, hn::Max(lowest, v), out + i, n - i);
  }
}

}  // namespace
}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {

HWY_EXPORT(MapImpl);
HWY_EXPORT(CombineImpl);
HWY_EXPORT(CompareImpl);
HWY_EXPORT(SelectImpl);
HWY_EXPORT(AffineRowsImpl);
HWY_EXPORT(AffineColumnsImpl);

bool IsCheap(UnaryOp op) {
  switch (op) {
    case UnaryOp::kExp:
    case UnaryOp::kLog:
    case UnaryOp::kErf:
    case UnaryOp::kSigmoid:
    case UnaryOp::kTanh:
    case UnaryOp::kSoftplus:
    case UnaryOp::kMish:
    case UnaryOp::kGelu:
    case UnaryOp::kGeluTanh:
    case UnaryOp::kElu:
    case UnaryOp::kSelu:
    case UnaryOp::kSwish:
      return false;
    default:
      return true;
  }
}

void MapF32(const UnaryParams& p, const float* x, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(MapImpl)(p, x, y, n);
}

void CombineF32(BinaryOp op, Strided a, Strided b, float* y, int64_t rows, int64_t cols) {
  HWY_DYNAMIC_DISPATCH(CombineImpl)(op, a, b, y, rows, cols);
}

void CompareF32(CompareOp op, Strided a, Strided b, bool* y, int64_t rows, int64_t cols) {
  HWY_DYNAMIC_DISPATCH(CompareImpl)(op, a, b, y, rows, cols);
}

void SelectF32(StridedBools condition, Strided a, Strided b, float* y, int64_t rows, int64_t cols) {
  HWY_DYNAMIC_DISPATCH(SelectImpl)(condition, a, b, y, rows, cols);
}

void AffineRows(const float* x, const float* scale, const float* shift, int64_t channels,
                int64_t first_row, float least, float* y, int64_t rows, int64_t cols) {
  HWY_DYNAMIC_DISPATCH(AffineRowsImpl)(x, scale, shift, channels, first_row, least, y, rows, cols);
}

void AffineColumns(const float* x, int64_t x_stride, const float* scale, const float* shift,
                   float least, float* y, int64_t rows, int64_t cols) {
  HWY_DYNAMIC_DISPATCH(AffineColumnsImpl)(x, x_stride, scale, shift, least, y, rows, cols);
}

}  // namespace dunlin
#endif  // HWY_ONCE
