#include "http/client.h"

#include <utility>

#include "base/json_writer.h"
#include "http/message.h"

namespace dunlin::http {
namespace {

// A whole answer. The body has kBodyPadding bytes more than `length`, for the JSON parser.
struct Answer {
  std::string body;
  size_t length = 0;
  size_t json_bytes = 0;

  std::string_view text() const { return std::string_view(body).substr(0, length); }
};

}  // namespace

struct Client::Impl {
  ServerUrl url;
  ClientOptions options;
  std::unique_ptr<LoadClient> connection;

  Result<Answer> Exchange(const std::string& request) {
    Result<Answer> result;
    bool ended = false;
    const auto on_answer = [&](const LoadAnswer& answer) {
      ended = true;
      if (answer.failure != nullptr) {
        const bool unreachable = answer.failure->code == Code::kUnavailable;
        result = Fail(answer.failure->code, "{}: {}{}", url.authority(), answer.failure->message,
                      unreachable ? "; is the server running?" : "");
      } else if (!answer.ok) {
        Error error = ErrorOf(answer.status, answer.body);
        result = Fail(error.code, "the server says: {}", error.message);
      } else {
        result->body.assign(answer.body).append(kBodyPadding, '\0');
        result->length = answer.body.size();
        result->json_bytes = answer.json_bytes;
      }
    };
    connection->Wait(connection->Now(), on_answer);  // notices that the server closed meanwhile
    connection->Send(0, request);
    while (!ended) connection->Wait(connection->Now() + options.timeout, on_answer);
    return result;
  }

  Result<Answer> Get(std::string_view target) {
    return Exchange(HttpRequest("GET", target, url, options.headers, ""));
  }

  Result<Answer> Post(std::string_view target, Headers more, std::string_view body) {
    more.insert(more.end(), options.headers.begin(), options.headers.end());
    return Exchange(HttpRequest("POST", target, url, more, body));
  }
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client> Client::Connect(const std::string& url, const ClientOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->url = TRY(ParseServerUrl(url));
  if (impl->url.grpc()) return Fail(Code::kInvalidArgument, "{}: this client speaks HTTP", url);
  impl->options = options;
  impl->connection =
      TRY(MakeHttpLoadClient(impl->url, {.timeout = options.timeout,
                                         .max_answer_bytes = options.max_response_bytes,
                                         .tls = options.tls}));
  return Client(std::move(impl));
}

Result<std::string> Client::Get(std::string_view target) {
  Answer answer = TRY(impl_->Get(target));
  answer.body.resize(answer.length);
  return std::move(answer.body);
}

Result<serve::RemoteModel> Client::Metadata(const std::string& model, const std::string& version) {
  const Answer answer = TRY(impl_->Get(ModelPath(model, version)));
  return ParseMetadata(answer.text());
}

Result<serve::ModelStatistics> Client::Statistics(const std::string& model,
                                                  const std::string& version) {
  const Answer answer = TRY(impl_->Get(ModelPath(model, version) + "/stats"));
  return ParseStatistics(answer.text());
}

Result<std::vector<serve::CallResult>> Client::Infer(const serve::InferCall& call) {
  const EncodedCall encoded = TRY(EncodeInfer(call));
  const Answer answer = TRY(impl_->Post(ModelPath(call.model, call.version) + "/infer",
                                        InferHeaders(encoded), encoded.body));
  if (answer.json_bytes > answer.length)
    return Fail(Code::kInternal, "the server's Inference-Header-Content-Length is wrong");
  return ParseOutputs(answer.text(), answer.json_bytes);
}

Status Client::RegisterSharedMemory(const std::string& name, const std::string& key,
                                    uint64_t bytes) {
  JsonWriter json;
  json.BeginObject().Key("key").String(key).Key("offset").Int(0);
  json.Key("byte_size").Number(bytes).End();
  TRY(impl_->Post("/v2/systemsharedmemory/region/" + name + "/register", {}, json.text()));
  return {};
}

Status Client::UnregisterSharedMemory(const std::string& name) {
  TRY(impl_->Post("/v2/systemsharedmemory/region/" + name + "/unregister", {}, ""));
  return {};
}

}  // namespace dunlin::http
