// Loops over codes beside memcpy of as many bytes: bytes read and written per second, in the
// second-level cache (128 Ki codes) and the first (4 Ki).
#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "kernels/codes.h"

namespace dunlin {
namespace {

std::vector<uint8_t> SomeCodes(int64_t n) {
  std::vector<uint8_t> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) v[i] = uint8_t(i * 7919 >> 3);
  return v;
}
std::vector<float> SomeFloats(int64_t n) {
  std::vector<float> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) v[i] = float(int(i * 7919 % 2001) - 1000) / 250;
  return v;
}

// body(n) reads and writes `bytes` bytes an element.
template <class F>
void Measure(benchmark::State& state, int64_t bytes, const F& body) {
  for (auto _ : state) {
    body();
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0) * bytes);
}

void Memcpy(benchmark::State& state) {
  const auto x = SomeCodes(state.range(0));
  // Not at the same place of a page, where some processors' copying is slow.
  std::vector<uint8_t> y(x.size() + 2048);
  Measure(state, 2, [&] { std::memcpy(y.data() + 2048, x.data(), x.size()); });
}
void Quantize(benchmark::State& state) {
  const auto x = SomeFloats(state.range(0));
  auto y = SomeCodes(state.range(0));
  const float scale = 0.031f;
  const int32_t zero = 128;
  Measure(state, 5, [&] { QuantizeF32(x.data(), state.range(0), &scale, &zero, 0, y.data()); });
}
void Dequantize(benchmark::State& state) {
  const auto x = SomeCodes(state.range(0));
  auto y = SomeFloats(state.range(0));
  const float scale = 0.031f;
  const int32_t zero = 128;
  Measure(state, 5, [&] { DequantizeF32(x.data(), state.range(0), &scale, &zero, 0, y.data()); });
}
void Add(benchmark::State& state) {
  const int64_t n = state.range(0);
  const auto a = SomeCodes(n), b = SomeCodes(n);
  auto y = a;
  Measure(state, 3, [&] {
    AddCodes({0.6f, 0.7f, -20}, {a.data(), n, 1}, {b.data(), n, 1}, y.data(), 1, n);
  });
}
void Mul(benchmark::State& state) {
  const int64_t n = state.range(0);
  const auto a = SomeCodes(n), b = SomeCodes(n);
  auto y = a;
  Measure(state, 3, [&] {
    MulCodes({3, 128, 0.01f, 100}, {a.data(), n, 1}, {b.data(), n, 1}, y.data(), 1, n);
  });
}
void Map(benchmark::State& state) {
  const auto x = SomeCodes(state.range(0));
  auto y = x;
  const auto table = SomeCodes(256);
  Measure(state, 2, [&] {
    MapCodes(table.data(), x.data(), state.range(0), y.data(), 0, 1, state.range(0));
  });
}
void MaxPool3x3(benchmark::State& state) {
  const int64_t channels = 64, pixels = state.range(0) / channels;
  const auto x = SomeCodes((pixels + 8) * channels);
  auto y = SomeCodes(state.range(0));
  Measure(state, 10, [&] {
    for (int64_t p = 0; p < pixels; ++p) {
      const uint8_t* taps[9];
      for (int64_t t = 0; t < 9; ++t) taps[t] = x.data() + (p + t) * channels;
      MaxCodes(taps, 9, channels, y.data() + p * channels);
    }
  });
}
void GlobalAverage(benchmark::State& state) {
  const int64_t channels = 64;
  const auto x = SomeCodes(state.range(0));
  std::vector<int32_t> sums(channels);
  Measure(state, 1, [&] {
    SumCodeColumns(x.data(), channels, state.range(0) / channels, channels, sums.data());
  });
}
#define DUNLIN_BENCH(NAME) BENCHMARK(NAME)->Arg(4096)->Arg(131072)
DUNLIN_BENCH(Memcpy);
DUNLIN_BENCH(Quantize);
DUNLIN_BENCH(Dequantize);
DUNLIN_BENCH(Add);
DUNLIN_BENCH(Mul);
DUNLIN_BENCH(Map);
DUNLIN_BENCH(MaxPool3x3);
DUNLIN_BENCH(GlobalAverage);
#undef DUNLIN_BENCH

}  // namespace
}  // namespace dunlin
