// Values that lie inside another value's memory, so that Concat, Split and Slice copy nothing.
#pragma once

#include <span>

#include "runtime/plan.h"

namespace dunlin {

// Places what a step only moves (Kernel::moves) inside the whole it comes from or goes to, wherever
// all other steps that read or write it can do so there, and drops the steps that have nothing left
// to do. `kept` says of each slot how many uses its memory has that are no steps.
void PlaceParts(Plan& plan, std::span<int> kept);

}  // namespace dunlin
