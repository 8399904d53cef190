// Matrix products against the measured multiply-add peak of one core.
#include <benchmark/benchmark.h>

#include <chrono>
#include <vector>

#include "kernels/gemm.h"

namespace dunlin {
namespace {

// Best of many short runs, so that a busy neighbour does not lower it.
double PeakFlops() {
  static const double peak = [] {
    double best = 0;
    for (int i = 0; i < 200; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      const int64_t done = RunPureFma(20000);
      const std::chrono::duration<double> t = std::chrono::steady_clock::now() - begin;
      best = std::max(best, 2 * double(done) / t.count());
    }
    return best;
  }();
  return peak;
}

void SetRates(benchmark::State& state, double flops) {
  state.counters["GFLOPS"] =
      benchmark::Counter(flops * double(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
  state.counters["of_peak_%"] = benchmark::Counter(
      100 * flops * double(state.iterations()) / PeakFlops(), benchmark::Counter::kIsRate);
}

void MatMul(benchmark::State& state) {
  const int64_t m = state.range(0), k = state.range(1), n = state.range(2);
  const GemmPanels panels = MakeGemmPanels(n);
  std::vector<float> a(size_t(m * k), 0.5f), b(size_t(k * n), 0.25f), c(size_t(m * n)),
      packed(size_t(panels.packed_floats(k)) + 16), bias(size_t(n), 1.0f);
  PackGemm(panels, {.data = b.data(), .k = k, .k_stride = n}, 0, panels.count, packed.data());
  const GemmSplit split = SplitGemm(panels, 1, m, k, 1024, 1);
  for (auto _ : state) {
    for (int64_t i = 0; i < split.items(); ++i) {
      const GemmSplit::Item item = split.item(i);
      GemmArgs g;
      g.k = g.packed_rows = k;
      g.m = item.m_end - item.m_begin;
      g.packed = packed.data();
      g.c = c.data() + item.m_begin * n;
      g.c_stride = n;
      g.epilogue.bias = bias.data();
      GemmStrided(panels, g, a.data() + item.m_begin * k, k, item.panel_begin, item.panel_end);
    }
    benchmark::ClobberMemory();
  }
  SetRates(state, 2.0 * double(m) * double(k) * double(n));
}
BENCHMARK(MatMul)
    ->Args({128, 768, 768})
    ->Args({128, 768, 3072})
    ->Args({512, 1024, 1024})
    ->Args({8, 768, 3072})
    ->Args({1, 768, 3072})
    ->Args({49, 2048, 512})
    ->Args({3136, 256, 64})
    ->Args({3136, 24, 144})
    ->Args({49, 512, 2048})
    ->Args({3136, 64, 16})
    ->Args({3136, 64, 32})
    ->Args({3136, 64, 48});

}  // namespace
}  // namespace dunlin
