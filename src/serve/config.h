// Model configurations: reading config.pbtxt, completing it from the graph, checking it, and its
// JSON form.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "dunlin/engine.h"
#include "serve/model_config.pb.h"

namespace dunlin::serve {

// Protobuf text format. Unknown fields, wrong types and nesting beyond 64 are errors that name line
// and column.
Result<inference::ModelConfig> ParseConfigText(std::string_view text);
// The same message as protobuf's JSON form; what a load request may carry.
Result<inference::ModelConfig> ParseConfigJson(std::string_view json);
// Field names as in the .proto, enums by name, every scalar printed, 64-bit integers as numbers.
std::string ConfigToJson(const inference::ModelConfig& config);

enum class AutoComplete : bool { kOff, kOn };

// Defaults that do not need the graph: name, platform, backend, file name, version policy.
Status Normalise(inference::ModelConfig& config, std::string_view model_name);
// Fills in what is missing from the graph, then checks everything against it. On success every
// graph input and output has an entry with dims.
Status CompleteAndCheck(inference::ModelConfig& config, std::span<const PortInfo> inputs,
                        std::span<const PortInfo> outputs, AutoComplete mode);

// What max_batch_size becomes when the graph allows any batch and nobody said.
inline constexpr int kDefaultMaxBatchSize = 4;

}  // namespace dunlin::serve
