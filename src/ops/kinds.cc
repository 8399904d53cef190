#include "ops/kinds.h"

#include <algorithm>

namespace dunlin {

Status CheckKinds(const OpDef& op, std::span<const Type> inputs) {
  static constexpr std::string_view kTakesAll[] = {
      "Identity",   "SequenceInsert",     "SequenceErase",
      "SequenceAt", "SequenceLength",     "ConcatFromSequence",
      "Optional",   "OptionalHasElement", "OptionalGetElement"};
  if (!op.domain.empty() || op.subgraphs > 0 ||
      std::find(std::begin(kTakesAll), std::end(kTakesAll), op.name) != std::end(kTakesAll))
    return {};
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].kind == Type::Kind::kTensor) continue;
    const bool nothing = inputs[i].kind == Type::Kind::kOptional;
    if (nothing && int(i) >= op.min_inputs && op.max_inputs >= 0) continue;  // it may be left out
    return Fail(Code::kInvalidArgument, "input {} is {}, the operator takes a tensor", i,
                nothing ? "an optional without a value" : "a sequence");
  }
  return {};
}

}  // namespace dunlin
