// From an inference's outputs to the reply.
#pragma once

#include "base/result.h"
#include "http/infer_parse.h"
#include "http/message.h"
#include "serve/infer.h"
#include "serve/spec.h"

namespace dunlin::http {

// Errors: kInvalidArgument for outputs that cannot take the form asked for (FP16 as JSON, classes
// of strings).
Result<Reply> WriteInfer(const serve::ModelSpec& model, const ParsedInfer& parsed,
                         serve::InferResponse response);

}  // namespace dunlin::http
