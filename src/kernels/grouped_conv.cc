#include "kernels/grouped_conv.h"

#include <algorithm>
#include <utility>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/grouped_conv.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/activation-inl.h"
#include "kernels/gemm_partial-inl.h"

#ifndef DUNLIN_KERNELS_GROUPED_CONV_CONSTANTS
#define DUNLIN_KERNELS_GROUPED_CONV_CONSTANTS
namespace dunlin {
// A copy is read once per tap and vector of outputs: it should stay in a first-level cache of 48
// KiB, beside the weights in use. On the stack.
constexpr int64_t kCopyFloats = 8 * 1024;
// Channels that lie side by side in the copy, if not spread: one copy instruction on any target.
constexpr int64_t kPiece = 4;
}  // namespace dunlin
#endif

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Output pixels of a tile, by its width in vectors: accumulators and a vector of weights for each
// vector must fit the registers (32 or 16); what the copy holds is an operand in memory.
#if HWY_TARGET <= HWY_AVX3
constexpr int kTilePixels[3] = {0, 14, 14};
#else
constexpr int kTilePixels[3] = {0, 12, 6};
#endif
constexpr int kMostPixels = 14;

struct GroupTile {
  const float* a;                           // in the copy, under the first output pixel
  size_t tap_row, tap_col, chunk, out_row;  // floats to the next tap, piece, output row
  size_t tap_rows, tap_cols, chunks;
  const float* b;
  float* c;
  const float* residual;
  size_t c_pixel, c_row;
  size_t cols;  // of the outputs; only the last vector may be partial
  const float* bias;
  float lo, hi;
};

// kRows rows of kPixels output pixels.
template <bool kSpread, int kStride, int kRows, int kPixels, int kWidth>
HWY_NOINLINE void GroupTileOf(const GroupTile& t) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  constexpr int kAll = kRows * kPixels;
  constexpr size_t kSteps = kSpread ? 1 : size_t(kPiece);
  const size_t pixel = size_t(kStride) * (kSpread ? lanes : size_t(kPiece));
  V acc[kAll][kWidth];
#pragma GCC unroll 16
  for (int j = 0; j < kWidth; ++j) {
    const V bias = hn::LoadU(d, t.bias + size_t(j) * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < kAll; ++i) acc[i][j] = bias;
  }
  const float* HWY_RESTRICT b = t.b;
  for (size_t row = 0; row < t.tap_rows; ++row)
    for (size_t col = 0; col < t.tap_cols; ++col) {
      const float* a0 = t.a + row * t.tap_row + col * t.tap_col;
      const float* a1 = a0 + t.out_row;
      for (size_t chunk = 0; chunk < t.chunks; ++chunk, a0 += t.chunk, a1 += t.chunk) {
#pragma GCC unroll 4
        for (size_t u = 0; u < kSteps; ++u, b += size_t(kWidth) * lanes) {
          V bv[kWidth];
#pragma GCC unroll 16
          for (int j = 0; j < kWidth; ++j) bv[j] = hn::LoadU(d, b + size_t(j) * lanes);
#pragma GCC unroll 16
          for (int i = 0; i < kAll; ++i) {
            const float* from = (i < kPixels ? a0 : a1) + size_t(i % kPixels) * pixel + u;
            const V av = kSpread ? hn::LoadU(d, from) : hn::Set(d, *from);
#pragma GCC unroll 16
            for (int j = 0; j < kWidth; ++j) acc[i][j] = hn::MulAdd(av, bv[j], acc[i][j]);
          }
        }
      }
    }
  const size_t tail_at = size_t(kWidth - 1) * lanes, tail = t.cols - tail_at;
  const bool partial = tail != lanes;
  const V lo = hn::Set(d, t.lo), hi = hn::Set(d, t.hi);
#pragma GCC unroll 16
  for (int i = 0; i < kAll; ++i) {
    const size_t at = size_t(i / kPixels) * t.c_row + size_t(i % kPixels) * t.c_pixel;
#pragma GCC unroll 16
    for (int j = 0; j < kWidth; ++j) {
      const size_t to = at + size_t(j) * lanes;
      const bool cut = partial && j + 1 == kWidth;
      V v = acc[i][j];
      if (t.residual != nullptr)
        v = hn::Add(v, cut ? LoadPartial(d, t.residual + to, tail) : hn::LoadU(d, t.residual + to));
      v = Limit(v, lo, hi);
      if (cut)
        StorePartial(d, v, t.c + to, tail);
      else
        hn::StoreU(v, d, t.c + to);
    }
  }
}

using GroupTileFunction = void (*)(const GroupTile&);

// [rows - 1][width][pixels]; nullptr where there is none.
struct GroupTileTable {
  GroupTileFunction at[2][3][kMostPixels + 1] = {};
};
template <bool kSpread, int kStride, int kRows, int kWidth, int... kPixels>
constexpr void FillGroupTiles(GroupTileTable& table, std::integer_sequence<int, kPixels...>) {
  ((table.at[kRows - 1][kWidth][kPixels + 1] =
        &GroupTileOf<kSpread, kStride, kRows, kPixels + 1, kWidth>),
   ...);
}
template <bool kSpread, int kStride>
constexpr GroupTileTable MakeGroupTiles() {
  GroupTileTable t;
  FillGroupTiles<kSpread, kStride, 1, 1>(t, std::make_integer_sequence<int, kTilePixels[1]>());
  FillGroupTiles<kSpread, kStride, 2, 1>(t, std::make_integer_sequence<int, kTilePixels[1] / 2>());
  if constexpr (!kSpread) {
    FillGroupTiles<kSpread, kStride, 1, 2>(t, std::make_integer_sequence<int, kTilePixels[2]>());
    FillGroupTiles<kSpread, kStride, 2, 2>(t,
                                           std::make_integer_sequence<int, kTilePixels[2] / 2>());
  }
  return t;
}
constexpr GroupTileTable kGroupTiles[2][2] = {
    {MakeGroupTiles<false, 1>(), MakeGroupTiles<false, 2>()},
    {MakeGroupTiles<true, 1>(), MakeGroupTiles<true, 2>()}};

// What one copy covers: output rows [row, row + rows) and pixels [col, col + cols) of an image.
struct Patch {
  int64_t image, row, rows, col, cols;
  int64_t in_rows, in_cols;  // of the copy
};

// Copies the pixels of one block under a patch; see the header for the two forms.
void CopyPatch(const GroupedPlan& p, const float* x, int64_t block, const Patch& patch,
               float* copy) {
  const ConvAxis &h = p.geometry.axis[1], &w = p.geometry.axis[2];
  const int64_t all = p.geometry.pixel_stride, first = block * p.block_groups * p.channels;
  const int64_t unit = p.spread ? p.lanes : kPiece;
  const int64_t chunk = patch.in_cols * unit,
                row_floats = p.steps / (p.spread ? 1 : kPiece) * chunk;
  const int64_t h0 = patch.row * h.stride - h.pad, w0 = patch.col * w.stride - w.pad;
  // Columns of the copy that lie in the image.
  const int64_t left = std::clamp<int64_t>(-w0, 0, patch.in_cols);
  const int64_t right = std::clamp<int64_t>(w.in - w0, left, patch.in_cols);
  for (int64_t r = 0; r < patch.in_rows; ++r, copy += row_floats) {
    const int64_t ih = h0 + r;
    if (ih < 0 || ih >= h.in) {
      std::fill_n(copy, row_floats, 0.0f);
      continue;
    }
    const float* from = x + ((patch.image * h.in + ih) * w.in + w0) * all + first;
    for (int64_t k = 0; k < p.steps; k += p.spread ? 1 : kPiece) {
      float* const to = copy + k / (p.spread ? 1 : kPiece) * chunk;
      std::fill_n(to, left * unit, 0.0f);
      std::fill(to + right * unit, to + chunk, 0.0f);
      if (p.spread) {
        for (int64_t c = left; c < right; ++c)
          for (int64_t g = 0; g < p.block_groups; ++g)
            std::fill_n(to + c * unit + g * p.outputs, p.outputs,
                        from[c * all + g * p.channels + k]);
      } else if (k + kPiece <= p.channels) {
        const hn::FixedTag<float, kPiece> piece;
        for (int64_t c = left; c < right; ++c)
          hn::StoreU(hn::LoadU(piece, from + c * all + k), piece, to + c * kPiece);
      } else {
        std::fill(to + left * kPiece, to + right * kPiece, 0.0f);
        for (int64_t c = left; c < right; ++c)
          std::copy_n(from + c * all + k, p.channels - k, to + c * kPiece);
      }
    }
  }
}

// All outputs of one block in a patch.
void MultiplyPatch(const GroupedPlan& p, const GroupedArgs& args, int64_t block, const Patch& patch,
                   const float* copy) {
  const ConvAxis &h = p.geometry.axis[1], &w = p.geometry.axis[2];
  const Limits limits = LimitsOf(args.activation);
  const int64_t unit = p.spread ? p.lanes : kPiece, chunks = p.steps / (p.spread ? 1 : kPiece);
  const int64_t chunk = patch.in_cols * unit, row_floats = chunks * chunk;
  const int64_t block_outputs = p.block_groups * p.outputs;
  const int64_t all_outputs = p.blocks * block_outputs;
  GroupTile t;
  t.tap_row = size_t(h.dilation * row_floats);
  t.tap_col = size_t(w.dilation * unit);
  t.chunk = size_t(chunk);
  t.out_row = size_t(h.stride * row_floats);
  t.tap_rows = size_t(h.kernel);
  t.tap_cols = size_t(w.kernel);
  t.chunks = size_t(chunks);
  t.c_pixel = size_t(all_outputs);
  t.c_row = size_t(w.out * all_outputs);
  t.lo = limits.lo;
  t.hi = limits.hi;
  for (int64_t v = 0; v < p.vectors;) {
    const int64_t width = std::min<int64_t>(2, p.vectors - v), first = v * p.lanes;
    const auto& tiles = kGroupTiles[p.spread][w.stride - 1].at;
    HWY_ALIGN float bias[2 * HWY_MAX_BYTES / sizeof(float)] = {};
    t.cols = size_t(std::min(width * p.lanes, block_outputs - first));
    const int64_t channel = block * block_outputs + first;
    if (args.bias != nullptr) std::copy_n(args.bias + channel, t.cols, bias);
    t.bias = bias;
    t.b = args.packed + block * p.block_packed() + first * p.geometry.taps() * p.steps;
    // Short rows go in pairs, long ones in equal parts.
    const int64_t most = kTilePixels[width];
    const int64_t step = patch.cols <= most / 2 ? 2 : 1;
    const int64_t parts = (patch.cols + most - 1) / most;
    for (int64_t row = 0; row < patch.rows; row += step) {
      const int64_t rows = std::min(step, patch.rows - row);
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t c0 = patch.cols * part / parts, c1 = patch.cols * (part + 1) / parts;
        t.a = copy + row * h.stride * row_floats + c0 * w.stride * unit;
        const int64_t pixel = (patch.image * h.out + patch.row + row) * w.out + patch.col + c0;
        t.c = args.y + pixel * all_outputs + channel;
        t.residual =
            args.residual != nullptr ? args.residual + pixel * all_outputs + channel : nullptr;
        tiles[rows - 1][width][c1 - c0](t);
        if (!limits.complete)
          for (int64_t r = 0; r < rows; ++r)
            ActivateRows(args.activation, t.c + size_t(r) * t.c_row, size_t(c1 - c0), t.c_pixel,
                         t.cols);
      }
    }
    v += width;
  }
}

void GroupedRange(const GroupedPlan& p, const GroupedArgs& args, int64_t block_begin,
                  int64_t block_end, int64_t row_begin, int64_t row_end) {
  HWY_ALIGN float copy[kCopyFloats];
  const ConvAxis &h = p.geometry.axis[1], &w = p.geometry.axis[2];
  for (int64_t row = row_begin; row < row_end;) {
    Patch patch;
    patch.image = row / h.out;
    patch.row = row % h.out;
    patch.rows = std::min({p.rows, row_end - row, h.out - patch.row});
    patch.in_rows = (patch.rows - 1) * h.stride + (h.kernel - 1) * h.dilation + 1;
    const int64_t strips = (w.out + p.strip - 1) / p.strip;
    for (int64_t i = 0; i < strips; ++i) {
      patch.col = w.out * i / strips;
      patch.cols = w.out * (i + 1) / strips - patch.col;
      patch.in_cols = (patch.cols - 1) * w.stride + (w.kernel - 1) * w.dilation + 1;
      for (int64_t block = block_begin; block < block_end; ++block) {
        CopyPatch(p, args.x, block, patch, copy);
        MultiplyPatch(p, args, block, patch, copy);
      }
    }
    row += patch.rows;
  }
}

int64_t GroupLanes() { return int64_t(hn::Lanes(hn::ScalableTag<float>())); }

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dunlin {
HWY_EXPORT(GroupedRange);
HWY_EXPORT(GroupLanes);

std::optional<GroupedPlan> MakeGroupedPlan(const ConvGeometry& geometry, int64_t group,
                                           int64_t outputs) {
  const ConvAxis &d = geometry.axis[0], &h = geometry.axis[1], &w = geometry.axis[2];
  if (group < 2 || d.in != 1 || d.out != 1 || d.kernel != 1 || w.stride > 2) return std::nullopt;
  GroupedPlan p;
  p.geometry = geometry;
  p.channels = geometry.pixel_stride / group;
  p.outputs = outputs / group;
  p.lanes = HWY_DYNAMIC_DISPATCH(GroupLanes)();
  if (p.channels < 1 || p.outputs < 1 || geometry.out_pixels() == 0) return std::nullopt;
  if (p.outputs < p.lanes) {
    p.block_groups = p.lanes / p.outputs;
    p.spread = p.lanes % p.outputs == 0 && group % p.block_groups == 0;
    // A group alone in a vector, or padded channels, must not waste more than half of the work.
    if (!p.spread && 2 * p.outputs < p.lanes) return std::nullopt;
    if (!p.spread) p.block_groups = 1;
  }
  if (!p.spread && p.channels < kPiece / 2) return std::nullopt;
  p.blocks = group / p.block_groups;
  p.vectors = (p.block_groups * p.outputs + p.lanes - 1) / p.lanes;
  p.steps = p.spread ? p.channels : (p.channels + kPiece - 1) / kPiece * kPiece;
  // As many rows as the copy has room for, of strips no narrower than two or three tiles.
  const int64_t pixel = p.steps * (p.spread ? p.lanes : 1);
  const auto extent = [](const ConvAxis& a, int64_t count) {
    return (count - 1) * a.stride + (a.kernel - 1) * a.dilation + 1;
  };
  for (p.strip = w.out; p.strip >= 1; p.strip /= 2) {
    const int64_t row = extent(w, p.strip) * pixel;
    const int64_t room = kCopyFloats / row - extent(h, 1);
    if (room < 0) continue;
    p.rows = std::min(h.out, 1 + room / h.stride);
    // Few rows copy too much of what they share with their neighbours.
    if (p.rows >= std::min<int64_t>(4, h.out) || p.strip <= 28) return p;
  }
  return std::nullopt;
}

void PackGrouped(const GroupedPlan& p, const float* w, float* packed) {
  const int64_t taps = p.geometry.taps(), k = p.channels, cols = p.block_groups * p.outputs;
  for (int64_t block = 0; block < p.blocks; ++block)
    for (int64_t v = 0; v < p.vectors; v += 2) {
      const int64_t width = std::min<int64_t>(2, p.vectors - v) * p.lanes;
      for (int64_t t = 0; t < taps; ++t)
        for (int64_t s = 0; s < p.steps; ++s)
          for (int64_t j = 0; j < width; ++j) {
            const int64_t col = v * p.lanes + j;
            *packed++ = s < k && col < cols ? w[((block * cols + col) * k + s) * taps + t] : 0.0f;
          }
    }
}

void GroupedConv(const GroupedPlan& plan, const GroupedArgs& args, int64_t block_begin,
                 int64_t block_end, int64_t row_begin, int64_t row_end) {
  HWY_DYNAMIC_DISPATCH(GroupedRange)(plan, args, block_begin, block_end, row_begin, row_end);
}

}  // namespace dunlin
#endif  // HWY_ONCE
