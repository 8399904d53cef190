#include "http/worker.h"

#include "http/connection.h"

namespace dunlin::http {

Worker::Worker(Place place, const ListenerOptions& o, const Listener::Handler& h,
               std::shared_ptr<net::Budget> b)
    : net::Worker(std::move(place)),
      options(o),
      handler(h),
      budget(std::move(b)),
      scratch(new char[kScratchBytes + kBodyPadding]) {}

std::unique_ptr<net::Connection> Worker::Accept(int fd, bool refuse) {
  return std::make_unique<Connection>(*this, fd, refuse);
}

}  // namespace dunlin::http
