// What the HTTP connections of one I/O thread share. Private to the listener.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "http/listener.h"
#include "http/message.h"
#include "net/body.h"
#include "net/worker.h"

namespace dunlin::http {

class Exchange;

// Read from a socket at a time, and the largest body that is handled where it was read.
inline constexpr size_t kScratchBytes = 64 << 10;

// A request's head, parsed. Clients mostly send the same one again, byte for byte: then it is not
// parsed again.
struct Head {
  std::string bytes;  // "": there is none
  bool keep_alive = true;
  bool old_client = false;  // HTTP/1.0
  bool chunked = false;
  std::optional<uint64_t> length;
};

struct Worker final : net::Worker {
  Worker(Place place, const ListenerOptions& o, const Listener::Handler& h,
         std::shared_ptr<net::Budget> b);

  const ListenerOptions& options;
  const Listener::Handler& handler;
  const std::shared_ptr<net::Budget> budget;
  // What a connection needs only while it reads: idle ones have no buffers.
  const std::unique_ptr<char[]> scratch;
  Head head;
  Request request;               // its views of the head are of head.bytes
  Exchange* handling = nullptr;  // its handler runs right now, on this thread

 private:
  std::unique_ptr<net::Connection> Accept(int fd, bool refuse) override;
};

}  // namespace dunlin::http
