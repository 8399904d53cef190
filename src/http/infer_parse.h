// From the body of an inference request to tensors.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/infer.h"
#include "serve/spec.h"

namespace dunlin::http {

// How the client wants one output.
struct OutputForm {
  bool binary = false;
  uint64_t classes = 0;  // > 0: the best so many classes instead of the tensor
};

struct ParsedInfer {
  serve::InferRequest request;
  std::map<std::string, OutputForm> forms;  // of outputs that are listed
  bool binary_default = false;              // of outputs that are not

  const OutputForm FormOf(const std::string& output) const {
    const auto it = forms.find(output);
    return it == forms.end() ? OutputForm{.binary = binary_default, .classes = 0} : it->second;
  }
};

// `body` is decompressed and has kBodyPadding readable bytes behind it. `header_length` is the
// value of the Inference-Header-Content-Length header, "" when absent. Errors in the protocol's
// words; nothing is allocated that the body's own size does not bound.
Result<ParsedInfer> ParseInfer(const serve::ModelSpec& model, std::string_view body,
                               std::string_view header_length, int64_t max_json_bytes);

// How deep arrays and objects may nest in any JSON a client sends.
inline constexpr size_t kMaxJsonDepth = 64;

}  // namespace dunlin::http
