// Maps as JSON: {"key": value, …} where keys are strings, [[key, value], …] where they are
// integers.
#pragma once

#include <span>
#include <string>

#include "base/json_writer.h"
#include "base/result.h"
#include "dunlin/engine.h"

namespace dunlin::cli {

// A map for such an input. Either form is read, whatever the keys are; null is NaN.
// kInvalidArgument: it is no such JSON, or holds values of another type.
Result<Value> ParseMap(const PortInfo& port, std::span<const std::byte> json);

// NaN and infinities become null.
void WriteMap(const Tensor& keys, const Tensor& values, JsonWriter& json);

}  // namespace dunlin::cli
