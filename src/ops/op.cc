#include "ops/op.h"

namespace dunlin {

SequenceValue SequenceValue::Map(Tensor keys, Tensor values) {
  SequenceValue m;
  m.dtype = values.dtype();
  m.key = keys.dtype();
  m.items.push_back(std::move(values));
  m.keys.push_back(std::move(keys));
  m.is_map = true;
  return m;
}

Status NeedTensors(const SequenceValue& s) {
  if (s.key == DType::kUndefined) return {};
  return Fail(Code::kInvalidArgument, "{} is not a sequence of tensors", ToString(s.type()));
}

Result<RunValue> TakeValue(RunContext& ctx, int input) {
  if (!ctx.has(input)) return RunValue{};
  if (const SequenceValue* s = ctx.sequence(input))
    return RunValue{{}, std::make_shared<const SequenceValue>(*s)};
  return RunValue{TRY(ctx.TakeInput(input)), nullptr};
}

Status SetValue(RunContext& ctx, int output, RunValue value) {
  if (value.sequence) return ctx.SetSequence(output, *value.sequence);
  return ctx.SetOutput(output, std::move(value.tensor));
}

}  // namespace dunlin
