// A server that is asked over HTTP or gRPC, as its URL says: one request at a time, or the parts
// that load is made of.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "http/client.h"
#include "http/load_client.h"
#include "serve/call.h"
#include "serve/stats.h"

namespace dunlin::cli {

using CallParameters = decltype(serve::InferCall::parameters);

// As written on the command line.
struct RemoteOptions {
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::string token_file;            // its first line is sent as a bearer token
  http::TlsClientOptions tls;
  double timeout_seconds = 60;
};

class Remote {
 public:
  // kInvalidArgument and kNotFound for what is wrong with the options; the connection is made with
  // the first call.
  static Result<std::unique_ptr<Remote>> Connect(const RemoteOptions& options);
  virtual ~Remote() = default;

  virtual Result<serve::RemoteModel> Metadata(const std::string& model,
                                              const std::string& version) = 0;
  virtual Result<std::vector<serve::CallResult>> Infer(const serve::InferCall& call) = 0;
  virtual Result<serve::ModelStatistics> Statistics(const std::string& model,
                                                    const std::string& version) = 0;
  // A region of this machine's shared memory, which must be the server's machine, too.
  virtual Status RegisterSharedMemory(const std::string& name, const std::string& key,
                                      uint64_t bytes) = 0;
  virtual Status UnregisterSharedMemory(const std::string& name) = 0;

  // For load: a client of its own, the bytes it sends for a call, and what its answers mean.
  virtual Result<std::unique_ptr<http::LoadClient>> MakeLoadClient(uint32_t slots) = 0;
  virtual Result<std::string> Request(const serve::InferCall& call) = 0;
  virtual Result<std::vector<serve::CallResult>> Outputs(const http::LoadAnswer& answer) = 0;
  virtual std::string ErrorText(const http::LoadAnswer& answer) = 0;
};

// What both protocols' clients do alike.
template <class Client>
class ClientRemote : public Remote {
 public:
  ClientRemote(http::ServerUrl url, http::ClientOptions options, Client client)
      : url_(std::move(url)), options_(std::move(options)), client_(std::move(client)) {}

  Result<serve::RemoteModel> Metadata(const std::string& model,
                                      const std::string& version) override {
    return client_.Metadata(model, version);
  }
  Result<std::vector<serve::CallResult>> Infer(const serve::InferCall& call) override {
    return client_.Infer(call);
  }
  Result<serve::ModelStatistics> Statistics(const std::string& model,
                                            const std::string& version) override {
    return client_.Statistics(model, version);
  }
  Status RegisterSharedMemory(const std::string& name, const std::string& key,
                              uint64_t bytes) override {
    return client_.RegisterSharedMemory(name, key, bytes);
  }
  Status UnregisterSharedMemory(const std::string& name) override {
    return client_.UnregisterSharedMemory(name);
  }

 protected:
  http::ServerUrl url_;
  http::ClientOptions options_;
  Client client_;
};

// NAME=VALUE, each; true, false and numbers become such, the rest is text.
Result<CallParameters> ParseParameters(const std::vector<std::string>& options);

}  // namespace dunlin::cli
