// Runs one operator on tensors with its reference, on the calling thread: constant folding, tests.
#pragma once

#include <vector>

#include "ops/op.h"

namespace dunlin {

// inputs: undefined tensors are omitted optionals. Infers, allocates and runs; sequences and
// sub-graphs are refused. max_bytes bounds each output.
Result<std::vector<Tensor>> Evaluate(const OpDef& op, const Attrs& attrs,
                                     std::span<const Tensor> inputs, int outputs,
                                     int64_t max_bytes = int64_t{1} << 32);

// Shape inference over live tensors: every value is known.
class TensorInfer : public InferContext {
 public:
  TensorInfer(std::span<const Tensor> inputs, int outputs)
      : inputs_(inputs), types_(inputs.size()), out_(size_t(outputs)) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].defined()) types_[i] = Type::Of(inputs[i].dtype(), inputs[i].dims());
  }
  int input_count() const override { return int(inputs_.size()); }
  int output_count() const override { return int(out_.size()); }
  bool has(int i) const override { return i < int(inputs_.size()) && inputs_[size_t(i)].defined(); }
  bool wants(int o) const override { return o < int(out_.size()); }
  const Type& input(int i) const override {
    static const Type absent;
    return i < int(types_.size()) ? types_[size_t(i)] : absent;
  }
  const Tensor* value(int i) const override { return has(i) ? &inputs_[size_t(i)] : nullptr; }
  std::optional<Dims> shape_value(int i) const override;
  void Set(int o, Type t) override {
    if (wants(o)) out_[size_t(o)] = std::move(t);
  }
  void SetShapeValue(int, Dims) override {}
  Result<std::vector<Type>> InferSubgraph(int, std::span<const Type>) override {
    return Fail(Code::kUnimplemented, "sub-graphs are not evaluated here");
  }
  const Type& output(int o) const { return out_[size_t(o)]; }

 private:
  std::span<const Tensor> inputs_;
  std::vector<Type> types_;
  std::vector<Type> out_;
};

}  // namespace dunlin
