// From what a model answered to the bytes of a ModelInferResponse, in parts: large tensors stay
// where they are.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "grpc/infer_read.h"
#include "serve/infer.h"
#include "serve/spec.h"
#include "tensor/tensor.h"

namespace dunlin::grpc {

// `text`, then the bytes of the tensor, if there is one.
struct MessagePart {
  std::string text;
  Tensor tensor;
};
using Message = std::vector<MessagePart>;
size_t MessageBytes(const Message& message);

enum class ReplyForm : bool {
  kUnary,   // ModelInferResponse
  kStream,  // ModelStreamInferResponse around one, with the parameter triton_final_response
};

// Writes outputs that are to go into shared memory there. Errors: those of classification and
// shared memory.
Result<Message> WriteInferReply(const serve::ModelSpec& model, std::span<const OutputForm> forms,
                                serve::InferResponse response, ReplyForm form);
// A ModelStreamInferResponse that tells why a request of the stream failed.
Message WriteStreamError(const std::string& message, const std::string& request_id);

}  // namespace dunlin::grpc
