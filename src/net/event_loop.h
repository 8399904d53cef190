// EventLoop: one thread that waits for sockets and runs what other threads give it to do.
// Level-triggered epoll: what is not read is reported again, so nothing has to be read "until it
// would block".
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"

namespace dunlin::net {

class EventLoop {
 public:
  using Clock = std::chrono::steady_clock;
  // How often Owner::OnRound comes while nothing happens and the owner wants to be woken.
  static constexpr std::chrono::milliseconds kTick{100};

  class Watcher {
   public:
    virtual void OnEvents(uint32_t events) = 0;  // EPOLLIN | EPOLLOUT | …; must not throw

   protected:
    ~Watcher() = default;
  };

  static Result<std::unique_ptr<EventLoop>> Create();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // On the calling thread, until Stop. `round` runs after the events of each wake-up: here watchers
  // may be destroyed. It returns whether it wants to be called again within kTick.
  void Run(const std::function<bool()>& round);
  void Stop();

  // From any thread; the task runs on the loop's. False once the loop has stopped: dropped.
  bool Post(std::function<void()> task);
  bool IsLoopThread() const { return thread_.load(std::memory_order_relaxed) == ::pthread_self(); }

  // On the loop's thread, or before Run. The watcher outlives the file or the round it was closed
  // in.
  Status Watch(int fd, uint32_t events, Watcher& watcher);
  void Change(int fd, uint32_t events, Watcher& watcher);

  // When this round began.
  Clock::time_point now() const { return now_; }

 private:
  EventLoop(int epoll, int wake) : epoll_(epoll), wake_(wake) {}
  void RunTasks();

  const int epoll_, wake_;
  std::atomic<pthread_t> thread_{0};
  Clock::time_point now_ = Clock::now();
  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;  // under mutex_
  bool awake_ = false;                        // under mutex_: tasks will be looked at anyway
  bool stop_ = false;                         // under mutex_
};

}  // namespace dunlin::net
