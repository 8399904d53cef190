// Products with weights of a few bits on every SIMD target against plain sums in double.
#include "kernels/block_gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/simd_targets.h"
#include "tensor/tensor.h"

namespace dunlin {
namespace {

// Weights as rows of codes, and packed for the target in use.
struct Fixture {
  int64_t n, blocks, words;
  int bits;
  BlockWeights w;
  std::vector<uint32_t> codes;  // [n][blocks * words]
  std::vector<float> scales;    // [n][blocks]
  std::vector<float> zeros;     // the same
  Tensor packed_codes, packed_scales, packed_zeros;

  Fixture(int64_t n_in, int64_t blocks_in, int64_t words_in, int bits_in, BlockNumbers scale,
          BlockNumbers zero)
      : n(n_in), blocks(blocks_in), words(words_in), bits(bits_in) {
    std::mt19937 rng(uint32_t(n + blocks));
    std::uniform_real_distribution<float> pick(0.5f, 2);
    const auto numbers = size_t(n * blocks);
    codes.resize(numbers * size_t(words));
    // Extreme codes too: all ones, all zeros.
    for (uint32_t& c : codes)
      c = rng() % 4 == 0 ? 0xffffffffu : rng() % 4 == 0 ? 0 : uint32_t(rng());
    std::vector<Half> halves;
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i < numbers; ++i) {
      halves.emplace_back(pick(rng));
      scales.push_back(float(halves.back()));
      bytes.push_back(uint8_t(rng() % (1u << bits)));
      zeros.push_back(zero == BlockNumbers::kNone ? float(1 << (bits - 1))
                      : zero == BlockNumbers::kU8 ? float(bytes.back())
                                                  : pick(rng));
    }
    w.panels = MakeGemmPanels(n);
    w.bits = bits, w.blocks = blocks, w.words = words, w.scale_type = scale, w.zero_type = zero;
    packed_codes = Pack(codes.data(), blocks * words, 4);
    packed_scales = scale == BlockNumbers::kF16 ? Pack(halves.data(), blocks, 2)
                                                : Pack(scales.data(), blocks, 4);
    packed_zeros =
        zero == BlockNumbers::kU8 ? Pack(bytes.data(), blocks, 1) : Pack(zeros.data(), blocks, 4);
    w.codes = reinterpret_cast<const uint32_t*>(packed_codes.raw());
    w.scales = packed_scales.raw();
    w.zeros = packed_zeros.raw();
  }
  Tensor Pack(const void* from, int64_t rows, int bytes) const {
    Tensor t = Tensor::Create(DType::kU8, {w.panels.packed_floats(rows) * bytes}).value();
    PackBlockTable(w.panels, rows, from, rows * bytes, bytes, bytes, 0, w.panels.count, t.raw());
    return t;
  }
  double Code(int64_t k, int64_t column) const {
    const int64_t per_word = 32 / bits;
    return codes[size_t(column * blocks * words + k / per_word)] >> (k % per_word * bits) &
           ((1u << bits) - 1);
  }
  size_t At(int64_t k, int64_t column) const { return size_t(column * blocks + k / w.block()); }
};

std::vector<float> Random(int64_t count, uint32_t seed) {
  std::vector<float> v(static_cast<size_t>(count));
  std::mt19937 rng(seed);
  std::normal_distribution<float> pick;
  for (float& x : v) x = pick(rng);
  return v;
}

// C with a column to the left and one to the right, which must stay.
std::vector<float> Dot(const Fixture& f, BlockRow kind, const std::vector<float>& x, int64_t m,
                       const float* bias) {
  const size_t row_bytes = BlockRowBytes(f.w, kind);
  Tensor rows = Tensor::Create(DType::kU8, {m * int64_t(row_bytes)}).value();
  for (int64_t r = 0; r < m; ++r)
    PrepareBlockRow(f.w, kind, x.data() + r * f.w.k(), rows.mut<uint8_t>() + size_t(r) * row_bytes);
  std::vector<float> c(size_t(m * (f.n + 2)), 77.0f);
  BlockDot(f.w, kind, rows.raw(), m, bias, c.data() + 1, f.n + 2, 0, f.w.panels.count);
  return c;
}

// The bounds that the header states.
void Check(const Fixture& f, BlockRow kind, int64_t m, const char* target) {
  const int64_t k = f.w.k();
  const auto x = Random(m * k, 3), bias = Random(f.n, 4);
  const auto c = Dot(f, kind, x, m, bias.data());
  for (int64_t r = 0; r < m; ++r) {
    const float* row = c.data() + r * (f.n + 2);
    ASSERT_EQ(row[0], 77.0f);
    ASSERT_EQ(row[f.n + 1], 77.0f);
    for (int64_t j = 0; j < f.n; ++j) {
      double sum = bias[size_t(j)], floats = std::abs(sum), wide = floats, bytes = 0;
      for (int64_t i = 0; i < k; ++i) {
        const double xi = x[size_t(r * k + i)], scale = f.scales[f.At(i, j)],
                     zero = f.zeros[f.At(i, j)], code = f.Code(i, j);
        const int64_t block = i / f.w.block() * f.w.block(), chunk = block + (i - block) / 32 * 32,
                      end = std::min(chunk + 32, block + f.w.block());
        double most = 0;
        for (int64_t l = chunk; l < end; ++l)
          most = std::max(most, double(std::abs(x[size_t(r * k + l)])));
        sum += xi * (code - zero) * scale;
        floats += std::abs(xi) * scale * (code + zero);
        wide += most * scale * (code + zero);
        bytes += most / 254 * scale * std::abs(code - zero);
      }
      const double bound = kind == BlockRow::kFloats ? 2 * double(k + 2) * 0x1p-24 * floats
                                                     : 2 * (double(k) / 32 + 4) * 0x1p-24 * wide +
                                                           (kind == BlockRow::kBytes ? bytes : 0);
      ASSERT_NEAR(row[j + 1], sum, bound)
          << target << " bits " << f.bits << " blocks " << f.blocks << " words " << f.words
          << " row " << r << " of " << m << " column " << j << " of " << f.n << " kind "
          << int(kind);
    }
  }
}

constexpr BlockRow kKinds[] = {BlockRow::kFloats, BlockRow::kWide, BlockRow::kBytes};

TEST(BlockDot, StaysWithinItsBoundForEveryFormOfWeights) {
  ForEachSimdTarget([](const char* target) {
    for (const int bits : {2, 4, 8})
      for (const BlockNumbers scale : {BlockNumbers::kF32, BlockNumbers::kF16})
        for (const BlockNumbers zero : {BlockNumbers::kNone, BlockNumbers::kU8, BlockNumbers::kF32})
          for (const int64_t words : {1, 4, 5, 16})
            for (const BlockRow kind : kKinds) {
              if (bits == 8 && kind != BlockRow::kFloats) continue;
              Check(Fixture(21, 3, words, bits, scale, zero), kind, 2, target);
            }
  });
}

TEST(BlockDot, TakesAnyNumberOfRowsAndColumns) {
  ForEachSimdTarget([](const char* target) {
    for (const int64_t n : {1, 7, 8, 16, 33, 100, 200})
      for (const int64_t m : {1, 2, 3, 4, 5, 9})
        for (const BlockRow kind : kKinds)
          Check(Fixture(n, 2, 4, 4, BlockNumbers::kF32, BlockNumbers::kU8), kind, m, target);
  });
}

// As far as every sum can go in either direction: the largest codes and numbers of one sign.
TEST(BlockDot, DoesNotOverflow) {
  ForEachSimdTarget([](const char* target) {
    for (const float sign : {-1.0f, 1.0f})
      for (const BlockRow kind : kKinds) {
        Fixture f(5, 1, 32, 4, BlockNumbers::kF32, BlockNumbers::kNone);
        std::fill(f.codes.begin(), f.codes.end(), 0xffffffffu);
        f.packed_codes = f.Pack(f.codes.data(), f.w.words, 4);
        f.w.codes = reinterpret_cast<const uint32_t*>(f.packed_codes.raw());
        const std::vector<float> x(size_t(f.w.k()), 3 * sign);
        const auto c = Dot(f, kind, x, 1, nullptr);
        for (int64_t j = 0; j < f.n; ++j) {
          const float wanted = sign * 3 * 256 * 7 * f.scales[size_t(j)];
          EXPECT_NEAR(c[size_t(j + 1)], wanted, std::abs(wanted) * 1e-5) << target;
        }
      }
  });
}

TEST(BlockDot, GivesNanForARowThatIsNotFiniteAndZeroForOneOfZeros) {
  ForEachSimdTarget([](const char* target) {
    const Fixture f(20, 2, 4, 4, BlockNumbers::kF32, BlockNumbers::kNone);
    for (const BlockRow kind : kKinds) {
      std::vector<float> x(size_t(2 * f.w.k()), 0.0f);
      for (const float v :
           {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        x[5] = v;
        const auto c = Dot(f, kind, x, 2, nullptr);
        for (int64_t j = 1; j <= f.n; ++j) {
          EXPECT_TRUE(std::isnan(c[size_t(j)])) << target << " kind " << int(kind);
          EXPECT_EQ(c[size_t(f.n + 2 + j)], 0) << target << " kind " << int(kind);
        }
      }
    }
  });
}

TEST(BlockDot, GivesTheSameForARangeOfPanels) {
  ForEachSimdTarget([](const char* target) {
    const Fixture f(150, 3, 4, 4, BlockNumbers::kF32, BlockNumbers::kNone);
    const auto x = Random(f.w.k(), 5);
    const auto whole = Dot(f, BlockRow::kWide, x, 1, nullptr);
    Tensor row = Tensor::Create(DType::kU8, {int64_t(BlockRowBytes(f.w, BlockRow::kWide))}).value();
    PrepareBlockRow(f.w, BlockRow::kWide, x.data(), row.raw());
    std::vector<float> c(size_t(f.n));
    for (int64_t p = 0; p < f.w.panels.count; ++p)
      BlockDot(f.w, BlockRow::kWide, row.raw(), 1, nullptr, c.data(), f.n, p, p + 1);
    for (int64_t j = 0; j < f.n; ++j) EXPECT_EQ(c[size_t(j)], whole[size_t(j + 1)]) << target;
  });
}

TEST(DecodeBlocks, GivesTheRoundedProductOfEveryWeight) {
  ForEachSimdTarget([](const char* target) {
    for (const int bits : {2, 4, 8})
      for (const BlockNumbers zero : {BlockNumbers::kNone, BlockNumbers::kU8, BlockNumbers::kF32}) {
        const Fixture f(75, 4, 3, bits, BlockNumbers::kF16, zero);
        const GemmPanels& p = f.w.panels;
        for (int64_t panel = 0; panel < p.count; ++panel) {
          const int64_t cols = p.width(panel) * p.lanes, first = p.first_vector(panel) * p.lanes;
          std::vector<float> to(size_t(2 * f.w.block() * cols));
          DecodeBlocks(f.w, panel, 1, 2, to.data());
          for (int64_t i = 0; i < 2 * f.w.block(); ++i)
            for (int64_t j = 0; j < cols && first + j < f.n; ++j) {
              const int64_t k = f.w.block() + i;
              ASSERT_EQ(to[size_t(i * cols + j)],
                        (float(f.Code(k, first + j)) - f.zeros[f.At(k, first + j)]) *
                            f.scales[f.At(k, first + j)])
                  << target << " bits " << bits;
            }
        }
      }
  });
}

}  // namespace
}  // namespace dunlin
