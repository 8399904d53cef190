#include "cli/infer_remote_grpc.h"

#include <algorithm>
#include <cctype>

#include "grpc/client.h"

namespace dunlin::cli {
namespace {

class GrpcRemote final : public ClientRemote<grpc::Client> {
 public:
  using ClientRemote::ClientRemote;

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
