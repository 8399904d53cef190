// The protocol's routes over HTTP: what a request asks of the repository and how the answer is
// written. No sockets here.
#pragma once

#include <cstdint>

#include "http/message.h"
#include "http/route.h"
#include "serve/header_forward.h"
#include "serve/metrics_machine.h"
#include "serve/service.h"

namespace dunlin::http {

class Api {
 public:
  struct Options {
    int64_t max_input_size = int64_t{64} << 20;  // JSON and decompressed bodies
    serve::HeaderForward forwarded = {};         // headers that models see as parameters
  };
  Api(const serve::Service& service, Options options)
      : service_(service), repository_(service.repository), options_(std::move(options)) {}

  // `done` is called once, here or on another thread. Never blocks for long. Thread-safe.
  void Handle(const Request& request, ReplyFn done);

 private:
  struct Call;

  // api_infer.cc
  void Infer(const Route& route, const Request& request, ReplyFn done);
  Status ParseCall(const Request& request, Call& call) const;

  // Answered here and now.
  Result<Reply> Answer(const Route& route, const Request& request) const;
  Result<Reply> Ready() const;
  Result<Reply> ModelReady(const Route& route) const;
  Result<Reply> Metadata(const Route& route) const;
  Result<Reply> Config(const Route& route) const;
  Result<Reply> Statistics(const Route& route) const;
  Result<Reply> Index(const Route& route, const Request& request) const;
  void LoadOrUnload(const Route& route, const Request& request, ReplyFn done);
  Result<std::shared_ptr<serve::ModelVersion>> FindModel(const Route& route) const;
  // api_admin.cc
  Result<Reply> SharedMemory(const Route& route, const Request& request) const;
  Result<Reply> CudaSharedMemory(const Route& route, const Request& request) const;
  Result<Reply> V1(const Route& route) const;
  // api_settings.cc
  Result<Reply> TraceSetting(const Route& route, const Request& request) const;
  Result<Reply> Logging(const Request& request) const;

  bool Stopping() const { return service_.stopping.load(std::memory_order_relaxed); }

  const serve::Service service_;
  serve::Repository& repository_;
  const Options options_;
  serve::Machine machine_;  // for load reports
};

}  // namespace dunlin::http
