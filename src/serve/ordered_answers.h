// Lets answers out in the order in which their requests were accepted (preserve_ordering).
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "serve/request_queue.h"

namespace dunlin::serve {

// Thread-safe.
class OrderedAnswers {
 public:
  // The ticket of the next request.
  uint64_t Take() {
    const std::lock_guard lock(mutex_);
    return taken_++;
  }
  // The request with that ticket is ready to be answered, or (null) needs no answer any more. Calls
  // `answer` for it and those behind it that waited for it, or leaves it to whoever is doing that.
  template <class F>  // void(Job&)
  void Ready(uint64_t ticket, JobPtr job, const F& answer) {
    std::unique_lock lock(mutex_);
    waiting_.emplace(ticket, std::move(job));
    if (answering_) return;
    answering_ = true;
    while (!waiting_.empty() && waiting_.begin()->first == next_) {
      const JobPtr first = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
      ++next_;
      if (first == nullptr) continue;
      lock.unlock();
      answer(*first);
      lock.lock();
    }
    answering_ = false;
  }

 private:
  std::mutex mutex_;
  uint64_t taken_ = 0, next_ = 0;
  bool answering_ = false;
  std::map<uint64_t, JobPtr> waiting_;
};

}  // namespace dunlin::serve
