#include "ops/op.h"

namespace dunlin {

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
