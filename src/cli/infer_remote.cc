#include "cli/infer_remote.h"

#include <algorithm>
#include <charconv>

#include "cli/files.h"
#include "cli/infer_remote_grpc.h"

namespace dunlin::cli {
namespace {

Result<http::Headers> HeadersOf(const RemoteOptions& options) {
  http::Headers headers;
  const auto clean = [](std::string_view text) {
    return std::ranges::none_of(text, [](unsigned char c) { return c < ' ' && c != '\t'; });
  };
  for (const std::string& option : options.headers) {
    const size_t colon = option.find(':');
    if (colon == 0 || colon == std::string::npos || !clean(option))
      return Fail(Code::kInvalidArgument, "--header '{}': give it as 'Name: value'", option);
    const size_t value = option.find_first_not_of(' ', colon + 1);
    headers.emplace_back(option.substr(0, colon),
                         value == std::string::npos ? "" : option.substr(value));
  }
  if (!options.token_file.empty()) {
    const std::vector<std::string> lines = TRY(ReadLines(options.token_file));
    if (lines.empty() || lines[0].empty() || !clean(lines[0]))
      return Fail(Code::kInvalidArgument, "{}: its first line is no token", options.token_file);
    headers.emplace_back("Authorization", "Bearer " + lines[0]);
  }
  return headers;
}

class HttpRemote final : public ClientRemote<http::Client> {
 public:
  using ClientRemote::ClientRemote;

  Result<std::unique_ptr<http::LoadClient>> MakeLoadClient(uint32_t slots) override {
    return http::MakeHttpLoadClient(url_, {.slots = slots,
                                           .timeout = options_.timeout,
                                           .max_answer_bytes = options_.max_response_bytes,
                                           .tls = options_.tls});
  }
  Result<std::string> Request(const serve::InferCall& call) override {
    const http::EncodedCall encoded = TRY(http::EncodeInfer(call));
    http::Headers headers = http::InferHeaders(encoded);
    headers.insert(headers.end(), options_.headers.begin(), options_.headers.end());
    return http::HttpRequest("POST", http::ModelPath(call.model, call.version) + "/infer", url_,
                             headers, encoded.body);
  }
  Result<std::vector<serve::CallResult>> Outputs(const http::LoadAnswer& answer) override {
    return http::ParseOutputs(answer.body, answer.json_bytes);
  }
  std::string ErrorText(const http::LoadAnswer& answer) override {
    if (answer.failure != nullptr) return answer.failure->message;
    return fmt::format("{} {}", answer.status, http::ErrorOf(answer.status, answer.body).message);
  }
};

CallParameters::mapped_type ParameterOf(const std::string& text) {
  if (text == "true" || text == "false") return text == "true";
  const char* end = text.data() + text.size();
  int64_t integer = 0;
  if (const auto [at, error] = std::from_chars(text.data(), end, integer);
      error == std::errc{} && at == end)
    return integer;
  double real = 0;
  if (const auto [at, error] = std::from_chars(text.data(), end, real);
      error == std::errc{} && at == end)
    return real;
  return text;
}

}  // namespace

Result<std::unique_ptr<Remote>> Remote::Connect(const RemoteOptions& options) {
  const http::ServerUrl url = TRY(http::ParseServerUrl(options.url));
  http::ClientOptions client{
      .timeout = std::chrono::milliseconds(int64_t(options.timeout_seconds * 1000)),
      .headers = TRY(HeadersOf(options)),
      .tls = options.tls};
  if (url.grpc()) return ConnectGrpc(url, client);
  return std::make_unique<HttpRemote>(url, client, TRY(http::Client::Connect(options.url, client)));
}

Result<CallParameters> ParseParameters(const std::vector<std::string>& options) {
  Result<CallParameters> parameters;
  for (const std::string& option : options) {
    const size_t equals = option.find('=');
    if (equals == 0 || equals == std::string::npos)
      return Fail(Code::kInvalidArgument, "--parameter {}: give it as NAME=VALUE", option);
    (*parameters)[option.substr(0, equals)] = ParameterOf(option.substr(equals + 1));
  }
  return parameters;
}

}  // namespace dunlin::cli
