// The predict request of TensorFlow Serving and of KServe's first protocol, as JSON.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/infer.h"
#include "serve/spec.h"

namespace dunlin::http {

// How the client lists items: one by one ("instances") or one tensor per input ("inputs").
enum class PredictForm : unsigned char { kRows, kColumns };

struct ParsedPredict {
  serve::InferRequest request;
  PredictForm form = PredictForm::kRows;
};

// `body` has kBodyPadding readable bytes behind it.
Result<ParsedPredict> ParsePredict(const serve::ModelSpec& model, std::string_view body);

Result<std::string> WritePredict(PredictForm form, const serve::InferResponse& response);

// The answer to GET …/metadata.
std::string PredictMetadata(const serve::ModelSpec& model);

}  // namespace dunlin::http
