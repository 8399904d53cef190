// How LoadOptions::extra_outputs is done; not for the engine's users.
#pragma once

#include <span>
#include <string>

#include "formats/onnx.h"

namespace dunlin {

// Makes these values outputs, behind those the model has; of codes what they stand for. Before the
// graph is optimised. kNotFound for a name that no value has.
Status AddExtraOutputs(ImportedModel& model, std::span<const std::string> names);

}  // namespace dunlin
