// Chains: neighbouring steps whose intermediate images are too large for the cache become one step
// that makes them band by band.
#pragma once

#include <span>

#include "runtime/plan.h"

namespace dunlin {

// Merges steps of `plan` where that saves traffic. `kept`: per root slot, nonzero where something
// besides the steps reads it. For a plan whose memory is not placed yet.
void MergeChains(Plan& plan, std::span<const int> kept, const ChainOptions& options, int threads);

}  // namespace dunlin
