// Graphs over codes that are computed before and after they are optimised, in tests.
#pragma once

#include <cstring>

#include "ops/evaluate.h"
#include "passes/testing.h"

namespace dunlin {

struct OperatorGraph : GraphBuilder {
  Tensor Codes(Dims dims, DType type) {
    Tensor t = Tensor::Create(type, std::move(dims)).value();
    for (int64_t i = 0; i < t.bytes(); ++i) t.raw()[i] = std::byte(rng());
    return t;
  }
  Tensor Floats(int64_t n, float lo, float hi) {
    std::uniform_real_distribution<float> d(lo, hi);
    Tensor t = Tensor::Create(DType::kF32, n == 0 ? Dims{} : Dims{n}).value();
    for (int64_t i = 0; i < t.count(); ++i) t.mut<float>()[i] = d(rng);
    return t;
  }
  Tensor Integers(int64_t n) {
    Tensor t = Tensor::Create(DType::kI32, {n}).value();
    for (int64_t i = 0; i < n; ++i) t.mut<int32_t>()[i] = int32_t(rng() % 20001) - 10000;
    return t;
  }
  ValueId Zero(int zero, DType type) {
    return Const(Convert(Tensor::Scalar<int32_t>(zero), type).value());
  }
  // An input of the graph with these codes.
  ValueId Feed(Tensor codes) {
    const ValueId v = Input(codes.dims(), codes.dtype());
    fed[v] = std::move(codes);
    return v;
  }
  std::map<ValueId, Tensor> fed;
};

// What a graph without control flow makes of those inputs, by the operators' references.
inline std::vector<Tensor> Run(const Graph& g, std::map<ValueId, Tensor> values) {
  for (const NodeId id : g.SoundOrder()) {
    const Node& n = g.node(id);
    std::vector<Tensor> inputs;
    for (const ValueId v : n.inputs) {
      if (v == ValueId::kNone)
        inputs.emplace_back();
      else
        inputs.push_back(g.value(v).is_constant() ? g.value(v).constant : values.at(v));
    }
    auto y = Evaluate(*n.op, *n.attrs, inputs, int(n.outputs.size()));
    EXPECT_TRUE(y.has_value()) << n.op->name << ": " << y.error().message;
    for (size_t i = 0; i < n.outputs.size(); ++i) values[n.outputs[i]] = (*y)[i];
  }
  std::vector<Tensor> outputs;
  for (const ValueId v : g.outputs()) outputs.push_back(values.at(v));
  return outputs;
}

// Optimises; the result must be `left`, and give the same bits.
inline void ExpectSameBits(OperatorGraph& b, ValueId y, const Counts& left) {
  const auto fed = b.fed;
  const auto g = b.Finish({y});
  const Tensor before = Run(*g, fed)[0];
  ASSERT_TRUE(OptimizeModel(*g).has_value());
  ASSERT_TRUE(g->Verify().has_value());
  EXPECT_EQ(OpCounts(*g), left);
  const Tensor after = Run(*g, fed)[0];
  ASSERT_EQ(after.dtype(), before.dtype());
  ASSERT_EQ(after.dims(), before.dims());
  EXPECT_EQ(std::memcmp(after.raw(), before.raw(), size_t(before.bytes())), 0);
}

}  // namespace dunlin
