#include "http/listener.h"

#include "http/worker.h"
#include "net/listener.h"

namespace dunlin::http {

struct Listener::Impl {
  Impl(ListenerOptions o, Handler h) : options(std::move(o)), handler(std::move(h)) {}

  const ListenerOptions options;
  const Handler handler;
  std::unique_ptr<net::Listener> listener;
};

Listener::Listener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Listener::~Listener() = default;

Result<std::unique_ptr<Listener>> Listener::Start(const ListenerOptions& options, Handler handler) {
  auto impl = std::make_unique<Impl>(options, std::move(handler));
  const auto make_worker = [&i = *impl, budget = std::make_shared<net::Budget>(
                                            options.max_inflight_size)](net::Worker::Place place) {
    return std::make_shared<Worker>(std::move(place), i.options, i.handler, budget);
  };
  impl->listener = TRY(net::Listener::Start({.name = options.name,
                                             .address = options.address,
                                             .port = options.port,
                                             .threads = options.threads,
                                             .max_connections = options.max_connections},
                                            make_worker));
  return std::unique_ptr<Listener>(new Listener(std::move(impl)));
}

int Listener::port() const { return impl_->listener->port(); }
void Listener::Drain() { impl_->listener->Drain(); }
bool Listener::WaitUntilDrained(std::chrono::milliseconds timeout) {
  return impl_->listener->WaitUntilDrained(timeout);
}

}  // namespace dunlin::http
