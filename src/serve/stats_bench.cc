// What counting one request costs, alone and from two threads at once.
#include <benchmark/benchmark.h>

#include "serve/metrics.h"

namespace dunlin::serve {
namespace {

using std::chrono::microseconds;

struct Model {
  Metrics metrics;
  std::shared_ptr<ModelMetrics> model = metrics.ForModel("m", 1, {});
  StatsRecorder stats{*model};
};

void CountOneRequest(benchmark::State& state) {
  static Model* const model = new Model;
  RequestTimes times{.total = microseconds(90),
                     .queue = microseconds(5),
                     .compute_input = microseconds(1),
                     .compute_infer = microseconds(70),
                     .compute_output = microseconds(2)};
  for (auto _ : state) {
    times.total += std::chrono::nanoseconds(17);
    model->model->PendingChanged(1);
    model->model->PendingChanged(-1);
    model->stats.Executed(times, 1);
    model->stats.Success(times, 1);
  }
}
BENCHMARK(CountOneRequest)->Threads(1)->Threads(2);

void Scrape(benchmark::State& state) {
  Metrics metrics;
  std::vector<std::shared_ptr<ModelMetrics>> models;
  for (int i = 0; i < 20; ++i) models.push_back(metrics.ForModel("m", i, {}));
  for (auto _ : state) benchmark::DoNotOptimize(metrics.Text());
}
BENCHMARK(Scrape);

}  // namespace
}  // namespace dunlin::serve
