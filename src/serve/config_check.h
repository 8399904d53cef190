// What a completed model configuration must fulfil, in the protocol's words; and which of its
// fields are obeyed here. See docs/serving/configuration.md.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "dunlin/engine.h"
#include "serve/model_config.pb.h"

namespace dunlin::serve {

// Errors: kInvalidArgument (a rule is broken, or the graph is another), kUnimplemented (what this
// server does not do and would serve wrongly).
Status CheckConfig(const inference::ModelConfig& config, std::span<const PortInfo> inputs,
                   std::span<const PortInfo> outputs);

// Fields that are set and have no effect here, such as "optimization.cuda".
std::vector<std::string> IgnoredFields(const inference::ModelConfig& config);

// Extents as a configuration has them: -1 for every unknown one.
Dims VisibleDims(const Dims& dims);
const PortInfo* FindPort(std::span<const PortInfo> ports, std::string_view name);

}  // namespace dunlin::serve
