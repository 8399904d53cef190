// Running small graphs in tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "passes/testing.h"
#include "runtime/execution.h"
#include "runtime/weight_cache.h"

namespace dunlin {

struct Runner {
  ThreadPool pool{2};
  ArenaPool arenas;
  ChainOptions chains;
  Result<std::vector<RunValue>> Run(const Graph& g, PlanMode mode,
                                    const std::vector<Tensor>& inputs, int threads) {
    ProgramContext context;
    context.mode = mode;
    context.threads = threads;
    context.weights = MakeWeightCache();
    context.chains = chains;
    Execution e(std::make_shared<const Program>(g.Clone(), context));
    std::vector<TensorView> views;
    for (const Tensor& t : inputs) views.push_back(t.view());
    std::vector<RunInput> in;
    for (const TensorView& v : views) in.push_back({&v, nullptr});
    RunEnvironment env;
    env.pool = &pool;
    env.arenas = &arenas;
    env.threads = threads;
    TRY(e.Run(in, env));
    return e.Run(in, env);  // the second run uses what the first has bound
  }
};

inline void ExpectClose(const Tensor& a, const Tensor& b, const std::string& where) {
  ASSERT_EQ(a.dims(), b.dims()) << where;
  float scale = 1e-3f;
  for (const float v : b.values<float>())
    if (std::isfinite(v)) scale = std::max(scale, std::abs(v));
  for (int64_t i = 0; i < a.count(); ++i)
    ASSERT_LE(std::abs(a.as<float>()[i] - b.as<float>()[i]), 1e-4f * scale) << where << " at " << i;
}

inline Tensor Random(const Dims& d, std::mt19937& rng) {
  std::uniform_real_distribution<float> u(-1, 1);
  std::vector<float> v(static_cast<size_t>(CountOf(d)));
  for (float& x : v) x = u(rng);
  return Tensor::Of<float>(d, std::span<const float>(v));
}

}  // namespace dunlin
