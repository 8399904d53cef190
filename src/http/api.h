// The protocol's routes over HTTP: what a request asks of the repository and how the answer is
// written. No sockets here.
#pragma once

#include <atomic>
#include <cstdint>

#include "http/message.h"
#include "http/route.h"
#include "serve/repository.h"

namespace dunlin::http {

class Api {
 public:
  struct Limits {
    int64_t max_input_size = int64_t{64} << 20;  // JSON and decompressed bodies
  };
  Api(serve::Repository& repository, Limits limits) : repository_(repository), limits_(limits) {}

  // `done` is called once, here or on another thread. Never blocks for long. Thread-safe.
  void Handle(Request request, ReplyFn done);
  // From now on the server says that it is not ready.
  void BeginShutdown() { shutting_down_.store(true, std::memory_order_relaxed); }

 private:
  void Dispatch(Request request, ReplyFn done);
  void Infer(const Route& route, Request request, ReplyFn done);
  void LoadOrUnload(const Route& route, const Request& request, ReplyFn done);
  Result<Reply> Answer(const Route& route, const Request& request) const;
  Result<Reply> Ready() const;
  Result<Reply> ModelReady(const Route& route) const;
  Result<Reply> Metadata(const Route& route) const;
  Result<Reply> Config(const Route& route) const;
  Result<Reply> Statistics(const Route& route) const;
  Result<Reply> Index(const Route& route, const Request& request) const;

  serve::Repository& repository_;
  const Limits limits_;
  std::atomic<bool> shutting_down_{false};
};

}  // namespace dunlin::http
