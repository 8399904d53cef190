#include "serve/scheduler.h"

#include <pthread.h>

namespace dunlin::serve {

InstanceScheduler::InstanceScheduler(std::vector<std::unique_ptr<Instance>> instances,
                                     int max_queue_size, Execute execute)
    : instances_(std::move(instances)),
      max_queue_size_(size_t(max_queue_size)),
      execute_(std::move(execute)) {
  for (const auto& instance : instances_) {
    threads_.emplace_back([this, &instance] {
      ::pthread_setname_np(::pthread_self(), "dunlin-instance");
      Loop(*instance);
    });
  }
}

InstanceScheduler::~InstanceScheduler() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : threads_) t.join();
}

bool InstanceScheduler::Enqueue(Job& job) {
  {
    const std::lock_guard lock(mutex_);
    // A request that an idle instance takes at once does not wait, so it does not count.
    const size_t room = max_queue_size_ + size_t(idle_);
    if (max_queue_size_ > 0 && queue_.size() >= room) return false;
    queue_.push_back(std::move(job));
  }
  wake_.notify_one();
  return true;
}

void InstanceScheduler::Loop(Instance& instance) {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (queue_.empty()) return;  // stopping, and nothing left to answer
    Job job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    execute_(instance, std::move(job));
    lock.lock();
  }
}

}  // namespace dunlin::serve
