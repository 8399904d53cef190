// The roofline picture of a profile.
#pragma once

#include <span>
#include <string>

#include "dunlin/engine.h"
#include "dunlin/machine.h"

namespace dunlin::cli {

// An SVG: every step that multiplies as a circle at its arithmetic intensity (operations per byte)
// and rate, its area the share of time, under the measured roofs of arithmetic and memory; what
// the other steps take stands below it.
std::string RooflineSvg(std::span<const StepProfile> steps, const MachinePeak& peak,
                        const std::string& title);

}  // namespace dunlin::cli
