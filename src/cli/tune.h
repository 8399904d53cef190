// `--tune`: how far measuring is, and what it found.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "dunlin/engine.h"

namespace dunlin::cli {

// The same options with a line of progress on a terminal, and warnings as lines on stderr.
std::optional<TuneOptions> ShowTuning(std::optional<TuneOptions> options);

// How often the cost model's choice was not the fastest, a row for each step where it was not, and
// what that costs in all.
std::string TuningText(std::span<const TunedStep> steps);

}  // namespace dunlin::cli
