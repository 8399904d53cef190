// What the HTTP connections of one I/O thread share. Private to the listener.
#pragma once

#include <memory>

#include "http/listener.h"
#include "http/message.h"
#include "net/body.h"
#include "net/worker.h"

namespace dunlin::http {

class Exchange;

// Read from a socket at a time, and the largest body that is handled where it was read.
inline constexpr size_t kScratchBytes = 64 << 10;

struct Worker final : net::Worker {
  Worker(Place place, const ListenerOptions& o, const Listener::Handler& h,
         std::shared_ptr<net::Budget> b);

  const ListenerOptions& options;
  const Listener::Handler& handler;
  const std::shared_ptr<net::Budget> budget;
  // What a connection needs only while it reads: idle ones have no buffers.
  const std::unique_ptr<char[]> scratch;
  Request request;
  Exchange* handling = nullptr;  // its handler runs right now, on this thread

 private:
  std::unique_ptr<net::Connection> Accept(int fd, bool refuse) override;
};

}  // namespace dunlin::http
