#include "kernels/byte_product.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/byte_product.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/code_pairs-inl.h"

#if HWY_ARCH_X86
#include <cpuid.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// As in code_product.cc: a tile's sums, two vectors of B and one of A fit 32 registers or 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMaxRows = 12;
#else
constexpr int kMaxRows = 6;
#endif

using I32 = hn::ScalableTag<int32_t>;
using U8 = hn::Repartition<uint8_t, I32>;
using I8 = hn::Repartition<int8_t, I32>;

// Which form of the instruction belongs to this target. That the machine has it is asked once, at
// run time: no target of this version of Highway implies it.
#if HWY_TARGET <= HWY_AVX3
#define DUNLIN_DOT_QUAD "vpdpbusd %2, %1, %0"
#elif HWY_TARGET == HWY_AVX2
#define DUNLIN_DOT_QUAD "%{vex%} vpdpbusd %2, %1, %0"
#endif

bool HasDotQuad() {
#ifdef DUNLIN_DOT_QUAD
  static const bool has = [] {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
#if HWY_TARGET <= HWY_AVX3
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 11 & 1) != 0;
#else
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
#endif
  }();
  return has;
#else
  return false;
#endif
}

// sum[i] + the four products of the i-th quads of unsigned a and signed b, modulo 2^32.
template <bool kInstruction>
HWY_INLINE hn::Vec<I32> DotQuad(hn::Vec<U8> a, hn::Vec<I8> b, hn::Vec<I32> sum) {
#ifdef DUNLIN_DOT_QUAD
  if constexpr (kInstruction) {
    // Assembly, because a function that names it by an intrinsic must be compiled for machines that
    // have it, and what is inlined into it, too.
    __asm__(DUNLIN_DOT_QUAD : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
    return sum;
  }
#endif
  const hn::Repartition<int16_t, I32> d;
  const hn::Repartition<uint16_t, I32> unsigned_d;
  const auto a16 = hn::BitCast(unsigned_d, a);
  const auto b16 = hn::BitCast(d, b);
  const auto even = AddPairs(hn::BitCast(d, hn::And(a16, hn::Set(unsigned_d, 0xFF))),
                             hn::ShiftRight<8>(hn::ShiftLeft<8>(b16)), sum);
  return AddPairs(hn::BitCast(d, hn::ShiftRight<8>(a16)), hn::ShiftRight<8>(b16), even);
}

template <int kRows, int kVectors, bool kSigned, bool kInstruction>
HWY_NOINLINE void ByteTile(const ByteProductArgs& g, int64_t row, const int8_t* b, int32_t* c) {
  const I32 d;
  const I8 d8;
  const size_t lanes = hn::Lanes(d);
  hn::Vec<I32> acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; ++v)
      acc[i][v] = g.accumulate ? hn::LoadU(d, c + i * g.c_stride + v * lanes) : hn::Zero(d);
  const auto flip = hn::Set(U8(), 0x80);
  const int64_t whole = g.k / 4, rest = g.k % 4;
  for (int64_t t = 0; t < g.taps; ++t) {
    const uint8_t* a[kRows];
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) a[i] = g.rows[t * g.row_stride + row + i];
    const auto step = [&](const auto& quad) HWY_ATTR {
      hn::Vec<I8> bv[kVectors];
#pragma GCC unroll 2
      for (size_t v = 0; v < kVectors; ++v) bv[v] = hn::LoadU(d8, b + 4 * v * lanes);
      b += 4 * kVectors * lanes;
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        auto av = hn::BitCast(U8(), hn::Set(d, quad(a[i])));
        if constexpr (kSigned) av = hn::Xor(av, flip);
#pragma GCC unroll 2
        for (size_t v = 0; v < kVectors; ++v)
          acc[i][v] = DotQuad<kInstruction>(av, bv[v], acc[i][v]);
      }
    };
    for (int64_t q = 0; q < whole; ++q)
      step([q](const uint8_t* from) HWY_ATTR {
        int32_t quad;
        std::memcpy(&quad, from + 4 * q, 4);
        return quad;
      });
    if (rest != 0)  // one to three bytes; those that are missing meet weights of zero
      step([&](const uint8_t* from) HWY_ATTR {
        const uint8_t* const last = from + 4 * whole;
        return last[0] | last[rest / 2] << (rest / 2 * 8) | last[rest - 1] << ((rest - 1) * 8);
      });
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; ++v) hn::StoreU(acc[i][v], d, c + i * g.c_stride + v * lanes);
}

using ByteTileFunction = void (*)(const ByteProductArgs&, int64_t, const int8_t*, int32_t*);
template <int kVectors, bool kSigned, bool kInstruction>
struct ByteTiles {
  static constexpr int kMost = kMaxRows * 2 / kVectors;
  ByteTileFunction at[kMost + 1] = {};
  constexpr ByteTiles() { Fill(std::make_integer_sequence<int, kMost>()); }
  template <int... kRows>
  constexpr void Fill(std::integer_sequence<int, kRows...>) {
    ((at[kRows + 1] = &ByteTile<kRows + 1, kVectors, kSigned, kInstruction>), ...);
  }
};
template <int kVectors, bool kSigned>
void PanelsOf(const CodePanels& panels, const ByteProductArgs& g, int64_t begin, int64_t end) {
  static constexpr ByteTiles<kVectors, kSigned, false> emulated;
  const ByteTileFunction* tiles = emulated.at;
#ifdef DUNLIN_DOT_QUAD
  static constexpr ByteTiles<kVectors, kSigned, true> native;
  if (HasDotQuad()) tiles = native.at;
#endif
  for (int64_t p = begin; p < end; ++p) {
    const int8_t* b = g.packed + (p * g.packed_quads + g.first_quad) * panels.width * 4;
    int32_t* c = g.c + (p - begin) * panels.width;
    for (int64_t m = 0; m < g.m; m += emulated.kMost)
      tiles[std::min<int64_t>(g.m - m, emulated.kMost)](g, m, b, c + m * g.c_stride);
  }
}
template <int kVectors>
void PanelsOf(const CodePanels& panels, const ByteProductArgs& g, int64_t begin, int64_t end) {
  g.is_signed ? PanelsOf<kVectors, true>(panels, g, begin, end)
              : PanelsOf<kVectors, false>(panels, g, begin, end);
}
void Product(const CodePanels& panels, const ByteProductArgs& g, int64_t begin, int64_t end) {
  panels.width == int64_t(hn::Lanes(I32())) ? PanelsOf<1>(panels, g, begin, end)
                                            : PanelsOf<2>(panels, g, begin, end);
}

#undef DUNLIN_DOT_QUAD

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(HasDotQuad);
HWY_EXPORT(Product);

namespace {
constexpr int kAsIs = -1;
std::atomic<int> assumed{kAsIs};
}  // namespace
bool ByteProductIsFast() {
  const int fast = assumed.load(std::memory_order_relaxed);
  return fast == kAsIs ? HWY_DYNAMIC_DISPATCH(HasDotQuad)() : fast != 0;
}
void AssumeByteProductIsFast(std::optional<bool> fast) { assumed = fast ? int{*fast} : kAsIs; }
void ByteProduct(const CodePanels& panels, const ByteProductArgs& args, int64_t begin,
                 int64_t end) {
  HWY_DYNAMIC_DISPATCH(Product)(panels, args, begin, end);
}
}  // namespace dunlin
#endif  // HWY_ONCE
