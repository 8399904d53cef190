// A client of the Open Inference Protocol v2 over HTTP, for the command line and for tests: one
// connection, one request at a time, tensors in binary. Not for load generation: load_client.h.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "http/client_wire.h"
#include "http/load_client.h"

namespace dunlin::http {

struct ClientOptions {
  std::chrono::milliseconds timeout{60'000};      // for connecting, and for each whole answer
  int64_t max_response_bytes = int64_t{1} << 31;  // a larger answer is refused, not stored
  Headers headers;                                // sent with every request
  TlsClientOptions tls;
};

// Errors of all calls: kUnavailable when the server cannot be reached or ends the connection,
// kDeadlineExceeded after the timeout, kInternal when its answer is not of the protocol; else the
// server's own message with the code its HTTP status stands for.
class Client {
 public:
  // An http:// or https:// URL, see url.h. The host must have an address; the connection is made
  // with the first call.
  static Result<Client> Connect(const std::string& url, const ClientOptions& options = {});
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  // `version` empty: the server's choice.
  Result<serve::RemoteModel> Metadata(const std::string& model, const std::string& version = "");
  Result<std::vector<serve::CallResult>> Infer(const serve::InferCall& call);
  Result<serve::ModelStatistics> Statistics(const std::string& model, const std::string& version);
  // Makes a region of /dev/shm known to the server, which must be on this machine.
  Status RegisterSharedMemory(const std::string& name, const std::string& key, uint64_t bytes);
  Status UnregisterSharedMemory(const std::string& name);
  // The body of any route's answer.
  Result<std::string> Get(std::string_view target);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace dunlin::http
