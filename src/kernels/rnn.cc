#include "kernels/rnn.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rnn.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include "kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Rows that share one pass over a panel. Four vectors a row: AVX-512 has 32 registers (16 sums, 4
// weights), the others 16 (8 sums, 4 weights).
constexpr int kMaxRows = HWY_MAX_BYTES == 64 ? 4 : 2;
// Rows whose sums are kept between parts of a panel: at most 4 KiB.
constexpr int kGroupRows = 16;

template <int kRows, int kVectors>
struct Sums {
  V v[kRows][kVectors];
};

// sums += a[rows][first … first + k) · w, where w has `stride` floats a row.
template <int kRows, int kVectors>
HWY_INLINE void Accumulate(const float* const* a, size_t first, size_t k,
                           const float* HWY_RESTRICT w, size_t stride,
                           Sums<kRows, kVectors>& sums) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  const float* rows[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) rows[r] = a[r] + first;
  size_t i = 0;
  if constexpr (kRows == 1) {
    // One row alone has too few sums to hide the latency of a multiply-add: a second set for odd k.
    V odd[kVectors];
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) odd[j] = hn::Zero(d);
    for (; i + 2 <= k; i += 2, w += 2 * stride) {
      const V x0 = hn::Set(d, rows[0][i]), x1 = hn::Set(d, rows[0][i + 1]);
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) {
        sums.v[0][j] = hn::MulAdd(x0, hn::LoadU(d, w + j * lanes), sums.v[0][j]);
        odd[j] = hn::MulAdd(x1, hn::LoadU(d, w + stride + j * lanes), odd[j]);
      }
    }
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) sums.v[0][j] = hn::Add(sums.v[0][j], odd[j]);
  }
  for (; i < k; ++i, w += stride) {
    V b[kVectors];
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) b[j] = hn::LoadU(d, w + j * lanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const V x = hn::Set(d, rows[r][i]);
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) sums.v[r][j] = hn::MulAdd(x, b[j], sums.v[r][j]);
    }
  }
}

template <int kRows, int kVectors>
HWY_INLINE void LoadSums(const float* from, size_t stride, Sums<kRows, kVectors>& sums) {
  const D d;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j)
      sums.v[r][j] = hn::LoadU(d, from + r * stride + j * hn::Lanes(d));
}

// Part of the sums over k of a block of rows: between parts they are kept here.
struct Part {
  size_t begin, end;
  float* sums;
};

// Begins with `start`, or with what the part before left; whether this was the last part.
template <int kRows, int kVectors, class F>
HWY_INLINE bool SumPart(const Part& part, const float* const* a, size_t k, const float* w,
                        size_t stride, Sums<kRows, kVectors>& sums, F&& start) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  if (part.begin == 0)
    start();
  else
    LoadSums(part.sums, kVectors * lanes, sums);
  Accumulate(a, part.begin, part.end - part.begin, w + part.begin * stride, stride, sums);
  if (part.end == k) return true;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j)
      hn::StoreU(sums.v[r][j], d, part.sums + size_t(r * kVectors + j) * lanes);
  return false;
}

// Calls f.operator()<rows>(first) on blocks of rows.
template <class F>
HWY_INLINE void ForRowBlocks(size_t rows, F&& f) {
  size_t r = 0;
  for (; r + kMaxRows <= rows; r += kMaxRows) f.template operator()<kMaxRows>(r);
  if constexpr (kMaxRows == 4) {
    if (r + 2 <= rows) f.template operator()<2>(r), r += 2;
  }
  if (r < rows) f.template operator()<1>(r);
}

// The gate functions of one panel for kRows rows from `first`. `at`: the panel's first unit.
template <int kRows>
HWY_INLINE void LstmGates(const RnnStep& s, size_t first, size_t at, const Sums<kRows, 4>& sums) {
  const D d;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    float* c = s.c[first + r] + at;
    const V i = Sigmoid(d, sums.v[r][0]), o = Sigmoid(d, sums.v[r][1]),
            f = Sigmoid(d, sums.v[r][2]);
    const V cell = hn::MulAdd(f, hn::LoadU(d, c), hn::Mul(i, Tanh(d, sums.v[r][3])));
    hn::StoreU(cell, d, c);
    hn::StoreU(hn::Mul(o, Tanh(d, cell)), d, s.h_next[first + r] + at);
  }
}

template <int kRows>
HWY_INLINE void GruLinearGates(const RnnStep& s, size_t first, size_t at, const float* projected,
                               size_t stride, const Sums<kRows, 3>& sums) {
  const D d;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const V z = Sigmoid(d, sums.v[r][0]), reset = Sigmoid(d, sums.v[r][1]);
    const V x = hn::LoadU(d, projected + r * stride + 2 * hn::Lanes(d));
    const V candidate = Tanh(d, hn::MulAdd(reset, sums.v[r][2], x));
    const V h = hn::LoadU(d, s.h_prev[first + r] + at);
    hn::StoreU(hn::MulAdd(z, hn::Sub(h, candidate), candidate), d, s.h_next[first + r] + at);
  }
}

template <RnnCell kCell>
HWY_INLINE V Activate(D d, V x) {
  return kCell == RnnCell::kTanh ? Tanh(d, x) : hn::Max(hn::Zero(d), x);
}

template <RnnCell kCell, int kRows>
HWY_INLINE void StepBlock(const RnnPanels& p, const RnnStep& s, int phase, size_t panel,
                          size_t first, const Part& part) {
  const D d;
  const size_t lanes = hn::Lanes(d), width = p.width(), at = panel * p.units;
  const float* w = s.recurrent + panel * width * s.hidden;
  const float* projected = s.projected + first * p.row() + panel * width;
  // Over the hidden state, or what the reset gate left of it.
  const auto sum =
      [&](const float* const* of, const float* weights, auto& sums, auto start)
          HWY_ATTR { return SumPart(part, of + first, s.hidden, weights, width, sums, start); };
  if constexpr (kCell == RnnCell::kLstm) {
    Sums<kRows, 4> sums;
    const auto start = [&]() HWY_ATTR { LoadSums(projected, p.row(), sums); };
    if (!sum(s.h_prev, w, sums, start)) return;
    LstmGates(s, first, at, sums);
  } else if constexpr (kCell == RnnCell::kGruLinear) {
    Sums<kRows, 3> sums;
    const auto start = [&]() HWY_ATTR {
      LoadSums(projected, p.row(), sums);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r)
        sums.v[r][2] = hn::LoadU(d, s.recurrent_bias + panel * width + 2 * lanes);
    };
    if (!sum(s.h_prev, w, sums, start)) return;
    GruLinearGates(s, first, at, projected, p.row(), sums);
  } else if constexpr (kCell == RnnCell::kGru) {
    if (phase == 0) {
      Sums<kRows, 2> sums;
      const auto start = [&]() HWY_ATTR { LoadSums(projected, p.row(), sums); };
      if (!sum(s.h_prev, w, sums, start)) return;
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        hn::StoreU(Sigmoid(d, sums.v[r][0]), d, s.z[first + r] + at);
        const V h = hn::LoadU(d, s.h_prev[first + r] + at);
        hn::StoreU(hn::Mul(Sigmoid(d, sums.v[r][1]), h), d, s.reset[first + r] + at);
      }
    } else {
      Sums<kRows, 1> sums;
      const auto start = [&]() HWY_ATTR { LoadSums(projected + 2 * lanes, p.row(), sums); };
      if (!sum(s.reset, w + 2 * lanes, sums, start)) return;
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const V candidate = Tanh(d, sums.v[r][0]), z = hn::LoadU(d, s.z[first + r] + at);
        const V h = hn::LoadU(d, s.h_prev[first + r] + at);
        hn::StoreU(hn::MulAdd(z, hn::Sub(h, candidate), candidate), d, s.h_next[first + r] + at);
      }
    }
  } else {
    Sums<kRows, 4> sums;
    const auto start = [&]() HWY_ATTR { LoadSums(projected, p.row(), sums); };
    if (!sum(s.h_prev, w, sums, start)) return;
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
      for (int j = 0; j < 4; ++j)
        hn::StoreU(Activate<kCell>(d, sums.v[r][j]), d, s.h_next[first + r] + at + j * lanes);
  }
}

template <RnnCell kCell>
void StepPanels(const RnnPanels& p, const RnnStep& s, int phase, size_t begin, size_t end) {
  // Where several blocks of rows pass over a panel, they do so by parts of it that stay in the
  // first-level cache: three quarters of 32 KiB.
  constexpr size_t kPartFloats = 6 * 1024;
  HWY_ALIGN float sums[kGroupRows * 4 * HWY_MAX_BYTES / sizeof(float)];
  const size_t step = s.rows > size_t(kMaxRows) ? std::max<size_t>(1, kPartFloats / p.width())
                                                : std::max<size_t>(1, s.hidden);
  for (size_t panel = begin; panel < end; ++panel)
    for (size_t group = 0; group < s.rows; group += kGroupRows)
      for (size_t k = 0; k == 0 || k < s.hidden; k += step) {
        const size_t rows = std::min<size_t>(kGroupRows, s.rows - group);
        ForRowBlocks(rows, [&]<int kRows>(size_t first) HWY_ATTR {
          const Part part = {k, std::min(k + step, s.hidden), sums + first * p.width()};
          StepBlock<kCell, kRows>(p, s, phase, panel, group + first, part);
        });
      }
}

void Step(RnnCell cell, const RnnPanels& p, const RnnStep& s, int phase, size_t begin, size_t end) {
  switch (cell) {
    case RnnCell::kLstm:
      return StepPanels<RnnCell::kLstm>(p, s, phase, begin, end);
    case RnnCell::kGru:
      return StepPanels<RnnCell::kGru>(p, s, phase, begin, end);
    case RnnCell::kGruLinear:
      return StepPanels<RnnCell::kGruLinear>(p, s, phase, begin, end);
    case RnnCell::kTanh:
      return StepPanels<RnnCell::kTanh>(p, s, phase, begin, end);
    case RnnCell::kRelu:
      return StepPanels<RnnCell::kRelu>(p, s, phase, begin, end);
  }
}

size_t LanesF32() { return hn::Lanes(D()); }

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cstring>

namespace dunlin {
HWY_EXPORT(Step);
HWY_EXPORT(LanesF32);

RnnPanels RnnPanelsOf(RnnCell cell, size_t hidden) {
  const size_t lanes = HWY_DYNAMIC_DISPATCH(LanesF32)();
  RnnPanels p;
  p.gates = cell == RnnCell::kLstm                                 ? 4
            : cell == RnnCell::kGru || cell == RnnCell::kGruLinear ? 3
                                                                   : 1;
  p.units = p.gates == 1 ? 4 * lanes : lanes;  // four vectors of sums either way
  p.count = (hidden + p.units - 1) / p.units;
  return p;
}

void PackRnnWeights(const RnnPanels& p, const float* weights, size_t hidden, size_t k,
                    float* packed) {
  std::memset(packed, 0, p.packed(k) * sizeof(float));
  for (size_t g = 0; g < p.gates; ++g)
    for (size_t u = 0; u < hidden; ++u) {
      float* to = packed + u / p.units * p.width() * k + g * p.units + u % p.units;
      const float* from = weights + (g * hidden + u) * k;
      for (size_t i = 0; i < k; ++i) to[i * p.width()] = from[i];
    }
}

void RunRnnStep(RnnCell cell, const RnnPanels& panels, const RnnStep& step, int phase, size_t begin,
                size_t end) {
  HWY_DYNAMIC_DISPATCH(Step)(cell, panels, step, phase, begin, end);
}

}  // namespace dunlin
#endif  // HWY_ONCE
