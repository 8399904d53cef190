#include "cli/infer_remote_grpc.h"

#include <algorithm>
#include <cctype>

#include "grpc/client.h"

namespace dunlin::cli {
namespace {

class GrpcRemote final : public Remote {
 public:
  GrpcRemote(http::ServerUrl url, http::ClientOptions options, grpc::Client client)
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

  Result<std::unique_ptr<http::LoadClient>> MakeLoadClient(uint32_t slots) override {
    return http::MakeGrpcLoadClient(url_,
                                    {.slots = slots,
                                     .timeout = options_.timeout,
                                     .max_answer_bytes = options_.max_response_bytes,
                                     .tls = options_.tls},
                                    options_.headers);
  }
  Result<std::string> Request(const serve::InferCall& call) override {
    return http::GrpcRequest("/inference.GRPCInferenceService/ModelInfer",
                             TRY(grpc::EncodeInfer(call)));
  }
  Result<std::vector<serve::CallResult>> Outputs(const http::LoadAnswer& answer) override {
    return grpc::ParseInferReply(answer.body);
  }
  std::string ErrorText(const http::LoadAnswer& answer) override {
    if (answer.failure != nullptr) return answer.failure->message;
    return fmt::format("{} {}", answer.status, answer.body);
  }

 private:
  http::ServerUrl url_;
  http::ClientOptions options_;
  grpc::Client client_;
};

}  // namespace

Result<std::unique_ptr<Remote>> ConnectGrpc(const http::ServerUrl& url,
                                            const http::ClientOptions& options) {
  http::ClientOptions lower = options;
  for (auto& [name, value] : lower.headers)  // as HTTP/2 wants them
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return char(std::tolower(c)); });
  grpc::Client client = TRY(grpc::Client::Connect(
      url.authority(), {.timeout = lower.timeout,
                        .headers = lower.headers,
                        .use_tls = url.tls(),
                        .tls = {lower.tls.ca_file, lower.tls.certificate, lower.tls.key}}));
  return std::make_unique<GrpcRemote>(url, lower, std::move(client));
}

}  // namespace dunlin::cli
