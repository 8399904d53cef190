#include "net/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/log.h"

namespace dunlin::net {
namespace {

// Connections taken from the kernel's queue before others have their turn.
constexpr int kAcceptsPerTurn = 64;

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

Result<Address> ParseAddress(const ListenerOptions& options) {
  Address a;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&a.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&a.storage);
  if (::inet_pton(AF_INET, options.address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(uint16_t(options.port));
    a.length = sizeof *v4;
  } else if (::inet_pton(AF_INET6, options.address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(uint16_t(options.port));
    a.length = sizeof *v6;
  } else {
    return Fail(Code::kInvalidArgument, "{} address '{}' is not an IP address", options.name,
                options.address);
  }
  return a;
}

}  // namespace

struct Listener::Impl final : EventLoop::Watcher {
  explicit Impl(ListenerOptions o) : options(std::move(o)) {}
  ~Impl() {
    if (socket >= 0) ::close(socket);
  }

  Status Listen();
  Status StartWorkers(const MakeWorker& make_worker);
  void OnEvents(uint32_t) override { AcceptSome(kAcceptsPerTurn); }
  void AcceptSome(int most);
  void Adopt(int fd);
  void Closed();
  void StopAccepting();

  const ListenerOptions options;
  int socket = -1;
  int port = 0;
  bool paused = false;  // the socket is not watched: there are no files left
  EventLoop::Clock::time_point paused_at{};
  std::vector<std::shared_ptr<Worker>> workers;
  std::vector<std::thread> threads;
  size_t next_worker = 0;
  std::atomic<bool> draining{false};
  std::atomic<int> open{0};
  std::mutex mutex;
  std::condition_variable all_closed;
  bool accepting_done = false;  // under mutex
};

Status Listener::Impl::Listen() {
  const Address address = TRY(ParseAddress(options));
  socket = ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  const auto* where = reinterpret_cast<const sockaddr*>(&address.storage);
  if (socket < 0 || ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(socket, where, address.length) != 0 || ::listen(socket, SOMAXCONN) != 0)
    return Fail(Code::kUnavailable, "cannot listen on {}:{} for {}: {}", options.address,
                options.port, options.name, std::strerror(errno));
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &length);
  port = ntohs(bound.ss_family == AF_INET ? reinterpret_cast<sockaddr_in*>(&bound)->sin_port
                                          : reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port);
  return {};
}

Status Listener::Impl::StartWorkers(const MakeWorker& make_worker) {
  for (int i = 0; i < std::max(1, options.threads); ++i)
    workers.push_back(make_worker({.loop = TRY(EventLoop::Create()),
                                   .draining = draining,
                                   .on_closed = [this] { Closed(); }}));
  TRY(workers[0]->loop->Watch(socket, EPOLLIN, *this));
  for (size_t i = 0; i < workers.size(); ++i) {
    threads.emplace_back([this, i, worker = workers[i].get()] {
      ::pthread_setname_np(::pthread_self(), ("dunlin-" + options.name).substr(0, 15).c_str());
      worker->loop->Run([this, i, worker] {
        if (i == 0 && paused && worker->loop->now() - paused_at >= EventLoop::kTick) {
          paused = false;
          worker->loop->Change(socket, EPOLLIN, *this);
        }
        return worker->Round() || (i == 0 && paused);
      });
    });
  }
  return {};
}

void Listener::Impl::AcceptSome(int most) {
  for (int i = 0; i < most && socket >= 0; ++i) {
    const int fd = ::accept4(socket, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      Adopt(fd);
      continue;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    // Out of file descriptors or memory: trying again at once would only burn a core.
    log::Warning("accept failed", {{"listener", options.name}, {"error", std::strerror(errno)}});
    paused = true;
    paused_at = workers[0]->loop->now();
    return workers[0]->loop->Change(socket, 0, *this);
  }
}

void Listener::Impl::Adopt(int fd) {
  const int now_open = open.fetch_add(1) + 1;
  // A few more than are served get a word of refusal; a flood beyond that gets none.
  if (now_open > options.max_connections + std::max(16, options.max_connections / 8)) {
    ::close(fd);
    return Closed();
  }
  const bool refuse = now_open > options.max_connections;
  Worker* worker = workers[next_worker++ % workers.size()].get();
  if (worker->loop->IsLoopThread()) return worker->Adopt(fd, refuse);
  if (!worker->loop->Post([worker, fd, refuse] { worker->Adopt(fd, refuse); })) {
    ::close(fd);
    Closed();
  }
}

void Listener::Impl::Closed() {
  if (open.fetch_sub(1) != 1) return;
  const std::lock_guard lock(mutex);
  all_closed.notify_all();
}

// Takes what clients have been told is connected, then closes the door.
void Listener::Impl::StopAccepting() {
  if (socket >= 0) {
    AcceptSome(SOMAXCONN);
    ::close(socket);
    socket = -1;
  }
  paused = false;
  const std::lock_guard lock(mutex);
  accepting_done = true;
  all_closed.notify_all();
}

Listener::Listener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Listener>> Listener::Start(const ListenerOptions& options,
                                                  const MakeWorker& make_worker) {
  auto listener = std::unique_ptr<Listener>(new Listener(std::make_unique<Impl>(options)));
  TRY(listener->impl_->Listen());
  TRY(listener->impl_->StartWorkers(make_worker));
  return listener;
}

Listener::~Listener() {
  for (auto& worker : impl_->workers) worker->loop->Stop();
  for (auto& thread : impl_->threads) thread.join();
  for (auto& worker : impl_->workers) worker->CloseAll();
}

int Listener::port() const { return impl_->port; }

void Listener::Drain() {
  impl_->draining = true;
  impl_->workers[0]->loop->Post([impl = impl_.get()] {
    impl->StopAccepting();
    // After the connections that are on their way to the other threads.
    for (auto& worker : impl->workers) {
      worker->loop->Post([w = worker.get()] { w->LeaveSoon(); });
    }
  });
}

bool Listener::WaitUntilDrained(std::chrono::milliseconds timeout) {
  std::unique_lock lock(impl_->mutex);
  return impl_->all_closed.wait_for(
      lock, timeout, [this] { return impl_->accepting_done && impl_->open.load() == 0; });
}

}  // namespace dunlin::net
