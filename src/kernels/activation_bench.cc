// Activations over a row that lies in the first-level cache.
#include "kernels/activation.h"

#include "kernels/gemm_bench_rate.h"

namespace dunlin {
namespace {

void Activate(benchmark::State& state) {
  constexpr int64_t kCount = 4096;
  Tensor x = BenchFloats(kCount);
  const ActivationParams p{Activation(state.range(0)), 0.2f, 0.5f};
  RunAtRate(state, kCount, [&] {
    std::fill_n(x.mut<float>(), kCount, 0.5f);
    ActivateInPlace(p, x.mut<float>(), kCount);
  });
}
BENCHMARK(Activate)->DenseRange(0, kActivationCount - 1);

}  // namespace
}  // namespace dunlin
