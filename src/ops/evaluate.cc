#include "ops/evaluate.h"

namespace dunlin {
namespace {

class HeapRun : public RunContext {
 public:
  HeapRun(std::span<const Tensor> inputs, int outputs, int64_t max_bytes)
      : inputs_(inputs),
        in_(inputs.size()),
        results(size_t(outputs)),
        out_(size_t(outputs)),
        max_bytes_(max_bytes) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].defined()) in_[i] = inputs[i].view();
  }
  int input_count() const override { return int(in_.size()); }
  int output_count() const override { return int(out_.size()); }
  bool has(int i) const override { return i < int(in_.size()) && inputs_[size_t(i)].defined(); }
  bool wants(int o) const override { return o < int(out_.size()); }
  const TensorView& in(int i) const override {
    static const TensorView nothing{DType::kUndefined, Layout::kRowMajor, {0}, nullptr, 0};
    return has(i) ? in_[size_t(i)] : nothing;
  }
  TensorView& out(int i) override { return out_[size_t(i)]; }
  Result<TensorView*> Allocate(int o, DType dtype, const Dims& dims) override {
    const auto count = ElementCount(dims);
    if (!count || ByteSize(dtype, *count) > max_bytes_)
      return Fail(Code::kResourceExhausted, "an output of extents {} is too large", ToString(dims));
    Tensor t = TRY(Tensor::Create(dtype, dims));
    out_[size_t(o)] = t.view();
    results[size_t(o)] = std::move(t);
    return &out_[size_t(o)];
  }
  Result<Tensor> TakeInput(int i) override { return inputs_[size_t(i)]; }
  Status SetOutput(int o, Tensor t) override {
    out_[size_t(o)] = t.view();
    results[size_t(o)] = std::move(t);
    return {};
  }
  const SequenceValue* sequence(int) const override { return nullptr; }
  Status SetSequence(int, SequenceValue) override {
    return Fail(Code::kUnimplemented, "sequences are not evaluated here");
  }
  SubgraphRunner* subgraph(int) override { return nullptr; }
  void* scratch() override { return nullptr; }
  void ParallelFor(int64_t count, int64_t, RangeFn fn) override {
    if (count > 0) fn(0, count);
  }
  int threads() const override { return 1; }

 private:
  std::span<const Tensor> inputs_;
  std::vector<TensorView> in_;

 public:
  std::vector<Tensor> results;

 private:
  std::vector<TensorView> out_;
  int64_t max_bytes_;
};

}  // namespace

std::optional<Dims> TensorInfer::shape_value(int i) const {
  const Tensor* t = value(i);
  if (t == nullptr || t->rank() > 1 || t->count() > 64 || !IsInteger(t->dtype()))
    return std::nullopt;
  const auto v = ToInts(*t);
  if (!v || std::any_of(v->begin(), v->end(), [](int64_t d) { return d < 0; })) return std::nullopt;
  return Dims(std::span<const int64_t>(*v));
}

Result<std::vector<Tensor>> Evaluate(const OpDef& op, const Attrs& attrs,
                                     std::span<const Tensor> inputs, int outputs,
                                     int64_t max_bytes) {
  if (op.subgraphs > 0) return Fail(Code::kUnimplemented, "{} is not evaluated here", op.name);
  TensorInfer infer(inputs, outputs);
  TRY(op.infer(attrs, infer));
  HeapRun run(inputs, outputs, max_bytes);
  for (int o = 0; o < outputs; ++o) {
    const Type& t = infer.output(o);
    if (t.kind != Type::Kind::kTensor)
      return Fail(Code::kUnimplemented, "{} makes no tensor", op.name);
    if (t.IsStatic()) TRY(run.Allocate(o, t.dtype, t.dims));
  }
  if (op.is_view && inputs.size() > 0 && inputs[0].defined() && infer.output(0).IsStatic() &&
      outputs == 1) {
    TRY(run.SetOutput(0, inputs[0].Reshaped(infer.output(0).dims)));
    return std::move(run.results);
  }
  TRY(op.impl->reference(attrs, run));
  for (const Tensor& t : run.results)
    if (!t.defined()) return Fail(Code::kInternal, "{} left an output without a value", op.name);
  return std::move(run.results);
}

}  // namespace dunlin
