#include "kernels/code_winograd.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/code_winograd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/code_pairs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// B^T d B in one vector of channels, of which `count` exist. zero, a constant in all of d, is left
// only where B^T has the row 0 1 1 0 in both directions: four times.
template <class Byte, class D>
HWY_INLINE void TransformInput(D d, const void* const* x, int64_t first, int64_t count,
                               hn::Vec<D> four_zeros, int16_t* v, int64_t matrix) {
  using V = hn::Vec<D>;
  const auto row = [&](int i, V(&r)[4]) HWY_ATTR {
    const auto at = [&](int j) HWY_ATTR {
      return LoadCodes(d, static_cast<const Byte*>(x[4 * i + j]) + first, count);
    };
    const V d0 = at(0), d1 = at(1), d2 = at(2), d3 = at(3);
    r[0] = hn::Sub(d0, d2);
    r[1] = hn::Add(d1, d2);
    r[2] = hn::Sub(d2, d1);
    r[3] = hn::Sub(d1, d3);
  };
  V r0[4], r1[4], r2[4];
  row(0, r0);
  row(2, r2);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) hn::StoreU(hn::Sub(r0[j], r2[j]), d, v + j * matrix);
  row(1, r1);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const V sum = hn::Add(r1[j], r2[j]);
    hn::StoreU(j == 1 ? hn::Sub(sum, four_zeros) : sum, d, v + (4 + j) * matrix);
    hn::StoreU(hn::Sub(r2[j], r1[j]), d, v + (8 + j) * matrix);
  }
  row(3, r0);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) hn::StoreU(hn::Sub(r1[j], r0[j]), d, v + (12 + j) * matrix);
}

template <class Byte, class D>
void TransformTile(D d, const CodeWinogradShape& s, const void* const* x, int32_t zero,
                   int16_t* v) {
  const int64_t lanes = int64_t(hn::Lanes(d)), c = s.channels;
  const auto four_zeros = hn::Set(d, int16_t(4 * zero));
  for (int64_t i = 0; i < c; i += lanes) {  // the last vector overlaps the one before it
    const int64_t first = std::max<int64_t>(0, std::min(i, c - lanes));
    TransformInput<Byte>(d, x, first, std::min(c, lanes), four_zeros, v + first, s.input_matrix());
  }
  if (c % 2 != 0)  // its weight is zero, but nobody should read what was never written
    for (int i = 0; i < 16; ++i) v[i * s.input_matrix() + c] = 0;
}

template <class Byte>
void InputOf(const CodeWinogradShape& s, const CodeWinogradArgs& a) {
  const hn::ScalableTag<int16_t> whole;
  for (int64_t t = 0; t < a.tiles; ++t) {
    const void* const* const x = a.x + 16 * t;
    int16_t* const v = static_cast<int16_t*>(a.scratch) + t * s.input_stride();
    if (s.channels >= int64_t(hn::Lanes(whole)))
      TransformTile<Byte>(whole, s, x, a.zero, v);
    else
      TransformTile<Byte>(hn::CappedTag<int16_t, 8>(), s, x, a.zero, v);
  }
}
void Input(const CodeWinogradShape& s, const CodeWinogradArgs& a) {
  a.is_signed ? InputOf<int8_t>(s, a) : InputOf<uint8_t>(s, a);
}

// A^T m A / 4 in a panel's columns.
void Output(const CodeWinogradShape& s, const int32_t* products, int64_t tiles, int32_t* sums,
            int64_t sums_stride) {
  const hn::ScalableTag<int32_t> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t width = s.panels.width, lanes = int64_t(hn::Lanes(d)), matrix = s.product_matrix();
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t n = 0; n < width; n += lanes) {
      const int32_t* const m = products + t * width + n;
      V y0[2], y1[2];  // rows of outputs
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const auto at = [&](int j) HWY_ATTR { return hn::LoadU(d, m + (4 * i + j) * matrix); };
        const V m1 = at(1), m2 = at(2);
        const V r[2] = {hn::Add(at(0), hn::Add(m1, m2)), hn::Sub(hn::Sub(m1, m2), at(3))};
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          y0[j] = i == 0 ? r[j] : i < 3 ? hn::Add(y0[j], r[j]) : y0[j];
          y1[j] = i == 1 ? r[j] : i > 1 ? hn::Sub(y1[j], r[j]) : y1[j];
        }
      }
      int32_t* const to = sums + 4 * t * sums_stride + n;
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        hn::StoreU(hn::ShiftRight<2>(y0[j]), d, to + j * sums_stride);
        hn::StoreU(hn::ShiftRight<2>(y1[j]), d, to + (2 + j) * sums_stride);
      }
    }
}

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(Input);
HWY_EXPORT(Output);

void CodeWinogradInput(const CodeWinogradShape& shape, const CodeWinogradArgs& args) {
  HWY_DYNAMIC_DISPATCH(Input)(shape, args);
}

// Panel by panel, so that its products are still in the first-level cache when they are added up.
void CodeWinogradSums(const CodeWinogradShape& shape, const CodeWinogradArgs& args, int64_t begin,
                      int64_t end) {
  auto* const inputs = static_cast<int16_t*>(args.scratch);
  auto* const products = reinterpret_cast<int32_t*>(inputs + 16 * shape.input_matrix());
  const int16_t* rows[16][kCodeWinogradTiles];
  for (int64_t i = 0; i < 16; ++i)
    for (int64_t t = 0; t < args.tiles; ++t)
      rows[i][t] = inputs + i * shape.input_matrix() + t * shape.input_stride();
  CodeProductArgs g;
  g.row_stride = kCodeWinogradTiles;
  g.pairs = g.packed_pairs = shape.pairs();
  g.m = args.tiles;
  g.c_stride = shape.panels.width;
  for (int64_t p = begin; p < end; ++p) {
    for (int64_t i = 0; i < 16; ++i) {
      g.rows = rows[i];
      g.packed = args.packed + i * shape.panels.packed_codes(shape.pairs());
      g.c = products + i * shape.product_matrix();
      CodeProduct(shape.panels, g, p, p + 1);
    }
    HWY_DYNAMIC_DISPATCH(Output)
    (shape, products, args.tiles, args.sums + (p - begin) * shape.panels.width, args.sums_stride);
  }
}

}  // namespace dunlin
#endif  // HWY_ONCE
