// Products with constant weights of a few bits, repacked for the kernels that stream them.
#include <algorithm>
#include <atomic>

#include "kernels/block_gemm.h"
#include "ops/quant/block_weights.h"

namespace dunlin {
namespace {

constexpr int64_t kRowsPerCall = 1024;  // of pointers on the stack of GemmStrided
// Up to so many rows are multiplied with the codes; with more of them it is cheaper to decode the
// weights once.
constexpr int64_t kFewRows = 8;
// Decoded weights that rows pass over, half of a first-level cache of 32 KiB, and numbers of x that
// meet them, of a second-level cache of 512 KiB.
constexpr int64_t kDecodedFloats = 4 << 10, kInputFloats = 64 << 10;

int64_t Aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Where the codes of a row of weights go: `order[i]` is the column of code i of the packed row, -1
// where nothing is. Empty: the packed row is the row.
struct BlockOrder {
  int64_t words = 0;  // of a block
  std::vector<int64_t> order;
};

// nullopt: blocks are of so different extents that filling up the short ones would waste more than
// it gains.
std::optional<BlockOrder> OrderOf(const MatMulNBitsAttrs& a, const Tensor* group) {
  const int64_t blocks = a.blocks();
  const auto words_of = [&](int64_t codes) { return (codes * a.bits + 31) / 32; };
  std::vector<std::vector<int64_t>> columns(static_cast<size_t>(blocks));
  for (int64_t k = 0; k < a.K; ++k) {
    const int64_t block = group != nullptr ? group->as<int32_t>()[k] : k / a.block_size;
    if (block < 0 || block >= blocks) return std::nullopt;
    columns[size_t(block)].push_back(k);
  }
  BlockOrder o;
  for (const auto& c : columns) o.words = std::max(o.words, words_of(int64_t(c.size())));
  if (o.words > 2 * words_of(a.block_size)) return std::nullopt;
  const int64_t block = o.words * 32 / a.bits;
  o.order.assign(size_t(blocks * block), -1);
  bool same = blocks * block == a.K;
  for (int64_t b = 0; b < blocks; ++b)
    for (size_t i = 0; i < columns[size_t(b)].size(); ++i) {
      o.order[size_t(b * block) + i] = columns[size_t(b)][i];
      same &= columns[size_t(b)][i] == b * block + int64_t(i);
    }
  if (same) o.order.clear();
  return o;
}

// A panel as if it were all.
GemmPanels OnePanel(const GemmPanels& panels, int64_t p) {
  GemmPanels one = panels;
  one.vectors = panels.width(p);
  one.n = std::min(one.vectors * panels.lanes, panels.n - panels.first_vector(p) * panels.lanes);
  one.count = 1;
  return one;
}

class BlockGemmKernel final : public Kernel {
 public:
  MatMulNBitsAttrs attrs;
  int64_t rows = 0;
  int threads = 1;
  BlockWeights w;
  std::vector<int64_t> order;  // see BlockOrder
  Tensor codes, scales, zeros;
  BlockRow kind = BlockRow::kFloats;
  bool decoded = false;
  GemmSplit split;
  int64_t shares = 1, blocks_at_once = 1;
  // Scratch, in bytes: x in the packed order, x prepared or a share's decoded weights, bias.
  int64_t prepared_at = 0, decoded_at = 0, bias_at = 0, scratch = 0;

  std::string_view name() const override {
    if (decoded) return "block_weights.decoded";
    return kind == BlockRow::kBytes  ? "block_weights.bytes"
           : kind == BlockRow::kWide ? "block_weights.wide"
                                     : "block_weights.floats";
  }
  InputUse uses(int input) const override {
    return input >= 1 && input <= 4 ? InputUse::kNothing : InputUse::kValues;
  }
  size_t scratch_bytes() const override { return size_t(scratch); }

  Status Run(RunContext& ctx) const override {
    auto* const bytes = static_cast<uint8_t*>(ctx.scratch());
    const float* const bias = Bias(ctx, reinterpret_cast<float*>(bytes + bias_at));
    const float* const x = Ordered(ctx, reinterpret_cast<float*>(bytes));
    float* const y = ctx.out(0).mut<float>();
    const size_t row_bytes = decoded ? 0 : BlockRowBytes(w, kind);
    if (!decoded)
      ctx.ParallelFor(rows, RowGrain(), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          PrepareBlockRow(w, kind, x + r * w.k(), bytes + prepared_at + size_t(r) * row_bytes);
      });
    // Items go to whoever is free, and memory for decoded weights to every share.
    std::atomic<int64_t> next{0};
    ctx.ParallelFor(shares, 1, [&](int64_t share, int64_t) {
      float* const to = reinterpret_cast<float*>(bytes + decoded_at) + share * DecodedFloats();
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < split.items();) {
        const GemmSplit::Item item = split.item(i);
        if (decoded)
          DecodedItem(item, x, bias, y, to);
        else
          BlockDot(w, kind, bytes + prepared_at + size_t(item.m_begin) * row_bytes,
                   item.m_end - item.m_begin, bias, y + item.m_begin * attrs.N, attrs.N,
                   item.panel_begin, item.panel_end);
      }
    });
    return {};
  }

  int64_t RowGrain() const { return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, w.k())); }
  int64_t DecodedFloats() const {
    return blocks_at_once * w.block() * w.panels.width(0) * w.panels.lanes;
  }

 private:
  const float* Bias(RunContext& ctx, float* to) const {
    if (!ctx.has(5)) return nullptr;
    if (ctx.in(5).dtype == DType::kF32) return ctx.in(5).as<float>();
    for (int64_t n = 0; n < attrs.N; ++n) to[n] = FloatAt(ctx.in(5), n);
    return to;
  }

  // x with its columns as the codes are, and zeros where there are none.
  const float* Ordered(RunContext& ctx, float* to) const {
    const float* const x = ctx.in(0).as<float>();
    if (order.empty()) return x;
    ctx.ParallelFor(rows, RowGrain(), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        for (size_t i = 0; i < order.size(); ++i)
          to[size_t(r) * order.size() + i] = order[i] < 0 ? 0 : x[r * attrs.K + order[i]];
    });
    return to;
  }

  // Part after part of the sums: its columns of x stay in the second-level cache while all panels
  // pass, each of which is decoded once.
  void DecodedItem(const GemmSplit::Item& item, const float* x, const float* bias, float* y,
                   float* to) const {
    for (int64_t b = 0; b < w.blocks; b += blocks_at_once) {
      const int64_t count = std::min(blocks_at_once, w.blocks - b);
      for (int64_t p = item.panel_begin; p < item.panel_end; ++p) {
        const int64_t first = w.panels.first_vector(p) * w.panels.lanes;
        DecodeBlocks(w, p, b, count, to);
        GemmArgs g;
        g.m = item.m_end - item.m_begin;
        g.k = g.packed_rows = count * w.block();
        g.packed = to;
        g.c = y + item.m_begin * attrs.N + first;
        g.c_stride = attrs.N;
        g.first = b == 0;
        g.last = b + count == w.blocks;
        if (bias != nullptr) g.epilogue.bias = bias + first;
        GemmStrided(OnePanel(w.panels, p), g, x + item.m_begin * w.k() + b * w.block(), w.k(), 0,
                    1);
      }
    }
  }
};

// Rows of words as BlockWeights has them, for columns [first, first + count).
std::vector<uint32_t> WordsOf(const BlockGemmKernel& kernel, const uint8_t* b, int64_t first,
                              int64_t count) {
  const MatMulNBitsAttrs& a = kernel.attrs;
  const int64_t words = kernel.w.blocks * kernel.w.words, per_word = kernel.w.per_word();
  std::vector<uint32_t> to(size_t(count * words), 0);
  for (int64_t n = 0; n < count; ++n) {
    const uint8_t* const row = b + (first + n) * a.blocks() * a.block_bytes();
    for (size_t i = 0; i < kernel.order.size(); ++i) {
      const int64_t k = kernel.order[i];
      if (k < 0) continue;
      const int32_t code =
          PackedCode(row + k / a.block_size * a.block_bytes(), k % a.block_size, int(a.bits));
      to[size_t(n * words) + i / size_t(per_word)] |= uint32_t(code)
                                                      << (int64_t(i) % per_word * a.bits);
    }
  }
  return to;
}

Result<Tensor> PackCodes(const BlockGemmKernel& kernel, const Tensor& b, WeightCache& cache) {
  const GemmPanels& panels = kernel.w.panels;
  const int64_t words = kernel.w.blocks * kernel.w.words;
  Tensor packed = TRY(Tensor::Create(DType::kI32, {kernel.w.packed_words()}));
  cache.ParallelFor(panels.count, 1, [&](int64_t begin, int64_t end) {
    if (kernel.order.empty())
      return PackBlockTable(panels, words, b.raw(), words * 4, 4, 4, begin, end, packed.raw());
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = panels.first_vector(p) * panels.lanes;
      const GemmPanels one = OnePanel(panels, p);
      const auto rows = WordsOf(kernel, b.as<uint8_t>(), first, one.n);
      PackBlockTable(one, words, rows.data(), words * 4, 4, 4, 0, 1,
                     packed.mut<int32_t>() + first * words);
    }
  });
  return packed;
}

// Numbers [N, blocks] as a table of `T`.
template <class T, class F>
Result<Tensor> PackNumbers(const BlockGemmKernel& kernel, DType type, const F& at) {
  const GemmPanels& panels = kernel.w.panels;
  const int64_t blocks = kernel.w.blocks;
  Tensor rows = TRY(Tensor::Create(type, {panels.n * blocks}));
  for (int64_t n = 0; n < panels.n; ++n)
    for (int64_t b = 0; b < blocks; ++b) rows.mut<T>()[n * blocks + b] = at(n, b);
  Tensor packed = TRY(Tensor::Create(type, {panels.packed_floats(blocks)}));
  PackBlockTable(panels, blocks, rows.raw(), blocks * int64_t(sizeof(T)), sizeof(T), sizeof(T), 0,
                 panels.count, packed.raw());
  return packed;
}

Result<Tensor> PackFloats(const BlockGemmKernel& kernel, const Tensor& t) {
  const TensorView v = t.view();
  if (v.dtype == DType::kF16)
    return PackNumbers<Half>(kernel, DType::kF16, [&](int64_t n, int64_t b) {
      return v.as<Half>()[n * kernel.w.blocks + b];
    });
  return PackNumbers<float>(kernel, DType::kF32, [&](int64_t n, int64_t b) {
    return FloatAt(v, n * kernel.w.blocks + b);
  });
}

Status PackAll(BlockGemmKernel& k, const std::string& order, LowerContext& ctx) {
  BlockWeights& w = k.w;
  const std::string shape = fmt::format("lanes {} panels {} n {} blocks {}", w.panels.lanes,
                                        w.panels.count, w.panels.n, w.blocks);
  WeightCache& cache = ctx.weights();
  k.codes = TRY(cache.Get(*ctx.value(1),
                          fmt::format("block codes {} bits {} of {} words {} {}", shape, w.bits,
                                      k.attrs.block_size, w.words, order),
                          [&](const Tensor& t) { return PackCodes(k, t, cache); }));
  w.codes = reinterpret_cast<const uint32_t*>(k.codes.as<int32_t>());
  k.scales = TRY(cache.Get(*ctx.value(2), "block numbers " + shape,
                           [&](const Tensor& t) { return PackFloats(k, t); }));
  w.scales = k.scales.raw();
  w.scale_type = k.scales.dtype() == DType::kF16 ? BlockNumbers::kF16 : BlockNumbers::kF32;
  if (!ctx.has(3)) return {};
  if (ctx.value(3)->dtype() == DType::kU8) {
    w.zero_type = BlockNumbers::kU8;
    k.zeros = TRY(cache.Get(
        *ctx.value(3), fmt::format("block zeros {} bits {}", shape, w.bits), [&](const Tensor& t) {
          return PackNumbers<uint8_t>(k, DType::kU8, [&](int64_t n, int64_t b) {
            return uint8_t(PackedCode(t.as<uint8_t>() + n * k.attrs.zero_bytes(), b, w.bits));
          });
        }));
  } else {
    k.zeros = TRY(cache.Get(*ctx.value(3), "block numbers " + shape,
                            [&](const Tensor& t) { return PackFloats(k, t); }));
    w.zero_type = k.zeros.dtype() == DType::kF16 ? BlockNumbers::kF16 : BlockNumbers::kF32;
  }
  w.zeros = k.zeros.raw();
  return {};
}

bool IsFloat32OrHalf(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16; }

// Whether the inputs are constants that can be packed; what is wrong with others is said when they
// run.
bool CanPack(const MatMulNBitsAttrs& a, const LowerContext& ctx) {
  for (const int i : {1, 2, 3, 4})
    if (ctx.has(i) && ctx.value(i) == nullptr) return false;
  const auto count = [&](int i) { return CountOf(ctx.input(i).dims); };
  if (ctx.input(1).dtype != DType::kU8 || !IsFloat32OrHalf(ctx.input(2).dtype) ||
      count(1) != a.N * a.blocks() * a.block_bytes() || count(2) != a.N * a.blocks())
    return false;
  if (ctx.has(3)) {
    const DType type = ctx.input(3).dtype;
    if (type == DType::kU8 ? count(3) != a.N * a.zero_bytes()
                           : !IsFloat32OrHalf(type) || count(3) != a.N * a.blocks())
      return false;
  }
  if (ctx.has(4) && (ctx.input(4).dtype != DType::kI32 || count(4) < a.K)) return false;
  return !ctx.has(5) || (IsFloat32OrHalf(ctx.input(5).dtype) && count(5) == a.N);
}

}  // namespace

Result<KernelPtr> LowerPackedBlocks(const MatMulNBitsAttrs& a, LowerContext& ctx) {
  const Type& x = ctx.input(0);
  if (x.dtype != DType::kF32 || CountOf(ctx.output(0).dims) == 0 || !CanPack(a, ctx))
    return KernelPtr();
  const Tensor* group = ctx.has(4) ? ctx.value(4) : nullptr;
  auto order = OrderOf(a, group);
  if (!order) return KernelPtr();
  auto kernel = std::make_unique<BlockGemmKernel>();
  BlockGemmKernel& k = *kernel;
  k.attrs = a;
  k.rows = CountOf(x.dims) / a.K;
  k.order = std::move(order->order);
  k.w.panels = MakeGemmPanels(a.N);
  k.w.bits = int(a.bits);
  k.w.blocks = a.blocks();
  k.w.words = order->words;
  std::string order_text;
  if (group != nullptr)
    for (const int64_t i : k.order) order_text += fmt::format(" {}", i);
  TRY(PackAll(k, order_text, ctx));

  k.kind = a.accuracy_level == 4 ? FastestBlockRow(k.w) : ExactBlockRow(k.w, k.rows);
  k.decoded = k.kind != BlockRow::kBytes && k.rows > kFewRows;
  // A panel should be decoded once, so the columns of a part count, not all K.
  const int64_t columns = std::clamp<int64_t>(kInputFloats / k.rows, 1, k.w.k());
  k.blocks_at_once = std::clamp<int64_t>(
      std::min(columns, kDecodedFloats / (k.w.panels.width(0) * k.w.panels.lanes)) / k.w.block(), 1,
      k.w.blocks);
  k.split =
      SplitGemm(k.w.panels, 1, k.rows, k.decoded ? columns : k.w.k(), kRowsPerCall, ctx.threads());
  k.shares = std::min<int64_t>(ctx.threads(), k.split.items());
  const auto take = [&](int64_t bytes) {
    const int64_t at = k.scratch;
    k.scratch += Aligned(bytes);
    return at;
  };
  if (!k.order.empty()) take(k.rows * k.w.k() * 4);
  if (k.decoded)
    k.decoded_at = take(k.shares * k.DecodedFloats() * 4);
  else
    k.prepared_at = take(k.rows * int64_t(BlockRowBytes(k.w, k.kind)));
  k.bias_at = take(ctx.has(5) ? a.N * 4 : 0);
  return KernelPtr(std::move(kernel));
}

}  // namespace dunlin
