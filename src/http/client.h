// A small client of the Open Inference Protocol v2 over HTTP, for the command line and for tests:
// one connection, one request at a time, tensors in binary. Not for load generation.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "dunlin/engine.h"

namespace dunlin::http {

struct RemoteModel {
  std::string name;
  std::vector<PortInfo> inputs, outputs;  // open extents are -1, each its own
};

struct ClientOptions {
  std::chrono::milliseconds timeout{60'000};      // for connecting, and for each whole answer
  int64_t max_response_bytes = int64_t{1} << 31;  // a larger answer is refused, not stored
};

// Errors of all calls: kUnavailable when the server cannot be reached or ends the connection,
// kDeadlineExceeded after the timeout, kInternal when its answer is not of the protocol; else the
// server's own message with the code its HTTP status stands for.
class Client {
 public:
  // `url` is http://HOST[:PORT] or HOST[:PORT]; https is kInvalidArgument.
  static Result<Client> Connect(const std::string& url, const ClientOptions& options = {});
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  // `version` empty: the server's choice.
  Result<RemoteModel> Metadata(const std::string& model, const std::string& version = "");
  Result<std::vector<NamedTensor>> Infer(const std::string& model, const std::string& version,
                                         std::span<const NamedTensor> inputs);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace dunlin::http
