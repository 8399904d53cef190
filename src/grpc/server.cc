#include "grpc/server.h"

#include "grpc/h2_connection.h"
#include "grpc/methods.h"
#include "net/listener.h"

namespace dunlin::grpc {

struct Server::Impl {
  Impl(const ServerOptions& options, const serve::Service& service) : core(service, options) {}

  Core core;
  std::unique_ptr<net::Listener> listener;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                              const serve::Service& service) {
  RouteProtobufLog();
  std::unique_ptr<Server> server(new Server(std::make_unique<Impl>(options, service)));
  server->impl_->listener =
      TRY(net::Listener::Start({.name = "grpc",
                                .address = options.address,
                                .port = options.port,
                                .reuse_port = options.reuse_port,
                                .threads = options.threads,
                                .max_connections = options.max_connections},
                               [&core = server->impl_->core](net::Worker::Place place) {
                                 return std::make_shared<H2Worker>(std::move(place), core);
                               }));
  return server;
}

Server::~Server() {
  impl_->listener.reset();
  // What the models still have refers to what we share.
  std::unique_lock lock(impl_->core.mutex);
  impl_->core.none_left.wait(lock, [this] { return impl_->core.calls.load() == 0; });
}

int Server::port() const { return impl_->listener->port(); }
void Server::Drain() { impl_->listener->Drain(); }
bool Server::WaitUntilDrained(std::chrono::milliseconds timeout) {
  return impl_->listener->WaitUntilDrained(timeout);
}

}  // namespace dunlin::grpc
