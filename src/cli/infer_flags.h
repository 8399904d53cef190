// The flags of `dunlin infer` and `dunlin perf`.
#pragma once

#include "cli/flags.h"
#include "cli/infer.h"
#include "cli/perf.h"

namespace dunlin::cli {

void AddInfer(Commands& commands, InferCommand& command);
void AddPerf(Commands& commands, PerfCommand& command);

}  // namespace dunlin::cli
