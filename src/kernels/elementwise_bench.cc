// Memory-bound loops: bytes read and written per second, in the caches (16 KiB, 1 MiB) and in
// memory (64 MiB per array).
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/elementwise.h"
#include "kernels/reduce.h"

namespace dunlin {
namespace {

std::vector<float> Values(int64_t n) {
  std::vector<float> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) v[i] = float(int(i * 7919 % 2001) - 1000) / 250;
  return v;
}

void Map(benchmark::State& state, UnaryOp op) {
  const int64_t n = state.range(0);
  const std::vector<float> x = Values(n);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    MapF32({op, 0.1f, 6}, x.data(), y.data(), n);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * n * 8);
}
#define DUNLIN_MAP(NAME) \
  BENCHMARK_CAPTURE(Map, NAME, UnaryOp::k##NAME)->Arg(16)->Arg(4096)->Arg(262144)->Arg(16777216)
DUNLIN_MAP(Relu);
DUNLIN_MAP(Clip);
DUNLIN_MAP(HardSwish);
DUNLIN_MAP(Exp);
DUNLIN_MAP(Sigmoid);
DUNLIN_MAP(Tanh);
DUNLIN_MAP(Erf);
DUNLIN_MAP(Gelu);
#undef DUNLIN_MAP

// rows x cols; the second operand whole (0), one row (1), or one column (2).
void Add(benchmark::State& state) {
  const int64_t rows = state.range(0), cols = state.range(1);
  const std::vector<float> a = Values(rows * cols), b = Values(rows * cols);
  std::vector<float> y(a.size());
  const int64_t kind = state.range(2);
  const Strided whole = {a.data(), cols, 1};
  const Strided other = {b.data(), kind == 0 ? cols : kind == 1 ? 0 : 1, kind == 2 ? 0 : 1};
  for (auto _ : state) {
    CombineF32(BinaryOp::kAdd, whole, other, y.data(), rows, cols);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * rows * cols * (kind == 0 ? 12 : 8));
}
BENCHMARK(Add)
    ->Args({1, 4096, 0})
    ->Args({1, 262144, 0})
    ->Args({1, 16777216, 0})
    ->Args({4096, 64, 1})
    ->Args({4096, 64, 2})
    ->Args({4096, 7, 1});

void Softmax(benchmark::State& state) {
  const int64_t rows = state.range(0), n = state.range(1);
  const std::vector<float> x = Values(rows * n);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    SoftmaxRowsF32(false, x.data(), y.data(), rows, n);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * rows * n * 8);
}
BENCHMARK(Softmax)->Args({1536, 128})->Args({40, 6625})->Args({600, 197});

void LayerNorm(benchmark::State& state) {
  const int64_t rows = state.range(0), n = state.range(1);
  const std::vector<float> x = Values(rows * n), scale = Values(n), bias = Values(n);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    NormalizeRowsF32(x.data(), scale.data(), bias.data(), y.data(), rows, n, 1e-5f, true, nullptr,
                     nullptr);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * rows * n * 8);
}
BENCHMARK(LayerNorm)->Args({128, 384})->Args({197, 192})->Args({128, 768});

// The spatial mean of channels-last images, and of row-major ones.
void MeanColumns(benchmark::State& state) {
  const int64_t n = state.range(0), cols = state.range(1);
  const std::vector<float> x = Values(n * cols);
  std::vector<float> y(static_cast<size_t>(cols));
  for (auto _ : state) {
    ReduceColumnsF32(ReduceOp::kMean, x.data(), cols, n, cols, y.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * n * cols * 4);
}
BENCHMARK(MeanColumns)->Args({3136, 64})->Args({196, 672})->Args({49, 1280});

void MeanRows(benchmark::State& state) {
  const int64_t rows = state.range(0), n = state.range(1);
  const std::vector<float> x = Values(n * rows);
  std::vector<float> y(static_cast<size_t>(rows));
  for (auto _ : state) {
    ReduceRowsF32(ReduceOp::kMean, x.data(), n, rows, n, y.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * n * rows * 4);
}
BENCHMARK(MeanRows)->Args({64, 3136})->Args({672, 196})->Args({1280, 49});

}  // namespace
}  // namespace dunlin
