// For benchmarks: work per second of the fastest iteration, as a share of the measured multiply-add
// peak of one core. The fastest says what a kernel can do even when neighbours disturb the rest.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>

#include "kernels/gemm.h"
#include "kernels/simd_targets.h"
#include "tensor/tensor.h"

namespace dunlin {

inline double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Before anything runs, so that DUNLIN_SIMD counts.
inline const std::string simd_target = BestSimdTarget();

inline double PeakFlops() {
  static const double peak = [] {
    double best = 0;
    for (int i = 0; i < 2000; ++i) {
      const double begin = Seconds();
      const int64_t done = RunPureFma(5000);
      best = std::max(best, 2 * double(done) / (Seconds() - begin));
    }
    return best;
  }();
  return peak;
}

// Runs `work`, of `flops` floating-point operations, as often as the benchmark wants.
template <class F>
void RunAtRate(benchmark::State& state, double flops, const F& work) {
  double best = 1e30;
  for (auto _ : state) {
    const double begin = Seconds();
    work();
    benchmark::ClobberMemory();
    best = std::min(best, Seconds() - begin);
  }
  state.counters["best_us"] = best * 1e6;
  state.counters["best_GFLOPS"] = flops / best / 1e9;
  state.counters["best_%"] = 100 * flops / best / PeakFlops();
}

// Aligned as the engine's tensors are: a vector load that crosses cache lines costs twice.
inline Tensor BenchFloats(int64_t count) {
  Tensor t = Tensor::Create(DType::kF32, {count}).value();
  std::fill_n(t.mut<float>(), count, 0.5f);
  return t;
}

}  // namespace dunlin
