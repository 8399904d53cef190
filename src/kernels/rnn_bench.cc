// One LSTM step and one input projection, batch 1, as streaming models run them.
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/rnn.h"

namespace dunlin {
namespace {

void BM_LstmStep(benchmark::State& state) {
  const auto hidden = size_t(state.range(0)), rows = size_t(state.range(1));
  const RnnPanels panels = RnnPanelsOf(RnnCell::kLstm, hidden);
  const std::vector<float> weights(panels.gates * hidden * hidden, 0.01f);
  std::vector<float> r(panels.packed(hidden)), projected(rows * panels.row());
  PackRnnWeights(panels, weights.data(), hidden, hidden, r.data());
  std::vector<float> h(2 * rows * panels.state()), c(rows * panels.state());
  std::vector<const float*> h_prev;
  std::vector<float*> h_next, c_rows;
  for (size_t i = 0; i < rows; ++i) {
    h_prev.push_back(h.data() + i * panels.state());
    h_next.push_back(h.data() + (rows + i) * panels.state());
    c_rows.push_back(c.data() + i * panels.state());
  }
  RnnStep step;
  step.rows = rows, step.hidden = hidden;
  step.recurrent = r.data(), step.projected = projected.data();
  step.h_prev = h_prev.data(), step.h_next = h_next.data(), step.c = c_rows.data();
  for (auto _ : state) {
    RunRnnStep(RnnCell::kLstm, panels, step, 0, 0, panels.count);
    benchmark::DoNotOptimize(h.data());
  }
  const double macs = double(rows) * double(panels.row()) * double(hidden);
  state.counters["FLOP/s"] =
      benchmark::Counter(2 * macs, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["weights/s"] = benchmark::Counter(double(panels.packed(hidden) * sizeof(float)),
                                                   benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(BM_LstmStep)
    ->Args({64, 1})
    ->Args({128, 1})
    ->Args({256, 1})
    ->Args({512, 1})
    ->Args({128, 4})
    ->Args({128, 16});

}  // namespace
}  // namespace dunlin
