// Everything a client can send to the inference route, short of the socket: route, headers,
// compression, JSON, binary tensors, checks against the model, the reply. The first byte chooses
// the headers, the rest is the body.
#include <cstdint>
#include <cstdlib>
#include <future>
#include <string>

#include "base/log.h"
#include "http/api.h"
#include "serve/fake_backend.h"

namespace {

using namespace dunlin;  // NOLINT: a test's main file

struct Server {
  Server() {
    log::Configure({.format = log::Format::kText, .info = false, .verbose = 0});
    disk.Write("m/1/model.onnx",
               "in x f32 -1,2\nin s string -1,1\nout y f32 -1,2\nout z string -1,1\n");
    disk.Write("raw/1/model.onnx", "in x i64 *\nout y i64 *\n");
    disk.Write("one/1/model.onnx", "in x f64 1,-1\nout y f64 1,-1\n");
    repository = std::make_unique<serve::Repository>(
        serve::RepositoryOptions{.repositories = {disk.path()}, .load_models = {}},
        std::make_unique<serve::FakeBackend>(), metrics);
    if (!repository->Start()) std::abort();
    api = std::make_unique<http::Api>(*repository, http::Api::Limits{.max_input_size = 1 << 16});
  }
  serve::TempRepository disk;
  serve::Metrics metrics;
  std::unique_ptr<serve::Repository> repository;
  std::unique_ptr<http::Api> api;
};

void Ask(Server& server, http::Request request) {
  std::promise<http::Reply> promise;
  server.api->Handle(std::move(request),
                     [&](http::Reply reply) { promise.set_value(std::move(reply)); });
  const http::Reply reply = promise.get_future().get();
  // Only what we cannot blame on the client would be a 500.
  if (reply.status == 500) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Server server;
  if (size < 3) return 0;
  const uint8_t choice = data[0];
  http::Request request;
  request.method = "POST";
  static constexpr const char* kModels[] = {"m", "one", "raw", "none"};
  request.target = std::string("/v2/models/") + kModels[choice & 3] + "/infer";
  if (choice & 4)
    request.headers.emplace_back("Inference-Header-Content-Length", std::to_string(data[1] * 4));
  if (choice & 8)
    request.headers.emplace_back("Content-Encoding", choice & 16 ? "gzip" : "deflate");
  if (choice & 32) request.headers.emplace_back("Accept-Encoding", "gzip");
  request.body.assign(reinterpret_cast<const char*>(data + 2), size - 2);
  if (choice & 64) {  // the path is what is random
    request.method = choice & 128 ? "GET" : "POST";
    request.target = request.body.substr(0, request.body.find('\0'));
  }
  Ask(server, std::move(request));
  return 0;
}
