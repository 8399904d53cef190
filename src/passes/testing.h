// Building small graphs in tests.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "passes/passes.h"
#include "passes/pattern.h"

namespace dunlin {

class GraphBuilder {
 public:
  GraphBuilder() : graph_(std::make_unique<Graph>()) {}
  ValueId Input(Dims dims, DType dtype = DType::kF32) {
    return graph_->AddInput("in" + std::to_string(graph_->inputs().size()),
                            Type::Of(dtype, std::move(dims)));
  }
  ValueId Const(Tensor t) {
    return graph_->AddConstant("c" + std::to_string(graph_->value_count()), std::move(t));
  }
  ValueId Scalar(float v) { return Const(Tensor::Scalar<float>(v)); }
  // Reproducible numbers in [-1, 1] (or [lo, hi]).
  ValueId Weights(Dims dims, float lo = -1, float hi = 1) {
    std::uniform_real_distribution<float> d(lo, hi);
    std::vector<float> v(static_cast<size_t>(CountOf(dims)));
    for (float& x : v) x = d(rng);
    return Const(Tensor::Of<float>(dims, std::span<const float>(v)));
  }
  ValueId Add(std::string_view op, std::vector<ValueId> inputs, const AttrSettings& attrs = {}) {
    Node& n = graph_->AddNode(OpNamed(op), AttrsWith(OpNamed(op), attrs), std::move(inputs),
                              "n" + std::to_string(graph_->value_count()));
    const Status s = InferNode(*graph_, n);
    EXPECT_TRUE(s.has_value()) << s.error().message;
    return n.outputs[0];
  }
  std::unique_ptr<Graph> Finish(std::initializer_list<ValueId> outputs) {
    for (const ValueId v : outputs) graph_->AddOutput(v);
    return std::move(graph_);
  }
  Graph& graph() { return *graph_; }
  std::mt19937 rng{12345};

 private:
  std::unique_ptr<Graph> graph_;
};

using Counts = std::map<std::string, int>;

inline Counts OpCounts(const Graph& g) {
  Counts counts;
  for (const NodeId id : g.SoundOrder()) ++counts[std::string(g.node(id).op->name)];
  return counts;
}

// What OptimizeModel leaves of a graph, which stays sound.
inline Counts Optimised(std::unique_ptr<Graph> g) {
  const auto r = OptimizeModel(*g);
  EXPECT_TRUE(r.has_value()) << r.error().message;
  const Status v = g->Verify();
  EXPECT_TRUE(v.has_value()) << v.error().message << g->ToText();
  return OpCounts(*g);
}

}  // namespace dunlin
