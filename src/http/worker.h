// What the connections of one I/O thread share. Private to the listener.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "http/body.h"
#include "http/event_loop.h"
#include "http/listener.h"
#include "http/message.h"

namespace dunlin::http {

class Connection;
class Exchange;

// Read from a socket at a time, and the largest body that is handled where it was read.
inline constexpr size_t kScratchBytes = 64 << 10;

struct Worker : std::enable_shared_from_this<Worker> {
  Worker(const ListenerOptions& o, const Listener::Handler& h, const std::atomic<bool>& d,
         std::shared_ptr<Budget> b, std::unique_ptr<EventLoop> l, std::function<void()> closed);
  ~Worker();

  // The rest is for the loop's thread. A socket becomes a connection; `refuse`: one too many.
  void Adopt(int fd, bool refuse);
  // The connection goes when the events of this round are done with.
  void Retire(Connection& connection);
  // After each round of events; whether there is something to time.
  bool Round();
  // Draining begins.
  void LeaveSoon();
  void CloseAll();

  const ListenerOptions& options;
  const Listener::Handler& handler;
  const std::atomic<bool>& draining;
  const std::shared_ptr<Budget> budget;
  const std::unique_ptr<EventLoop> loop;
  const std::function<void()> on_closed;  // a connection has gone
  std::vector<std::unique_ptr<Connection>> connections, retired;
  EventLoop::Clock::time_point last_tick{};
  // What a connection needs only while it reads: idle ones have no buffers.
  const std::unique_ptr<char[]> scratch;
  Request request;
  Exchange* handling = nullptr;  // its handler runs right now, on this thread
};

}  // namespace dunlin::http
