#include "http/worker.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "http/connection.h"

namespace dunlin::http {

Worker::Worker(const ListenerOptions& o, const Listener::Handler& h, const std::atomic<bool>& d,
               std::shared_ptr<Budget> b, std::unique_ptr<EventLoop> l,
               std::function<void()> closed)
    : options(o),
      handler(h),
      draining(d),
      budget(std::move(b)),
      loop(std::move(l)),
      on_closed(std::move(closed)),
      scratch(new char[kScratchBytes + kBodyPadding]) {}

Worker::~Worker() = default;

void Worker::Adopt(int fd, bool refuse) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  auto connection = std::make_unique<Connection>(*this, fd, refuse);
  connection->index = connections.size();
  connections.push_back(std::move(connection));
  if (!connections.back()->Start()) connections.back()->Close();
}

void Worker::Retire(Connection& connection) {
  const size_t i = connection.index;
  if (i >= connections.size() || connections[i].get() != &connection) return;  // being destroyed
  retired.push_back(std::move(connections[i]));
  if (i + 1 < connections.size()) {
    connections[i] = std::move(connections.back());
    connections[i]->index = i;
  }
  connections.pop_back();
  on_closed();
}

bool Worker::Round() {
  retired.clear();
  if (loop->now() - last_tick >= EventLoop::kTick) {
    last_tick = loop->now();
    for (size_t i = connections.size(); i-- > 0;) connections[i]->CheckDeadline(loop->now());
    retired.clear();
  }
  return !connections.empty();
}

void Worker::LeaveSoon() {
  for (const auto& c : connections) c->LeaveSoon(loop->now());
}

void Worker::CloseAll() {
  while (!connections.empty()) connections.back()->Close();
  retired.clear();
}

}  // namespace dunlin::http
