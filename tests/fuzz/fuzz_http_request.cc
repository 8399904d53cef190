// Everything a client can send to the inference route, short of the socket: route, headers,
// compression, JSON, binary tensors, checks against the model, the reply. The first byte chooses
// the headers, the rest is the body.
#include <cstdint>
#include <cstdlib>
#include <future>
#include <string>
#include <vector>

#include "base/log.h"
#include "http/api.h"
#include "serve/fake_backend.h"

namespace {

using namespace dunlin;  // NOLINT: a test's main file

struct Server {
  Server() {
    log::Configure({.format = log::Format::kDefault, .info = false, .verbose = 0});
    disk.Write("m/1/model.onnx",
               "in x f32 -1,2\nin s string -1,1\nout y f32 -1,2\nout z string -1,1\n");
    disk.Write("raw/1/model.onnx", "in x i64 *\nout y i64 *\n");
    disk.Write("one/1/model.onnx", "in x f64 1,-1\nout y f64 1,-1\n");
    repository = std::make_unique<serve::Repository>(
        serve::RepositoryOptions{.repositories = {disk.path()}, .load_models = {}},
        std::make_unique<serve::FakeBackend>(), metrics);
    if (!repository->Start()) std::abort();
    api = std::make_unique<http::Api>(serve::Service{.repository = *repository,
                                                     .shared_memory = shared_memory,
                                                     .metrics = metrics,
                                                     .tracer = tracer,
                                                     .access = access,
                                                     .access_log = access_log,
                                                     .stopping = stopping},
                                      http::Api::Options{.max_input_size = 1 << 16});
  }
  serve::TempRepository disk;
  serve::Metrics metrics;
  serve::SharedMemory shared_memory{{.allow = true}};
  serve::Tracer tracer;
  serve::AccessPolicy access;
  serve::AccessLog access_log;
  std::atomic<bool> stopping{false};
  std::unique_ptr<serve::Repository> repository;
  std::unique_ptr<http::Api> api;
};

void Ask(Server& server, http::Request& request) {
  std::promise<http::Reply> promise;
  server.api->Handle(request, [&](http::Reply reply) { promise.set_value(std::move(reply)); });
  const http::Reply reply = promise.get_future().get();
  // Only what we cannot blame on the client would be a 500.
  if (reply.status == 500) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Server server;
  if (size < 3) return 0;
  const uint8_t choice = data[0];
  static constexpr const char* kModels[] = {"m", "one", "raw", "none"};
  static constexpr const char* kTargets[] = {"/v2/models/{}/infer", "/v2/models/{}/generate",
                                             "/v1/models/{}:predict",
                                             "/v2/models/{}/generate_stream"};
  std::string target =
      fmt::format(fmt::runtime(kTargets[choice & 64 ? 0 : data[1] & 3]), kModels[choice & 3]);
  const std::string length = std::to_string(data[1] * 4);
  // Exactly as much room as is promised, so that reading beyond is seen.
  std::vector<char> body(data + 2, data + size);
  body.resize(body.size() + http::kBodyPadding);
  http::Request request;
  request.method = "POST";
  request.body = {body.data(), size - 2};
  if (choice & 4) request.headers.push_back({"Inference-Header-Content-Length", length});
  if (choice & 8) request.headers.push_back({"Content-Encoding", choice & 16 ? "gzip" : "deflate"});
  if (choice & 32) request.headers.push_back({"Accept-Encoding", "gzip"});
  if (choice & 64) {  // the path is what is random
    request.method = choice & 128 ? "GET" : "POST";
    target = request.body.substr(0, request.body.find('\0'));
  }
  request.target = target;
  Ask(server, request);
  return 0;
}
