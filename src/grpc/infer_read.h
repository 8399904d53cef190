// From the bytes of a ModelInferRequest to tensors: first its fields, which tell the model, then
// the tensors as that model wants them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "grpc/wire_reader.h"
#include "serve/infer.h"
#include "serve/shared_memory.h"
#include "serve/spec.h"

namespace dunlin::grpc {

// Nothing: an InferParameter without a value.
using Parameter = std::optional<std::variant<bool, int64_t, uint64_t, double, std::string>>;
using Parameters = std::vector<std::pair<std::string, Parameter>>;  // names may repeat: the last

struct WireTensor {
  std::string name, datatype;
  Dims shape;
  Parameters parameters;
  std::vector<WireReader> contents;  // pieces of one InferTensorContents; empty: it has none
};

// A ModelInferRequest; the readers are places in its bytes.
struct WireRequest {
  std::string model_name, model_version, id;
  Parameters parameters;
  std::vector<WireTensor> inputs, outputs;
  std::vector<WireReader> raw;
};

// kInvalidArgument: not a ModelInferRequest, or more tensors than any model has.
Result<WireRequest> ReadWireRequest(WireReader message);

// How the client wants one of the outputs it listed.
struct OutputForm {
  std::string name;
  uint64_t classes = 0;            // > 0: the best so many classes instead of the tensor
  serve::SharedMemorySpan shared;  // where it goes; no span: into the reply
};

struct InferCall {
  serve::InferRequest request;
  std::vector<OutputForm> forms;      // only of outputs that are not wanted as they are
  bool empty_final_response = false;  // the stream's parameter triton_enable_empty_final_response

  const OutputForm* FormOf(std::string_view output) const {
    for (const OutputForm& f : forms)
      if (f.name == output) return &f;
    return nullptr;
  }
};

// Errors in the protocol's words. `owner` keeps the message's bytes: tensors that lie in one piece
// and aligned are views of them, others are copied once. Nothing is allocated that the message's
// size does not bound.
Result<InferCall> MakeInferCall(const serve::ModelSpec& model, WireRequest wire,
                                const serve::SharedMemory& shared_memory,
                                std::shared_ptr<const void> owner);

}  // namespace dunlin::grpc
