// Worker: the connections of one I/O thread. What a protocol's connections share beside the loop, a
// worker of its own has: derive from Worker, and from Connection.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "net/event_loop.h"

namespace dunlin::net {

// One client's connection. Lives on its worker's thread.
class Connection : public EventLoop::Watcher {
 public:
  using Clock = EventLoop::Clock;
  virtual ~Connection() = default;
  // Watches the socket; after an error the connection is closed.
  virtual Status Start() = 0;
  // Draining began.
  virtual void LeaveSoon(Clock::time_point now) = 0;
  // Comes every EventLoop::kTick.
  virtual void CheckDeadline(Clock::time_point now) = 0;
  // At once, and once: calls Worker::Retire.
  virtual void Close() = 0;

 private:
  friend class Worker;
  size_t index_ = 0;  // in the worker's list
};

class Worker : public std::enable_shared_from_this<Worker> {
 public:
  // What a listener gives each of its workers; it outlives the loop's thread.
  struct Place {
    std::unique_ptr<EventLoop> loop;
    const std::atomic<bool>& draining;
    std::function<void()> on_closed;  // a connection has gone
  };
  explicit Worker(Place place)
      : loop(std::move(place.loop)),
        draining(place.draining),
        on_closed_(std::move(place.on_closed)) {}
  virtual ~Worker() = default;

  // The rest is for the loop's thread. A socket becomes a connection; `refuse`: one too many.
  void Adopt(int fd, bool refuse);
  // The connection goes when the events of this round are done with.
  void Retire(Connection& connection);
  // After each round of events; whether there is something to time.
  virtual bool Round();
  // Draining begins.
  void LeaveSoon();
  void CloseAll();

  const std::unique_ptr<EventLoop> loop;
  const std::atomic<bool>& draining;

 protected:
  virtual std::unique_ptr<Connection> Accept(int fd, bool refuse) = 0;
  const std::vector<std::unique_ptr<Connection>>& connections() const { return connections_; }

 private:
  const std::function<void()> on_closed_;
  std::vector<std::unique_ptr<Connection>> connections_, retired_;
  EventLoop::Clock::time_point last_tick_{};
};

}  // namespace dunlin::net
