#include "net/worker.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace dunlin::net {

void Worker::Adopt(int fd, bool refuse) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  connections_.push_back(Accept(fd, refuse));
  Connection& connection = *connections_.back();
  connection.index_ = connections_.size() - 1;
  if (!connection.Start()) connection.Close();
}

void Worker::Retire(Connection& connection) {
  const size_t i = connection.index_;
  if (i >= connections_.size() || connections_[i].get() != &connection) return;  // being destroyed
  retired_.push_back(std::move(connections_[i]));
  if (i + 1 < connections_.size()) {
    connections_[i] = std::move(connections_.back());
    connections_[i]->index_ = i;
  }
  connections_.pop_back();
  on_closed_();
}

bool Worker::Round() {
  retired_.clear();
  if (loop->now() - last_tick_ >= EventLoop::kTick) {
    last_tick_ = loop->now();
    for (size_t i = connections_.size(); i-- > 0;) connections_[i]->CheckDeadline(loop->now());
    retired_.clear();
  }
  return !connections_.empty();
}

void Worker::LeaveSoon() {
  for (size_t i = connections_.size(); i-- > 0;) connections_[i]->LeaveSoon(loop->now());
}

void Worker::CloseAll() {
  while (!connections_.empty()) connections_.back()->Close();
  retired_.clear();
}

}  // namespace dunlin::net
