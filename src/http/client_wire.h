// The client's side of the protocol's JSON: requests written, answers read. No sockets.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/load_client.h"
#include "serve/call.h"
#include "serve/stats.h"

namespace dunlin::http {

// "/v2/models/NAME[/versions/V]"
std::string ModelPath(const std::string& model, const std::string& version);

struct EncodedCall {
  std::string body;       // JSON, then the tensors' bytes
  size_t json_bytes = 0;  // what Inference-Header-Content-Length says
};
// Tensors in binary; outputs that are not asked for by name come back in binary, too.
// kInvalidArgument for types the protocol lacks.
Result<EncodedCall> EncodeInfer(const serve::InferCall& call);

// What belongs in the head of the request that carries it.
Headers InferHeaders(const EncodedCall& call);

// What servers answer; the text needs kBodyPadding readable bytes behind it. kInternal: it makes no
// sense.
Result<serve::RemoteModel> ParseMetadata(std::string_view json);
Result<std::vector<serve::CallResult>> ParseOutputs(std::string_view body, size_t json_bytes);
// The sum over all versions in the answer.
Result<serve::ModelStatistics> ParseStatistics(std::string_view json);

// What an answer that is no success says, with the code its status stands for.
Error ErrorOf(int status, std::string_view body);

}  // namespace dunlin::http
