#include "serve/compute.h"

#include <pthread.h>

#include <algorithm>
#include <cmath>

#include "base/thread_pool.h"

namespace dunlin::serve {
namespace {

// Of the averages over requests: some ten of them decide, so that a change of load is followed
// within a few milliseconds and a single burst is not.
constexpr float kWeight = 1.f / 8;
// With so many requests in flight per slot, each has its slot and no other.
constexpr float kBusy = 0.95f;
// Rounds a share up to all slots when hardly one request in a hundred met another.
constexpr float kAlone = 0.02f;

void Average(std::atomic<float>& average, float sample) {
  // A lost update of two threads is one sample of many.
  const float old = average.load(std::memory_order_relaxed);
  average.store(old + kWeight * (sample - old), std::memory_order_relaxed);
}

}  // namespace

Compute::Compute(int slots) : slots_(std::max(1, slots)), free_(slots_) {}

Compute& Compute::Process() {
  static Compute compute(UsableCpus());
  return compute;
}

Compute::~Compute() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& t : workers_) t.join();
  {
    const std::lock_guard lock(time_mutex_);
    time_stopping_ = true;
  }
  time_wake_.notify_all();
  if (timer_) timer_->join();
}

void Compute::Arrived() {
  Average(load_, float(in_flight_.fetch_add(1, std::memory_order_relaxed) + 1));
}

void Compute::Executed(int requests) { Average(per_execution_, float(requests)); }

// One request in flight gets all threads; several share them, and threads side by side on different
// requests do more than threads that wait for each other on one. Where they wait little, who is
// alone at this moment takes all, unless it is known that he will have company. Where they wait
// long, who comes meanwhile would find no thread, so he takes all only if he is alone as a rule.
int Compute::Share(const ComputeDemand& demand, int free) const {
  if (demand.threads > 0) return std::min(demand.threads, slots_);
  float requests = load();
  if (demand.scales && requests < kBusy * float(slots_))
    requests = std::min(requests, float(in_flight_.load(std::memory_order_relaxed)));
  const float executions = std::clamp(requests / per_execution_.load(std::memory_order_relaxed),
                                      1.f, float(std::max(1, demand.parallel)));
  const float share = float(slots_) / executions + (demand.scales ? 0.5f : kAlone);
  const int most = demand.most > 0 ? std::min(free, demand.most) : free;
  return std::clamp(int(share), 1, std::max(1, most));
}

bool Compute::TryAcquire(int slots) {
  if (waiting_.load() > 0) return false;
  int free = free_.load();
  do {
    if (free < slots) return false;
  } while (!free_.compare_exchange_weak(free, free - slots));
  return true;
}

// With TryAcquire and Work: who gives slots back looks for waiting clients afterwards, and who
// waits was counted before it looked for slots, so one of the two sees the other.
void Compute::Release(int slots) {
  free_.fetch_add(slots);
  if (waiting_.load() == 0) return;
  { const std::lock_guard lock(mutex_); }  // a worker that has looked is asleep by now
  wake_.notify_one();
}

void Compute::Ready(ComputeClient& client, const ComputeDemand& demand) {
  {
    const std::lock_guard lock(mutex_);
    if (workers_.empty()) Start();
    ready_.push_back({&client, demand});
    waiting_.fetch_add(1);
  }
  if (free_.load() > 0) wake_.notify_one();
}

void Compute::Start() {
  for (int i = 0; i < slots_; ++i) {
    workers_.emplace_back([this] {
      ::pthread_setname_np(::pthread_self(), "dunlin-compute");
      Work();
    });
  }
}

void Compute::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    int share = 0;
    const auto startable = [&] {
      if (ready_.empty()) return false;
      int free = free_.load();
      do {
        share = Share(ready_.front().demand, free);
        if (free < share) return false;
      } while (!free_.compare_exchange_weak(free, free - share));
      return true;
    };
    bool started = false;
    wake_.wait(lock, [&] { return (started = startable()) || stopping_; });
    if (!started) return;
    ComputeClient& client = *ready_.front().client;
    ready_.pop_front();
    waiting_.fetch_sub(1);
    const bool more = !ready_.empty() && free_.load() > 0;
    lock.unlock();
    if (more) wake_.notify_one();
    client.Run(share);
    lock.lock();
    free_.fetch_add(share);
    if (ready_.size() > 1) wake_.notify_one();  // this thread takes the first
  }
}

void Compute::CallAt(ComputeClient& client, TimePoint when) {
  bool first = false;
  {
    const std::lock_guard lock(time_mutex_);
    const auto [it, fresh] = call_of_.try_emplace(&client, when);
    if (!fresh) {
      if (it->second == when) return;
      const auto [begin, end] = calls_.equal_range(it->second);
      for (auto c = begin; c != end; ++c) {
        if (c->second != &client) continue;
        calls_.erase(c);
        break;
      }
      it->second = when;
    }
    const auto c = calls_.emplace(when, &client);
    first = c == calls_.begin();
    if (!timer_) {
      timer_.emplace([this] {
        ::pthread_setname_np(::pthread_self(), "dunlin-timer");
        Time();
      });
    }
  }
  if (first) time_wake_.notify_one();
}

void Compute::CancelCall(ComputeClient& client) {
  std::unique_lock lock(time_mutex_);
  if (const auto it = call_of_.find(&client); it != call_of_.end()) {
    const auto [begin, end] = calls_.equal_range(it->second);
    for (auto c = begin; c != end; ++c) {
      if (c->second != &client) continue;
      calls_.erase(c);
      break;
    }
    call_of_.erase(it);
  }
  time_done_.wait(lock, [&] { return calling_ != &client; });
}

void Compute::Time() {
  std::unique_lock lock(time_mutex_);
  while (!time_stopping_) {
    if (calls_.empty()) {
      time_wake_.wait(lock);
      continue;
    }
    const TimePoint when = calls_.begin()->first;
    if (Clock::now() < when) {
      time_wake_.wait_until(lock, when);
      continue;
    }
    calling_ = calls_.begin()->second;
    calls_.erase(calls_.begin());
    call_of_.erase(calling_);
    lock.unlock();
    calling_->OnTime();
    lock.lock();
    calling_ = nullptr;
    time_done_.notify_all();
  }
}

}  // namespace dunlin::serve
