// Bytes per second of the copies that layouts and Transposes come down to.
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/copy.h"
#include "kernels/resize.h"
#include "kernels/transpose.h"

namespace dunlin {
namespace {

std::vector<float> Floats(int64_t n) { return std::vector<float>(size_t(n), 1.0f); }

void BM_ToChannelsLast(benchmark::State& state) {
  const int64_t C = state.range(0), S = state.range(1) * state.range(1);
  const auto x = Floats(C * S);
  auto y = x;
  for (auto _ : state) {
    ReorderToChannelsLast(x.data(), y.data(), 4, 1, C, S);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * C * S * 4);
}
BENCHMARK(BM_ToChannelsLast)
    ->Args({3, 224})
    ->Args({64, 56})
    ->Args({256, 14})
    ->Args({2048, 7})
    ->Args({24, 56});

void BM_ToRowMajor(benchmark::State& state) {
  const int64_t C = state.range(0), S = state.range(1) * state.range(1);
  const auto x = Floats(C * S);
  auto y = x;
  for (auto _ : state) {
    ReorderToRowMajor(x.data(), y.data(), 4, 1, C, S);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * C * S * 4);
}
BENCHMARK(BM_ToRowMajor)
    ->Args({3, 224})
    ->Args({64, 56})
    ->Args({256, 14})
    ->Args({2048, 7})
    ->Args({24, 56});

// [B, S, H, D] -> [B, H, S, D] of a transformer, and its attention's keys -> [B, H, D, S].
void BM_Heads(benchmark::State& state) {
  const int64_t S = 128, H = 12, D = 64;
  const auto x = Floats(S * H * D);
  auto y = x;
  const bool keys = state.range(0) != 0;
  const Dims dims = keys ? Dims{H, D, S} : Dims{H, S, D};
  const Dims xs = keys ? Dims{D, 1, H * D} : Dims{D, H * D, 1};
  const StridedCopy copy(dims, xs, keys ? Dims{D * S, S, 1} : Dims{S * D, D, 1}, 4);
  for (auto _ : state) {
    copy.Run(x.data(), y.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * S * H * D * 4);
}
BENCHMARK(BM_Heads)->Arg(0)->Arg(1);

// One eight-element slice: what a tiny node costs.
void BM_TinySlice(benchmark::State& state) {
  const auto x = Floats(64);
  auto y = x;
  const StridedCopy copy(Dims{2, 4}, Dims{16, 1}, Dims{4, 1}, 4);
  for (auto _ : state) {
    copy.Run(x.data(), y.data());
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_TinySlice);

// Twice as large, 64 channels of 56x56.
void BM_LinearTwice(benchmark::State& state) {
  const bool last = state.range(0) != 0;
  const int64_t n = 56, C = 64;
  const auto x = Floats(C * n * n);
  auto y = Floats(4 * C * n * n);
  std::vector<int32_t> index(size_t(4 * n));
  std::vector<float> weight(size_t(4 * n), 0.5f);
  for (int64_t i = 0; i < 2 * n; ++i)
    for (int64_t k = 0; k < 2; ++k) index[size_t(2 * i + k)] = int32_t(std::min(n - 1, i / 2 + k));
  const ResampleAxis h{n, 2 * n, 2, index.data(), weight.data()};
  for (auto _ : state) {
    if (last)
      ResampleRowsChannelsLast(x.data(), y.data(), h, h, C, 0, 2 * n);
    else
      ResampleRows(x.data(), y.data(), h, h, 0, C * 2 * n);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * int64_t(y.size()) * 4);
}
BENCHMARK(BM_LinearTwice)->Arg(0)->Arg(1);

}  // namespace
}  // namespace dunlin
