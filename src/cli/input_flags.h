// Flags of inputs and outputs that several commands have.
#pragma once

#include "cli/flags.h"
#include "cli/inputs.h"
#include "cli/run.h"

namespace dunlin::cli {

// An option that may be repeated, one value each time, so that it never swallows a positional
// argument.
CLI::Option* Repeated(CLI::App* app, const std::string& name, std::vector<std::string>& values,
                      const std::string& help);
void AddShapes(CLI::App* app, InputOptions& o);
void AddInputs(CLI::App* app, InputOptions& o);
void AddImages(CLI::App* app, ImageOptions& o);
void AddOutputs(CLI::App* app, OutputOptions& o);

}  // namespace dunlin::cli
