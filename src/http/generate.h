// The generate extension: JSON whose keys are the model's inputs and outputs.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "http/message.h"
#include "serve/infer.h"
#include "serve/spec.h"

namespace dunlin::http {

// `body` has kBodyPadding readable bytes behind it. Keys of the body, or of its "parameters", that
// name no input become parameters of the request.
Result<serve::InferRequest> ParseGenerate(const serve::ModelSpec& model, std::string_view body);

// One JSON object: an output of one element is a value, any other a flat array.
Result<std::string> WriteGenerate(const serve::InferResponse& response);

// One server-sent event.
Reply EventReply(std::string_view json);

}  // namespace dunlin::http
