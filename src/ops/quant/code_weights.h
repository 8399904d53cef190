// Constant weights of a product of codes, packed for the one of two kernels that is faster here:
// pairs of 16-bit integers without their zero points (kernels/code_product.h), or bytes as they are
// (kernels/byte_product.h) where the machine has an instruction for them.
#pragma once

#include <type_traits>

#include "kernels/byte_product.h"
#include "kernels/code_product.h"
#include "ops/quant/sums.h"

namespace dunlin {

// Codes as a kernel reads them, `Code`: int16_t, widened, the zero point subtracted; or uint8_t, as
// they are, signed ones too.
template <class Code>
inline constexpr bool kIsByteCode = std::is_same_v<Code, uint8_t>;
// What padding holds, which must add nothing to the sums.
template <class Code>
Code PaddingCode(int32_t zero) {
  return kIsByteCode<Code> ? Code(zero) : Code(0);
}
// to[i] = the code at x[first + i * step].
template <class Code>
void ReadCodes(DType t, const void* x, int64_t first, int64_t step, int32_t zero, int64_t n,
               Code* to) {
  const auto* bytes = static_cast<const uint8_t*>(x) + first;
  if constexpr (kIsByteCode<Code>) {
    if (step == 1) return void(std::memcpy(to, bytes, size_t(n)));
    for (int64_t i = 0; i < n; ++i) to[i] = bytes[i * step];
  } else {
    if (step == 1) return WidenCodes(t, bytes, zero, n, to);
    for (int64_t i = 0; i < n; ++i) to[i] = int16_t(CodeAt(t, bytes, i * step) - zero);
  }
}

// Rows of one call; see the kernels' own arguments.
template <class Code>
struct CodeRows {
  const Code* const* at = nullptr;  // at[t * stride + m], the call's first tap first
  int64_t stride = 0;
  int64_t first_tap = 0, taps = 1, m = 0;
  bool is_signed = false;
};

struct CodeWeights {
  bool bytes = false;
  CodePanels panels;        // of a part
  int64_t taps = 1, k = 0;  // codes under each tap
  int64_t parts = 1;        // groups or matrices, one behind the other
  Tensor packed;            // of all parts; behind them, if they are bytes, the columns' sums

  int64_t tap_steps() const { return bytes ? ByteQuads(k) : (k + 1) / 2; }
  int64_t part_bytes() const {
    return bytes ? PackedBytes(panels, taps * tap_steps())
                 : panels.packed_codes(taps * tap_steps()) * 2;
  }
  const void* part(int64_t i) const { return packed.raw() + i * part_bytes(); }
  // The sums of the columns' weights, [parts * panels.n]; only of bytes.
  const int32_t* totals() const {
    return reinterpret_cast<const int32_t*>(packed.raw() + parts * part_bytes());
  }

  // source(part, t, k, n) is a weight with its zero point subtracted.
  template <class Source>
  Result<Tensor> Pack(const Source& source) const {
    const int64_t sums = bytes ? parts * panels.n : 0;
    Tensor to = TRY(Tensor::Create(DType::kU8, {parts * part_bytes() + sums * 4}));
    auto* const totals = reinterpret_cast<int32_t*>(to.raw() + parts * part_bytes());
    for (int64_t p = 0; p < parts; ++p)
      PackPart(
          0, panels.count,
          [&](int64_t t, int64_t i, int64_t n) { return int16_t(source(p, t, i, n)); },
          to.raw() + p * part_bytes(), totals + p * panels.n);
    return to;
  }
  // Panels [begin, end) of a part. `totals`: of all its columns, or nullptr.
  template <class Source>
  void PackPart(int64_t begin, int64_t end, const Source& source, void* to, int32_t* totals) const {
    bytes ? PackBytes(panels, taps, k, begin, end, source, static_cast<int8_t*>(to), totals)
          : PackCodes(panels, taps, k, begin, end, source, static_cast<int16_t*>(to));
  }

  // Sums of panels [begin, end): column n of row m at c[m * c_stride + n - begin * panels.width].
  // Those of later taps are added.
  template <class Code>
  void Multiply(const void* part, const CodeRows<Code>& rows, int64_t begin, int64_t end,
                int32_t* c, int64_t c_stride) const {
    std::conditional_t<kIsByteCode<Code>, ByteProductArgs, CodeProductArgs> g;
    g.rows = rows.at;
    g.row_stride = rows.stride;
    g.taps = rows.taps;
    g.m = rows.m;
    g.accumulate = rows.first_tap > 0;
    g.c = c;
    g.c_stride = c_stride;
    if constexpr (kIsByteCode<Code>) {
      g.is_signed = rows.is_signed;
      g.k = k;
      g.packed = static_cast<const int8_t*>(part);
      g.packed_quads = taps * tap_steps();
      g.first_quad = rows.first_tap * tap_steps();
      ByteProduct(panels, g, begin, end);
    } else {
      g.pairs = tap_steps();
      g.packed = static_cast<const int16_t*>(part);
      g.packed_pairs = taps * tap_steps();
      g.first_pair = rows.first_tap * tap_steps();
      CodeProduct(panels, g, begin, end);
    }
  }
};

// Whether weights should be bytes: the machine multiplies them faster, and with their zero points
// subtracted they fit s8. Zero points: none, one, or one for each of `columns`, to which elements
// belong in turns of `run`.
bool MultiplyAsBytes(const Tensor& w, const Tensor* zero, int64_t columns, int64_t run);

// The zero point to subtract from sums over bytes of this type (SubtractZero).
inline int32_t ByteZero(DType t, int32_t zero) { return t == DType::kI8 ? zero + 128 : zero; }

}  // namespace dunlin
