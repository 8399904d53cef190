// The parts of the family of random operators.
#pragma once

#include "ops/op.h"

namespace dunlin {

OpDef DropoutOp();

}  // namespace dunlin
