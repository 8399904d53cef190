#include "serve/task_pool.h"

#include <pthread.h>

#include <algorithm>

namespace dunlin::serve {

TaskPool::TaskPool(int threads) {
  for (int i = 0; i < std::max(1, threads); ++i) {
    threads_.emplace_back([this] {
      ::pthread_setname_np(::pthread_self(), "dunlin-loader");
      Loop();
    });
  }
}

TaskPool::~TaskPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void TaskPool::Post(std::function<void()> task) {
  // Woken under the lock: the task may be the last that the pool's owner waits for, who then
  // destroys it.
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  wake_.notify_one();
}

void TaskPool::Loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    // A running task may still queue another, so nobody leaves before all are done.
    wake_.wait(lock, [this] { return !tasks_.empty() || (stopping_ && running_ == 0); });
    if (tasks_.empty()) break;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    ++running_;
    lock.unlock();
    task();
    task = nullptr;  // what it captured goes outside the lock
    lock.lock();
    --running_;
    if (stopping_) wake_.notify_all();
  }
}

}  // namespace dunlin::serve
