// The protocol's routes over HTTP: what a request asks of the repository and how the answer is
// written. No sockets here.
#pragma once

#include <cstdint>

#include "http/message.h"
#include "http/route.h"
#include "serve/service.h"

namespace dunlin::http {

class Api {
 public:
  struct Limits {
    int64_t max_input_size = int64_t{64} << 20;  // JSON and decompressed bodies
  };
  Api(const serve::Service& service, Limits limits)
      : service_(service), repository_(service.repository), limits_(limits) {}

  // `done` is called once, here or on another thread. Never blocks for long. Thread-safe.
  void Handle(Request request, ReplyFn done);

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

  bool Stopping() const { return service_.stopping.load(std::memory_order_relaxed); }

  const serve::Service service_;
  serve::Repository& repository_;
  const Limits limits_;
};

}  // namespace dunlin::http
