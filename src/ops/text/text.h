// The parts of the family of operators on strings.
#pragma once

#include "ops/op.h"

namespace dunlin {

OpDef RegexFullMatchOp();

}  // namespace dunlin
