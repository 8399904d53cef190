// Matrix products on one core, as one item per call of the kernel, without threads.
#include "kernels/bf16_product.h"
#include "kernels/gemm_bench_rate.h"

namespace dunlin {
namespace {

// The label of one with bf16 says whether the instruction was there.
template <bool kBf16>
void MatMul(benchmark::State& state) {
  const int64_t m = state.range(0), k = state.range(1), n = state.range(2);
  const GemmPanels panels = MakeGemmPanels(n);
  Tensor a = BenchFloats(m * k), b = BenchFloats(k * n), c = BenchFloats(m * n),
         bias = BenchFloats(n), packed = BenchFloats(panels.packed_floats(k));
  const GemmSource source = {.data = b.as<float>(), .k = k, .k_stride = n};
  Tensor pairs = Tensor::Create(DType::kU32, {panels.packed_floats(PairRows(1, k))}).value();
  if constexpr (kBf16) {
    PackBf16(panels, source, 0, panels.count, pairs.mut<uint32_t>());
    state.SetLabel(Bf16ProductIsFast() ? "vdpbf16ps" : "emulated");
  } else {
    PackGemm(panels, source, 0, panels.count, packed.mut<float>());
  }
  const GemmSplit split = SplitGemm(panels, 1, m, k, 1024, 1);
  RunAtRate(state, 2.0 * double(m) * double(k) * double(n), [&] {
    for (int64_t i = 0; i < split.items(); ++i) {
      const GemmSplit::Item item = split.item(i);
      GemmArgs g;
      g.k = g.packed_rows = k;
      g.m = item.m_end - item.m_begin;
      g.packed = packed.as<float>();
      g.pairs = kBf16 ? pairs.as<uint32_t>() : nullptr;
      g.c = c.mut<float>() + item.m_begin * n;
      g.c_stride = n;
      g.epilogue.bias = bias.as<float>();
      GemmStrided(panels, g, a.as<float>() + item.m_begin * k, k, item.panel_begin, item.panel_end);
    }
  });
}
BENCHMARK(MatMul<true>)
    ->Name("MatMulBf16")
    ->Args({128, 768, 3072})
    ->Args({1, 768, 3072})
    ->Args({3136, 64, 64})
    ->Args({196, 1024, 256});
BENCHMARK(MatMul<false>)
    ->Name("MatMul")
    ->Args({128, 768, 768})
    ->Args({128, 768, 3072})
    ->Args({512, 1024, 1024})
    ->Args({8, 768, 3072})
    ->Args({1, 768, 3072})
    ->Args({1, 1280, 1000})
    ->Args({1, 4096, 4096})
    ->Args({49, 2048, 512})
    ->Args({49, 512, 2048})
    ->Args({3136, 256, 64})
    ->Args({3136, 24, 144})
    ->Args({3136, 64, 16})
    ->Args({3136, 64, 32})
    ->Args({3136, 64, 48})
    ->Args({128, 64, 128})
    ->Args({16, 512, 8192})
    ->Args({3136, 64, 256})
    ->Args({784, 512, 128})
    ->Args({196, 1024, 256})
    ->Args({196, 256, 1024});

// Few rows, with weights that were last read range(3) MiB of other weights ago.
void FewRows(benchmark::State& state) {
  const int64_t m = state.range(0), k = state.range(1), n = state.range(2);
  const GemmPanels panels = MakeGemmPanels(n);
  const int64_t matrix = panels.packed_floats(k);
  const int64_t copies = std::max<int64_t>(1, (state.range(3) << 20) / (matrix * 4));
  Tensor a = BenchFloats(m * k), c = BenchFloats(m * n), bias = BenchFloats(n),
         packed = BenchFloats(matrix * copies);
  GemmArgs g;
  g.k = g.packed_rows = k;
  g.m = m;
  g.c = c.mut<float>();
  g.c_stride = n;
  g.epilogue.bias = bias.as<float>();
  int64_t copy = 0;
  for (auto _ : state) {
    g.packed = packed.as<float>() + copy * matrix;
    GemmStrided(panels, g, a.as<float>(), k, 0, panels.count);
    benchmark::ClobberMemory();
    copy = (copy + 1) % copies;
  }
  state.SetBytesProcessed(int64_t(state.iterations()) * matrix * 4);
}
BENCHMARK(FewRows)
    ->ArgsProduct({{1, 2, 3, 4}, {576}, {1024}, {1, 12, 100}})
    ->ArgsProduct({{1, 4}, {1280}, {1000}, {100}})
    ->ArgsProduct({{1}, {4096}, {4096}, {100}})
    ->ArgsProduct({{1, 4}, {768}, {3072}, {100}})
    ->ArgsProduct({{1, 4}, {64}, {16, 64, 240}, {0}});

}  // namespace
}  // namespace dunlin
