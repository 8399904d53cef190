// Products with weights of a few bits on one core: bytes of codes and scales per second, beside
// what a plain read of as many bytes gets.
#include <cstring>

#include "kernels/block_gemm.h"
#include "kernels/gemm_bench_rate.h"

namespace dunlin {
namespace {

// Matrices that together leave every cache.
constexpr int64_t kCopies = 48;

void ReportBandwidth(benchmark::State& state, double bytes, double seconds) {
  state.counters["GB/s"] = bytes / seconds / 1e9;
}

// The sum of 64-bit words, by two streams a thread.
void Read(benchmark::State& state) {
  const int64_t words = int64_t{80} << 17;
  const Tensor data = BenchFloats(words * 2);
  const auto* p = reinterpret_cast<const uint64_t*>(data.raw());
  for (auto _ : state) {
    uint64_t sums[8] = {};
    for (int64_t i = 0; i < words / 2; i += 8)
      for (int64_t j = 0; j < 4; ++j) {
        __builtin_prefetch(p + i + 512);
        __builtin_prefetch(p + words / 2 + i + 512);
        sums[j] += p[i + j] + p[i + 4 + j];
        sums[4 + j] += p[words / 2 + i + j] + p[words / 2 + i + 4 + j];
      }
    for (const uint64_t s : sums) benchmark::DoNotOptimize(s);
  }
  state.counters["GB/s"] = benchmark::Counter(double(words) * 8 / 1e9 * double(state.iterations()),
                                              benchmark::Counter::kIsRate);
}
BENCHMARK(Read)->ThreadRange(1, 64)->UseRealTime();

void Dot(benchmark::State& state) {
  const int64_t m = state.range(0), k = state.range(1), n = state.range(2), block = state.range(4);
  BlockWeights w;
  w.panels = MakeGemmPanels(n);
  w.bits = int(state.range(3));
  w.blocks = k / block;
  w.words = block * w.bits / 32;
  w.scale_type = state.range(5) == 16 ? BlockNumbers::kF16 : BlockNumbers::kF32;
  const int64_t codes = w.packed_words(), scales = w.panels.packed_floats(w.blocks);
  const Tensor all_codes = BenchFloats(codes * kCopies), all_scales = BenchFloats(scales * kCopies);
  const BlockRow kind = BlockRow(state.range(6));
  const size_t row_bytes = BlockRowBytes(w, kind);
  Tensor x = BenchFloats(m * k), rows = BenchFloats(m * int64_t(row_bytes) / 4),
         c = BenchFloats(m * n);
  const double bytes = double(codes) * 4 + double(scales) * (state.range(5) == 16 ? 2 : 4);
  int64_t copy = 0;
  double best = 1e30;
  for (auto _ : state) {
    for (int64_t i = 0; i < kCopies; ++i) {
      const double begin = Seconds();
      w.codes = reinterpret_cast<const uint32_t*>(all_codes.as<float>() + copy * codes);
      w.scales = all_scales.as<float>() + copy * scales;
      copy = (copy + 1) % kCopies;
      for (int64_t r = 0; r < m; ++r)
        PrepareBlockRow(w, kind, x.as<float>() + r * k,
                        reinterpret_cast<uint8_t*>(rows.raw()) + size_t(r) * row_bytes);
      BlockDot(w, kind, rows.raw(), m, nullptr, c.mut<float>(), n, 0, w.panels.count);
      benchmark::ClobberMemory();
      best = std::min(best, Seconds() - begin);
    }
  }
  state.counters["best_us"] = best * 1e6;
  ReportBandwidth(state, bytes, best);
}
BENCHMARK(Dot)
    ->ArgNames({"m", "k", "n", "bits", "block", "scale", "row"})
    ->Args({1, 768, 3072, 4, 32, 32, 1})
    ->Args({2, 768, 3072, 4, 32, 32, 1})
    ->Args({3, 768, 3072, 4, 32, 32, 1})
    ->Args({4, 768, 3072, 4, 32, 32, 1})
    ->Args({8, 768, 3072, 4, 32, 32, 1})
    ->Args({1, 3072, 768, 4, 32, 16, 1})
    ->Args({1, 768, 3072, 4, 16, 32, 1})
    ->Args({1, 768, 3072, 4, 128, 32, 1})
    ->Args({1, 768, 3072, 8, 32, 32, 0})
    ->Args({1, 768, 3072, 4, 32, 32, 0})
    ->Args({1, 768, 3072, 4, 32, 32, 2})
    ->Args({2, 768, 3072, 4, 32, 32, 0})
    ->Args({3, 768, 3072, 4, 32, 32, 0})
    ->Args({4, 768, 3072, 4, 32, 32, 0})
    ->Args({128, 768, 3072, 4, 32, 32, 2})
    ->Args({1, 768, 3072, 2, 32, 32, 1});

}  // namespace
}  // namespace dunlin
