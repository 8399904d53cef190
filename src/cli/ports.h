// Inputs and outputs of a model, as text and as JSON.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/json_writer.h"
#include "dunlin/engine.h"

namespace dunlin::cli {

// A table whose first column is headed by `title`.
std::string PortsText(const char* title, std::span<const PortInfo> ports);
void PortsJson(JsonWriter& json, std::string_view key, std::span<const PortInfo> ports);

}  // namespace dunlin::cli
