// f32 matrix product with a packed right operand: the core of MatMul, Gemm and all convolutions.
//
//   C[m, n] = epilogue(sum over taps t and k < K of rows[t][m][k] * B[t K + k, n])
//
// The left operand is given by one pointer per (tap, row): a matrix has one tap and evenly spaced
// pointers, a convolution points at the input pixel under each kernel element ("indirect" product).
// Sums run over taps and k in order, in blocks that depend on the extents, the SIMD target and the
// size of the first-level cache only, so results do not depend on the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/activation.h"

namespace dunlin {

// How the n columns of B are cut into panels of a few SIMD vectors. Padding to whole vectors is the
// only waste; panel widths differ by one vector at most.
struct GemmPanels {
  int64_t n = 0;
  int lanes = 1;        // floats in a vector
  int64_t vectors = 0;  // ceil(n / lanes)
  int64_t count = 0;    // panels

  int64_t first_vector(int64_t panel) const {
    const int64_t base = vectors / count, wide = vectors % count;
    return panel * base + (panel < wide ? panel : wide);
  }
  int width(int64_t panel) const { return int(first_vector(panel + 1) - first_vector(panel)); }
  int64_t packed_floats(int64_t rows) const { return vectors * lanes * rows; }
};

// The cut for the SIMD target in use. Weights packed for one target do not suit another: a recipe
// for packed weights must hold `lanes` and `count`.
GemmPanels MakeGemmPanels(int64_t n);

// Where element (t, k, n) of B lies in memory: source[t * tap_stride + k * k_stride + n *
// n_stride].
struct GemmSource {
  const float* data = nullptr;
  int64_t taps = 1, k = 0;
  int64_t tap_stride = 0, k_stride = 0, n_stride = 1;
};
// Packs panels [begin, end) into `packed`, which holds panels.packed_floats(taps * k) floats in
// all.
void PackGemm(const GemmPanels& panels, const GemmSource& source, int64_t begin, int64_t end,
              float* packed);

struct GemmEpilogue {
  float alpha = 1;                  // of the product alone
  const float* bias = nullptr;      // [n]
  const float* residual = nullptr;  // row m at residual + m * residual_stride
  int64_t residual_stride = 0;
  ActivationParams activation;
};

enum class HalfType : uint8_t { kBF16, kF16 };

struct GemmArgs {
  const float* const* rows = nullptr;  // rows[t * row_stride + m]
  int64_t row_stride = 0;
  int64_t a_first = 0;  // floats of every row ahead of those that are used
  int64_t taps = 1;     // of this call
  int64_t k = 0;        // floats per tap
  int64_t m = 0;
  const float* packed = nullptr;
  int64_t packed_rows = 0;  // taps * k of the whole B
  int64_t first_row = 0;    // row of B that meets rows[0][…][0]
  // B as it is, rows `direct_stride` apart: where few rows meet it, packing costs more than it
  // gains. Only a panel that ends in a partial vector is then read from `packed`. One tap.
  const float* direct = nullptr;
  int64_t direct_stride = 0;
  // B as halves in the place of `packed`, with as many halves as that has floats: half the bytes,
  // of which one row or a few take as long as reading them; more rows meet a part of a panel at a
  // time as floats. One tap; the sums are as exact as with floats of the same values.
  const uint16_t* halves = nullptr;
  HalfType half_type = HalfType::kBF16;
  // B as pairs of bf16 in the place of `packed`, as many as PairRows says: A is rounded to bf16 as
  // it is read. See kernels/bf16_product.h.
  const uint32_t* pairs = nullptr;
  float* c = nullptr;
  int64_t c_stride = 0;
  // A product over many taps may come in several calls: only the first does not add to C, only the
  // last applies the epilogue.
  bool first = true, last = true;
  GemmEpilogue epilogue;
};

// What the blocks of a sum fit into, in floats of B.
int64_t GemmBlockFloats();

// Columns of panels [begin, end), all m rows.
void Gemm(const GemmPanels& panels, const GemmArgs& args, int64_t begin, int64_t end);

// Whether Gemm reads this panel from args.packed though args.direct is given.
inline bool NeedsPacking(const GemmPanels& panels, int64_t panel) {
  return panel + 1 == panels.count && panels.n % panels.lanes != 0;
}

// Few rows of A against rows of a transposed B, each product a sum along both rows:
// c[m, n] = epilogue(a[m] . b[n]) for n in [begin, end). Of args: m, k, c, c_stride, epilogue.
void GemmDot(const GemmArgs& args, const float* a, int64_t a_stride, const float* b,
             int64_t b_stride, int64_t begin, int64_t end);

// Left operand with evenly spaced rows: a + m * a_stride. args.rows is ignored; taps is 1.
void GemmStrided(const GemmPanels& panels, GemmArgs args, const float* a, int64_t a_stride,
                 int64_t begin, int64_t end);

// A deterministic cut of `batch` m x panels products into items of similar work for `threads`
// threads. Item i of a product covers rows [i % m_items * m_step, …) and panels [i / m_items *
// panel_step, …).
struct GemmSplit {
  int64_t m = 0, m_step = 1, m_items = 1;
  int64_t panels = 0, panel_step = 1, panel_items = 1;
  int64_t grain = 1;  // items to hand out at once
  int64_t items() const { return m_items * panel_items; }
  // What item i covers.
  struct Item {
    int64_t m_begin, m_end, panel_begin, panel_end;
  };
  Item item(int64_t i) const {
    const int64_t r = i % m_items * m_step, p = i / m_items * panel_step;
    return {r, r + m_step < m ? r + m_step : m, p,
            p + panel_step < panels ? p + panel_step : panels};
  }
};
// `k` is the length of a whole sum; no item has more than max_rows rows.
GemmSplit SplitGemm(const GemmPanels& panels, int64_t batch, int64_t m, int64_t k, int64_t max_rows,
                    int threads);

// Multiply-adds per second of one core at best, for benchmarks: runs `rounds` of pure FMA work and
// returns the number of multiply-adds done.
int64_t RunPureFma(int64_t rounds);

}  // namespace dunlin
