// From the body of an inference request to tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "serve/infer.h"
#include "serve/shared_memory.h"
#include "serve/spec.h"

namespace dunlin::http {

// How the client wants one output.
struct OutputForm {
  bool binary = false;
  uint64_t classes = 0;            // > 0: the best so many classes instead of the tensor
  serve::SharedMemoryRange range;  // where it goes, if `span` is one
  serve::SharedMemorySpan span;
};

struct ParsedInfer {
  serve::InferRequest request;
  std::vector<std::pair<std::string, OutputForm>> forms;  // of outputs that are listed
  bool binary_default = false;                            // of outputs that are not

  const OutputForm* FormOf(std::string_view output) const {
    for (const auto& [name, form] : forms)
      if (name == output) return &form;
    return nullptr;
  }
};

struct InferBody {
  // Decompressed, with kBodyPadding readable bytes behind it.
  std::string_view bytes;
  std::shared_ptr<const void> owner;  // of the bytes; null: they are good during the call only
  std::string_view header_length;     // the Inference-Header-Content-Length header, "" if absent
};

// Errors in the protocol's words; nothing is allocated that the body's own size does not bound.
Result<ParsedInfer> ParseInfer(const serve::ModelSpec& model, const InferBody& body,
                               const serve::SharedMemory& shared_memory, int64_t max_input_bytes);

// How deep arrays and objects may nest in any JSON a client sends.
inline constexpr size_t kMaxJsonDepth = 100;
// Inputs or outputs of one request; more than any model has.
inline constexpr size_t kMaxTensors = 4096;

}  // namespace dunlin::http
