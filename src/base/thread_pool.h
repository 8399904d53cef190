// One pool of threads for the whole process, shared by every session.
// Not for blocking work (I/O, waiting): a worker that blocks is a core lost to every model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace dunlin {

// A borrowed callable void(begin, end); valid while the caller's frame lives.
class RangeFn {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, RangeFn>)
      RangeFn(const F& f)  // NOLINT: implicit on purpose, so that a lambda can be passed
      : object_(&f),
        call_([](const void* o, int64_t b, int64_t e) { (*static_cast<const F*>(o))(b, e); }) {}
  void operator()(int64_t begin, int64_t end) const { call_(object_, begin, end); }

 private:
  const void* object_;
  void (*call_)(const void*, int64_t, int64_t);
};

class ThreadPool {
 public:
  // `threads` counts the caller: a pool of 1 has no workers and runs everything in place.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls fn on disjoint ranges that cover [0, count), each of at most `grain` items; returns when
  // all have run. The split depends on count, grain and the number of threads, never on timing, so
  // sums are reproducible. Each thread begins at its own share of the range, the same in every
  // call, and so finds in its cache what it wrote in the call before. The caller works too; who is
  // done takes over what a descheduled thread has not begun. Where threads come late because others
  // want the cores, jobs use one thread less for a while. Uses at most max_threads threads (0:
  // all). Thread-safe; a nested call runs in place.
  void ParallelFor(int64_t count, int64_t grain, RangeFn fn, int max_threads = 0);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  int threads_;
};

// Threads the process may really use: affinity mask and cgroup CPU quota, at least 1.
int UsableCpus();

}  // namespace dunlin
