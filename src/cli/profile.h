// Per-step timings as tables and as a trace file.
#pragma once

#include <span>
#include <string>

#include "dunlin/engine.h"
#include "dunlin/machine.h"

namespace dunlin::cli {

// Steps by time, longest first, then the sums per operator and kernel, with the share of the
// machine's roof that they reach.
std::string ProfileText(std::span<const StepProfile> steps, const MachinePeak& peak);
// One run in the JSON format that chrome://tracing and ui.perfetto.dev open.
std::string TraceJson(std::span<const StepProfile> steps, const std::string& process);
// Steps in the order they run, without times: what each layer costs.
std::string LayersText(std::span<const StepProfile> steps);

}  // namespace dunlin::cli
