// A small client of the Open Inference Protocol v2 over gRPC, for the command line and for tests:
// one connection, one call at a time. Not for load generation, which has use for the message forms
// alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "serve/call.h"
#include "serve/stats.h"

namespace dunlin::grpc {

struct ClientTls {
  std::string ca_file;           // whom to believe (PEM); empty: the system's authorities
  std::string certificate, key;  // files: what the client shows of itself (PEM); both or neither
};

struct ClientOptions {
  std::chrono::milliseconds timeout{60'000};                 // of each call, connecting included
  int max_response_bytes = INT32_MAX;                        // a larger answer is refused
  std::vector<std::pair<std::string, std::string>> headers;  // metadata; names in small letters
  bool use_tls = false;
  ClientTls tls;
};

// Errors of all calls: kUnavailable when the server cannot be reached or ends the connection,
// kDeadlineExceeded after the timeout, kInternal when its answer is not of the protocol; else the
// server's own code and message.
class Client {
 public:
  // `address` is HOST:PORT. The connection is made with the first call. kInvalidArgument and
  // kNotFound: a TLS file that cannot be read.
  static Result<Client> Connect(const std::string& address, const ClientOptions& options = {});
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  // `version` empty: the server's choice.
  Result<serve::RemoteModel> Metadata(const std::string& model, const std::string& version = "");
  Result<std::vector<serve::CallResult>> Infer(const serve::InferCall& call);
  // The sum over all versions in the answer.
  Result<serve::ModelStatistics> Statistics(const std::string& model, const std::string& version);
  // Makes a region of /dev/shm known to the server, which must be on this machine.
  Status RegisterSharedMemory(const std::string& name, const std::string& key, uint64_t bytes);
  Status UnregisterSharedMemory(const std::string& name);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The bytes of a ModelInferRequest, tensors in raw_input_contents. kInvalidArgument for types the
// protocol lacks.
Result<std::string> EncodeInfer(const serve::InferCall& call);
// The outputs in the bytes of a ModelInferResponse. kInternal: it makes no sense.
Result<std::vector<serve::CallResult>> ParseInferReply(std::string_view message);

}  // namespace dunlin::grpc
