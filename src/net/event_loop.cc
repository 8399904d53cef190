#include "net/event_loop.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "base/log.h"

namespace dunlin::net {

Result<std::unique_ptr<EventLoop>> EventLoop::Create() {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  const int wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (epoll < 0 || wake < 0) {
    if (epoll >= 0) ::close(epoll);
    if (wake >= 0) ::close(wake);
    return Fail(Code::kUnavailable, "cannot wait for sockets: {}", std::strerror(errno));
  }
  auto loop = std::unique_ptr<EventLoop>(new EventLoop(epoll, wake));
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};  // null: the wake-up call
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, wake, &event);
  return loop;
}

EventLoop::~EventLoop() {
  ::close(epoll_);
  ::close(wake_);
}

bool EventLoop::Post(std::function<void()> task) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (stop_) return false;
    tasks_.push_back(std::move(task));
    wake = !awake_;
    awake_ = true;
  }
  const uint64_t one = 1;
  if (wake) [[maybe_unused]]
    const ssize_t n = ::write(wake_, &one, sizeof one);
  return true;
}

void EventLoop::Stop() {
  std::vector<std::function<void()>> dropped;  // destroyed outside of the lock
  const std::lock_guard lock(mutex_);
  stop_ = true;
  dropped.swap(tasks_);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_, &one, sizeof one);
}

Status EventLoop::Watch(int fd, uint32_t events, Watcher& watcher) {
  epoll_event event{.events = events, .data = {.ptr = &watcher}};
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return Fail(Code::kUnavailable, "cannot wait for a socket: {}", std::strerror(errno));
}

void EventLoop::Change(int fd, uint32_t events, Watcher& watcher) {
  epoll_event event{.events = events, .data = {.ptr = &watcher}};
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void EventLoop::RunTasks() {
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (auto& task : tasks) {
    try {
      task();
    } catch (const std::bad_alloc&) {
      log::Error("out of memory in an I/O thread");
    }
    task = nullptr;
  }
}

void EventLoop::Run(const std::function<bool()>& round) {
  thread_ = ::pthread_self();
  constexpr int kMaxEvents = 128;
  epoll_event events[kMaxEvents];
  bool again = false;
  for (;;) {
    int timeout = again ? int(kTick.count()) : -1;
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return;
      if (!tasks_.empty()) timeout = 0;
      awake_ = timeout == 0;
    }
    const int n = ::epoll_wait(epoll_, events, kMaxEvents, timeout);
    now_ = Clock::now();
    {
      const std::lock_guard lock(mutex_);
      awake_ = true;
    }
    for (int i = 0; i < n; ++i) {
      if (events[i].data.ptr == nullptr) {
        uint64_t count = 0;
        [[maybe_unused]] const ssize_t r = ::read(wake_, &count, sizeof count);
        continue;
      }
      static_cast<Watcher*>(events[i].data.ptr)->OnEvents(events[i].events);
    }
    RunTasks();
    again = round();
  }
}

}  // namespace dunlin::net
